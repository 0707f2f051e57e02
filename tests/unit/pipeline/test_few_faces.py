"""Classes with few faces are named before a run trains on them."""

import inside
import numpy as np
import pytest
from face_trees import write_class_folders

from distill.pipeline.fit import few_faces
from distill.types import Dataset, Split

OWN = ("data=folder", "data.size=36", "data.channels=1", "train.epochs=1", "student.size=36")


def faces(**counts):
    """A data set with so many faces of each class in each split."""
    splits = {}
    for name, of_class in counts.items():
        label = np.repeat(np.arange(len(of_class)), of_class)
        rows, target = np.arange(len(label)), np.eye(len(of_class), dtype=np.float32)[label]
        splits[name] = Split(name, np.zeros((len(label), 1, 2, 2), np.uint8), rows, target, label, (), name)
    return Dataset("tiny", ("calm", "glad", "sad"), "all", splits)


def test_classes_with_few_faces_are_named_once_before_teacher_and_student_are_trained(tmp_path, monkeypatch):
    root = write_class_folders(tmp_path / "own", ("a", "b"), 30)
    write_class_folders(root, ("yawn",), 2)
    monkeypatch.setattr(inside, "SMALL", ("train.batch_size=16", "train.threads=1", "train.precision=fp32"))
    printed = inside.job(f"data.root={root}", *OWN, store=tmp_path / "store", runs=tmp_path / "runs")
    (line,) = (line for line in printed.splitlines() if line.startswith("***"))
    assert line == (
        "*** FEW FACES of yawn (train 1, valid 0, test 1). The mean-class accuracy of a split leaves out classes of which it "
        "has no face."
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
    few_faces(faces(**counts))
    assert capsys.readouterr().out.startswith(f"*** FEW FACES of {told}. ")


def test_a_data_set_with_enough_faces_of_every_class_says_nothing(capsys):
    few_faces(faces(train=(5, 50, 9), valid=(1, 2, 3), test=(1, 2, 3)))
    assert capsys.readouterr().out == ""
