"""config.yaml is read as the types of RunConfig say; any other value is damage, in one sentence that names its key."""

import copy
from dataclasses import fields, is_dataclass

import pytest
import yaml
from run_folders import base

from distill.runs.config import RunConfig
from distill.runs.reading import read

TYPED = [
    *("seed", "generations", "plugins"),
    *(
        f"{group.name}.{own.name}"
        for group in fields(RunConfig)
        if is_dataclass(group.type)
        for own in fields(group.type)
    ),
]


@pytest.fixture
def whole():
    return copy.deepcopy(base())


def refused(folder, whole, key, value):
    *above, last = key.split(".")
    (whole[above[0]] if above else whole)[last] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(whole))
    with pytest.raises(ValueError) as caught:
        RunConfig.read(folder / "config.yaml")
    run = read(folder)
    assert run.status == "damaged" and str(caught.value).startswith(run.error)
    return str(caught.value)


@pytest.mark.parametrize("key", TYPED)
def test_a_value_of_another_type_is_damage_by_its_key(tmp_path, whole, key):
    assert f"(its {key} is " in refused(tmp_path, whole, key, {"a": 1})
    assert f"(its {key} is " in refused(tmp_path, whole, key, [["a"]])


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("seed", True, "its seed is true"),
        ("train.epochs", "x", 'its train.epochs is "x"'),
        ("train.epochs", 1.5, "its train.epochs is 1.5"),
        ("train.epochs", None, "has no train.epochs"),
        ("train.ema_decay", True, "its train.ema_decay is true"),
        ("augment.flip", "often", 'its augment.flip is "often"'),
        ("eval.severities", [1, "x"], 'its eval.severities is [1, "x"]'),
        ("plugins", "mine", 'its plugins is "mine"'),
        ("train", [], "its train is []"),
        ("augment", [1], "unsupported operand"),
        ("eval", None, "unsupported operand"),
        ("loss", {"ce": 1}, 'its loss is {"ce": 1}'),
        ("loss", {1: {}}, "its loss is "),
        ("phases", [1], "its phases is [1]"),
        ("teacher.members", None, "has no teacher.members"),
        ("teacher.members", {"a": 1}, 'its teacher.members is {"a": 1}'),
        ("train.speed", 1, "knows no key 'speed'"),
        ("studnet", {}, "knows no key 'studnet'"),
    ],
)
def test_config_file_with_each_damage_says_which(tmp_path, whole, key, value, words):
    assert words in refused(tmp_path, whole, key, value)


def test_a_whole_number_may_stand_where_a_fraction_may(tmp_path, whole):
    whole["train"] |= {"ema_decay": 0, "max_grad_norm": 1}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(whole))
    assert RunConfig.read(tmp_path / "config.yaml").train.max_grad_norm == 1


def test_run_config_read_without_a_file_says_which_folder_to_give(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no run folder, it has no config\.yaml\. Give the run folder that"):
        RunConfig.read(tmp_path / "config.yaml")
