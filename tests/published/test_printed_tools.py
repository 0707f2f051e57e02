"""Every bench, serve and sweep that README, the pages and conf print is done in this process, and so are publish and export.

What is timed in processes of its own, fetched from npm or forked off has tests of its own: test_bench.py, test_serve.py, test_sweeps.py.
"""

import shlex
import shutil
import threading
from contextlib import nullcontext
from urllib.request import urlopen

import pytest
from commandline import ROOT
from exported import export_whatever, small_run
from printed import ON_PAGES
from run_folders import write_run

from distill import bench, publish
from distill.config import overrides
from distill.data.common.emotions import EMOTIONS
from distill.export import timing_worker
from distill.export.weights_and_config import save
from distill.predict.student import find
from distill.run import run_overrides
from distill.runs.published import SHIPPED
from distill.serve import __main__ as serve
from distill.sweep import __main__ as sweep
from distill.sweep.jobs import Record

BENCHES, PAGES, SWEEPS = (
    [line for line in ON_PAGES if line.startswith(f"{tool} ")] for tool in ("bench", "serve", "sweep")
)
SMALL = ("data.train=16", "data.valid=16", "data.test=16", "train.batch_size=8", "train.threads=1", "logger=none")
SMALL += ("teacher=ferplus", "augment.num_views=1", "train.min_steps=0", "train.epochs=1", "paths.store=store")
OWN = {"size": 48, "width": 4, "mean": 0.5, "std": 0.25}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """What a reader has: a run, exported, as if it had a narrower width, too, and a student of a package of one's own."""
    home = tmp_path_factory.mktemp("home")
    (home / "RUN").symlink_to(small_run(home))
    export_whatever(home / "RUN")
    (home / "RUN" / "width-0.5").mkdir()
    slow = shutil.ignore_patterns("*.pt2")
    shutil.copytree(home / "RUN" / "export", home / "RUN" / "width-0.5" / "export", ignore=slow)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "examples" / "own_package")
        from own_faces.student import Separable

        node = {"_target_": "own_faces.student.Separable", **OWN}
        (home / "FOLDER").mkdir()
        save(home / "FOLDER", Separable(8, **OWN).eval(), node, EMOTIONS, ["own_faces"], {})
    return home


def test_tools_are_found_on_every_page():
    assert {"bench RUN", "serve RUN --write DIR", "sweep sweep=optuna train.epochs=16"} <= {*ON_PAGES}
    assert len(BENCHES) > 6 and len(PAGES) > 2 and len(SWEEPS) > 3


def test_the_printed_export_and_publication_are_done(home, monkeypatch):
    """Other words of export take seconds each, and have tests of their own: test_export.py, test_elastic_run.py."""
    assert {"export RUN", "publish RUN DIR"} <= {*ON_PAGES}
    monkeypatch.chdir(home)
    assert {"student.onnx", "student.int8.onnx", "model-card.md"} <= {
        path.name for path in (home / "RUN/export").iterdir()
    }
    publish.main(["RUN", "published"])
    assert {"README.md", "model.onnx"} <= {path.name for path in (home / "published").iterdir()}


class Here(nullcontext):
    """What times a file for bench, in this process."""

    def __init__(self, path, how, threads, picture, plugins=()):
        self.opened, self.size = (
            timing_worker.open_any(path, how, threads, plugins),
            tuple(map(int, picture.split("x"))),
        )
        super().__init__(self)

    def read(self):
        return {"facts": self.opened.facts, "input": [self.opened.dtype, self.opened.shape]}

    def ask(self, batch, seconds):
        given = timing_worker.inputs(self.opened, batch, self.size)
        return {"times": timing_worker.passes(self.opened, given, seconds), "memory": timing_worker.peak_memory()}


@pytest.mark.parametrize("line", BENCHES)
def test_a_printed_bench_is_done(line, home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    monkeypatch.syspath_prepend(ROOT / "examples" / "own_package")
    monkeypatch.setattr(bench, "Worker", Here)
    file = str(SHIPPED / "microexpnet" / "model.int8.onnx")
    words = [file if word.startswith("FILE") else word for word in ON_PAGES[line]]
    words = [name for word in words for name in (map(str, home.glob(word)) if "*" in word else [word])]
    bench.main([*words, "--batch", "2", "--seconds", "0.001", "--rounds", "1", "--threads", "1"])
    assert "img/s" in capsys.readouterr().out


def test_bench_of_a_run_runs_the_packages_that_the_run_names_and_no_others(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    monkeypatch.syspath_prepend(ROOT / "examples" / "own_package")
    monkeypatch.setattr(bench, "Worker", Here)
    quick = ("--batch", "2", "--seconds", "0.001", "--rounds", "1", "--threads", "1")
    write_run(home / "OWN", "plugins=[own_faces]")
    shutil.copytree(home / "FOLDER", home / "OWN" / "export")
    bench.main(["OWN", *quick])
    assert "OWN: eager PyTorch: takes pictures" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"own_faces, whose code is not run unasked.*--plugins own_faces"):
        bench.main(["FOLDER", *quick])


def first_answer(page):
    """Answer one request for the student, on the port that was free."""
    with page:
        threading.Thread(target=page.handle_request).start()
        with urlopen(f"http://127.0.0.1:{page.server_port}/student.onnx", timeout=20) as answer:
            return answer.read()


@pytest.mark.parametrize("line", ["serve", *PAGES])
def test_a_printed_page_is_served_or_written(line, home, monkeypatch):
    answers = []
    monkeypatch.chdir(home)
    monkeypatch.setattr(serve, "engine", lambda *_: {"ort.wasm.min.mjs": b""})
    monkeypatch.setattr(serve, "serve", lambda page: answers.append(first_answer(page)))
    words = shlex.split(line)[1:]
    serve.main([*words, *([] if "--write" in words else ["--port", "0"])])
    answers += [(home / "DIR" / "student.onnx").read_bytes()] if "--write" in words else []
    assert answers == [find("RUN" if "RUN" in words else None).read_bytes()]


class InTurn:
    """Runs the jobs of a sweep one after the other in this process."""

    jobs, batch = 1, staticmethod(nullcontext)

    def start(self, words, job_dir):
        Record(job_dir).begin(run_overrides([*words, *SMALL]).folder)
        return lambda: 0

    def close(self):
        pass


@pytest.mark.parametrize("line", SWEEPS)
def test_a_printed_sweep_does_its_jobs(line, home, monkeypatch):
    """Of a search two trials, of a grid that is typed all."""
    monkeypatch.chdir(home)
    monkeypatch.setattr("distill.sweep.multirun.executor_of", lambda launcher, at_a_time: InTurn())
    monkeypatch.setattr("distill.pipeline.finish.speed", lambda network, spec: {})
    monkeypatch.setattr("distill.pipeline.run.log_artifacts", lambda *_: None)
    sweep.main([*ON_PAGES[line], *(["sweep.run_cap=2"] if "sweep=" in line else []), f"sweep.folder={home / 'swept'}"])
    jobs = [Record(path).facts for path in (home / "swept" / "jobs").iterdir()]
    assert len(jobs) == (2 if "sweep=" in line else len(overrides.expand_sweep(ON_PAGES[line])[0]))
    assert {job["status"] for job in jobs} == {"complete"}
    shutil.rmtree(home / "swept")
