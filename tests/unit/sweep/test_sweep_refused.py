"""What is refused: a job before it has a run folder, whose error is in the sweep's folder; words that no sweep can be."""

import json
import re
from contextlib import nullcontext

import pytest
from commandline import distill
from hydra import compose, initialize_config_module
from hydra.errors import HydraException

from distill.config.hints import suggest_override
from distill.config.overrides import compose_jobs
from distill.runs.reading import find
from distill.sweep import __main__ as sweep_command
from distill.sweep import jobs as sweep_records
from distill.sweep import multirun as sweeps

ALONE = ("teacher=none", "loss=[ce]", "data.train=64", "data.valid=32", "data.test=32", "student.size=36")


def test_a_refused_job_leaves_its_error_in_its_place_and_the_report_of_the_sweep_lists_it(tmp_path):
    done = distill("-m", *ALONE, "train.epochs=1,-1", store=tmp_path / "store", runs=tmp_path / "runs")
    assert done.returncode == 1 and "2 jobs: 1 complete, 1 failed" in done.stdout, done.stdout + done.stderr
    (sweep,) = (tmp_path / "runs" / "sweeps").iterdir()
    said = json.loads((sweep / "jobs" / "1" / "result.json").read_text())
    assert said["status"] == "failed" and re.search(r"train\.epochs: expected .*, got -1", said["error"])
    complete, failed = sorted(find([sweep]), key=lambda run: run.status)
    assert (complete.status, complete.folder) == ("complete", (sweep / "epochs=1").resolve())
    assert (failed.status, failed.folder) == ("failed", (sweep / "jobs" / "1").resolve())
    assert failed.error == said["error"]


def test_the_error_is_gone_when_the_job_begins_again(tmp_path):
    place = sweep_records.add(tmp_path / "sweep", 0, "seed=0", ["seed=0"])
    (place / "log.txt").write_text("error: KeyError: 'gone'\n")
    sweep_records.Record(place).close(1)
    assert json.loads((place / "result.json").read_text()) == {"status": "failed", "error": "KeyError: 'gone'"}
    sweep_records.add(tmp_path / "sweep", 0, "seed=0", ["seed=0"])
    assert not (place / "result.json").exists()
    sweep_records.Record(place).begin(tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    sweep_records.Record(place).close(1)
    assert not (place / "result.json").exists()  # the run's own folder is where it is looked for


def test_a_job_that_waits_again_keeps_its_run_folder_unless_its_number_is_anothers_now(tmp_path):
    first = [["width=M", "seed=0"], ["width=M", "seed=1"], ["width=S", "seed=0"], ["width=S", "seed=1"]]
    sweep_records.plan(tmp_path, first, ["width", "seed"])
    for number in range(4):
        sweep_records.Record(tmp_path / "jobs" / str(number)).begin(tmp_path / str(number))
    turned = [[seed, width] for seed in ("seed=0", "seed=1") for width in ("width=M", "width=S")]
    sweep_records.plan(tmp_path, turned, ["seed", "width"])
    folders = [sweep_records.Record(tmp_path / "jobs" / str(number)).facts.get("folder") for number in range(4)]
    assert folders == [str(tmp_path / "0"), None, None, str(tmp_path / "3")]


WORDS = [
    (
        ["launcher=jobib"],
        r"launcher=jobib: there is no launcher/jobib\. Did you mean launcher=joblib\? There are joblib",
    ),
    (["student=microexpnett"], r"student=microexpnett: .*Did you mean student=microexpnet\? There are cern, "),
    (["loss=[ce,kdd]"], r"loss=kdd: there is no loss/kdd\. Did you mean loss=kd\? There are "),
    (["student.width=XS,"], r"student\.width=XS,: cannot be read\. Give a value behind = and every comma"),
    (
        ["launcher=joblib", "hydra.launcher.n_job=2"],
        r"hydra\.launcher\.n_job: no such key\. Did you mean hydra\.launcher\.n_jobs\b",
    ),
]


@pytest.mark.parametrize("words, sentence", WORDS)
def test_a_word_of_a_sweep_that_cannot_be_meant_gets_one_sentence_with_what_is_nearest(words, sentence):
    with pytest.raises(HydraException) as error, initialize_config_module("conf", version_base="1.3"):
        compose("run", overrides=words, return_hydra_config=True)
    said = suggest_override(error.value, words)
    assert re.match(sentence, said) and "\n" not in said


IDLE = [
    ("eval.tta", r"eval\.tta: is measured, not learned.*python -m distill\.measure RUN eval\.tta="),
    ("data.test_subset", r"data\.test_subset: is measured, not learned"),
    ("train.threads", r"train\.threads: does not change what is learned: its values would be one run"),
    ("checkpoint.every_steps", r"checkpoint\.every_steps: does not change what is learned"),
]


@pytest.mark.parametrize("key, sentence", IDLE)
def test_a_key_that_changes_no_student_cannot_be_swept_over(tmp_path, key, sentence):
    with pytest.raises(ValueError, match=sentence):
        sweeps.run_grid([f"{key}=1,2", f"paths.runs={tmp_path}"])
    assert not any(tmp_path.iterdir())


def test_a_folder_of_another_sweep_is_refused_and_left_as_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sweeps, "executor_of", lambda *words: Ended())
    words = [f"sweep.folder={tmp_path / 'sweep'}", f"paths.runs={tmp_path / 'runs'}"]
    sweep_command.main([*words, "seed=0,1,2"])
    before = {path: path.read_bytes() for path in (tmp_path / "sweep").rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as stopped:
        sweep_command.main([*words, "optimizer.lr=0.1,0.01"])
    assert stopped.value.code.endswith("holds another sweep. Choose another folder, or leave it out.")
    assert before == {path: path.read_bytes() for path in (tmp_path / "sweep").rglob("*") if path.is_file()}
    sweep_command.main([*words, "seed=0,1,2"])


class Ended:
    """An executor whose jobs end at once."""

    jobs, batch = 1, staticmethod(nullcontext)

    def start(self, words, job_dir):
        sweep_records.Record(job_dir).begin(job_dir)
        return lambda: 0

    def close(self):
        pass


def test_flags_of_the_other_command_are_refused_rather_than_passed_over():
    for word in ("--jobs=2", "-m"):
        with pytest.raises(ValueError, match=rf"{word}: is no option\. Type sweep\.jobs=N"):
            sweep_command.parse(["seed=0,1", word])


@pytest.mark.parametrize("nothing", ["", "null", "''"])
def test_a_search_without_a_name_is_refused(nothing):
    with pytest.raises(ValueError, match=rf"^sweep: expected a name .*, got {re.escape(repr(nothing))}\. Type sweep="):
        sweep_command.parse([f"sweep={nothing}", "seed=0,1"])


def test_sweep_jobs_0_is_told_what_to_type(tmp_path):
    for words in (["launcher=joblib", "hydra.launcher.n_jobs=0"], []):
        _, launcher = compose_jobs([[]], words, [], tmp_path)
        with pytest.raises(ValueError, match=r"(n_jobs|sweep\.jobs): expected 1 or more, or -1 for one.*, got 0"):
            sweeps.executor_of(launcher, 0)
