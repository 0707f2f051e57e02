"""The authors' TensorFlow weights become a file for student.weights, in the project's class order unless asked otherwise."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import warm
from commandline import ROOT, environment
from student_nets import PARITY, needs_parity, parity_weights

from distill import build
from distill.data.common.emotions import EMOTIONS
from distill.system.weights import load_weights, read_weights
from students.import_microexpnet import CANONICAL, PUBLISHED, convert, main
from students.microexpnet import MicroExpNet

SHAPES = {"wc1": (8, 8, 1, 16), "bc1": (16,), "wc2": (4, 4, 16, 32), "bc2": (32,)}
SHAPES |= {"wfc": (1152, 48), "bfc": (48,), "wo": (48, 8), "bo": (8,)}


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) / 10 for name, shape in SHAPES.items()}


@pytest.fixture
def npz(arrays, tmp_path):
    np.savez(tmp_path / "published.npz", **arrays)
    return tmp_path / "published.npz"


def header(path):
    return read_weights(path)[1]


def loaded(path):
    """The network that a header describes, with the file's weights, as a run would make it."""
    network = dict(header(path)["network"])
    assert network.pop("_target_") == "students.microexpnet.MicroExpNet"
    net = MicroExpNet(num_classes=len(header(path)["classes"]), **network).eval()
    load_weights(net, path, "student.weights")
    return net


def student_node(weights, **keys):
    student = {"_target_": "students.microexpnet.MicroExpNet", "size": 84, "width": "XXS", "pooling": "both"}
    student |= {"dropout": 0.0, "init": "xavier", "mean": 0, "std": 1 / 255, "lr_scale": None, "weights": str(weights)}
    return student | keys


def test_the_orders_are_the_projects_and_hold_the_same_names():
    assert CANONICAL == EMOTIONS
    assert sorted(PUBLISHED) == sorted(EMOTIONS) and PUBLISHED != EMOTIONS


@needs_parity
@pytest.mark.parametrize("order", ["canonical", "published"])
@pytest.mark.parametrize("checkpoint", ["ck", "oulu"])
def test_the_imported_weights_give_the_published_logits(checkpoint, order, tmp_path):
    source, out = PARITY / f"microexpnet_{checkpoint}.npz", tmp_path / "weights.safetensors"
    main([str(source), str(out), "--order", order])
    net, classes = loaded(out), header(out)["classes"]
    raw = parity_weights().images("microexpnet", (3, 1, 84, 84), 0, 255)
    with torch.no_grad():
        logits = net((torch.from_numpy(raw) / 255 - net.input.mean[0]) / net.input.std[0]).logits.numpy()
    published = np.load(source)["expected_logits"]
    assert tuple(classes) == (CANONICAL if order == "canonical" else PUBLISHED)
    for k, name in enumerate(classes):
        np.testing.assert_allclose(logits[:, k], published[:, PUBLISHED.index(name)], rtol=1e-4, atol=1e-4)


def test_the_command_says_the_order_and_what_to_type_and_that_starts_a_student(npz, tmp_path):
    out = tmp_path / "weights.safetensors"
    command = [sys.executable, "-m", "students.import_microexpnet", str(npz), str(out)]
    said = warm.run(command, ROOT, environment()).stdout
    assert ", ".join(EMOTIONS) in said and "--order published" in said
    assert f"python -m distill.run student=microexpnet student.weights={out}" in said
    keys = dict(word.removeprefix("student.").split("=") for word in said.split() if word.startswith("student."))
    assert (keys["pooling"], int(keys["width"]), float(keys["mean"]), float(keys["std"])) == ("both", 48, 0, 1 / 255)
    net = build.network(student_node(out), [], SimpleNamespace(classes=EMOTIONS))
    assert torch.equal(net.fc.weight, loaded(out).fc.weight)


def test_a_class_that_is_left_out_loses_its_output_and_the_others_keep_theirs(arrays, npz, tmp_path):
    out = tmp_path / "seven.safetensors"
    main([str(npz), str(out), "--without", "contempt"])
    assert header(out)["classes"] == list(EMOTIONS[:7])
    whole, images = convert(arrays)[0].eval(), 255 * torch.rand(2, 1, 84, 84)
    with torch.no_grad():
        assert torch.allclose(loaded(out)(images).logits, whole(images).logits[:, :7], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("classes", [EMOTIONS, EMOTIONS[:7]])
def test_weights_of_another_class_order_start_a_student_by_the_names(npz, tmp_path, classes):
    out = tmp_path / "published.safetensors"
    main([str(npz), str(out), "--order", "published"])
    net, theirs = build.network(student_node(out), [], SimpleNamespace(classes=classes)), header(out)["classes"]
    assert net.start == "weights" and theirs != list(EMOTIONS)
    assert torch.equal(net.out.weight, loaded(out).out.weight[[theirs.index(name) for name in classes]])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"mean": 0.5, "std": 0.25}, r"student\.mean=0\.0 student\.std=0\.0039215"),
        ({"std": 1.0}, r"Type student\.std=0\.0039215"),
    ],
)
def test_weights_of_another_input_range_are_refused_with_what_to_type(change, sentence, npz, tmp_path):
    out = tmp_path / "weights.safetensors"
    main([str(npz), str(out)])
    with pytest.raises(ValueError, match=rf"student\.weights: .*{sentence}"):
        build.network(student_node(out, **change), [], SimpleNamespace(classes=EMOTIONS))


def test_another_pooling_is_imported_too(arrays, tmp_path):
    arrays |= {"wfc": np.zeros((3872, 16)), "bfc": np.zeros(16), "wo": np.zeros((16, 8))}
    np.savez(tmp_path / "v.npz", **arrays)
    main([str(tmp_path / "v.npz"), str(tmp_path / "v.safetensors"), "--pooling", "none"])
    assert sum(p.numel() for p in loaded(tmp_path / "v.safetensors").parameters()) == 71_368


def test_a_file_that_cannot_be_read_is_refused_by_name_and_nothing_is_written(tmp_path):
    out = tmp_path / "weights.safetensors"
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "objects.npz", wc1=np.array([{}], dtype=object))
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    for name, sentence in (("text", "damaged"), ("objects", "damaged"), ("other", "no array 'wfc'"), ("no", "no such")):
        with pytest.raises(ValueError, match=sentence):
            main([str(tmp_path / f"{name}.npz"), str(out)])
    assert not out.exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"wo": np.zeros((48, 7)), "bo": np.zeros(7)}, "7 outputs; .* for 8 alone"),
        ({"wc2": np.zeros((5, 5, 16, 32))}, r"'wc2' gives conv2\.weight the shape"),
        ({"wfc": np.zeros((3872, 48))}, r"'wfc' gives fc\.weight the shape .* pooling"),
    ],
)
def test_arrays_of_another_network_are_refused(arrays, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        convert(arrays | change)


def test_a_name_that_is_no_safetensors_file_or_no_class_is_refused(arrays, npz, tmp_path):
    with pytest.raises(ValueError, match=r"w\.pt: .* ends in \.safetensors"):
        main([str(npz), str(tmp_path / "w.pt")])
    with pytest.raises(ValueError, match=r"classes: joy is no class of these weights; they know neutral, anger"):
        convert(arrays, ("joy",))
