"""debug=smoke tries what was chosen, whichever data set and teacher that is, and keeps it short."""

import inspect

import pytest
from commandline import ROOT, distill, result_of
from face_trees import write_class_folders
from hydra import compose, initialize_config_module
from hydra.utils import get_object
from omegaconf import OmegaConf

from distill.config.schema import typed
from distill.pipeline import validation

ANSWERS = {"data.root": "faces", "teacher.name": "resnet18", "teacher.run": "runs/assistant"}
PEER = ("teacher=peer", "loss=[ce,dml]", "loss.ce.weight=1")


@pytest.fixture(scope="module", autouse=True)
def registry():
    with initialize_config_module("conf", version_base="1.3"):
        yield


def names(group):
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


def composed(*words):
    """What python -m distill.run makes of these words, and of an answer for every key that must be given."""
    words = list(words)
    missing = OmegaConf.missing_keys(compose("run", overrides=words))
    return typed(compose("run", overrides=[*words, *(f"{key}={ANSWERS[key]}" for key in missing)]))


def test_a_few_faces_and_one_epoch_of_a_small_teacher_are_what_comes():
    cfg = composed("debug=smoke")
    validation.validate(cfg)
    assert cfg.debug == {"limit": 256, "teacher_epochs": 1} and composed("debug=overfit").debug == {"overfit": True}
    assert cfg.data["train"] == 256 and cfg.train.epochs == 2 and cfg.train.log_every_n_steps == 4
    assert cfg.teacher["name"] == "resnet18" and cfg.teacher["train"]["epochs"] == 1


@pytest.mark.parametrize("name", names("teacher"))
def test_the_teacher_that_is_asked_for_is_the_one_that_is_tried(name):
    losses = PEER[1:] if name == "peer" else ("loss=[ce]",) if name == "none" else ()
    words = (f"teacher={name}", *losses)
    cfg, long = composed("debug=smoke", *words), composed("data=procedural", *words)
    validation.validate(cfg)
    for node in (long.teacher, *long.teacher.get("members", {}).values()):
        if "train" in node and name != "smoke":
            finished = bool(node.get("weights"))  # and has learned already
            assert node["train"]["epochs"] == 0 if finished else node["train"]["epochs"] > 1
            node["train"]["epochs"] = 0 if finished else 1
    assert cfg.teacher == long.teacher


@pytest.mark.parametrize("name", names("data"))
def test_any_data_set_can_be_tried_and_is_cut_short_where_it_can_be(name):
    cfg = composed("debug=smoke", f"data={name}")
    validation.validate(cfg)
    options = {key: value for key, value in cfg.data.items() if key not in ("_target_", "near_duplicates", "extra")}
    inspect.signature(get_object(cfg.data["_target_"])).bind(store="store", **options)
    assert options.get("limit", 256) == 256 and ("limit" in options or name in ("procedural", "smoke"))


def test_what_is_typed_stands_and_nothing_is_cut_without_smoke():
    typed = ("data=folder", "data.root=faces", "data.limit=32", "teacher=resnet50", "teacher.train.epochs=3")
    cfg = composed("debug=smoke", *typed)
    assert cfg.data["limit"] == 32 and cfg.teacher["train"]["epochs"] == 3
    long = composed("data=folder", "data.root=faces", "teacher=resnet50")
    assert long.data["limit"] is None and long.teacher["train"]["epochs"] == 7


def test_a_folder_of_pictures_and_a_peer_go_from_end_to_end(tmp_path):
    faces = write_class_folders(tmp_path / "faces", ("tired", "Alert", "bored"), 20)
    words = ("debug=smoke", "data=folder", f"data.root={faces}", "data.size=48", *PEER, "train.epochs=1")
    done = distill(*words, store=tmp_path / "store", runs=tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    result = result_of(tmp_path / "runs")
    assert result["data"]["name"] == "folder" and result["teacher"]["name"] == "peer"
