"""A wrong value of a key under data gets a sentence with the key, and a root that is none is refused."""

import re

import pytest
from hydra import compose, initialize_config_module

from distill import build
from distill.config.schema import absolute, typed
from distill.pipeline import validation
from distill.pipeline.reuse import refuse_inside_data
from distill.runs.folder import RunFolder
from distill.system.errors import ConfigError

WRONG = [
    ("folder", "limit=all", "data.limit: expected a whole number or null, got 'all'. Type data.limit=null"),
    ("folder", "valid=null", "data.valid: expected a number, got null. Type data.valid=0.1"),
    ("folder", "test=null", "data.test: expected a number, got null. Type data.test=0.2"),
    ("folder", "size=48px", "data.size: expected a whole number, got '48px'"),
    ("folder", "size=null", "data.size: expected a whole number, got null"),
    ("folder", "size=48.5", "data.size: expected a whole number, got 48.5"),
    ("folder", "seed=abc", "data.seed: expected a whole number, got 'abc'"),
    ("folder", "verify=1", "data.verify: expected true or false, got 1. Type data.verify=false"),
    ("folder", "subject=[1]", "data.subject: expected text or null, got [1]. Type data.subject=null"),
    ("folder", "root=", "data.root: expected a text, got an empty one (an unset variable?). Type data.root=DIR"),
    ("folder", "near_duplicates=drop", "data.near_duplicates: expected report or drop_from_train, got 'drop'"),
    ("jaffe", "fold=first", "data.fold: expected a whole number or null, got 'first'. Type data.fold=null"),
    ("ckplus", "margin=much", "data.margin: expected a number or null, got 'much'. Type data.margin=0.2"),
    ("ferplus", "limit=all", "data.limit: expected a whole number or null, got 'all'"),
    ("ferplus", "test_subset=3.5", "data.test_subset: expected text or a list or null, got 3.5"),
    ("procedural", "train=many", "data.train: expected a whole number, got 'many'"),
]


def composed(*overrides):
    with initialize_config_module("conf", version_base="1.3"):
        return compose("run", overrides=list(overrides))


@pytest.mark.parametrize("data, word, sentence", WRONG)
def test_a_data_key_of_another_type_is_told_with_its_key(data, word, sentence):
    root = () if data == "procedural" else ("data.root=faces",)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        validation.validate(typed(composed(f"data={data}", *root, "teacher=none", "loss=[ce]", f"data.{word}")))


@pytest.mark.parametrize("word", ["x=1", "x.y.z=1", "train.foo=1", "paths.foo=1", "eval.foo=1", "checkpoint.foo=null"])
def test_a_key_that_is_added_and_that_nothing_reads_is_refused(word):
    key = word.partition("=")[0] if word.count(".") < 2 else "x"
    with pytest.raises(ConfigError, match=rf"^{re.escape(key)}: no such key\. There are: \w+"):
        typed(composed("teacher=none", "loss=[ce]", f"+{word}"))


def test_more_threads_than_any_machine_has_are_refused():
    with pytest.raises(ConfigError, match=r"^train\.threads: expected 1 to 1024, or null for every core, got 9999999"):
        validation.validate(typed(composed("teacher=none", "loss=[ce]", "train.threads=9999999")))


def test_a_data_key_that_is_added_and_that_its_reader_does_not_know_is_refused():
    with pytest.raises(ValueError, match=r"^data\.train: no such key\. There are: channels, classes, fold, "):
        validation.validate(
            typed(composed("data=folder", "data.root=faces", "teacher=none", "loss=[ce]", "+data.train=16"))
        )


@pytest.mark.parametrize("data, word", [("jaffe", "fold=all"), ("folder", "valid=1"), ("folder", "root=2013")])
def test_a_data_key_that_its_type_takes_is_passed_on(data, word):
    cfg = typed(composed(f"data={data}", "data.root=faces", "teacher=none", "loss=[ce]", f"data.{word}"))
    validation.validate(cfg)
    assert build.data_node(cfg.data, cfg.plugins)["root"] == ("2013" if word == "root=2013" else "faces")


def test_a_data_root_around_the_run_folder_is_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    for root, folder in ((tmp_path, "runs/a"), (tmp_path / "link", "runs/a"), (tmp_path / "runs", "runs")):
        with pytest.raises(
            ValueError, match=r"whose pictures would become data. Give data.root the folder of the faces"
        ):
            refuse_inside_data({"root": str(root)}, RunFolder(tmp_path / folder), "/store")
    for data in ({"root": str(tmp_path / "run")}, {"root": "2013"}, {}):
        refuse_inside_data(data, RunFolder(tmp_path / "runs" / "a"), "/store")


@pytest.mark.parametrize("key", ["paths.runs", "paths.store", "student.weights"])
def test_a_path_that_is_no_utf_8_is_refused_where_weights_lie_and_before_anything_is_done(key):
    with pytest.raises(ConfigError, match=r"caf.*udce9.* is no UTF-8, as names of weight files must be") as refused:
        absolute(typed(composed("teacher=none", "loss=[ce]", f"{key}='caf\udce9/x'")))
    assert refused.value.key == key
    assert absolute(typed(composed("teacher=none", "loss=[ce]", "data=folder", "data.root='caf\udce9'"))).data["root"]
