"""A teacher's feature maps are stored beside its logits: equal to the live ones, only what is asked for, and asked once."""

import json
import multiprocessing
import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cached_faces import CLASSES, faces
from commandline import distill, result_of
from inside import job
from torch import nn

from distill.augment.views import ViewRecipe
from distill.data.loader import in_order
from distill.types import InputSpec, Outputs
from teachers import logit_cache
from teachers.frozen import FrozenTeacher
from teachers.logit_cache import LogitCache
from teachers.output_store import manifest

CPU, RECIPE, BATCH = torch.device("cpu"), ViewRecipe(), 8


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.input = InputSpec(12)
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1)
        self.head = nn.Linear(6 * 9, len(CLASSES))

    def forward(self, images):
        logits = self.head(self.conv2(self.conv1(images).relu()).relu().flatten(1))
        return Outputs(logits, logits[:, None], {})


def frozen(precision=torch.float32):
    return FrozenTeacher(Net(), "net", CLASSES, precision)


def cache(folder, make=frozen, precision="torch.float32", features=True):
    expected = manifest(faces(24), "f1", [[12, 1]], RECIPE, 0, precision)
    return LogitCache(folder, expected, make, faces(24), CPU, BATCH, features)


def tapped(teacher, *names):
    found = teacher.inspect_layers()
    teacher.attach_hooks([found.find(name, "k") for name in names])
    return teacher


def answers(teacher, split="train", view=1):
    """Outputs of a whole view, batch by batch."""
    part = faces(24).splits[split]
    table = RECIPE.table(0, view, len(part.pixels))
    teacher.open(split, view, table)
    found = [teacher(batch) for batch in in_order(part, table, BATCH)]
    features = {name: torch.cat([answer.features[name] for answer in found]) for name in found[0].features}
    return torch.cat([answer.logits for answer in found]), features


def stored(folder):
    return {path.name for path in folder.iterdir() if path.suffix == ".npy"}


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_stored_maps_are_those_of_the_live_teacher_bit_for_bit(tmp_path, precision, monkeypatch):
    """Also where they fit on the device, and are read from disk once a view."""
    names = ("conv1", "conv2:in", "embedding")
    live = answers(tapped(frozen(precision), *names))[1]
    first = tapped(cache(tmp_path / "c", lambda: frozen(precision), str(precision)), *names)
    again = tapped(cache(tmp_path / "c", lambda: frozen(precision), str(precision)), *names)
    for teacher, fits in ((first, False), (again, False), (again, True)):
        monkeypatch.setattr(logit_cache, "fits", lambda size, device, fits=fits: fits)
        found = answers(teacher)[1]
        assert {isinstance(maps, torch.Tensor) for maps in teacher.maps.values()} == {fits}
        assert found.keys() == live.keys() == {"conv1", "conv2:in", "head:in"}
        for name, value in live.items():
            assert value.dtype == found[name].dtype == precision and value.std() > 0
            assert torch.equal(found[name], value), name
    assert (first.forward_images, again.forward_images) == (24, 0)
    width = {torch.float32: np.float32, torch.bfloat16: np.uint16}[precision]
    assert np.load(tmp_path / "c" / "train-view1-conv1.npy").dtype == width


def test_a_batch_in_any_order_gets_its_own_maps(tmp_path):
    part, teacher = faces(24).splits["train"], tapped(cache(tmp_path / "c"), "conv1", "conv2")
    inorder = answers(teacher)[1]
    batch = next(in_order(part, RECIPE.table(0, 1, 30), 24))
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    shuffled = teacher(type(batch)(*(tensor[order] for tensor in batch))).features
    assert shuffled.keys() == inorder.keys() and all(torch.equal(shuffled[k], inorder[k][order]) for k in inorder)
    assert not any(value.requires_grad for value in shuffled.values())


def test_stored_maps_that_were_changed_are_named(tmp_path):
    answers(tapped(cache(tmp_path / "c"), "conv1"))
    whole = (path := tmp_path / "c" / "train-view1-conv1.npy").read_bytes()
    path.write_bytes(whole[:900] + bytes(byte ^ 4 for byte in whole[900:964]) + whole[964:])
    with pytest.raises(ValueError, match=r"conv1\.npy: damaged .*SHA-256.* Delete it; it is computed again"):
        answers(tapped(cache(tmp_path / "c"), "conv1"))


def test_views_have_maps_of_their_own(tmp_path):
    teacher = tapped(cache(tmp_path / "c"), "conv1")
    first, second = (answers(teacher, view=view)[1]["conv1"] for view in (1, 2))
    assert not torch.allclose(first, second)
    assert torch.equal(answers(teacher, view=1)[1]["conv1"], first) and teacher.forward_images == 2 * 24


def test_only_what_is_asked_for_is_stored_and_that_of_training_alone(tmp_path):
    answers(cache(tmp_path / "c"))
    assert stored(tmp_path / "c") == {"train-view1.npy"}
    teacher = tapped(cache(tmp_path / "c"), "conv1")
    answers(teacher)
    assert answers(teacher, "valid", 0)[1] == {}
    assert stored(tmp_path / "c") == {"train-view1.npy", "train-view1-conv1.npy", "valid-view0.npy"}


def test_another_layer_asked_for_later_is_computed_in_one_more_pass_and_the_rest_stays(tmp_path):
    logits, maps = answers(tapped(cache(tmp_path / "c"), "conv1"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "c").glob("*.npy")}
    teacher = tapped(cache(tmp_path / "c"), "conv1", "conv2", "embedding")
    again, more = answers(teacher)
    assert teacher.forward_images == 24, "one pass for both"
    assert torch.equal(again, logits) and torch.equal(more["conv1"], maps["conv1"])
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for name, value in answers(tapped(frozen(), "conv2", "embedding"))[1].items():
        assert torch.equal(more[name], value)


def test_logits_stored_without_maps_serve_a_run_that_asks_for_maps(tmp_path):
    logits, _ = answers(cache(tmp_path / "c", features=False))
    again, maps = answers(tapped(cache(tmp_path / "c"), "conv1"))
    assert torch.equal(again, logits) and maps.keys() == {"conv1"}


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_size_that_is_said_is_the_size_on_disk(tmp_path, precision):
    teacher = tapped(cache(tmp_path / "c", lambda: frozen(precision), str(precision)), "conv1", "conv2")
    answers(teacher)
    on_disk = sum((tmp_path / "c" / f"train-view1-{name}.npy").stat().st_size - 128 - 32 for name in ("conv1", "conv2"))
    assert (
        sum(map(teacher.store.bytes_of, teacher.layers))
        == on_disk
        == 30 * (4 * 36 + 6 * 9) * (4 if precision == torch.float32 else 2)
    )


def test_maps_that_do_not_fit_on_the_disk_are_refused_before_the_first_is_computed(tmp_path, monkeypatch):
    teacher = tapped(cache(tmp_path / "c"), "conv1", "conv2")
    answers(teacher, view=2)
    free = SimpleNamespace(free=2 * sum(map(teacher.store.bytes_of, teacher.layers)))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: free)
    teacher.reserve({1, 2, 3})  # the second of them is there
    free.free -= 1
    told = r"^teacher\.cache: the feature maps of 3 training views need 0\.00 GB more .* are free\. Type augment\.num_views=N"
    with pytest.raises(ValueError, match=told):
        teacher.reserve({1, 2, 3})


@pytest.mark.parametrize("left", [0, 4, 40, 200, -9])
def test_a_truncated_map_is_named_with_what_to_do(tmp_path, left):
    answers(tapped(cache(tmp_path / "c"), "conv1"))
    path = tmp_path / "c" / "train-view1-conv1.npy"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match=r"train-view1-conv1\.npy: damaged .* Delete it"):
        answers(tapped(cache(tmp_path / "c"), "conv1"))
    path.unlink()
    assert answers(tapped(cache(tmp_path / "c"), "conv1"))[1]["conv1"].isfinite().all()


@pytest.mark.parametrize(
    "array", [np.zeros((30, 4, 6, 5), np.float32), np.zeros((29, 4, 6, 6), np.float32), np.zeros((30, 4, 6, 6))]
)
def test_a_map_of_another_shape_or_type_is_named(tmp_path, array):
    answers(tapped(cache(tmp_path / "c"), "conv1"))
    np.save(tmp_path / "c" / "train-view1-conv1.npy", array)
    with pytest.raises(
        ValueError, match=r"train-view1-conv1\.npy: holds float.* not float32 \(30, 4, 6, 6\)\. Delete it"
    ):
        answers(tapped(cache(tmp_path / "c"), "conv1"))


class Failing(FrozenTeacher):
    def forward(self, batch):
        if self.forward_images >= 16:
            raise RuntimeError("out of memory")
        return super().forward(batch)


def test_a_computation_that_fails_leaves_no_file_behind(tmp_path):
    teacher = tapped(cache(tmp_path / "c", lambda: Failing(Net(), "failing", CLASSES, torch.float32)), "conv1")
    with pytest.raises(RuntimeError, match="out of memory"):
        answers(teacher)
    assert not stored(tmp_path / "c") and not list((tmp_path / "c").glob(".*.tmp"))


class Slow(FrozenTeacher):
    def forward(self, batch):
        time.sleep(60 if self.forward_images >= 16 else 0)
        return super().forward(batch)


def compute(folder):
    torch.set_num_threads(1)
    answers(tapped(cache(folder, lambda: Slow(Net(), "slow", CLASSES, torch.float32)), "conv1"))


def test_a_computation_that_is_killed_leaves_nothing_that_counts_and_the_next_one_mends_it(tmp_path):
    folder = tmp_path / "c"
    process = multiprocessing.get_context("spawn").Process(target=compute, args=(folder,))
    process.start()
    deadline = time.monotonic() + 120
    while len(list(folder.glob(".*.tmp"))) < 2:
        assert process.is_alive() and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not stored(folder)
    found = answers(tapped(cache(folder), "conv1"))[1]["conv1"]
    assert torch.equal(found, answers(tapped(frozen(), "conv1"))[1]["conv1"])
    assert not list(folder.glob(".*.tmp"))


def test_a_cache_of_logits_alone_refuses_to_be_asked_for_maps(tmp_path):
    with pytest.raises(
        ValueError, match=r"stored logits have no feature maps\. Type teacher\.cache=features or teacher\.cache=false"
    ):
        cache(tmp_path / "c", features=False).inspect_layers()


# The command line


HINT = (
    "loss=[ce,kd,hint]",
    "teacher.cache=features",
    "train.epochs=2",
    "train.precision=fp32",
    "teacher.precision=fp32",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.mark.slow
def test_a_second_run_that_asks_for_the_same_maps_asks_the_teacher_nothing(store, tmp_path):
    first = distill(*HINT, store=store, runs=tmp_path / "1")
    assert first.returncode == 0, first.stderr
    assert "the maps that losses ask for take 0.00 GB per view" in first.stdout
    assert distill(*HINT, "seed=1", store=store, runs=tmp_path / "2").returncode == 0
    asked = [result_of(tmp_path / run)["teacher_forward_images"] for run in ("1", "2")]
    assert asked[0] > 0 and asked[1] == 0
    lines = [json.loads(line) for line in next((tmp_path / "2").glob("*/metrics.jsonl")).read_text().splitlines()]
    assert all(line["train/hint"] > 0 for line in lines if "train/hint" in line) and any(
        "train/hint" in line for line in lines
    )
    live = distill(*HINT, "seed=1", "teacher.cache=false", store=store, runs=tmp_path / "3")
    assert live.returncode == 0, live.stderr
    accuracies = [result_of(tmp_path / run)["student"]["metrics"]["test/top1_accuracy"] for run in ("2", "3")]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.05)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "teacher.cache=true",
            "error: loss.hint: reads the teacher's feature maps, which stored logits do not have. Type teacher.cache",
        ),
        (
            "teacher=ensemble",
            "error: loss.hint: reads a teacher's feature maps, and those of an ensemble are several networks'.",
        ),
    ],
)
def test_maps_that_cannot_be_had_are_refused_before_any_teacher_is_trained(tmp_path, override, sentence):
    more = ("teacher@teacher.members.second=mobilenetv3",) if "ensemble" in override else ()
    done = distill(*HINT[:1], override, *more, store=tmp_path / "store", runs=tmp_path / "runs")
    assert done.returncode == 1 and done.stderr.strip().splitlines()[-1].startswith(sentence), done.stderr
    assert not (tmp_path / "store" / "teachers").exists()


def test_a_run_counts_the_views_that_it_will_store(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=0))
    for cached, views in ((0, 3), (2, 2), (9, 3)):
        with pytest.raises(SystemExit, match=rf"^error: teacher\.cache: .* maps of {views} training views need 0\.0"):
            job(
                *HINT, "train.epochs=3", f"augment.num_views={cached}", store=tmp_path / "store", runs=tmp_path / "runs"
            )
    assert not list((tmp_path / "store").rglob("train-*.npy")), "nothing was computed"
