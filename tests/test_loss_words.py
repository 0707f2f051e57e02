"""Typing an option of a loss means that loss: the default one gives its place to the one that is named."""

import pytest
from commandline import ROOT
from hydra import compose, initialize_config_module

from distill.overrides import default_losses, with_losses


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
