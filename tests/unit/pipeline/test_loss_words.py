"""Which losses a run learns by: those that are named; without a teacher those that need none."""

import pytest
import yaml
from commandline import ROOT
from hydra import compose, initialize_config_module
from hydra.errors import HydraException

from distill.config import schema as config
from distill.config.hints import suggest_override
from distill.pipeline import validation
from distill.runs.config import RunConfig

DEFAULT = next(
    entry["loss"] for entry in yaml.safe_load((ROOT / "conf" / "run.yaml").read_text())["defaults"] if "loss" in entry
)


def composed(*words: str):
    with initialize_config_module("conf", version_base="1.3"):
        return compose("run", overrides=list(words))


def refused(*words: str) -> str:
    with pytest.raises(HydraException) as error:
        composed(*words)
    return suggest_override(error.value, list(words))


NAMES = sorted(path.stem for path in (ROOT / "conf" / "loss").glob("*.yaml"))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in DEFAULT])
def test_an_option_of_a_loss_that_is_not_there_is_told_the_word_that_takes_it(name):
    assert refused(f"loss.{name}.weight=0.5").endswith(f"Type loss=[ce,{name}] with it.")
    assert name in composed(f"loss=[ce,{name}]", f"loss.{name}.weight=0.5").loss


@pytest.mark.parametrize(
    "words, losses",
    [
        (["loss.dkd.weight=1", "+loss.dkd.extra=1", "loss.hint.weight=1"], "ce,dkd,hint"),
        ([f"loss.{DEFAULT[-1]}.weight=1", "loss.hint.weight=1"], f"ce,{DEFAULT[-1]},hint"),
        (["loss=[kd]", "loss.dkd.weight=1"], "kd,dkd"),
        (["experiment=ferplus_cern", "data.root=x", "loss.dkd.weight=1"], "ce,kd,dkd"),
    ],
)
def test_losses_that_were_chosen_or_named_stay_beside_the_one_that_is_lacking(words, losses):
    assert f"Type loss=[{losses}] with it." in refused(*words)


def test_a_name_that_is_no_loss_is_told_as_any_other_key():
    assert "loss.kdd: no such key" in refused("loss.kdd.weight=1")


def alone(*words: str) -> tuple[RunConfig, list[str]]:
    return validation.learned_by(config.typed(composed("teacher=none", *words)))


def test_learned_by_without_a_teacher_leaves_its_losses_out_and_labels_have_weight_1():
    cfg, left_out = alone()
    assert left_out == ["dist"] and {name: loss["weight"] for name, loss in cfg.loss.items()} == {"ce": 1.0}
    names = {config.run_name(alone(*words)[0]) for words in ([], ["loss=[ce]"], ["loss=[ce]", "loss.ce.weight=1"])}
    assert len(names) == 1
    cfg, left_out = alone("loss=[ce,tfkd,kd,hint]", "phases=[{epochs:8,loss:[ce,hint]},{epochs:24}]")
    assert left_out == ["kd", "hint"] and {n: loss["weight"] for n, loss in cfg.loss.items()} == {
        "ce": 0.1,
        "tfkd": 0.9,
    }
    assert cfg.phases[0]["loss"] == ["ce"]


def test_a_weight_of_0_or_a_course_stays_as_it_was_typed_without_a_teacher():
    assert alone("loss.ce.weight=0")[0].loss["ce"]["weight"] == 0
    assert alone("loss.ce.weight={from: 0, to: 1, end: 5}")[0].loss["ce"]["weight"]["end"] == 5


@pytest.mark.parametrize(
    "words, sentence", [(["loss=[kd]"], "kd needs a teacher"), (["loss=[kd,hint]"], "kd, hint need")]
)
def test_learned_by_without_a_teacher_refuses_losses_that_all_need_one(words, sentence):
    with pytest.raises(ValueError, match=rf"^loss: teacher=none was chosen, and {sentence}.* Type loss=\[ce\]"):
        alone(*words)


def test_learned_by_with_a_teacher_or_generations_leaves_nothing_out():
    assert alone("generations=2")[1] == [] and validation.learned_by(config.typed(composed()))[1] == []
