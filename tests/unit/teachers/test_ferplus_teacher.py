"""A teacher that comes with the package: float16, checked, asked about the classes of anybody's faces, in their order."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from face_trees import write_class_folders
from hydra import compose, initialize_config_module
from inside import folder_of, job, read

from distill.config.schema import typed
from distill.data.common.emotions import EMOTIONS
from distill.evaluation.inference import read_predictions
from distill.publish import main as publish
from distill.runs.published import SHIPPED
from distill.system.weights import load_weights, read_weights, save_weights
from teachers.timm_teacher import TimmTeacher

TINY = ("teacher=timm", "teacher.name=test_resnet", "teacher.size=32", "teacher.pretrained=false", "train.epochs=1")


@pytest.fixture
def mine(monkeypatch):
    """A run on one's own faces; the sizes of drawn ones do not belong to its words."""
    monkeypatch.setattr(
        "inside.SMALL", ("student.size=36", "train.batch_size=4", "train.threads=1", "train.precision=fp32")
    )
    own = ("data=folder", "data.size=32", "data.valid=0.3", "data.test=0.3")
    return lambda root, *words, **where: job(*TINY, *own, f"data.root={root}", *words, **where)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    """The folder of a teacher that one epoch of synthetic faces has fine-tuned."""
    job(*TINY, "teacher.train.epochs=1", store=store, runs=tmp_path_factory.mktemp("runs"))
    (folder,) = (path.parent for path in (store / "teachers").glob("*/result.json"))
    return folder


@pytest.fixture(scope="module")
def shipped(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shipped")
    publish([str(trained), str(folder), "--teacher"])
    return folder


def test_a_finished_teacher_becomes_float16_weights_with_config_and_card_of_what_they_reach(trained, shipped):
    tensors, header = read_weights(shipped / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} == {torch.float16}
    assert header["classes"] == list(EMOTIONS) and np.shape(header["probe"]) == (4, 8)
    facts, card = json.loads((shipped / "config.json").read_text()), (shipped / "README.md").read_text()
    result = read(trained)
    for split in ("valid", "test"):
        assert facts[split]["faces"] == result["data"]["rows"][split]
        assert facts[split]["top1_accuracy"] == pytest.approx(
            result["student"]["metrics"][f"{split}/top1_accuracy"], abs=0.05
        )
        assert facts[split]["agreement_with_the_run"] > 0.9
        assert f"{100 * facts[split]['mean_class_accuracy']:.2f}%" in card
    assert facts["sha256"] in card and "Not for decisions about people" in card


def test_a_folder_that_holds_files_is_not_made_a_teachers_without_overwrite(trained, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(SystemExit, match=r"is not empty\. Give another folder, or --overwrite to replace all"):
        publish([str(trained), str(tmp_path), "--teacher"])
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_ferplus_teacher_teaches_own_faces_of_some_of_its_classes_in_another_order(mine, shipped, store, tmp_path):
    root = write_class_folders(tmp_path / "mine", ("Angry", "surprised", "neutral"), 12)
    words = (f"teacher.weights={shipped}/model.safetensors", "teacher.train.epochs=0", "teacher.precision=fp32")
    printed = mine(root, *words, store=store, runs=tmp_path / "runs")
    folder = folder_of(tmp_path / "runs")
    classes = read(folder)["data"]["classes"]
    assert classes == ["neutral", "surprise", "anger"] and "kept in" in printed
    whole = TimmTeacher(
        "test_resnet", 8, EMOTIONS, 32, weights=str(shipped / "model.safetensors"), pretrained=False
    ).eval()
    own = TimmTeacher(
        "test_resnet", 3, classes, 32, weights=str(shipped / "model.safetensors"), pretrained=False
    ).eval()
    images = torch.rand(4, 3, 32, 32)
    with torch.inference_mode():
        expected = whole(images).logits[:, [EMOTIONS.index(name) for name in classes]]
        torch.testing.assert_close(own(images).logits, expected)
    assert own.start == "weights" and next(own.parameters()).dtype == torch.float32
    stored = TimmTeacher("test_resnet", 3, classes, 32, pretrained=False)
    load_weights(stored, Path(read(folder)["teacher"]["weights"][0]), "stored")
    torch.testing.assert_close(stored.state_dict(), own.state_dict())
    assert read_predictions(folder / "predictions" / "test.csv", classes)[0].shape[1] == 3


def test_ferplus_teacher_teaches_faces_without_labels_some_of_its_classes(mine, shipped, store, tmp_path):
    root = write_class_folders(tmp_path / "mine", ("a", "b"), 15)
    words = (f"teacher.weights={shipped}/model.safetensors", "teacher.train.epochs=0", "data.labels=none")
    mine(root, *words, "data.classes=[sadness,neutral]", "train.monitor=-valid/kl", store=store, runs=tmp_path / "runs")
    result = read(folder_of(tmp_path / "runs"))
    assert result["data"]["classes"] == ["sadness", "neutral"] and result["monitor"] == "-valid/kl"
    assert 0 <= result["student"]["metrics"]["test/agreement"] <= 1


def test_a_class_that_it_does_not_know_is_named(mine, shipped, store, tmp_path):
    root = write_class_folders(tmp_path / "mine", ("happy", "bored"), 8)
    words = (f"teacher.weights={shipped}/model.safetensors", "teacher.train.epochs=0")
    with pytest.raises(SystemExit, match=r"teaches no bored\. Choose teacher\.train\.epochs=10 to have it learn them"):
        mine(root, *words, store=store, runs=tmp_path / "runs")


@pytest.mark.parametrize("changed", ["weights", "input"])
def test_a_teacher_that_answers_otherwise_than_its_file_says_is_refused(changed, shipped, store, tmp_path):
    file, words = tmp_path / "model.safetensors", ["teacher.train.epochs=0"]
    tensors, header = read_weights(shipped / "model.safetensors")
    net = torch.nn.Module()
    net.state_dict = lambda: {
        k: t * 1.5 if changed == "weights" and t.is_floating_point() else t for k, t in tensors.items()
    }
    save_weights(file, net, header)
    words += ["teacher.size=48"] if changed == "input" else []
    with pytest.raises(
        SystemExit, match=r"answers otherwise today .*its code, or its input \(size, mean, std\), was changed"
    ):
        job(*TINY, f"teacher.weights={file}", *words, store=store, runs=tmp_path / "runs")


def test_the_shipped_teacher_is_found_in_the_package_and_nothing_of_it_is_trained():
    with initialize_config_module("conf", version_base="1.3"):
        teacher = typed(compose("run", overrides=["teacher=ferplus"])).teacher
    assert Path(teacher["weights"]) == SHIPPED / "ferplus" / "model.safetensors"
    assert teacher["train"]["epochs"] == 0 and teacher["options"] == {"pad_type": "same"}


@pytest.mark.skipif(not (SHIPPED / "ferplus").is_dir(), reason="the teacher is not in this tree")
def test_the_shipped_teacher_has_at_most_7_megabytes_and_the_hash_and_answers_that_its_files_say():
    from hashlib import sha256

    from distill.evaluation.inference import refuse_changed_network

    file, facts = (
        SHIPPED / "ferplus" / "model.safetensors",
        json.loads((SHIPPED / "ferplus" / "config.json").read_text()),
    )
    assert file.stat().st_size <= 7e6 and facts["sha256"] == sha256(file.read_bytes()).hexdigest()
    assert facts["classes"] == list(EMOTIONS)
    node = {key: value for key, value in facts["network"].items() if key not in ("_target_", "weights", "pretrained")}
    net = TimmTeacher(**node, num_classes=8, classes=EMOTIONS, weights=str(file), pretrained=False)
    refuse_changed_network(net, read_weights(file)[1], file)
