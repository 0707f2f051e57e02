"""examples/ works as it stands: a package of one's own does a whole run, and the notebook goes from folders to a student."""

import csv
import json
import re
import shlex
import sys

import pytest
import warm
from commandline import ROOT, environment, result_of
from inside import folder_of, job, read
from PIL import Image

import students
from distill import losses
from distill.data.common.emotions import EMOTIONS
from distill.data.procedural import draw

PACKAGE = ROOT / "examples" / "own_package"
SMALL = ("teacher.width=4", "teacher.train.epochs=1", "student.width=4", "train.epochs=1", "train.threads=1")


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """A folder with faces.csv: 196 synthetic faces of 28 persons, seven emotions."""
    root = tmp_path_factory.mktemp("listed")
    pictures, votes = draw(0, 0, 224, 48, intensity=1, mixture=0, occlusion=0, pose=0, light=0)
    with open(root / "faces.csv", "w", newline="") as file:
        for k, (picture, vote) in enumerate(zip(pictures, votes, strict=True)):
            if (emotion := EMOTIONS[vote.argmax()]) != "contempt":
                Image.fromarray(picture).save(root / f"{k}.png")
                csv.writer(file).writerow([f"{k}.png", emotion, f"person{k // 8}"])
    return root


@pytest.fixture(scope="module")
def words():
    """The command that the package's README and the documentation print, as words."""
    texts = [(path / name).read_text() for path, name in ((PACKAGE, "README.md"), (ROOT / "docs", "extending.md"))]
    found = [
        re.search(r"^python -m distill\.run (--config-dir.*?)\n```", text, re.DOTALL | re.MULTILINE)[1]
        for text in texts
    ]
    typed = [shlex.split(command.replace("\\\n", " ")) for command in found]
    assert typed[0] == typed[1]
    return [word.replace("examples/own_package/", "") for word in typed[0]]


def run(words, tmp_path, *more):
    where = (f"paths.store={tmp_path / 'store'}", f"paths.runs={tmp_path / 'runs'}", "logger=none")
    return warm.run([sys.executable, "-m", "distill.run", *words, *more, *where], PACKAGE, environment())


def test_own_package_student_loss_teacher_and_data_set_do_one_run(words, listed, tmp_path):
    done = run([word.replace("DIR", str(listed)) for word in words], tmp_path, *SMALL)
    assert done.returncode == 0, done.stderr
    result = result_of(tmp_path / "runs")
    assert (result["data"]["name"], result["student"]["name"]) == ("listed_faces", "separable")
    assert result["data"]["rows"] == {"train": 140, "valid": 14, "test": 42}, "whole persons of seven faces"
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("listed_faces-plain-separable-")
    typed = json.loads((folder / "env.json").read_text())["command"]
    assert f"distill.run --config-dir={PACKAGE / 'conf'} " in typed
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert any(0 < line.get("train/cosine", 0) < 2 for line in lines)
    assert result["teacher_forward_images"] == 196, "its answers are stored: each face is asked for once"


def test_own_package_that_is_not_named_as_plugin_is_refused(words, listed, tmp_path):
    done = run([w.replace("DIR", str(listed)) for w in words if not w.startswith("plugins")], tmp_path)
    assert done.returncode == 1 and "plugins=[NAME]" in done.stderr


NAMED = re.compile(
    r"(?:students|distill/losses|conf)/[\w/]+\.(?:py|yaml)"
)  # where a block of the page says that it goes


def test_the_shortest_student_and_loss_that_the_page_shows_train_as_they_stand(tmp_path, monkeypatch):
    blocks = re.findall(
        r"^```(?:python|yaml)\n(#.*?)^```$", (ROOT / "docs" / "extending.md").read_text(), re.DOTALL | re.MULTILINE
    )
    files = {found[0]: block for block in blocks for found in [NAMED.search(" ".join(block.splitlines()[:2]))] if found}
    assert len(files) == 4
    for name, block in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(block)
    monkeypatch.setattr(students, "__path__", [*students.__path__, str(tmp_path / "students")])
    monkeypatch.setattr(losses, "__path__", [*losses.__path__, str(tmp_path / "distill" / "losses")])
    words = (f"--config-dir={tmp_path / 'conf'}", "student=tiny", "loss=[ce,squares]", "train.epochs=1")
    job(*words, store=tmp_path / "store", runs=tmp_path / "runs")
    result = read(folder_of(tmp_path / "runs"))
    assert result["student"]["name"] == "tiny" and result["teacher_forward_images"] > 0


NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
REDUCED = {"FACES = 1600": "FACES = 240", "TEACHER_EPOCHS, EPOCHS = 6, 24": "TEACHER_EPOCHS, EPOCHS = 1, 1"}


def test_notebook_is_valid_and_has_no_outputs():
    nbformat = pytest.importorskip("nbformat")
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    assert not any(cell.get("outputs") for cell in book.cells), "outputs of somebody's machine"


@pytest.mark.slow
def test_notebook_goes_from_class_folders_to_an_exported_student(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    source = "\n".join("".join(cell["source"]) for cell in cells)
    for long, short in REDUCED.items():
        assert source.count(long) == 1
        source = source.replace(long, short)
    for part in re.split(r"^(!.*)$", source, flags=re.MULTILINE):
        if part.startswith("!python"):
            words = shlex.split(re.sub(r"\{(\w+)\}", lambda found: str(names[found[1]]), part[1:]))
            env = environment() | {"FER_DISTILL_STORE": str(tmp_path / "store")}
            done = warm.run([sys.executable, *words[1:]], tmp_path, env)
            assert done.returncode == 0, done.stderr
        else:
            exec(compile(part, str(NOTEBOOK), "exec"), names)
    assert (tmp_path / "run" / "export" / "student.onnx").exists()
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == 1 + 240 // 8
