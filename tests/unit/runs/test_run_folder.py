"""A run folder has one owner, and result.json one reader and writer."""

import ast
import json
import re
from pathlib import Path

import pytest
from run_folders import write_run

from distill.pipeline import completed
from distill.runs.folder import RunFolder
from distill.runs.reading import not_finished, read
from distill.runs.result import RunResult

ROOT = Path(__file__).resolve().parents[3]
NAMES = {"result.json", "env.json", "config.yaml", "metrics.jsonl", "best.safetensors", "last.pt"}


def test_no_other_module_names_the_files_of_a_run_folder():
    owner = ROOT / "distill" / "runs" / "folder.py"
    paths = [path for package in ("distill", "teachers") for path in (ROOT / package).rglob("*.py")]
    named = {
        path: {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)} & NAMES
        for path in paths
    }
    assert named.pop(owner) == NAMES and not {path: names for path, names in named.items() if names}


def test_a_complete_result_is_read_as_it_was_written_without_the_keys_of_other_results(tmp_path):
    result = RunResult("complete", name="a", student={"metrics": {"valid/nll": 1.5}}, teacher=None, seed=3)
    result.write(tmp_path / "result.json")
    assert RunResult.read(tmp_path / "result.json") == result
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["teacher"] is None and found["seed"] == 3 and found["extra_test_splits"] == {}
    assert not {"error", "folds", "generations", "ensemble"} & found.keys()


def test_a_failed_result_holds_the_error_alone(tmp_path):
    RunResult("failed", error="ValueError: no").write(tmp_path / "result.json")
    assert json.loads((tmp_path / "result.json").read_text()) == {"status": "failed", "error": "ValueError: no"}
    assert not RunFolder(tmp_path).is_complete()


def test_what_an_older_result_lacks_is_empty_and_what_a_newer_one_adds_is_left_out(tmp_path):
    (tmp_path / "result.json").write_text('{"status": "complete", "eval": null, "of_tomorrow": 1}')
    assert RunResult.read(tmp_path / "result.json") == RunResult("complete")
    assert RunFolder(tmp_path).is_complete()


@pytest.mark.parametrize("content", ["", "[1]", '{"status": "comp', None])
def test_a_damaged_or_missing_result_is_not_complete(tmp_path, content):
    if content is not None:
        (tmp_path / "result.json").write_text(content)
        with pytest.raises(ValueError):
            RunResult.read(tmp_path / "result.json")
    assert not RunFolder(tmp_path).is_complete()


def test_parts_are_in_the_order_of_their_numbers(tmp_path):
    for name in ("fold-10", "fold-2", "fold-x", "export-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("")
    assert [part.name for part in RunFolder(tmp_path).parts()] == ["fold-2", "fold-10"]


def test_of_a_run_whose_error_says_what_to_type_nothing_else_is_said(tmp_path):
    folder = write_run(tmp_path / "run")
    sentence = "last.pt: not a readable checkpoint. Delete it to start this run again."
    RunResult("failed", error=f"ValueError: {sentence}").write(folder / "result.json")
    with pytest.raises(ValueError, match=re.escape(sentence) + "$"):
        completed.weights(folder)


@pytest.mark.parametrize("content", [b"\0" * 99, b"a: 1", None])
def test_a_run_of_a_damaged_config_is_told_one_thing_to_do(tmp_path, content):
    folder = write_run(tmp_path / "run")
    RunFolder(folder).config.unlink() if content is None else RunFolder(folder).config.write_bytes(content)
    said = not_finished(folder, read(folder).error)
    assert said.startswith(f"{folder}: this run is not finished: {folder}") and "typed again" not in said
    assert said.endswith("folder and train again." if content else "Give the run folder that a run's table ends with.")
