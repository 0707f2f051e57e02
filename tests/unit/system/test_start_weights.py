"""Weights fit their network, or one that starts from them: the body always, the classifier where the classes are the same."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from distill.pipeline.prepare import tell_start
from distill.system.weights import load_weights, save_weights, start_from

ABC = ("a", "b", "c")


class Net(nn.Module):
    def __init__(self, classes=3, width=4, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width))
        self.head = nn.Linear(width, classes)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def test_weights_of_another_network_are_refused_with_tensor_and_shapes_and_nothing_is_loaded(tmp_path):
    net = Net(width=4)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    save_weights(tmp_path / "w.safetensors", Net(width=5, seed=1), {})
    with pytest.raises(ValueError) as error:
        load_weights(net, tmp_path / "w.safetensors", "student.weights")
    assert str(error.value).startswith(f"student.weights: {tmp_path / 'w.safetensors'} is of another network: ")
    assert "body.0.bias is [5] there and [4] here" in str(error.value)
    assert same(before, net.state_dict())


def test_tensors_that_lack_or_are_unknown_are_counted_and_one_is_named(tmp_path):
    state = Net().state_dict()
    state["extra.weight"] = state.pop("head.bias")
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(
        ValueError, match=r"lacks 1 tensors, e\.g\. head\.bias; .* 1 unknown ones, e\.g\. extra\.weight"
    ):
        load_weights(Net(), tmp_path / "w.safetensors", "student.weights")


@pytest.mark.parametrize("classes", [None, 7])
def test_a_head_that_is_missing_or_of_another_size_starts_anew_where_a_network_starts_from_the_file(
    tmp_path, classes, capsys
):
    theirs = {n: v for n, v in Net(classes or 3, seed=1).state_dict().items() if classes or not n.startswith("head")}
    save_file(theirs, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"head\.bias"):
        load_weights(Net(), tmp_path / "w.safetensors", "teacher.weights")
    net = Net()
    start = net.head.weight.clone()
    found = start_from(net, tmp_path / "w.safetensors", "teacher.weights", ABC, ("head",))
    assert found == "weights without a classifier"
    assert torch.equal(net.head.weight, start) and torch.equal(net.body[0].weight, theirs["body.0.weight"])
    tell_start(SimpleNamespace(start=found), {"_target_": "a.Net", "weights": str(tmp_path / "w.safetensors")}, ABC)
    assert capsys.readouterr().out.endswith("has no classifier of 3 classes; the classifier starts anew, for a, b, c\n")


def test_a_head_of_the_same_classes_is_loaded_one_of_others_starts_anew_and_the_body_always_fits(tmp_path, capsys):
    save_weights(tmp_path / "w.safetensors", Net(seed=1), {"classes": list(ABC)})
    net = Net()
    assert start_from(net, tmp_path / "w.safetensors", "student.weights", ABC, ("head",)) == "weights"
    assert same(net.state_dict(), Net(seed=1).state_dict()) and capsys.readouterr().out == ""
    net = Net()
    found = start_from(net, tmp_path / "w.safetensors", "student.weights", ("x", "y", "z"), ("head",))
    assert found == "weights without a classifier" and torch.equal(net.head.weight, Net().head.weight)
    assert torch.equal(net.body[0].weight, Net(seed=1).body[0].weight)
    tell_start(
        SimpleNamespace(start=found), {"_target_": "a.Net", "weights": str(tmp_path / "w.safetensors")}, ("x", "y", "z")
    )
    assert (
        capsys.readouterr().out
        == f"net: {tmp_path}/w.safetensors knows a, b, c; the classifier starts anew, for x, y, z\n"
    )
    save_weights(tmp_path / "w.safetensors", Net(width=5), {})
    with pytest.raises(ValueError, match=r"body\.0\.bias"):
        start_from(Net(), tmp_path / "w.safetensors", "teacher.weights", ABC, ("head",))


def test_a_head_that_knows_every_class_and_more_gives_the_rows_of_these_in_their_order(tmp_path):
    save_weights(tmp_path / "w.safetensors", Net(5, seed=1), {"classes": ["e", "c", "a", "d", "b"]})
    net = Net()
    assert start_from(net, tmp_path / "w.safetensors", "student.weights", ABC, ("head",)) == "weights"
    assert torch.equal(net.head.weight, Net(5, seed=1).head.weight[[2, 4, 1]])
