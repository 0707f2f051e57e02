"""Faces without labels beside a labeled data set: who learns from them, what they cost, and what is refused."""

import numpy as np
import pytest
import torch
from face_trees import save, write_class_folders
from inside import folder_of, job, read

from distill.augment.views import identity
from distill.data.common.twins import start_messages
from distill.data.extra import Joined, to_learn_from, with_extra
from distill.data.folder import folder
from distill.data.loader import batches, class_balanced_weights
from distill.losses.ce import CrossEntropy
from distill.types import Outputs


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A data set of two classes, and a folder of other faces of which one is a test face."""
    home = tmp_path_factory.mktemp("home")
    write_class_folders(home / "faces", ("happiness", "anger"), 40)
    data = folder(home / "store", home / "faces", size=20)
    for k in range(12):
        save(home / "more" / f"{k % 3}" / f"more{k}.png")
    seen = data.splits["test"].ids[0]
    (home / "more" / "twin.png").write_bytes((home / "faces" / seen).read_bytes())
    return home


def test_faces_without_labels_lie_behind_those_of_train_and_none_is_a_test_face(home):
    data = folder(home / "store", home / "faces", size=20)
    more = with_extra(data, home / "store", home / "more")
    assert len(more.extra) == 12 and "twin.png" not in more.extra.ids and more.splits == data.splits
    assert start_messages(more)[-1] == (
        "data.extra: 12 more training faces without labels, for the losses that compare with the teacher; 1 left out, as its "
        "photograph is in valid or test"
    )
    train, own = to_learn_from(more).splits["train"], data.splits["train"]
    assert len(train) == len(own) + 12 and (train.label[len(own) :] == -1).all() and not train.target[len(own) :].any()
    order = np.arange(len(train))[::-1]
    (batch,) = batches(train, identity(len(train.pixels)), len(train), order)
    both = np.concatenate([own.pixels[own.rows], more.extra.pixels[more.extra.rows]])[::-1]
    np.testing.assert_array_equal(batch.pixels, both)
    assert to_learn_from(data) is data


def test_files_beside_the_faces_and_copies_of_training_faces_are_counted(home, tmp_path):
    data = folder(home / "store", home / "faces", size=20)
    for k in range(3):
        save(tmp_path / "more" / f"other{k}.png")
    for id in data.splits["train"].ids[:2]:
        (tmp_path / "more" / id.replace("/", "-")).write_bytes((home / "faces" / id).read_bytes())
    (tmp_path / "more" / "words.txt").write_text("no picture")
    (tmp_path / "more" / ".hidden.png").write_bytes((tmp_path / "more" / "other0.png").read_bytes())
    told = start_messages(with_extra(data, home / "store", tmp_path / "more"))
    assert told[-2:] == [
        "data.extra: 2 files left out: 1 hidden (.hidden.png), 1 no picture (words.txt)",
        "data.extra: 5 more training faces without labels, for the losses that compare with the teacher; 2 of them are faces "
        "of train, pixel for pixel",
    ]


def test_joined_reads_two_arrays_as_one():
    a, b = (np.random.default_rng(k).integers(0, 256, (n, 1, 2, 2), np.uint8) for k, n in ((0, 3), (1, 4)))
    joined, index = Joined(a, b), np.array([6, 0, 3, 2])
    assert len(joined) == 7 and joined.shape == (7, 1, 2, 2)
    np.testing.assert_array_equal(joined[index], np.concatenate([a, b])[index])


@pytest.mark.parametrize("options", [{}, {"target": "hard"}, {"label_smoothing": 0.3}])
def test_a_face_without_a_label_costs_nothing_in_a_loss_on_labels(options):
    logits = torch.randn(3, 4, requires_grad=True)
    target = torch.eye(4)[:3].clone()
    target[1] = 0
    values = CrossEntropy(**options)(Outputs(logits, logits[:, None], {}), None, target)
    values.sum().backward()
    assert values[1] == 0 and (logits.grad[1] == 0).all() and (values[[0, 2]] > 0).all()


def test_balanced_sampling_draws_a_face_without_a_label_as_often_as_a_labeled_one_on_average():
    sampling_weights = class_balanced_weights(np.array([0, 0, 0, 1, -1, -1]), 1.0)
    assert sampling_weights.sum() == pytest.approx(1) and sampling_weights[:3].sum() == pytest.approx(
        sampling_weights[3]
    )
    assert sampling_weights[4] == sampling_weights[5] == pytest.approx(sampling_weights[:4].mean())


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Leave out what the synthetic faces take."""
    monkeypatch.setattr("inside.SMALL", ("student.size=36", "train.threads=1", "train.precision=fp32"))


WORDS = ("data=folder", "data.size=40", "train.epochs=1", "train.batch_size=16", "teacher=smoke", "loss=[ce,kd]")


def test_a_student_learns_from_them_and_its_teacher_and_its_evaluation_know_nothing_of_them(home, tmp_path):
    def run(name, *words):
        said = job(*WORDS, f"data.root={home / 'faces'}", *words, store=tmp_path / "store", runs=tmp_path / name)
        return said, folder_of(tmp_path / name)

    _, without = run("without")
    said, given = run("with", f"data.extra={home / 'more'}")
    assert "12 more training faces without labels, for the losses that compare with the teacher" in said
    assert len(list((tmp_path / "store" / "teachers").glob("*/result.json"))) == 1, "one teacher for both"
    own, other = read(given), read(without)
    assert own["data"]["rows"] == other["data"]["rows"] and own["data"]["extra"]["faces"] == 12
    assert own["teacher_forward_images"] > 12 and own["student"]["metrics"] != other["student"]["metrics"]
    assert own["teacher"]["weights"] == other["teacher"]["weights"] and given.name != without.name
    run("with", f"data.extra={home / 'more'}")
    save(home / "more" / "late.png")
    with pytest.raises(SystemExit, match="pictures or labels it saw are not those"):
        run("with", f"data.extra={home / 'more'}")
    (home / "more" / "late.png").unlink()


@pytest.mark.parametrize(
    "words, sentence",
    [
        (("teacher=none",), "data.extra: faces without labels need a teacher"),
        (("loss=[ce,dkd]",), "loss.dkd: needs the label of every face"),
        (("loss=[wsld]",), "loss.wsld: needs the label of every face"),
        (("loss=[ce]",), "data.extra: no loss reads the teacher"),
        (("data.extra=3",), "data.extra: expected a folder.*, got 3"),
        (("data.extra=/nowhere",), "data.extra: /nowhere does not exist"),
        (("data.extra=/",), "data.extra: / holds the run folder"),
    ],
)
def test_extra_that_cannot_be_used_is_refused_in_one_sentence(home, tmp_path, words, sentence):
    with pytest.raises(SystemExit, match=sentence):
        job(
            *WORDS,
            f"data.root={home / 'faces'}",
            f"data.extra={home / 'more'}",
            *words,
            store=tmp_path / "store",
            runs=tmp_path / "runs",
        )
