"""A teacher answers the same from its cache as live, is asked once, and nothing can train it."""

import json
import multiprocessing
import time

import numpy as np
import pytest
import torch
from cached_faces import CLASSES, faces
from no_waiting import META, NoWaiting
from torch import nn

from distill.augment.views import ViewRecipe, identity
from distill.data.loader import in_order
from distill.types import Dataset, InputSpec, Outputs, Split
from teachers.ensemble import Ensemble
from teachers.frozen import FrozenTeacher
from teachers.logit_cache import LogitCache
from teachers.output_store import manifest

CPU, RECIPE = torch.device("cpu"), ViewRecipe()


class Net(nn.Module):
    def __init__(self, seed=0, size=12):
        super().__init__()
        torch.manual_seed(seed)
        self.input = InputSpec(size)
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten())
        self.head = nn.Linear(4 * (size - 2) ** 2, len(CLASSES))

    def forward(self, images):
        logits = self.head(self.body(images))
        return Outputs(logits, logits[:, None], {})


class Counted(FrozenTeacher):
    """Writes a line to a file at every forward pass, slowly, so that processes would overlap."""

    def __init__(self, file):
        super().__init__(Net(), "counted", CLASSES, torch.float32)
        self.file = file

    def forward(self, batch):
        with open(self.file, "a") as file:
            file.write(f"{len(batch.index)}\n")
        time.sleep(0.05)
        return super().forward(batch)


def frozen(seed=0, size=12):
    return FrozenTeacher(Net(seed, size), f"net{seed}", CLASSES, torch.float32)


def expected(view_seed=0, **changed):
    return manifest(faces(21), "f1", [[12, 1, [0.0], [1.0]]], RECIPE, view_seed, "torch.float32") | changed


def cache(folder, make=frozen, view_seed=0, **changed):
    return LogitCache(folder, expected(view_seed, **changed), make, faces(21), CPU, batch_size=8)


def answers(teacher, split="train", view=1, view_seed=0):
    part = faces(21).splits[split]
    table = RECIPE.table(view_seed, view, len(part.pixels))
    teacher.open(split, view, table)
    return torch.cat([teacher(batch).logits for batch in in_order(part, table, 5)])


def test_stored_logits_are_answered_without_waiting_for_the_device(tmp_path):
    teacher, part = cache(tmp_path / "c"), faces(21).splits["train"]
    answers(teacher)
    batch = next(in_order(part, RECIPE.table(0, 1, 30), 5))
    teacher.current, wanted = teacher.current.to(META), batch.index.to(META)
    with NoWaiting():
        assert teacher(batch._replace(index=wanted)).logits.is_meta


def must_not_make():
    raise AssertionError("the live teacher was made")


# Cache


@pytest.mark.parametrize("split, view", [("train", 1), ("train", 2), ("valid", 0), ("train", 0)])
def test_a_cached_teacher_answers_as_the_live_one(tmp_path, split, view):
    cached, live = answers(cache(tmp_path / "c"), split, view), answers(frozen(), split, view)
    assert cached.shape == live.shape and live.std(0).min() > 0.01
    assert torch.allclose(cached, live, atol=1e-6)


def test_views_differ_and_an_opened_view_is_the_one_that_is_answered(tmp_path):
    teacher = cache(tmp_path / "c")
    first, second, packed = (answers(teacher, view=view) for view in (1, 2, 0))
    assert (first - second).abs().max() > 0.01 and (first - packed).abs().max() > 0.01
    assert torch.equal(answers(teacher, view=1), first)
    assert teacher.forward_images == 3 * 21, "each view was computed once"


def test_a_batch_in_any_order_gets_its_own_rows(tmp_path):
    part, teacher = faces(21).splits["train"], cache(tmp_path / "c")
    inorder = answers(teacher)
    batch = next(in_order(part, identity(30), 21))
    order = torch.randperm(21, generator=torch.Generator().manual_seed(0))
    shuffled = teacher(type(batch)(*(tensor[order] for tensor in batch)))
    assert torch.equal(shuffled.logits, inorder[order])
    assert torch.equal(shuffled.heads, shuffled.logits[:, None]) and shuffled.features == {}
    assert not shuffled.logits.requires_grad


def test_a_second_run_makes_no_teacher_and_no_forward_pass(tmp_path):
    first = answers(cache(tmp_path / "c"))
    again = cache(tmp_path / "c", must_not_make)
    assert torch.equal(answers(again), first)
    assert again.forward_images == 0
    with pytest.raises(AssertionError, match="was made"):
        answers(again, view=2)


def test_rows_that_the_protocol_leaves_out_are_not_computed(tmp_path):
    answers(cache(tmp_path / "c"))
    stored = np.load(tmp_path / "c" / "train-view1.npy")
    assert stored.shape == (30, 3) and stored.dtype == np.float32
    assert np.flatnonzero(np.isfinite(stored).all(1)).tolist() == faces(21).splits["train"].rows.tolist()


@pytest.mark.parametrize("field", sorted(expected()))
def test_a_manifest_that_differs_is_refused_and_the_field_is_named(tmp_path, field):
    answers(cache(tmp_path / "c"))
    with pytest.raises(ValueError, match=f"its '{field}' is .* this run needs something else. Delete the folder"):
        cache(tmp_path / "c", must_not_make, **{field: "something else"})
    answers(cache(tmp_path / "c", must_not_make))


def test_a_manifest_of_another_version_with_one_field_more_or_less_is_refused(tmp_path):
    cache(tmp_path / "c")
    path = tmp_path / "c" / "manifest.json"
    found = json.loads(path.read_text())
    for changed in (found | {"crop": 0.9}, {key: value for key, value in found.items() if key != "views"}):
        path.write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=r"its '(crop|views)' is"):
            cache(tmp_path / "c")


def test_the_manifest_tells_what_the_logits_depend_on():
    data = faces(21)
    inputs = [[12, 1, [0.0], [1.0]]]
    fewer = Split(**vars(data.splits["train"]) | {"rows": data.splits["train"].rows[1:]})
    asked = {"data": data, "fingerprint": "f1", "inputs": inputs, "recipe": RECIPE, "view_seed": 0, "precision": "fp32"}
    others = {
        "data": Dataset("tiny", CLASSES, "all", data.splits | {"train": fewer}),
        "fingerprint": "f2",
        "inputs": [[14, 1, [0.0], [1.0]]],
        "recipe": ViewRecipe(rotate=20),
        "view_seed": 1,
        "precision": "bf16",
    }
    base = manifest(**asked)
    assert json.loads(json.dumps(base)) == base
    for key, value in others.items():
        other = manifest(**asked | {key: value})
        assert sum(base[field] != other[field] for field in base) == 1, key
    assert manifest(**asked | {"data": Dataset("tiny", CLASSES[::-1], "all", data.splits)}) != base


@pytest.mark.parametrize("left", [0, 4, 40, 200, -9])
def test_a_truncated_array_is_named_with_what_to_do(tmp_path, left):
    answers(cache(tmp_path / "c"))
    path = tmp_path / "c" / "train-view1.npy"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match=r"train-view1\.npy: damaged .* Delete it"):
        answers(cache(tmp_path / "c", must_not_make))
    path.unlink()
    assert answers(cache(tmp_path / "c")).isfinite().all()


def test_a_block_of_zeros_in_stored_logits_is_named_and_logits_of_an_earlier_version_are_read(tmp_path):
    before = answers(cache(tmp_path / "c"))
    path = tmp_path / "c" / "train-view1.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-32])
    assert torch.equal(answers(cache(tmp_path / "c", must_not_make)), before)
    path.write_bytes(whole[:200] + bytes(64) + whole[264:])
    with pytest.raises(ValueError, match=r"train-view1\.npy: damaged .*SHA-256.* Delete it"):
        answers(cache(tmp_path / "c", must_not_make))


def test_an_array_of_another_shape_or_type_and_a_damaged_manifest_are_named(tmp_path):
    answers(cache(tmp_path / "c"))
    for array in (np.zeros((30, 3)), np.zeros((29, 3), np.float32)):
        np.save(tmp_path / "c" / "train-view1.npy", array)
        with pytest.raises(ValueError, match=r"train-view1\.npy: holds float.* not float32 \(30, 3\)"):
            answers(cache(tmp_path / "c", must_not_make))
    (tmp_path / "c" / "manifest.json").write_text('{"format": 1')
    with pytest.raises(ValueError, match=r"manifest\.json: damaged"):
        cache(tmp_path / "c")


def test_another_view_seed_gives_other_logits_and_does_not_take_those_of_the_first(tmp_path):
    first = answers(cache(tmp_path / "a"))
    assert (answers(cache(tmp_path / "b", view_seed=1), view_seed=1) - first).abs().max() > 0.01
    with pytest.raises(ValueError, match="'view_seed' is 0, this run needs 1"):
        cache(tmp_path / "a", view_seed=1)


def test_a_teacher_that_fails_leaves_no_array_behind(tmp_path):
    class Failing(FrozenTeacher):
        def forward(self, batch):
            if self.forward_images >= 16:
                raise RuntimeError("out of memory")
            return super().forward(batch)

    with pytest.raises(RuntimeError, match="out of memory"):
        answers(cache(tmp_path / "c", lambda: Failing(Net(), "failing", CLASSES, torch.float32)))
    assert not [p.name for p in (tmp_path / "c").iterdir() if p.suffix in (".npy", ".tmp")]
    assert answers(cache(tmp_path / "c")).isfinite().all()


def ask(folder, name, barrier):
    torch.set_num_threads(1)
    barrier.wait()
    np.save(folder / f"{name}.npy", answers(cache(folder / "c", lambda: Counted(folder / "count"))).numpy())


def test_two_processes_that_need_the_same_view_at_once_compute_it_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    workers = [context.Process(target=ask, args=(tmp_path, name, barrier)) for name in ("a", "b")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(600)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert (tmp_path / "count").read_text().split() == ["8", "8", "5"]
    assert (np.load(tmp_path / "a.npy") == np.load(tmp_path / "b.npy")).all()


# Frozen teachers and ensembles


def test_a_frozen_teacher_stays_as_it_is_whatever_its_owner_does():
    teacher = frozen()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    first = answers(teacher)
    parent = nn.Module()
    parent.teacher = teacher
    for owner in (teacher, parent):
        owner.train()
        assert not any(module.training for module in teacher.modules())
        assert torch.equal(answers(teacher), first), "dropout and batch statistics are off"
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not any(parameter.requires_grad for parameter in teacher.parameters()) and not first.requires_grad
    assert teacher.forward_images == 3 * 21


def test_a_teacher_of_more_classes_answers_about_some_as_if_there_were_no_others():
    every, kept = answers(frozen()), [len(CLASSES) - 1, 0]
    some = FrozenTeacher(Net(), "some", tuple(CLASSES[k] for k in kept), torch.float32, tuple(CLASSES))
    shares = every.softmax(-1)[:, kept]
    assert torch.allclose(answers(some).softmax(-1), shares / shares.sum(-1, keepdim=True), atol=1e-6)


def test_a_teacher_in_bf16_answers_in_float32_and_close_by():
    teacher = FrozenTeacher(Net(), "bf16", CLASSES, torch.bfloat16)
    logits, exact = answers(teacher), answers(frozen())
    assert logits.dtype == torch.float32 and not torch.equal(logits, exact)
    assert torch.allclose(logits, exact, atol=0.05)


@pytest.mark.parametrize("weights", [None, [1, 3], [0, 2]])
def test_an_ensemble_averages_probabilities_or_logits_of_the_same_view(weights):
    members = [answers(frozen(0)).double().numpy(), answers(frozen(1, size=10)).double().numpy()]
    shares = np.array(weights or [1, 1]) / sum(weights or [1, 1])
    p = [np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in members]
    ours = {average: Ensemble([frozen(0), frozen(1, 10)], average, weights) for average in ("logits", "probabilities")}
    z = answers(ours["logits"]).numpy()
    assert np.allclose(z, shares[0] * members[0] + shares[1] * members[1], atol=1e-5)
    q = answers(ours["probabilities"]).softmax(1).numpy()
    assert np.allclose(q, shares[0] * p[0] + shares[1] * p[1], atol=1e-5)
    assert ours["logits"].forward_images == 2 * 21 and ours["logits"].classes == CLASSES


def test_an_ensembles_heads_are_its_members_and_it_stays_frozen():
    ensemble = Ensemble([frozen(0), frozen(1)]).train()
    batch = next(in_order(faces(21).splits["train"], identity(30), 4))
    heads = ensemble(batch).heads
    assert heads.shape == (4, 2, 3) and torch.equal(heads[:, 1], frozen(1)(batch).logits)
    assert not any(module.training for module in ensemble.modules())


@pytest.mark.parametrize("weights", [[1], [1, 1, 1], [-1, 2], [0, 0], []])
def test_wrong_weights_of_an_ensemble_get_a_sentence(weights):
    with pytest.raises(ValueError, match=r"teacher\.weights: .* for 2 members; give one number >= 0 for each"):
        Ensemble([frozen(0), frozen(1)], weights=weights)


def test_an_unknown_average_gets_a_sentence():
    with pytest.raises(ValueError, match=r"teacher\.average: expected logits or probabilities.*, got 'median'"):
        Ensemble([frozen()], average="median")
