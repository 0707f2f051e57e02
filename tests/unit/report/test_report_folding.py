"""Which runs of a report are one row: seeds of one configuration, and nothing else."""

import json
import os
import re

import pytest
from run_folders import write_run

from distill.data.common.emotions import EMOTIONS
from distill.report import __main__ as report
from distill.report.aggregate import aggregate_runs
from distill.report.html.summary import warnings
from distill.report.select import best
from distill.runs.reading import find


def test_students_of_two_finished_runs_are_two_rows_though_the_teachers_have_one_name(tmp_path):
    for name, sha, valid in (("one", "a" * 64, 0.8), ("two", "b" * 64, 0.7)):
        write_run(tmp_path / name, f"teacher.run=/teachers/{name}", f"teacher.sha256={sha}", valid=valid)
    write_run(tmp_path / "moved", "teacher.run=/elsewhere/one", f"teacher.sha256={'a' * 64}", "seed=1", valid=0.78)
    found = aggregate_runs(find([tmp_path]))
    assert [(c.values["teacher.run"], len(c.runs)) for c in found.configurations] == [("one", 2), ("two", 1)]
    assert not found.left_out and best(found, "max valid/top1_accuracy where teacher.run==two") == tmp_path / "two"


def test_runs_on_two_folders_of_faces_are_not_seeds_of_one_another(tmp_path):
    data = {"name": "folder", "protocol": "held out", "classes": list(EMOTIONS), "rows": {"valid": 64, "test": 64}}
    for k, (root, valid) in enumerate((("easy", 0.9), ("copy-of-easy", 0.88), ("hard", 0.3))):
        facts = data | {"fingerprint": "1" * 64 if "easy" in root else "2" * 64}
        write_run(tmp_path / root, f"data.root=/faces/{root}", f"seed={k % 2}", valid=valid, data=facts)
    found = aggregate_runs(find([tmp_path]))
    assert [len(c.runs) for c in found.configurations] == [2, 1] and found.keys == ("data.root",)
    assert len(found.sections) == 2
    with pytest.raises(ValueError, match=r"different data, .* \(64 validation faces"):
        best(found, "max valid/top1_accuracy")
    assert best(found, "max valid/top1_accuracy where data.root==hard") == tmp_path / "hard"


def test_runs_measured_on_eight_crops_are_a_row_of_their_own(tmp_path):
    write_run(tmp_path / "plain", eval={"tta": "plain"})
    write_run(tmp_path / "crops", "seed=1", valid=0.6, eval={"tta": "crops8"})
    assert [c.values for c in aggregate_runs(find([tmp_path])).configurations] == [
        {"eval.tta": "plain"},
        {"eval.tta": "crops8"},
    ]


def test_a_number_typed_whole_is_the_same_setting(tmp_path):
    for seed, value in enumerate(("4", "4.0")):
        write_run(tmp_path / value, f"loss.kd={{temperature: {value}}}", f"seed={seed}")
    assert [len(c.runs) for c in aggregate_runs(find([tmp_path])).configurations] == [2]


def test_a_speed_has_no_spread_over_seeds_and_two_machines_are_told(tmp_path):
    for seed in (0, 1):
        folder = write_run(tmp_path / str(seed), f"seed={seed}", latency=0.5 + seed)
        (folder / "env.json").write_text(json.dumps({"processor": f"cpu {seed}"}))
    found = aggregate_runs(find([tmp_path]))
    assert sorted(run.numbers["latency_ms"] for run in found.runs) == [0.5, 1.5], (
        "each machine's own, no median of both"
    )
    assert "valid/top1_accuracy" in found.configurations[0].spread
    assert not {"latency_ms", "images_per_second"} & found.configurations[0].spread.keys()
    (warning,) = warnings(found)
    assert "cpu 0; cpu 1" in warning


def test_a_run_in_a_folder_of_any_name_is_read_and_a_name_that_is_no_text_loses_nothing(tmp_path):
    write_run(tmp_path / "export" / "a")
    odd = tmp_path / os.fsdecode(b"n\xff")
    odd.mkdir()
    (odd / "result.json").write_text('{"status": "failed", "error": "no"}')
    huge = write_run(tmp_path / "huge")
    (huge / "result.json").write_text((huge / "result.json").read_text().replace('"macs": ', '"macs": 1' + "0" * 400))
    report.main([str(tmp_path), "--no-faces"])
    page = (tmp_path / "report.html").read_text()
    assert str(tmp_path / "export" / "a") in page and "n?" in page


def test_find_number_of_faces_beyond_any_is_damage(tmp_path):
    file = write_run(tmp_path / "huge") / "result.json"
    file.write_text(re.sub(r'"valid": \d+', '"valid": 1' + "0" * 400, file.read_text()))
    (run,) = find([tmp_path])
    assert run.status == "damaged" and "data.rows" in run.error


def test_a_sweep_whose_file_system_has_no_links_is_found_by_its_list_of_jobs(tmp_path):
    runs = [write_run(tmp_path / "runs" / str(seed), f"seed={seed}") for seed in (0, 1)]
    lines = [json.dumps({"number": "0", "folder": str(runs[0])}), json.dumps({"number": "1", "folder": None}), "half"]
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "jobs.jsonl").write_text("\n".join(lines))
    assert [run.folder for run in find([tmp_path / "sweep"])] == [runs[0]]
