"""A search: optuna chooses, each trial is a job, and a killed search goes on."""

import json
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from small_sweep import small

from distill.config.overrides import compose_jobs
from distill.runs import reading
from distill.sweep import jobs as sweep_records
from distill.sweep import multirun as sweeps
from distill.sweep import search as searching
from distill.sweep.__main__ import choose, parse
from distill.sweep.search import Search
from distill.system.processes import STOP


class Pretended:
    """A pool whose jobs are a function: (settings, place, folder) -> exit code, or None while it goes on."""

    def __init__(self, root: Path, job, jobs: int = 1):
        self.root, self.job, self.jobs, self.started, self.batch = root, job, jobs, [], nullcontext

    def close(self):
        pass

    def start(self, words, place):
        folder = self.root / "_".join(words).replace("/", "_")
        self.started.append(list(words))
        (folder).mkdir(parents=True, exist_ok=True)
        (place / STOP).unlink(missing_ok=True)
        sweep_records.Record(place).begin(folder)
        return lambda: self.job(dict(word.split("=") for word in words), place, folder)


def result(folder: Path, accuracy: float, macs: int = 1) -> int:
    """Leave a result whose test numbers say the opposite of its validation."""
    metrics = {"valid/top1_accuracy": accuracy, "test/top1_accuracy": 1 - accuracy}
    student = {"metrics": metrics, "macs": macs, "latency_ms": 1.0}
    (folder / "result.json").write_text(json.dumps({"status": "complete", "student": student}))
    return 0


def words(chosen: dict) -> list[str]:
    return [f"{key}={value}" for key, value in chosen.items()]


def search_of(tmp_path, minimize=(), **changes) -> Search:
    (tmp_path / "sweep").mkdir(exist_ok=True)
    return Search(small(tmp_path, **changes), words, tmp_path / "sweep", list(minimize), 0)


GRID = {"method": "grid", "parameters": {"student.width": {"values": ["M", "XS", "XXS"]}, "seed": {"values": [0, 1]}}}


def test_trials_that_are_several_runs_are_not_stopped_early_and_that_is_said(tmp_path, capsys):
    (tmp_path / "sweep").mkdir()
    file = small(tmp_path, early_terminate={"type": "hyperband", "min_iter": 1, "eta": 2})
    for several in (False, True):
        assert Search(file, words, tmp_path / "sweep", [], 0, several).prunes is not several
    assert capsys.readouterr().out.count("with data.fold=all or generations=N no trial is stopped early") == 1
    for word, answer in (("generations=2", True), ("generations=1", False), ("data=ckplus data.fold=all", True)):
        assert compose_jobs([word.split()], [], [], tmp_path)[0].is_several is answer, word
    for key, one in (("generations", False), ("data.fold", False), ("seed", True)):  # among what is searched
        (tmp_path / key).mkdir()
        early = {"type": "hyperband", "min_iter": 1}
        searched = small(tmp_path, early_terminate=early, parameters={key: {"values": [1, 2]}})
        assert Search(searched, words, tmp_path / key, [], 0).prunes is one, key


def test_the_best_trial_is_the_best_on_validation(tmp_path):
    def job(said, place, folder):
        return result(folder, (0.8 if said["student.width"] == "XS" else 0.2) + 0.1 * int(said["seed"]))

    search = search_of(tmp_path, **GRID)
    pool = Pretended(tmp_path, job)
    assert search.run(pool, None) == 0
    assert pool.started == [[f"student.width={w}", f"seed={s}"] for w in ("M", "XS", "XXS") for s in (0, 1)]
    ((_, values, chosen),) = search.best()
    assert values == [pytest.approx(0.9)] and chosen == {"student.width": "XS", "seed": 1}


def test_with_costs_the_best_trials_are_those_that_no_other_beats_in_everything(tmp_path):
    macs = {"M": 30, "XS": 20, "XXS": 10}
    accuracy = {"M": 0.8, "XS": 0.6, "XXS": 0.7}

    def job(said, place, folder):
        width = said["student.width"]
        return result(folder, accuracy[width], macs[width])

    only = {"method": "grid", "parameters": {"student.width": {"values": ["M", "XS", "XXS"]}}}
    search = search_of(tmp_path, ["macs"], **only)
    search.run(Pretended(tmp_path, job, jobs=2), None)
    assert {chosen["student.width"]: values for _, values, chosen in search.best()} == {
        "M": [0.8, 30],
        "XXS": [0.7, 10],
    }


def test_a_failed_trial_does_not_stop_the_others_and_is_tried_again_at_the_next_start(tmp_path):
    broken = {"now": True}

    def job(said, place, folder):
        return -9 if said["student.width"] == "XS" and broken["now"] else result(folder, 0.5)

    assert search_of(tmp_path, **GRID).run(Pretended(tmp_path, job), None) == 2
    states = [sweep_records.Record(place).facts for place in sorted((tmp_path / "sweep" / "jobs").iterdir())]
    assert [facts["status"] for facts in states].count("failed") == 2
    assert "was killed by SIGKILL" in states[2]["error"]
    broken["now"] = False
    again = Pretended(tmp_path, job)
    assert search_of(tmp_path, **GRID).run(again, None) == 0
    assert again.started == [["student.width=XS", "seed=0"], ["student.width=XS", "seed=1"]]
    nothing = Pretended(tmp_path, job)
    assert search_of(tmp_path, **GRID).run(nothing, None) == 0 and not nothing.started


@pytest.mark.parametrize("cap, number", [(4, 4), (None, 6)])
def test_a_cap_ends_a_grid_too(tmp_path, monkeypatch, cap, number):
    pool = Pretended(tmp_path, lambda said, place, folder: result(folder, 0.5))
    monkeypatch.setattr(sweeps, "executor_of", lambda launcher, jobs: pool)
    file = small(tmp_path, **GRID, run_cap=cap)
    for _ in range(2):
        assert choose(file, parse([f"sweep.folder={tmp_path / 'sweep'}"])[0], []) == 0
        assert len(pool.started) == number


def test_a_trial_killed_before_its_settings_were_written_down_is_not_lost(tmp_path):
    search_of(tmp_path, **GRID).study.ask()  # taken from the queue, and nothing more
    pool = Pretended(tmp_path, lambda said, place, folder: result(folder, 0.5))
    search = search_of(tmp_path, **GRID)
    assert not search.study.trials[0].params
    assert search.run(pool, None) == 0
    assert sorted(pool.started) == sorted(
        [f"student.width={w}", f"seed={s}"] for w in ("M", "XS", "XXS") for s in (0, 1)
    )


def test_a_journal_whose_last_line_was_cut_short_by_a_kill_goes_on_from_the_line_before(tmp_path):
    pool = Pretended(tmp_path, lambda said, place, folder: result(folder, 0.5))
    search_of(tmp_path, **GRID).run(pool, 2)
    journal = tmp_path / "sweep" / "study.journal"
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 4, "wor')
    search = search_of(tmp_path, **GRID)
    assert search.run(pool, None) == 0
    assert len(pool.started) == 6 and [trial.state.name for trial in search.study.trials] == ["COMPLETE"] * 6


class Killed(BaseException):
    pass


def test_a_killed_search_goes_on_with_the_settings_that_were_at_work_and_ends_at_its_cap(tmp_path):
    def job(said, place, folder):
        if len(pool.started) == 3:
            raise Killed
        return result(folder, 0.5)

    pool = Pretended(tmp_path, job)
    with pytest.raises(Killed):
        search_of(tmp_path).run(pool, 5)
    after = Pretended(tmp_path, lambda said, place, folder: result(folder, 0.6))
    search = search_of(tmp_path)
    search.run(after, 5)
    assert after.started[0] == pool.started[2]  # the same words are the same run folder
    assert len(after.started) == 3 and len(search.study.trials) == 6  # 2 complete, 1 killed, 3 complete
    assert len({tuple(typed) for typed in pool.started + after.started}) == 5


def test_epochs_are_looked_at_only_where_there_are_new_ones(tmp_path, monkeypatch):
    looks, calls = [], []
    monkeypatch.setattr(searching, "_epochs", lambda path, metric: looks.append(path.stat().st_size) or ())

    def job(said, place, folder):
        calls.append(1)
        with open(folder / "metrics.jsonl", "a") as file:
            file.write("{}\n" if len(calls) <= 4 else "")
        return result(folder, 0.5) if len(calls) == 12 else None

    one = {"method": "grid", "parameters": {"seed": {"values": [0]}}}
    search = search_of(tmp_path, early_terminate={"type": "hyperband", "min_iter": 2, "eta": 3}, **one)
    assert search.run(Pretended(tmp_path, job), None) == 0
    assert looks == [3, 6, 9, 12]


def test_a_trial_that_is_behind_after_as_many_epochs_is_stopped(tmp_path):

    def job(said, place, folder):
        if (place / STOP).exists():
            return -15
        path, good = folder / "metrics.jsonl", said["student.width"] != "XXS"
        epoch = len(path.read_text().splitlines()) if path.exists() else 0
        if epoch == 6:
            return result(folder, 0.9)
        with open(path, "a") as file:
            value = 0.9 if good else 0.1
            file.write(
                json.dumps({"epoch": epoch, "valid/top1_accuracy": value, "test/top1_accuracy": 1 - value}) + "\n"
            )
        return None

    search = search_of(tmp_path, early_terminate={"type": "hyperband", "min_iter": 2, "eta": 3}, **GRID)
    assert search.run(Pretended(tmp_path, job), None) == 0
    states = [trial.state.name for trial in search.study.trials]
    assert states == ["COMPLETE"] * 4 + ["PRUNED"] * 2
    assert max(search.study.trials[-1].intermediate_values) <= 3
    pruned = sweep_records.Record(tmp_path / "sweep" / "jobs" / "5").facts
    assert pruned["status"] == "pruned"
    (Path(pruned["folder"]) / "config.yaml").write_text("{data: {}, teacher: {}, student: {}, loss: {}, train: {}}")
    run = reading.read(Path(pruned["folder"]))
    assert run.status == "pruned" and run.error.startswith("was behind after 2 epochs")


def test_a_lock_that_a_killed_start_left_on_the_journal_holds_nobody_up(tmp_path):
    (tmp_path / "sweep").mkdir()
    for target in (tmp_path / "gone" / "study.journal", tmp_path / "sweep" / "study.journal"):
        (tmp_path / "sweep" / "study.journal.lock").symlink_to(target)
        begun = time.monotonic()
        search_of(tmp_path)
        assert time.monotonic() - begun < 20 and not (tmp_path / "sweep" / "study.journal.lock").is_symlink()


@pytest.mark.parametrize("ends", ["at once", "when it is asked to"])
def test_a_complete_run_is_never_pruned_and_counts_with_its_result(tmp_path, ends):
    told, calls = [], {"0": 0, "1": 0}

    def job(said, place, folder):
        seed = said["seed"]
        calls[seed] += 1
        assert calls[seed] < 100
        lines = [{"epoch": epoch, "valid/top1_accuracy": 0.1 if seed == "1" else 0.9} for epoch in range(6)]
        (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        if seed == "0":
            return result(folder, 0.9) if calls[seed] == 3 else None
        if ends == "at once":
            result(folder, 0.1)  # it is complete before its epochs are looked at
            return -15 if calls[seed] == 5 else None
        told.append((place / STOP).exists())
        return result(folder, 0.1) or -15 if told[-1] else None  # it is complete when it is told to stop

    two = {"method": "grid", "parameters": {"seed": {"values": [0, 1]}}}
    search = search_of(tmp_path, early_terminate={"type": "hyperband", "min_iter": 2, "eta": 2}, **two)
    assert search.run(Pretended(tmp_path, job), None) == 0
    assert [trial.state.name for trial in search.study.trials] == ["COMPLETE"] * 2
    assert search.study.trials[1].values == [0.1] and any(told) == (ends != "at once")
    record = sweep_records.Record(tmp_path / "sweep" / "jobs" / "1").facts
    assert record["status"] == "complete" and record["valid/top1_accuracy"] == 0.1
    assert json.loads((Path(record["folder"]) / "result.json").read_text())["status"] == "complete"


def test_a_trial_that_failed_before_it_had_a_run_folder_says_so_until_it_is_tried_again(tmp_path):
    class Refused(Pretended):
        def start(self, words, place):
            return lambda: 1

    one = {"method": "grid", "parameters": {"seed": {"values": [0]}}}
    assert search_of(tmp_path, **one).run(Refused(tmp_path, None), None) == 1
    (found,) = reading.find([tmp_path / "sweep"])
    assert found.status == "failed" and "ended with exit code 1" in found.error
    search_of(tmp_path, **one).run(Pretended(tmp_path, lambda said, place, folder: result(folder, 0.5)), None)
    assert [run.folder for run in reading.find([tmp_path])] == [(tmp_path / "seed=0").resolve()]


def test_with_costs_nothing_is_pruned_and_that_is_said(tmp_path, capsys):
    early = {"early_terminate": {"type": "hyperband", "min_iter": 2}}
    assert not search_of(tmp_path, ["macs"], **early).prunes
    assert "pruning compares one number" in capsys.readouterr().out
