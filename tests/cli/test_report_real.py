"""python -m distill.report on a run of the real command line: whole, and with each of its numbers and words spoilt."""

import copy
import csv
import json
import re
import shutil
from contextlib import suppress
from functools import cache
from html import unescape
from pathlib import Path

import pytest
import yaml
from commandline import distill
from run_folders import write_run

from distill.report import __main__ as report
from distill.report.aggregate import aggregate_runs
from distill.report.select import best
from distill.runs import reading
from distill.runs.config import RunConfig
from distill.runs.reading import find, read
from distill.runs.result_schema import CONFIG


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The folder of a store and of one run with a teacher, measured on blurred faces, too."""
    where = tmp_path_factory.mktemp("real")
    done = distill("eval.robustness=[blur]", store=where / "store", runs=where / "runs")
    assert done.returncode == 0, done.stderr
    return where


def test_a_real_run_becomes_a_page_with_its_faces_where_its_networks_look_and_nothing_from_a_network(real, capsys):
    report.main([str(real)])
    told = capsys.readouterr()
    page = (real / "report.html").read_text()
    assert not told.err and told.out.split() == [str(real / f"report.{kind}") for kind in ("html", "md", "csv")]
    for heading in (
        "Runs",
        "Learning curves",
        "How the best student errs",
        "Reliability",
        "Faces",
        "Corruption robustness",
    ):
        assert f">{heading}" in page
    faces = page.count('<figure class="face">')
    assert faces > 4 and [page.count(f'alt="where the {who} looks"') for who in ("student", "teacher")] == [
        faces,
        faces,
    ]
    assert not re.search(r"https?://|@import|<link|<iframe|\bsrc=\"(?!data:)", page) and len(page) < 1_000_000
    assert "1 run of 1 configuration" in page, "the teacher in the store is no run of its own"
    (folder,) = (real / "runs").iterdir()
    for path in real.rglob("best.safetensors"):
        path.unlink()
    report.main([str(folder)])
    page = (folder / "report.html").read_text()
    assert "No faces are shown" in page and "Corruption robustness" in page


def keys(node, prefix=()):
    """Yield the keys of a mapping at any depth, each with those above it."""
    for key, value in node.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from keys(value, (*prefix, key))


def spoilt(whole, key, value):
    found = copy.deepcopy(whole)
    node = found
    for name in key[:-1]:
        node = node[name]
    node[key[-1]] = value
    return found


@pytest.fixture
def pair(real, tmp_path):
    """A whole run, and beside it the real one with everything that a result can say."""
    good = write_run(tmp_path / "good", "student.width=S", parameters=1_000_000)
    (folder,) = (real / "runs").iterdir()
    bad = shutil.copytree(folder, tmp_path / "bad", ignore=shutil.ignore_patterns("checkpoints"))
    result = json.loads((bad / "result.json").read_text())
    result["extra_test_splits"] = {"votes": {"rows": 64, "top1_accuracy": 0.5}}
    result["student"] |= {"spread": {"valid/top1_accuracy": 0.01}}
    (bad / "result.json").write_text(json.dumps(result | {"folds": [{"fold": 0}, {"fold": 1}]}))
    assert all(run.status == "complete" and run.numbers for run in find([tmp_path])) and read(bad).corruption_curves
    return good, bad


def reported(good, bad, out):
    """Write the page of a run that may be spoilt and a whole one; return the status of the first, and check what is said of both."""
    shutil.rmtree(out, ignore_errors=True)
    found = aggregate_runs([read(bad), good])
    report.write(found, out, with_faces=False)
    with suppress(ValueError):  # a sentence: they may be of different data now
        best(found, "max valid/top1_accuracy where bytes<1e9")
    rows = {Path(row["folder"]): row for row in csv.DictReader((out / "report.csv").read_text().splitlines())}
    page = unescape((out / "report.html").read_text())
    assert rows.keys() == {good.folder, bad} and rows[good.folder]["status"] == "complete" and 'class="runs"' in page
    status, error = rows[bad]["status"], rows[bad]["error"]
    assert not error if status == "complete" else error in page
    return status


@pytest.mark.parametrize("value", [None, [], {}, "x", -1, [1]], ids=json.dumps)
def test_whatever_one_value_of_a_run_s_files_is_the_page_is_written_and_the_run_counted_or_named(
    pair, value, tmp_path, monkeypatch
):
    good, bad = read(pair[0]), pair[1]
    statuses = {}
    for name, write in (("config.yaml", yaml.safe_dump), ("result.json", json.dumps), ("env.json", json.dumps)):
        before = (bad / name).read_text()
        whole = yaml.safe_load(before)
        for key in keys(whole) if name != "config.yaml" else (tuple(key.split(".")) for key in CONFIG):
            (bad / name).write_text(write(spoilt(whole, key, value)))
            try:
                statuses[name, ".".join(key)] = reported(good, bad, tmp_path / "out")
            except Exception as error:
                raise AssertionError(f"{name}: {'.'.join(key)} is {value!r}") from error
        (bad / name).write_text(before)
        monkeypatch.setattr(
            reading.RunConfig, "read", cache(RunConfig.read)
        )  # slow to read, and as it was from here on
    seen = {file: {statuses[key] for key in statuses if key[0] == file} for file, _ in statuses}
    assert len(statuses) > 120 and seen["env.json"] == {"complete"} and "damaged" in seen["config.yaml"]
    assert statuses["result.json", "student.metrics.valid/top1_accuracy"] == "damaged"


def test_a_wrong_type_is_named_with_its_key_and_what_is_there(pair):
    file = pair[1] / "result.json"
    whole = json.loads(file.read_text())
    for key, value, words in (
        ("data.rows", None, "has no data.rows"),
        ("data.rows", {"train": "many"}, 'its data.rows is {"train": "many"}'),
        ("teacher", "x", 'its teacher is "x"'),
        ("teacher.name", None, "has no teacher.name"),
        ("robustness.mean", None, "its numbers cannot be read (TypeError: "),
        ("student.metrics.valid/top1_accuracy", 70, "has no student.metrics valid/top1_accuracy in [0, 1]"),
    ):
        file.write_text(json.dumps(spoilt(whole, key.split("."), value)))
        run = read(pair[1])
        assert run.status == "damaged" and run.error.startswith(f"result.json: says complete, but {words}"), key
