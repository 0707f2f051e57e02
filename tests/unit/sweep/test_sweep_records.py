"""What is written down of a sweep's jobs tells them apart, and its end says truly whether anything is missing."""

import json

import pytest

from distill.sweep import jobs as sweep_records


def test_two_jobs_whose_words_make_one_file_name_have_a_name_each(tmp_path):
    sweep_records.plan(tmp_path, [["teacher.run=a b"], ["teacher.run=a_b"]], ["teacher.run"])
    names = [json.loads(line)["name"] for line in (tmp_path / "jobs.jsonl").read_text().splitlines()]
    assert names == ["run=a_b", "run=a_b-1"]


@pytest.mark.parametrize(
    ("ended", "lacks"),
    [
        (("complete", "complete"), False),
        (("complete", "pruned", "retrying"), False),
        (("complete", "failed"), True),
        (("complete", "pending"), True),
        (("complete", "running"), True),
    ],
)
def test_a_sweep_lacks_what_failed_or_was_not_run_but_neither_what_was_pruned_nor_what_was_tried_again(
    tmp_path, capsys, ended, lacks
):
    for number, status in enumerate(ended):
        place = sweep_records.add(tmp_path, number, f"job {number}", [])
        sweep_records.Record(place).update(status=status, **{"valid/top1_accuracy": 0.5})
    sweep_records.finalize_sweep(tmp_path)
    said = capsys.readouterr().out
    assert ("next: the same command again" in said) == lacks and ("distill.export best of" in said)


def test_a_sweep_of_trials_names_the_report_that_counts_them_and_no_best_run(tmp_path, capsys):
    record = sweep_records.Record(sweep_records.add(tmp_path, 0, "seed=0", ["seed=0", "debug=smoke"]))
    record.update(status="complete", **{"valid/top1_accuracy": 0.5})
    sweep_records.finalize_sweep(tmp_path)
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line.startswith("next: ")] == [
        f"next: python -m distill.report {tmp_path} --debug"
    ]
