"""A sweep: every job has a record, a killed one takes no other along, and the same command again does what is missing."""

import json
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import warm
from commandline import ROOT, command, distill, environment, files
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from distill.config.naming import job_name, swept_name
from distill.config.overrides import expand_sweep
from distill.runs.folder import RunFolder
from distill.runs.reading import find
from distill.sweep import jobs as sweep_records
from distill.sweep.executors import LocalExecutor
from distill.system import console, processes
from distill.system.processes import LOG, STOP, exclusive, fork

ALONE = ("teacher=none", "loss=[ce]", "data.train=64", "data.valid=32", "data.test=32", "student.size=36")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


def sweep(*words, store, runs):
    return distill("-m", *ALONE, *words, store=store, runs=runs)


def records(runs: Path) -> list[dict]:
    (manifest,) = runs.glob("sweeps/*/jobs.jsonl")
    return [json.loads(line) for line in manifest.read_text().splitlines()]


# What is typed

WORDS = [
    ["seed=1,2", "student=microexpnet", "loss.kd.temperature=2,4,8"],
    ["student.pooling=none,both", "seed=range(0,3)", "-m", "hydra.sweep.dir=x", "loss=[ce],[ce,kd]"],
    ["seed=1", "seed=2,3", "teacher.run='a b','c'", "+new.key=1,2", "train.max_grad_norm=null,1.5"],
]


@pytest.mark.parametrize("words", WORDS)
def test_jobs_are_counted_as_hydra_counts_them(words):
    own = [word for word in words if not word.startswith(("-", "hydra"))]
    (theirs,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(own), None)
    assert expand_sweep(words)[0] == theirs and len(theirs) > 1


def test_the_jobs_of_the_readmes_sweep_are_named_by_what_they_are():
    words = ["student=microexpnet", "student.pooling=none,first,second,both", "student.width=M,S,XS,XXS"]
    jobs, swept = expand_sweep([*words, "loss.kd.temperature=2,4,8,16"])
    names = [job_name(job, swept) for job in jobs]
    assert len(set(names)) == 64 and "pooling=both,width=M,temperature=2" in names


def test_keys_that_end_alike_are_told_apart_and_long_names_are_cut():
    job = ["teacher.size=64", "student.size=48"]
    assert job_name(job, ["teacher.size", "student.size"]) == "teacher.size=64,student.size=48"
    long = [[f"teacher.run={'x' * 200}{k}"] for k in range(2)]
    names = {job_name(words, ["teacher.run"]) for words in long}
    assert len(names) == 2 and all(len(name) <= 120 and "/" not in name for name in names)


def named(words: list[str]) -> str:
    return sweep_records.sweep_folder(words, swept_name(expand_sweep(words)[1]), ())[0].name


def test_a_sweeps_folder_is_that_of_the_same_words_in_any_order_wherever_it_runs():
    words = ["student.width=M,S", "seed=0,1", "student=microexpnet"]
    name = named(words)
    assert name.startswith("seed-width-")
    turned = ["student=microexpnet", "seed=0,1", "student.width=M,S"]
    assert named(turned) == name
    more = ["-m", "launcher=joblib", "hydra.launcher.n_jobs=2", "paths.store=elsewhere", "logger=none"]
    assert named([*reversed(words), *more]) == name
    assert named([*words, "optimizer.lr=1"]) != name


def test_the_folder_of_a_sweep_is_at_home_where_that_is_typed(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sweep_records.sweep_folder(["paths.runs=~/x", "seed=0,1"], "seed", ())[0].parent == tmp_path / "x" / "sweeps"


def test_what_a_job_says_is_printed_as_it_is_and_not_read_as_markup(tmp_path, capsys):
    place = sweep_records.add(tmp_path, 0, "loss=[ce,kd]", ["loss=[ce,kd]"])
    record = sweep_records.Record(place)
    (place / LOG).write_text("error: [/x] loss=[ce,kd]\n")
    record.close(1)
    sweep_records.finalize_sweep(tmp_path)
    assert capsys.readouterr().out.count("loss=[ce,kd]  [/x] loss=[ce,kd]") == 2
    bar = console.bar()
    bar.add_task("[/x] loss=[ce,kd]")
    with console.console.capture() as shown:
        console.console.print(bar)
    assert "[/x] loss=[ce,kd]" in shown.get()


def test_a_sweep_that_ends_before_its_first_job_prints_no_table(tmp_path, capsys):
    sweep_records.finalize_sweep(tmp_path)
    assert not capsys.readouterr().out


# Processes


def code_of(process) -> int:
    until(lambda: process.exitcode is not None)
    return process.exitcode


def test_a_fork_prints_into_its_log_and_ends_with_the_codes_of_a_command(tmp_path, capfd):
    def work():
        print("in the child")
        raise KeyError("gone")

    assert code_of(fork(work, tmp_path / "log.txt")) == 1
    said = (tmp_path / "log.txt").read_text()
    assert "in the child" in said and "KeyError: 'gone'" in said and "in the child" not in capfd.readouterr().out
    assert code_of(fork(lambda: sys.exit(3), tmp_path / "log.txt")) == 3
    assert code_of(fork(lambda: sys.exit("error: why"), tmp_path / "log.txt")) == 1
    assert (tmp_path / "log.txt").read_text().endswith("\nerror: why\n")
    assert code_of(fork(lambda: os.kill(os.getpid(), signal.SIGKILL), tmp_path / "log.txt")) == -signal.SIGKILL
    assert code_of(fork((tmp_path / "well").touch, tmp_path / "log.txt")) == 0 and (tmp_path / "well").exists()


@pytest.mark.parametrize(
    ("code", "log", "sentence"),
    [
        (-9, "", "was killed by SIGKILL; the same command again goes on from its last checkpoint"),
        (1, "Traceback\nerror: student.width: 'Q'.\n", "student.width: 'Q'."),
        (1, "", "ended with exit code 1; .*log.txt says more"),
    ],
)
def test_what_a_job_could_not_write_down_is_told_by_its_exit_code_and_its_log(tmp_path, code, log, sentence):
    record = sweep_records.Record(sweep_records.add(tmp_path, 0, "job", []))
    (record.job_dir / LOG).write_text(log)
    record.close(code)
    said = json.loads((record.job_dir / "result.json").read_text())
    assert re.fullmatch(sentence, said["error"]) and record.facts["status"] == "failed"


@pytest.mark.parametrize("deaf", [False, True])
def test_jobs_are_ended_with_the_sweep_and_killed_if_they_do_not_hear(tmp_path, monkeypatch, deaf):
    monkeypatch.setattr(processes, "GRACE_PERIOD_S", 0.3)

    def sleep(words):
        if deaf:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (tmp_path / "begun").touch()
        time.sleep(60)

    executor = LocalExecutor(1, sleep)
    poll = executor.start([], tmp_path)
    until((tmp_path / "begun").exists)
    executor.close()
    assert poll() == -(signal.SIGKILL if deaf else signal.SIGTERM) and (tmp_path / STOP).exists()


def test_a_job_of_a_sweep_waits_for_a_run_folder_that_another_process_is_at_work_in(tmp_path):
    release = threading.Event()

    def other():
        with RunFolder(tmp_path).lock(wait=False):
            release.wait(20)

    thread = threading.Thread(target=other)
    thread.start()
    while not (tmp_path / ".lock").exists():
        time.sleep(0.01)
    with (
        pytest.raises(ValueError, match="another process is at work in this run folder"),
        RunFolder(tmp_path).lock(wait=False),
    ):
        pass
    threading.Timer(0.3, release.set).start()
    with RunFolder(tmp_path).lock(wait=True):
        assert release.is_set()
    thread.join()


def test_the_same_sweep_twice_at_a_time_is_refused(tmp_path):
    refused = pytest.raises(ValueError, match="another process is at work on this sweep")
    with exclusive(tmp_path, "on this sweep"), refused, exclusive(tmp_path, "on this sweep"):
        pass


# Real sweeps


@pytest.fixture(scope="module")
def first(store, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    return sweep("train.epochs=1", "optimizer.lr=1e-3,1e30,2e-3", store=store, runs=runs), runs


def test_a_job_that_fails_leaves_its_error_in_its_folder_and_the_others_go_on(first):
    done, runs = first
    assert done.returncode == 1
    results = {path.parent.name: json.loads(path.read_text()) for path in runs.glob("*/result.json")}
    assert sorted(result["status"] for result in results.values()) == ["complete", "complete", "failed"]
    (failed,) = (result for result in results.values() if result["status"] == "failed")
    assert "loss term 'ce' is nan" in failed["error"]


def test_a_sweep_ends_with_how_each_job_ended_and_where_it_is(first):
    done, runs = first
    jobs = records(runs)
    assert [(job["name"], job["status"]) for job in jobs] == [
        ("lr=0.001", "complete"),
        ("lr=1e+30", "failed"),
        ("lr=0.002", "complete"),
    ]
    assert done.stdout.count("epoch   1/1") == 0 and done.stdout.count("job 0: complete") == 1
    end = done.stdout[done.stdout.rindex("   1  complete") :]
    assert all(job["folder"] in end and job["name"] in end for job in jobs)
    assert "3 jobs: 2 complete, 1 failed" in end and "loss term 'ce' is nan" in end
    assert "best: " in end and "python -m distill.export best of" in end
    assert "optimizer.lr=0.002" in jobs[2]["overrides"] and jobs[2]["valid/top1_accuracy"] >= 0


def test_the_sweeps_folder_holds_a_link_to_every_run_and_the_report_reads_them(first):
    (folder,) = (first[1] / "sweeps").iterdir()
    links = {path.name: path.resolve() for path in folder.iterdir() if path.is_symlink()}
    assert links == {job["name"]: Path(job["folder"]).resolve() for job in records(first[1])}
    found = find([folder])
    assert sorted(run.status for run in found) == ["complete", "complete", "failed"]
    assert {run.folder for run in found} == set(links.values())
    assert len(find([first[1]])) == 3  # a run that is linked to is the same run


def test_started_a_second_time_a_sweep_runs_only_what_is_missing(first, store):
    _, runs = first
    whole = [Path(job["folder"]) for job in records(runs) if job["status"] == "complete"]
    before = [files(folder) for folder in whole]
    assert all(len(found) > 5 for found in before)
    (failed,) = (Path(job["folder"]) for job in records(runs) if job["status"] == "failed")
    (failed / "result.json").unlink()
    again = sweep("train.epochs=1", "optimizer.lr=1e-3,1e30,2e-3", store=store, runs=runs)
    assert again.returncode == 1 and "2 complete (2 of them before), 1 failed" in again.stdout
    assert again.stdout.count("reused") >= 2
    assert [files(folder) for folder in whole] == before
    assert json.loads((failed / "result.json").read_text())["status"] == "failed"


@pytest.mark.slow
def test_a_killed_job_takes_no_other_along_and_a_killed_sweep_goes_on_from_its_checkpoints(store, tmp_path):
    words = ("train.epochs=30", "checkpoint.every_steps=1", "train.batch_size=16", "seed=1,2")
    job = warm.Command(command("-m", *ALONE, *words, store=store, runs=tmp_path), ROOT, environment())
    os.kill(child_with_a_checkpoint(job, tmp_path, 1), signal.SIGKILL)
    other = child_with_a_checkpoint(job, tmp_path, 2)  # the second job has begun: the sweep lives
    os.kill(job.pid, signal.SIGKILL)
    job.communicate(timeout=60)
    until(lambda: not Path(f"/proc/{other}").exists() or "zombie" in Path(f"/proc/{other}/status").read_text())
    assert not list(tmp_path.glob("*/result.json"))
    done = sweep(*words, store=store, runs=tmp_path)
    assert done.returncode == 0, done.stderr
    results = [json.loads(path.read_text()) for path in tmp_path.glob("*/result.json")]
    assert len(results) == 2 and all(result["resumed_at_step"] > 0 for result in results)


def child_with_a_checkpoint(job: warm.Command, runs: Path, count: int) -> int:
    """Return the process that does a job, once so many run folders have a checkpoint."""
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children")

    def ready():
        assert job.poll() is None, "the sweep ended too early"
        return len(list(runs.glob("*/checkpoints/last.pt"))) == count

    until(ready)
    until(lambda: children.read_text().split())
    return int(children.read_text().split()[-1])


def until(ready, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.005)
