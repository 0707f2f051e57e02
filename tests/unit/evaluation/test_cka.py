"""How alike layers are: CKA against a slow re-derivation, and its place in a run."""

import numpy as np
import pytest
import torch
from inside import folder_of, job, read

from distill.evaluation import cka

N = 12


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


def features(seed, *shape):
    return torch.randn(N, *shape, generator=torch.Generator().manual_seed(seed))


def by_hand(x, y):
    """Unbiased HSIC as Song et al. write it, equation 5, in float64."""
    k, l = (z.flatten(1).double().numpy() @ z.flatten(1).double().numpy().T for z in (x, y))  # noqa: E741
    np.fill_diagonal(k, 0)
    np.fill_diagonal(l, 0)
    one = np.ones(N)
    sums = (one @ k @ one) * (one @ l @ one) / ((N - 1) * (N - 2)) - 2 / (N - 2) * (one @ k @ l @ one)
    return (np.trace(k @ l) + sums) / (N * (N - 3))


def ours(x, y):
    return cka.hsic(cka.centred_gram(x), cka.centred_gram(y))


def similarity(x, y):
    return ours(x, y) / (ours(x, x) * ours(y, y)) ** 0.5


def test_hsic_equals_the_published_unbiased_estimator():
    x, y = features(0, 3, 4, 4), features(1, 7) + 5
    for a, b in ((x, y), (x, x), (y, y)):
        assert ours(a, b) == pytest.approx(by_hand(a, b), rel=1e-4, abs=1e-4)


def test_cka_knows_no_turn_no_factor_and_no_shift_but_a_stretch():
    x = features(0, 6)
    turn = torch.linalg.qr(features(2, 12)[:6, :6])[0]
    assert similarity(x, 3 * x @ turn + 7) == pytest.approx(1, abs=1e-5)
    assert similarity(x, x * torch.tensor([9.0, 1, 1, 1, 1, 1])) < 0.9


def test_unrelated_features_have_a_cka_around_0_even_if_there_are_many_of_them():
    values = [similarity(features(seed, 500), features(seed + 100, 500)) for seed in range(20)]
    assert abs(np.mean(values)) < 0.1


def test_a_run_whose_teachers_logits_are_stored_writes_how_alike_its_layers_are_to_its_teachers(store, tmp_path):
    words = ("teacher.train.epochs=1", "train.epochs=1", "teacher.cache=true", "student.pooling=none")
    job(*words, store=store, runs=tmp_path)
    before = folder_of(tmp_path)
    weights = (before / "checkpoints" / "best.safetensors").read_bytes()
    assert read(before)["cka"] == {} and not (before / "figures" / "cka.png").exists()
    job(*words, "eval.cka=true", store=store, runs=tmp_path)
    folder = folder_of(tmp_path)
    assert folder == before and (folder / "checkpoints" / "best.safetensors").read_bytes() == weights
    found = read(folder)["cka"]
    assert list(found) == ["stage1", "stage2", "embedding"]
    assert all(list(row) == ["stage1", "stage2", "stage3", "stage4", "embedding"] for row in found.values())
    values = np.array([list(row.values()) for row in found.values()])
    assert np.isfinite(values).all() and values.max() <= 1 + 1e-6 and len(np.unique(values)) == values.size
    assert (folder / "figures" / "cka.png").stat().st_size > 5000
    assert "is complete; nothing to do" in job(*words, "eval.cka=true", store=store, runs=tmp_path)


def test_a_network_that_teaches_itself_has_layers_equal_to_its_own(store, tmp_path):
    job("teacher=none", "loss=[ce]", "train.epochs=1", store=store, runs=tmp_path / "first")
    first = folder_of(tmp_path / "first")
    words = (
        "teacher=run",
        f"teacher.run={first}",
        "teacher.cache=false",
        "student.weights=" + str(first / "checkpoints" / "best.safetensors"),
    )
    job(
        *words,
        "train.epochs=1",
        "optimizer.lr=1e-12",
        "eval.cka=true",
        "teacher.precision=fp32",
        store=store,
        runs=tmp_path,
    )
    found = read(folder_of(tmp_path))["cka"]
    assert all(found[name][name] == pytest.approx(1, abs=1e-4) for name in found)
    assert min(found["stage1"].values()) < 0.99


def test_cka_without_one_teacher_to_compare_with_gets_a_sentence(store, tmp_path):
    for words, sentence in (
        (("teacher=none", "loss=[ce]"), r"eval\.cka: compares the layers of student and teacher"),
        (("teacher=ensemble",), r"eval\.cka: the layers of an ensemble are those of several networks"),
    ):
        with pytest.raises(SystemExit, match=sentence):
            job(*words, "eval.cka=true", store=store, runs=tmp_path)
