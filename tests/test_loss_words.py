"""Typing an option of a loss means that loss, and a ramp that is typed is the whole ramp."""

import pytest
import yaml
from commandline import ROOT
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from distill.config.overrides import default_losses, spread, with_losses


def taken(*words: str) -> list[str]:
    with initialize_config_module("conf", version_base="1.3"):
        return list(compose("run", overrides=with_losses(words)).loss)


def test_options_of_the_default_losses_change_nothing():
    names = default_losses()
    for name in names:
        assert with_losses([f"loss.{name}.weight=0.5"]) == [f"loss.{name}.weight=0.5"]
    assert taken() == names and "ce" in names


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "conf" / "loss").glob("*.yaml")))
def test_an_option_of_any_other_loss_takes_that_loss_in_the_default_ones_place(name):
    expected = default_losses() if name in default_losses() else ["ce", name]
    assert taken(f"loss.{name}.weight=0.5") == expected


def test_several_named_losses_are_taken_together_the_default_one_too_if_named():
    assert taken("loss.dkd.weight=1", "+loss.dkd.extra=1", "loss.hint.weight=1") == ["ce", "dkd", "hint"]
    default = default_losses()[-1]
    assert taken(f"loss.{default}.weight=1", "loss.hint.weight=1") == ["ce", default, "hint"]


@pytest.mark.parametrize("chosen", ["loss=[ce]", "experiment=ferplus_losses", "phases=[{epochs:1}]"])
def test_whoever_chooses_losses_gets_those(chosen):
    assert with_losses(["loss.dkd.weight=1", chosen]) == ["loss.dkd.weight=1", chosen]


def test_a_name_that_is_no_loss_is_left_for_the_sentence_about_it():
    assert with_losses(["loss.kdd.weight=1"]) == ["loss.kdd.weight=1"]


RAMPS = ["{from: 0, to: 1, start: 2, end: 12}", "{from: 1, to: 0}", "{from: 0.5, to: 1, end: 5}", "0.5"]


@pytest.mark.parametrize("typed", RAMPS)
@pytest.mark.parametrize(
    "option, words",
    [
        ("ctkd.reversal", ["loss=[ce,ctkd]"]),
        ("dist.weight", ["loss=[ce,dist]", "experiment=ferplus_losses", "data.root=faces"]),
    ],
)
def test_a_ramp_that_is_typed_keeps_nothing_of_the_one_that_was_there(typed, option, words):
    loss, key = option.split(".")
    theirs = [f"loss.{option}={{from: 1, to: 0, end: 10, shape: cosine}}"]  # as an experiment may say
    words = [*words, f"loss.{option}={typed}"]
    jobs, _ = spread(with_losses([*words, "seed=0,1"]))
    with initialize_config_module("conf", version_base="1.3"):
        for sent in (with_losses(words), with_losses(with_losses(words)), *jobs):
            there = compose("run", overrides=[*theirs, *sent]).loss[loss]
            assert OmegaConf.to_container(there)[key] == yaml.safe_load(typed)


def test_a_ramp_goes_where_none_can_be_as_it_was_typed():
    words = ["loss=[ce,kd]", "loss.kd.weight={from: 0, to: 0.9, end: 5}"]
    assert with_losses(words) == words
