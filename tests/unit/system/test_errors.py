"""ConfigError names its key."""

import pickle
from dataclasses import replace

import pytest

import distill
from distill.config.ranges import check_train
from distill.runs.config import TrainConfig
from distill.system.errors import ConfigError

TRAIN = TrainConfig(
    epochs=1,
    min_steps=None,
    batch_size=1,
    monitor="valid/nll",
    precision="auto",
    max_grad_norm=None,
    ema_decay=0.9,
    class_balance_power=0.0,
    mixup=0.0,
    log_every_n_steps=1,
    threads=None,
    device="cpu",
    compile=False,
)

WRONG = {
    "epochs": 0,
    "monitor": "test/nll",
    "max_grad_norm": 0,
    "ema_decay": 1,
    "class_balance_power": -1,
    "precision": "fp16",
}


@pytest.mark.parametrize("name", WRONG)
def test_check_train_number_out_of_range_names_its_key(name):
    with pytest.raises(ConfigError) as error:
        check_train("teacher.train", replace(TRAIN, **{name: WRONG[name]}), least_epochs=1)
    assert error.value.key == f"teacher.train.{name}" and f"got {WRONG[name]!r}" in error.value.message


def test_config_error_pickled_keeps_key_and_text():
    error = ConfigError("train.epochs", "expected 1 or more, got 0.")
    again = pickle.loads(pickle.dumps(error))
    assert (again.key, str(again)) == ("train.epochs", "train.epochs: expected 1 or more, got 0.")


def test_a_name_of_the_package_whose_module_needs_what_is_not_installed_says_what_to_type(monkeypatch):
    monkeypatch.setitem(distill.PYTHON, "run", "no_such_package.run")
    monkeypatch.delitem(vars(distill), "run", raising=False)
    with pytest.raises(
        ModuleNotFoundError, match=r"^the Python package no_such_package is not installed\. .*pip install"
    ):
        _ = distill.run
