"""Mixed pictures are the same for teacher and student, a function of seed, epoch and step alone, and survive a kill."""

import numpy as np
import pytest
import torch
from commandline import ROOT
from hydra import compose, initialize_config_module
from hydra.utils import get_object
from safetensors.torch import load_file
from tiny_training import DATA, Net, frozen, run, train_state

from distill.augment.autoaugment import VERSION
from distill.augment.views import ViewRecipe, render, render_batch
from distill.config.schema import typed
from distill.data.loader import make_batch, mixup
from distill.losses.base.logit_loss import LogitLoss
from distill.losses.ce import CrossEntropy
from distill.pipeline import validation
from distill.training.loop import train_step
from distill.types import InputSpec, MixedBatch, Outputs
from teachers.ensemble import Ensemble
from teachers.logit_cache import LogitCache
from teachers.output_store import manifest

TABLE = ViewRecipe(autoaugment=True).table(0, 1, 60)


def batch(count=16):
    return make_batch(DATA.splits["train"], TABLE, np.arange(count))


def test_pictures_and_targets_are_mixed_as_by_hand_each_picture_in_its_own_view():
    plain, mixed = batch(), mixup(batch(), 0.4, seed=1, epoch=2, step=3)
    images, share = render(plain.pixels, plain.view, InputSpec(12)), mixed.share[0].item()
    assert 0 < share < 1 and (mixed.share == mixed.share[0]).all()
    assert sorted(mixed.partner.tolist()) == list(range(16)) and (mixed.partner != torch.arange(16)).any()
    seen = render_batch(mixed, InputSpec(12))
    for b, other in enumerate(mixed.partner.tolist()):
        assert torch.allclose(seen[b], share * images[b] + (1 - share) * images[other], atol=1e-6)
        assert torch.allclose(mixed.target[b], share * plain.target[b] + (1 - share) * plain.target[other])
    assert torch.equal(mixed.label, plain.label) and torch.equal(mixed.index, plain.index)
    assert torch.allclose(mixed.target.sum(1), torch.ones(16))


def test_a_plain_batch_is_drawn_as_it_is_rendered():
    assert torch.equal(render_batch(batch(), InputSpec(12, 3)), render(batch().pixels, batch().view, InputSpec(12, 3)))
    assert render_batch(batch(), InputSpec(12, 3)).is_contiguous(memory_format=torch.channels_last)


def test_a_mixture_depends_on_seed_epoch_and_step_alone():
    first = mixup(batch(), 1.0, 1, 2, 3)
    np.random.seed(0), torch.manual_seed(0)
    assert all(torch.equal(a, b) for a, b in zip(first, mixup(batch(), 1.0, 1, 2, 3), strict=True))
    shares = {
        mixup(batch(), 1.0, *at).share[0].item() for at in [(1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4), (2, 1, 3)]
    }
    assert len(shares) == 5


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_shares_follow_the_beta_distribution(alpha):
    shares = np.array([mixup(batch(2), alpha, 0, 0, step).share[0].item() for step in range(2000)])
    spread = 1 / (4 * (2 * alpha + 1))  # variance of Beta(alpha, alpha)
    assert abs(shares.mean() - 0.5) < 5 * np.sqrt(spread / 2000)
    assert shares.var() == pytest.approx(spread, rel=0.1)


def test_a_live_teacher_and_an_ensemble_see_the_mixed_pictures_that_the_student_sees():
    mixed, teachers = mixup(batch(), 1.0, 0, 0, 0), [frozen(1), frozen(2)]
    answers = [teacher(mixed).logits for teacher in teachers]
    for teacher, logits in zip(teachers, answers, strict=True):
        assert torch.equal(teacher.network.seen[-1], render_batch(mixed, InputSpec(12)))
        assert (logits - teacher(batch()).logits).abs().max() > 0.01, "not what it says of plain faces"
    assert torch.allclose(Ensemble(teachers, "logits")(mixed).logits, sum(answers) / 2, atol=1e-6)


def test_a_step_shows_teacher_and_student_one_mixture():
    student, teacher = train_state(), frozen(1)
    mixed = mixup(batch(), 1.0, 0, 0, 0)
    terms = train_step(mixed, teacher, student, torch.float32)
    assert torch.equal(student.student.seen[-1], teacher.network.seen[-1])
    by_hand = CrossEntropy()(Net(5)(render_batch(mixed, InputSpec(12))), None, mixed.target).mean()
    assert terms["ce"].item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_a_cache_does_not_answer_mixtures(tmp_path):
    expected = manifest(DATA, "f", [], ViewRecipe(autoaugment=True), 0, "fp32")
    cache = LogitCache(tmp_path / "c", expected, frozen, DATA, torch.device("cpu"))
    cache.open("train", 1, TABLE)
    assert cache(batch()).logits.isfinite().all()
    with pytest.raises(AssertionError, match="not their mixtures"):
        cache(mixup(batch(), 1.0, 0, 0, 0))


def test_a_recipe_without_autoaugment_has_the_manifest_that_it_always_had():
    views = manifest(DATA, "f", [], ViewRecipe(), 0, "fp32")["views"]
    names = "rotate scale_min scale_max shift flip brightness contrast erase erase_min erase_max"
    assert list(views) == names.split()
    assert manifest(DATA, "f", [], ViewRecipe(autoaugment=True), 0, "fp32")["views"] == views | {"autoaugment": VERSION}


# Losses


def composed(*overrides):
    with initialize_config_module("conf", version_base="1.3"):
        return typed(compose("run", overrides=["data=procedural", "train.mixup=0.2", *overrides]))


@pytest.mark.parametrize("name", ["microexpnet", "dkd", "nkd", "tfkd"])
def test_a_loss_that_reads_one_class_from_a_target_is_not_for_mixed_faces(name):
    with pytest.raises(ValueError, match=rf"^loss\.{name}: reads one class .* Type train\.mixup=0, or choose losses"):
        validation.validate(composed("teacher.cache=false", f"loss=[ce,{name}]"))
    validation.validate(composed("teacher.cache=false", f"loss=[ce,{name}]", "train.mixup=0"))


def test_a_loss_that_remembers_faces_is_not_for_mixtures():
    with pytest.raises(ValueError, match=r"^loss\.crd: remembers faces.* Type train\.mixup=0, or leave it out"):
        validation.validate(composed("teacher.cache=false", "loss=[ce,crd]"))


def test_a_teachers_own_losses_are_looked_at_too():
    words = ("train.mixup=0", "teacher.train.mixup=0.2")
    validation.validate(composed(*words))
    cfg = composed(*words, "loss=[ce,tfkd]")
    cfg.teacher["loss"] = {"tfkd": cfg.loss["tfkd"]}
    with pytest.raises(ValueError, match=r"^teacher\.loss\.tfkd: reads one class .* Type teacher\.train\.mixup=0"):
        validation.validate(cfg)


def test_every_loss_on_logits_that_reads_the_largest_entry_alone_says_so():
    names = [path.stem for path in (ROOT / "conf" / "loss").glob("*.yaml")]
    nodes = composed(f"loss=[{','.join(names)}]").loss
    torch.manual_seed(0)
    student, teacher = (Outputs(z, z[:, None], {}) for z in torch.randn(2, 6, 3))
    target = torch.rand(6, 3).softmax(1)
    largest = torch.eye(3)[target.argmax(1)]
    found = {}
    for name, node in nodes.items():
        kind = get_object(node["_target_"])
        if issubclass(kind, LogitLoss) and not list(kind().parameters()):
            values = [kind()(student, teacher, t) for t in (target, largest, largest.roll(1, 1))]
            found[name] = torch.equal(values[0], values[1]) and not torch.equal(values[0], values[2])
            assert kind.needs_label == found[name], name
    assert {name for name, reads in found.items() if reads} == {"microexpnet", "dkd", "nkd", "tfkd"}


# Runs


def state(folder):
    return (folder / "metrics.jsonl").read_text(), load_file(folder / "checkpoints" / "best.safetensors")


@pytest.mark.parametrize("stop_at", [(0, 5), (1, 2), (2, 6)])
def test_a_mixed_and_balanced_run_that_was_stopped_goes_on_bit_for_bit(tmp_path, stop_at):
    run(tmp_path / "whole")
    run(tmp_path / "stopped", stop_at)
    lengths = [len((tmp_path / name / "metrics.jsonl").read_text()) for name in ("stopped", "whole")]
    assert lengths[0] < lengths[1]
    run(tmp_path / "stopped")
    (ours, best), (theirs, whole) = state(tmp_path / "stopped"), state(tmp_path / "whole")
    assert ours == theirs and all(torch.equal(best[name], whole[name]) for name in whole)


def test_each_option_changes_a_run_and_none_shows_every_face_once_as_it_is(tmp_path):
    off = {"class_balance_power": 0.0, "mixup": 0.0}
    logs = [
        (run(tmp_path / name, **off | more), state(tmp_path / name)[0])[1]
        for name, more in (("off", {}), ("balance", {"class_balance_power": 1.0}), ("mixup", {"mixup": 0.4}))
    ]
    assert len(set(logs)) == 3
    net = run(tmp_path / "again", **off)
    assert state(tmp_path / "again")[0] == logs[0]
    part = DATA.splits["train"]
    all_shown = render(torch.from_numpy(part.pixels[part.rows]), ViewRecipe().table(0, 1, 60)[part.rows], net.input)
    epoch = torch.cat(net.seen[:6])
    distance = torch.cdist(epoch.flatten(1).double(), all_shown.flatten(1).double())
    assert distance.min(1).values.max() < 1e-3 and len(set(distance.argmin(1).tolist())) == 48


def test_batches_are_mixed_only_where_it_was_asked_for(monkeypatch, tmp_path):
    kinds = []
    monkeypatch.setattr(
        "distill.training.loop.train_step", lambda batch, *rest: kinds.append(type(batch)) or {"loss": torch.zeros(())}
    )
    run(tmp_path / "off", mixup=0.0)
    assert kinds and MixedBatch not in kinds
    kinds.clear()
    run(tmp_path / "on")
    assert set(kinds) == {MixedBatch}
