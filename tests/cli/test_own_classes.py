"""Classes of one's own: networks of other classes start a student or a teacher, those that know more classes teach it."""

import shutil

import inside
import pytest
import torch
from face_trees import write_class_folders

from distill.runs.published import SHIPPED, named_folder
from distill.system.weights import read_weights

FILE = SHIPPED / "microexpnet" / "model.safetensors"
LIKE_SHIPPED = (
    "student=microexpnet",
    "student.size=84",
    "student.width=XXS",
    "student.pooling=both",
    "student.dropout=0.0",
)
OWN = ("data=folder", "data.size=36", "data.channels=1", "train.epochs=1")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Do a job on faces of two classes; return what it printed."""
    root = write_class_folders(tmp_path / "own", ("calm", "glad"), 12)
    monkeypatch.setattr(inside, "SMALL", ("train.batch_size=16", "train.threads=1", "train.precision=fp32"))
    return lambda *words: inside.job(
        *OWN, f"data.root={root}", *words, store=tmp_path / "store", runs=tmp_path / "runs"
    )


def test_a_student_starts_from_a_network_of_other_classes_with_a_new_classifier(own, tmp_path):
    printed = own("teacher=none", f"student.weights={FILE}", "optimizer.lr=0", *LIKE_SHIPPED)
    assert "contempt; the classifier starts anew, for calm, glad\n" in printed
    folder = inside.folder_of(tmp_path / "runs")
    ours, theirs = read_weights(folder / "checkpoints" / "best.safetensors")[0], read_weights(FILE)[0]
    anew = {name for name in ours if ours[name].shape != theirs[name].shape}
    assert anew == {"out.weight", "out.bias"}
    kept = [n for n in ours.keys() - anew if n.endswith("weight")]
    assert kept and all(torch.equal(ours[name], theirs[name]) for name in kept)
    assert inside.read(folder)["start"] == "weights without a classifier"


@pytest.mark.parametrize("where", ["name", "folder"])
def test_a_finished_network_teaches_no_other_classes_than_its_own(own, where, tmp_path):
    run = "microexpnet" if where == "name" else SHIPPED / "microexpnet"
    known = r"\S+microexpnet/model\.safetensors knows neutral, .* classes of folder are calm, glad"
    with pytest.raises(SystemExit, match=rf"teacher\.run: {known}"):
        own("teacher=run", f"teacher.run={run}")
    with pytest.raises(SystemExit, match=rf"teacher\.members\.second\.run: {known}"):
        second = ("teacher=ferplus_ensemble", "teacher.members.first.train.epochs=1")
        own(*second, f"teacher.members.second.run={run}")
    assert not (tmp_path / "runs").exists()


def test_a_run_folder_that_is_a_file_is_refused_before_a_picture_is_read(own, tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "in" / "it"):
        with pytest.raises(SystemExit, match=r"file: Not a directory\. A folder was expected, and this "):
            own("teacher=none", f"paths.run={path}")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("words", [("teacher=ferplus_ensemble",), ("teacher=run", "teacher.run=ferlite_s")])
def test_the_networks_of_this_package_teach_some_of_their_classes(own, tmp_path, words):
    root = write_class_folders(tmp_path / "faces", ("anger", "happiness"), 12)
    printed = own(*words, *LIKE_SHIPPED, f"data.root={root}")
    assert "2 classes: happiness, anger" in printed
    folder = inside.folder_of(tmp_path / "runs")
    assert (
        "test/agreement" in inside.read(folder)["student"]["metrics"]
        and "test/nll" in inside.read(folder)["teacher"]["metrics"]
    )


def test_a_network_of_this_package_teaches_by_its_name_and_by_its_folder(tmp_path):
    more = {"store": tmp_path / "store", "runs": tmp_path / "runs"}
    printed = inside.job("teacher=run", "teacher.run=microexpnet", "train.epochs=1", **more)
    assert f"teacher microexpnet: the published network {SHIPPED / 'microexpnet'}" in printed
    assert (
        "make sure that it saw no test face" in printed
        and "loss: ce (labels, weight 0.1) + dist (teacher micro" in printed
    )
    teacher = inside.read(inside.folder_of(tmp_path / "runs"))["teacher"]
    assert teacher["num_parameters"] > 1000 and teacher["images_per_second"] > 0 and teacher["saw_same_data"] is False
    copy = shutil.copytree(SHIPPED / "microexpnet", tmp_path / "copy")
    again = inside.job("teacher=run", f"teacher.run={copy}", "train.epochs=1", **more)
    assert "is complete; nothing to do" in again
    (copy / "config.json").write_text("[]")
    with pytest.raises(SystemExit, match=r"copy/config\.json: no config of an exported student"):
        inside.job("teacher=run", f"teacher.run={copy}", "train.epochs=1", **more)


def test_a_name_that_a_folder_here_has_too_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert named_folder("ferlite_s", "teacher.run") == str(SHIPPED / "ferlite_s")
    assert named_folder("./ferlite_s", "k") == "./ferlite_s"
    (tmp_path / "ferlite_s").mkdir()
    with pytest.raises(ValueError, match=r"teacher\.run: ferlite_s is a network of this package, .*Type \./ferlite_s"):
        named_folder("ferlite_s", "teacher.run")


def test_a_teacher_of_this_package_is_no_run_and_its_own_word_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError,
        match=r"teacher\.run: expected a run folder or one of .*ferlite_m, .*, got ferplus\. Type teacher=ferplus",
    ):
        named_folder("ferplus", "teacher.run")


@pytest.mark.parametrize(
    ("inside_of", "refused"), [("own/store", True), ("own/calm/store", True), ("own/.store", False)]
)
def test_a_store_among_the_class_folders_is_refused_unless_it_is_hidden_from_them(own, tmp_path, inside_of, refused):
    words = ("teacher=none", "data.limit=4", f"paths.store={tmp_path / inside_of}")
    if refused:
        with pytest.raises(SystemExit, match=r"data\.root: \S+own holds the store .*type paths\.store=DIR"):
            own(*words)
        assert not (tmp_path / "runs").exists()
    else:
        assert "calm, glad" in own(*words)
