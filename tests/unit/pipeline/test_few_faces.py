"""Classes with few faces are named before a run trains on them."""

import re
from dataclasses import asdict, replace

import inside
import numpy as np
import pytest
from face_trees import write_class_folders

from distill.config import schema as config
from distill.evaluation.printed import warnings_of
from distill.pipeline.prepare import tell, warn_rare_classes, with_enough_epochs
from distill.pipeline.teacher import teacher_weights
from distill.runs.config import RunConfig
from distill.runs.result import RunResult
from distill.types import Dataset, Split

OWN = ("data=folder", "data.size=36", "data.channels=1", "train.epochs=1", "student.size=36")


def with_train(cfg, **keys):
    return replace(cfg, train=replace(cfg.train, **keys))


def asked(**train):
    return with_train(
        inside.composed("student=microexpnet"), **{"epochs": 8, "min_steps": None, "batch_size": 32} | train
    )


def faces(**counts):
    """A data set with so many faces of each class in each split."""
    splits = {}
    for name, of_class in counts.items():
        label = np.repeat(np.arange(len(of_class)), of_class)
        rows, target = np.arange(len(label)), np.eye(len(of_class), dtype=np.float32)[label]
        pixels = np.tile(np.arange(4, dtype=np.uint8).reshape(1, 1, 2, 2), (len(label), 1, 1, 1))
        splits[name] = Split(name, pixels, rows, target, label, tuple(f"{k}.png" for k in rows), name)
    return Dataset("tiny", ("calm", "glad", "sad"), "all", splits)


def test_classes_with_few_faces_are_named_once_before_teacher_and_student_are_trained(tmp_path, monkeypatch):
    root = write_class_folders(tmp_path / "own", ("a", "b"), 30)
    write_class_folders(root, ("yawn",), 2)
    monkeypatch.setattr(inside, "SMALL", ("train.batch_size=16", "train.threads=1", "train.precision=fp32"))
    printed = inside.job(f"data.root={root}", *OWN, store=tmp_path / "store", runs=tmp_path / "runs")
    line, valid = (line for line in printed.splitlines() if line.startswith(("*** Warning: few", "*** FEW")))
    assert re.match(r"\*\*\* FEW VALIDATION FACES: \d\. Each is \d+\.\d points of valid top-1", valid)
    assert line == (
        "*** Warning: few training samples for class yawn (train 1, valid 0, test 1). "
        "The mean-class accuracy of a split leaves out classes of which it has no face."
    )
    assert printed.index(line) < printed.index("epoch") and "test_resnet  epoch" in printed


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({"train": (4, 5, 5), "valid": (1, 1, 1), "test": (1, 1, 1)}, "calm (train 4, valid 1, test 1)"),
        (
            {"train": (9, 9, 0), "valid": (1, 0, 1), "test": (1, 1, 1)},
            "glad (train 9, valid 0, test 1), sad (train 0, valid 1, test 1)",
        ),
        ({"train": (9, 9, 9), "valid": (1, 1, 1), "test": (0, 1, 1)}, "calm (train 9, valid 1, test 0)"),
    ],
)
def test_a_class_is_named_that_lacks_a_split_or_has_fewer_than_five_training_faces(counts, told, capsys):
    warn_rare_classes(faces(**counts))
    assert capsys.readouterr().out.startswith(f"*** Warning: few training samples for class {told}. ")


def test_a_data_set_with_enough_faces_of_every_class_says_nothing(capsys):
    warn_rare_classes(faces(train=(5, 50, 9), valid=(1, 2, 3), test=(1, 2, 3)))
    assert capsys.readouterr().out == ""


def test_pictures_of_one_color_are_named(capsys):
    data = faces(train=(9, 9, 9), valid=(50, 5, 5), test=(5, 5, 5))
    tell(data)
    assert "BLANK" not in capsys.readouterr().out
    for name, rows in (("train", [3, 8]), ("test", [0, 14])):
        data.splits[name].pixels[rows] = 255
    tell(data)
    line = next(line for line in capsys.readouterr().out.splitlines() if "BLANK" in line)
    assert line.startswith(
        "*** BLANK PICTURES: 4 faces of one color, train 3.png, train 8.png, test 0.png and 1 more. "
    )


@pytest.mark.parametrize(("valid", "warned"), [(49, True), (50, False)])
def test_fewer_than_fifty_validation_faces_are_warned_of(valid, warned, capsys):
    tell(faces(train=(9, 9, 9), valid=(valid - 9, 4, 5), test=(5, 5, 5)))
    printed = capsys.readouterr().out
    assert f"tiny: 27 train, {valid} valid, 15 test faces of 3 classes: calm, glad, sad" in printed
    assert ("*** FEW VALIDATION FACES: 49. Each is 2.0 points of valid top-1" in printed) is warned


@pytest.mark.parametrize(
    ("train", "epochs", "steps"),
    [
        ({}, 334, 334 * 3),  # 100 faces are 3 batches of 32
        ({"epochs": 5}, 5, 15),
        ({"epochs": 5, "min_steps": 31}, 11, 33),
        ({"min_steps": 0}, 8, 24),
        ({"batch_size": 500}, 1000, 1000),
        ({"batch_size": 1}, 10, 1000),
        ({"epochs": 0}, 0, 0),
    ],
)
def test_few_faces_are_seen_more_often_unless_another_number_of_epochs_is_chosen(train, epochs, steps, capsys):
    cfg = asked(**train)
    found = with_enough_epochs(cfg.train, "net", 100, False, 0)
    printed = capsys.readouterr().out
    assert found.epochs == epochs and cfg == asked(**train), "what is written down is what was asked for"
    assert (f"an epoch, {epochs:,} epochs, {steps:,} steps" in printed) is bool(steps)
    assert ("see train.min_steps" in printed) is (epochs > cfg.train.epochs)


def test_enough_faces_and_phases_change_nothing():
    train = asked(batch_size=1).train
    assert with_enough_epochs(train, "net", 125, False, 8).epochs == 8
    assert with_enough_epochs(train, "net", 12, True, 8).epochs == 8


@pytest.mark.parametrize(("warmup", "warned"), [(3, True), (2, False)])
def test_a_warm_up_that_is_longer_than_the_run_is_warned_of(warmup, warned, capsys):
    with_enough_epochs(asked(epochs=2).train, "net", 100, False, 0, warmup)
    assert ("schedule.warmup=3 is longer than 2 epochs" in capsys.readouterr().out) is warned


def test_the_key_renames_no_run_and_no_teacher_that_has_enough_faces(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "distill.pipeline.teacher.find_or_train", lambda folder, train: seen.append(folder.name) or 1 / 0
    )
    cfg = inside.composed("data=folder", f"data.root={tmp_path}", "teacher=timm", "teacher.name=test_resnet")
    plain = asdict(cfg)
    del plain["train"]["min_steps"], plain["teacher"]["train"]["min_steps"]
    older = RunConfig.from_dict(plain)
    assert config.run_name(cfg) == config.run_name(older)
    assert config.run_name(cfg) != config.run_name(with_train(cfg, min_steps=5))
    for one, count in ((cfg, 4000), (older, 4000), (cfg, 40), (with_train(cfg, epochs=3), 40)):
        with pytest.raises(ZeroDivisionError):
            teacher_weights(one, faces(train=(count, 1, 1)), lambda inner, where: None)
    assert seen[0] == seen[1] and len(set(seen)) == 3


def result(valid, teacher=None, **more):
    numbers = lambda share: {"valid/top1_accuracy": share, "valid/mean_class_accuracy": share}  # noqa: E731
    data = {"classes": ["a", "b", "c", "d"], "rows": {"valid": 75}}
    theirs = teacher and {"name": "big", "metrics": numbers(teacher), "weights": ["a"]} | more
    return RunResult("complete", data=data, student={"name": "small", "metrics": numbers(valid)}, teacher=theirs)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (result(0.36), []),  # 1/4 + 2 sqrt(1/4 * 3/4 / 75) = 0.35
        (
            result(0.34),
            [r"AT CHANCE: the student small has .* of 34\.00%; guessing has 25\.00% in 4 classes\..*\(train\.min"],
        ),
        (result(0.8, 0.9), []),
        (result(0.8, 0.8), [r"THE TEACHER IS NO BETTER than its student: valid top-1 80\.00% and 80\.00%"]),
        (result(0.8, 0.8, weights=[]), []),  # a peer
        (result(0.8, 0.25), [r"AT CHANCE: the teacher big .*\(teacher\.train\.min_steps\)", "NO BETTER"]),
    ],
)
def test_a_run_ends_with_a_warning_of_networks_at_chance_and_of_a_teacher_no_better_than_its_student(found, told):
    lines = warnings_of(found)
    assert len(lines) == len(told) and all(map(re.search, told, lines))
