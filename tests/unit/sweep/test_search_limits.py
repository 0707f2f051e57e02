"""Where a search ends: at its cap, whatever runs beside or fails, and its jobs with it when it is stopped."""

import json
from contextlib import nullcontext

import pytest
from small_sweep import small

from distill.sweep import jobs as sweep_records
from distill.sweep.search import Search


class Pool:
    """Starts pretended jobs: a job is a function of its number and of how often it was asked, None while it goes on."""

    def __init__(self, root, job, jobs=1):
        self.root, self.job, self.jobs, self.places, self.batch, self.closed = root, job, jobs, [], nullcontext, False

    def close(self):
        self.closed = True

    def start(self, words, place):
        number, asked = len(self.places), []
        assert number < 10, "it does not end"
        self.places.append(place)
        folder = self.root / str(number)
        folder.mkdir()
        sweep_records.Record(place).begin(folder)
        return lambda: self.job(number, asked.append(1) or len(asked), folder)


def result(folder, **metrics):
    student = {"metrics": {f"valid/{name}": value for name, value in metrics.items()}}
    (folder / "result.json").write_text(json.dumps({"status": "complete", "student": student}))
    return 0


def search_of(tmp_path, **changes):
    (tmp_path / "sweep").mkdir()
    return Search(
        small(tmp_path, **changes), lambda chosen: [f"{k}={v}" for k, v in chosen.items()], tmp_path / "sweep", [], 0
    )


def test_jobs_at_work_count_toward_the_cap(tmp_path):
    pool = Pool(tmp_path, lambda number, asked, folder: result(folder, top1_accuracy=0.5) if asked == 2 else None, 2)
    assert search_of(tmp_path).run(pool, 3) == 0 and len(pool.places) == 3


def test_where_every_job_fails_no_more_are_tried_than_were_asked_for(tmp_path):
    pool = Pool(tmp_path, lambda *_: 1)
    assert search_of(tmp_path).run(pool, 3) == 3 and len(pool.places) == 3


def test_best_of_a_metric_to_minimize_is_the_least(tmp_path):
    metric = {"name": "valid/nll", "goal": "minimize"}
    pool = Pool(tmp_path, lambda number, asked, folder: result(folder, nll=[1.5, 0.9, 2.0][number]))
    search = search_of(tmp_path, metric=metric)
    search.run(pool, 3)
    assert [(number, values) for number, values, _ in search.best()] == [(1, [0.9])]


def test_a_search_that_is_stopped_tells_its_jobs_to_stop(tmp_path):
    def job(number, asked, folder):
        if number == 1 and asked == 2:
            raise KeyboardInterrupt

    pool = Pool(tmp_path, job, 2)
    with pytest.raises(KeyboardInterrupt):
        search_of(tmp_path).run(pool, None)
    assert len(pool.places) == 2 and pool.closed
