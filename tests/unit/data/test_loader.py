"""The order of an epoch is a function of its seed and number, and batches are copies of packed rows."""

import numpy as np
import pytest
import torch

from distill.augment.views import ViewRecipe
from distill.data.loader import batches, class_balanced_weights, epoch_order, in_order, make_batch, steps_per_epoch, to
from distill.types import Split

PACKED, KEPT = 40, 23


@pytest.fixture
def split():
    rng = np.random.default_rng(0)
    rows = np.sort(rng.permutation(PACKED)[:KEPT])
    pixels = np.arange(PACKED, dtype=np.uint8)[:, None, None, None].repeat(16, 2).repeat(16, 3)  # picture i is all i
    label = rng.integers(0, 3, KEPT)
    return Split("train", pixels, rows, np.eye(3, dtype=np.float32)[label], label, tuple(f"p{r}" for r in rows), "0")


@pytest.fixture
def table():
    return ViewRecipe().table(0, 1, PACKED)


def test_an_order_depends_on_seed_and_epoch_alone_and_has_every_row_once():
    order = epoch_order(4, 2, 100)
    np.random.seed(0), torch.manual_seed(0)
    assert (order == epoch_order(4, 2, 100)).all()
    assert (np.sort(order) == np.arange(100)).all()
    for other in (epoch_order(4, 3, 100), epoch_order(5, 2, 100), epoch_order(2, 4, 100), np.arange(100)):
        assert (order != other).mean() > 0.9


def test_epoch_order_mixes_well():
    mean_place = np.mean([np.argsort(epoch_order(0, epoch, 50)) for epoch in range(400)], axis=0)
    assert np.abs(mean_place - 24.5).max() < 5 * 50 / np.sqrt(12 * 400)


def test_a_balanced_epoch_draws_every_class_equally_often_with_replacement_and_depends_on_seed_and_epoch_alone():
    label = np.repeat([0, 1, 2], [9000, 900, 100])
    sampling_weights = class_balanced_weights(label, 1.0)
    order = epoch_order(4, 2, len(label), sampling_weights)
    np.random.seed(0), torch.manual_seed(0)
    assert (order == epoch_order(4, 2, len(label), sampling_weights)).all()
    assert (order != epoch_order(4, 3, len(label), sampling_weights)).mean() > 0.9
    assert order.shape == label.shape and order.min() >= 0 and order.max() < len(label)
    drawn = np.bincount(label[order])
    assert np.abs(drawn - 10_000 / 3).max() < 5 * np.sqrt(10_000 * 2 / 9)
    assert np.bincount(order[label[order] == 2]).max() > 1 and len(set(order.tolist())) < len(label)
    places = order[label[order] == 0]
    assert abs(places.mean() - 4499.5) < 5 * 9000 / np.sqrt(12 * len(places)), "evenly within a class, in no order"
    assert abs(np.corrcoef(np.arange(len(places)), places)[0, 1]) < 5 / np.sqrt(len(places))


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_balance_is_the_exponent_of_one_over_the_class_count(power):
    label = np.array([2, 0, 0, 0, 0, 2, 3])  # four of class 0, two of 2, one of 3
    sampling_weights = class_balanced_weights(label, power)
    assert sampling_weights.sum() == pytest.approx(1)
    assert sampling_weights / sampling_weights[-1] == pytest.approx(np.array([2, 4, 4, 4, 4, 2, 1.0]) ** -power)


def test_epoch_order_without_balance_is_the_shuffle_that_it_always_was():
    assert class_balanced_weights(np.array([0, 0, 1]), 0.0) is None
    assert epoch_order(4, 2, 10, None).tolist() == [7, 6, 5, 2, 8, 1, 9, 3, 0, 4]


def test_a_batch_holds_the_rows_asked_for_with_their_own_views_targets_and_labels(split, table):
    positions = np.array([7, 0, 22])
    batch = make_batch(split, table, positions)
    assert batch.index.tolist() == split.rows[positions].tolist()
    assert batch.pixels.dtype == torch.uint8 and batch.pixels.shape == (3, 1, 16, 16)
    assert batch.pixels[:, 0, 0, 0].tolist() == batch.index.tolist()
    assert torch.equal(batch.view, table[batch.index])
    assert batch.label.dtype == torch.int64 and batch.label.tolist() == split.label[positions].tolist()
    assert batch.target.dtype == torch.float32 and torch.equal(batch.target.argmax(1), batch.label)


def test_a_batch_is_a_copy_that_leaves_the_pack_alone(split, table):
    batch = make_batch(split, table, np.arange(3))
    before = split.pixels.copy(), split.target.copy(), split.label.copy(), table.clone()
    for tensor in batch:
        tensor.zero_()
    assert (split.pixels == before[0]).all() and (split.target == before[1]).all() and (split.label == before[2]).all()
    assert torch.equal(table, before[3])


def test_a_read_only_memory_map_can_be_gathered(split, table, tmp_path):
    np.save(tmp_path / "pixels.npy", split.pixels)
    mapped = Split("train", np.load(tmp_path / "pixels.npy", mmap_mode="r"), *list(vars(split).values())[2:])
    assert torch.equal(make_batch(mapped, table, np.arange(5)).pixels, make_batch(split, table, np.arange(5)).pixels)


def test_an_epoch_drops_the_last_smaller_batch(split, table):
    order = epoch_order(0, 0, KEPT)
    seen = list(batches(split, table, 10, order))
    assert [len(batch.index) for batch in seen] == [10, 10] and steps_per_epoch(KEPT, 10) == 2
    assert torch.cat([batch.index for batch in seen]).tolist() == split.rows[order[:20]].tolist()


def test_a_split_smaller_than_a_batch_is_one_batch(split, table):
    assert [len(batch.index) for batch in batches(split, table, 64, epoch_order(0, 0, KEPT))] == [KEPT]
    assert steps_per_epoch(KEPT, 64) == 1


def test_going_on_within_an_epoch_gives_the_batches_that_were_left(split, table):
    order = epoch_order(1, 5, KEPT)
    whole = list(batches(split, table, 4, order))
    rest = list(batches(split, table, 4, order, start=3))
    assert len(whole) == 5 and len(rest) == 2
    for early, late in zip(whole[3:], rest, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(early, late, strict=True))


@pytest.mark.parametrize("batch_size", [1, 7, 23, 100])
def test_evaluation_sees_every_row_once_in_packed_order_whatever_the_batch_size(split, table, batch_size):
    seen = torch.cat([batch.index for batch in in_order(split, table, batch_size)])
    assert seen.tolist() == split.rows.tolist()


def test_batch_on_the_cpu_stays_where_it_is(split, table):
    batch = make_batch(split, table, np.arange(3))
    assert to(batch, torch.device("cpu")) is batch
