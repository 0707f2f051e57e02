"""Numbers that a report words, and whose they are."""

import json
import math
import re

import numpy as np
import pytest
from run_folders import predictions, write_run

from distill.data.common.emotions import EMOTIONS
from distill.report import __main__ as report
from distill.report.aggregate import aggregate_runs, data_words
from distill.report.example_faces import choose
from distill.report.html import curves, page
from distill.report.html import svg_plot as svg
from distill.report.html.curves import reliability
from distill.report.html.summary import chance
from distill.report.predictions import Predictions, run_predictions, teacher_predictions
from distill.report.select import best
from distill.runs.reading import find, read


def test_of_several_seeds_the_run_that_is_printed_is_the_best_in_the_direction_of_the_rule(tmp_path):
    for seed, valid in enumerate((0.8, 0.7, 0.75)):
        write_run(tmp_path / str(seed), f"seed={seed}", valid=valid)
    found = aggregate_runs(find([tmp_path]))
    assert best(found, "max valid/top1_accuracy").name == "0"
    assert best(found, "min valid/expected_calibration_error").name == "1"


def test_how_far_two_students_of_one_seed_may_lie_apart_by_chance_is_that_of_a_difference(tmp_path):
    for width, valid in (("S", 0.7), ("XXS", 0.6)):
        write_run(tmp_path / width, f"student.width={width}", valid=valid)
    points = 100 * 1.96 * math.sqrt(2 * 0.7 * 0.3 / 64)  # the variance of two, each of 64 faces
    assert chance(aggregate_runs(find([tmp_path]))) == f"{points:.1f} points"
    write_run(tmp_path / "again", "student.width=S", "seed=1")
    assert chance(aggregate_runs(find([tmp_path]))) is None


@pytest.mark.parametrize("faces", [64, 63])
def test_a_teacher_is_drawn_beside_its_student_only_where_it_answered_about_the_same_faces(tmp_path, faces):
    teacher = write_run(tmp_path / "teacher")
    predictions(teacher / "predictions" / "test.csv", 0.9, seed=1, faces=faces)
    weights = {"name": "resnet50", "metrics": {}, "weights": [str(teacher / "checkpoints" / "best.safetensors")]}
    run = read(write_run(tmp_path / "student", teacher=weights))
    theirs = teacher_predictions(run, run_predictions(run))
    assert (theirs is not None) == (faces == 64)


def test_a_bin_of_few_faces_is_not_drawn_and_a_dots_area_is_their_number():
    confidence = np.repeat([0.97, 0.62, 0.52], [80, 11, 9])
    probabilities = np.stack([confidence, 1 - confidence], 1)
    picture = reliability([Predictions("x", probabilities, np.zeros(100, int), ("",) * 100)])
    radii = sorted(float(part.split('"')[0]) for part in picture.split(' r="')[1:])
    assert [((r - 2.5) / 9) ** 2 for r in radii] == pytest.approx([0.11, 0.8], rel=1e-3)
    assert "80 faces at 97% confidence, 100% right" in picture and "9 faces at 52" not in picture


def test_the_faces_shown_are_the_surest_mistakes_and_of_each_class_the_surest_right_answer():
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.55, 0.45], [0.8, 0.2]])
    answers = Predictions("x", probabilities, np.array([1, 1, 1, 1, 0, 0]), ("",) * 6)
    wrong, right = choose(answers, 1)
    assert wrong.tolist() == [1] and right.tolist() == [5, 2]
    assert choose(answers, 9)[0].tolist() == [1, 0], "no more than there are"


def test_a_cell_of_the_confusion_matrix_says_which_class_was_called_what(tmp_path):
    folder = write_run(tmp_path / "run")
    rows = ["id,label,prediction," + ",".join(f"p_{name}" for name in EMOTIONS)]
    for label, said in ((0, 1), (0, 1), (0, 0), (1, 1)):
        shares = ",".join("0.93" if k == said else "0.01" for k in range(8))
        rows.append(f"f{len(rows)},{EMOTIONS[label]},{EMOTIONS[said]},{shares}")
    (folder / "predictions" / "test.csv").write_text("\n".join(rows) + "\n")
    report.main([str(folder), "--no-faces"])
    tips = re.findall('<td data-tip="(.*?)"', (folder / "report.html").read_text())
    first, second = EMOTIONS[:2]
    assert f"2 of 3 {first} faces called {second}" in tips and f"0 of 1 {second} faces called {first}" in tips
    errors = page._errors(read(folder))
    assert (errors["faces"], errors["right"]) == (4, 0.5) and errors["student"]["confusion"][0][:2] == [1, 2]


def test_a_curve_is_the_mean_of_an_epochs_lines_from_epoch_1_on_and_a_corrupted_one_begins_with_clean_faces(tmp_path):
    scores = {"2": {"top1_accuracy": 0.4}, "1": {"top1_accuracy": 0.5}}
    spoilt = {"clean": {"top1_accuracy": 0.6}, "severities": [1, 2], "corruptions": {"blur": scores}}
    folder = write_run(tmp_path / "run", robustness=spoilt | {"mean": {"top1_accuracy": 0.45}})
    lines = [(0, 4.0), (0, 2.0), (1, 1.0), (1, None), (1, 2.0)]
    said = "".join(json.dumps({"epoch": epoch, "train/loss": loss}) + "\n" for epoch, loss in lines)
    (folder / "metrics.jsonl").write_text(said + '{"epoch": 1, "train/lo')  # killed here
    run = read(folder)
    assert run.curves == {"train/loss": [(1, 3.0), (2, 1.5)]}
    assert run.corruption_curves == {"blur": [(0, 0.6), (1, 0.5), (2, 0.4)]} and run.numbers["test/robustness"] == 0.45


def test_a_rule_on_folders_without_a_complete_run_is_told_how_they_stand(tmp_path):
    for name in "abc":
        (write_run(tmp_path / name) / "result.json").unlink()
    (tmp_path / "a" / "result.json").write_text('{"status": "failed", "error": "x"}')
    with pytest.raises(ValueError, match=r"^--best: no run there is complete \(1 failed, 2 unfinished\)\."):
        best(aggregate_runs(find([tmp_path])), "max valid/top1_accuracy")


@pytest.mark.parametrize(("last", "ticks"), [(2, [1, 2]), (3, [1, 2, 3]), (5, [1, 2, 3, 4, 5]), (10, [2, 4, 6, 8, 10])])
def test_epochs_are_marked_at_whole_numbers(last, ticks):
    drawn = curves._lines([(1, [(epoch, 0.5) for epoch in range(1, last + 1)])], 1, "", "", None)
    assert [float(word) for word in re.findall(r'class="tick middle">([^<]+)<', drawn)] == ticks


def test_numbers_of_an_axis_do_not_lie_on_one_another():
    values = (0.1, 0.445097, 0.491312, 0.9)
    plot = svg.Plot(svg.scale(values, at=values), svg.scale((0, 1)), "", "")
    drawn = plot.svg("")
    assert re.findall(r'class="tick middle">([^<]+)<', drawn) == ["0.1", "0.445097", "0.9"]
    assert len(re.findall(r'class="axis" d="M[\d. ]+v4"', drawn)) == 4, "each keeps its mark"


def test_faces_that_were_learned_from_are_a_range_where_runs_on_the_same_test_faces_had_more_or_fewer(tmp_path):
    for k, train in enumerate((2400, 600)):
        folder = write_run(tmp_path / str(k), f"data.limit={train}", valid=0.7 + 0.1 * k)
        result = json.loads((folder / "result.json").read_text())
        result["data"]["rows"]["train"] = train
        (folder / "result.json").write_text(json.dumps(result))
    said = data_words(aggregate_runs(find([tmp_path])).configurations)
    assert "600 to 2,400 train, 64 valid, 64 test" in said
