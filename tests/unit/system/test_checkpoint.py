"""Files are written whole or not at all, and nothing that is read can run code."""

import json
import os
import pickle
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from distill.evaluation.metrics import evaluate_predictions
from distill.system.files import atomic, digest, sha256, write_json
from distill.system.weights import intact, load_state, load_weights, read_weights, save_state, save_weights


class Net(nn.Module):
    def __init__(self, classes=3, width=4, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width))
        self.head = nn.Linear(width, classes)


class Attack:
    """A pickle that makes a file when it is opened."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


# Atomic files


def test_an_exception_leaves_the_old_file_and_no_temporary_one(tmp_path):
    path = tmp_path / "deep" / "x.json"
    write_json(path, {"old": 1})
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), atomic(path) as temporary:
            temporary.write_text("half")
            assert temporary.parent == path.parent and json.loads(path.read_text()) == {"old": 1}
            raise error
    assert [p.name for p in path.parent.iterdir()] == ["x.json"] and json.loads(path.read_text()) == {"old": 1}


@pytest.mark.parametrize("write, value", [(write_json, {"x": {1, 2}}), (save_state, {"x": lambda: 0})])
def test_a_value_that_cannot_be_written_leaves_the_old_file(tmp_path, write, value):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        write(path, value)
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == b"old"


def test_success_replaces_the_file_and_leaves_no_temporary_one(tmp_path):
    for value in (1, 2):
        write_json(tmp_path / "x.json", value)
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"] and json.loads((tmp_path / "x.json").read_text()) == 2


# Training checkpoints


def test_a_state_comes_back_as_it_was(tmp_path):
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    net.body(torch.randn(2, 1, 4, 4)).square().sum().backward()
    optimizer.step()
    logits, labels = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 3
    best = evaluate_predictions(logits, labels, ("a", "b", "c"))
    progress = {"epoch": 3, "best_score": float("-inf"), "best": best, "rows": None, "names": ["ce"]}
    state = {
        "progress": progress,
        "net": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
    }
    save_state(tmp_path / "last.pt", state)
    back = load_state(tmp_path / "last.pt")
    assert back["progress"] == progress and same(back["net"], state["net"]) and torch.equal(back["rng"], state["rng"])
    moments, theirs = (s["optimizer"]["state"][0]["exp_avg"] for s in (state, back))
    assert moments.abs().sum() > 0 and torch.equal(moments, theirs)


def test_a_damaged_checkpoint_is_named_with_what_to_do(tmp_path):
    path = tmp_path / "last.pt"
    save_state(path, {"net": Net().state_dict()})
    whole = path.read_bytes()
    for damaged in (b"", b"nonsense", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"last\.pt: not a readable checkpoint .* Delete it"):
            load_state(path)


def dump_plain(thing, path):
    path.write_bytes(pickle.dumps(thing, protocol=2))


@pytest.mark.parametrize("dump", [torch.save, dump_plain])
@pytest.mark.parametrize(
    "read, words", [(load_state, "not a readable checkpoint"), (read_weights, "more than tensors")]
)
def test_a_pickle_with_code_is_refused_and_its_code_does_not_run(tmp_path, dump, read, words):
    dump({"weight": torch.zeros(2), "attack": Attack(tmp_path / "ran")}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=words):
        read(tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()


def test_a_safetensors_file_of_another_name_is_refused_with_the_ending_to_give_it(tmp_path):
    save_weights(tmp_path / "w.safetensors", Net(), {})
    with pytest.raises(
        ValueError, match=r"w: expected a name that ends in \.safetensors, .* Rename a safetensors file"
    ):
        read_weights((tmp_path / "w.safetensors").rename(tmp_path / "w"))


def test_the_attack_of_these_tests_would_run(tmp_path):
    pickle.loads(pickle.dumps(Attack(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


# Weights


def test_weights_and_metadata_come_back_as_they_were(tmp_path):
    net, other = Net(seed=0), Net(seed=1)
    save_weights(tmp_path / "w.safetensors", net, {"classes": ["a", "b", "c"], "epoch": 3, "valid/top1": 0.5})
    metadata = load_weights(other, tmp_path / "w.safetensors", "student.weights")
    assert metadata == {"classes": ["a", "b", "c"], "epoch": 3, "valid/top1": 0.5}
    assert same(net.state_dict(), other.state_dict())


def test_equal_weights_are_equal_files_that_everybody_on_the_machine_may_read(tmp_path):
    module, before = nn.Linear(3, 2), os.umask(0o022)
    try:
        for k in range(8):
            save_weights(tmp_path / f"{k}.safetensors", module, {"network": {"a": 1}, "classes": ["x"], "more": 0})
    finally:
        os.umask(before)
    files = list(tmp_path.iterdir())
    assert len({sha256(file) for file in files}) == 1 and {file.stat().st_mode & 0o777 for file in files} == {0o644}


def test_metadata_that_is_not_json_comes_back_as_text(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors", {"format": "pt", "note": "plain words"})
    assert read_weights(tmp_path / "w.safetensors")[1] == {"format": "pt", "note": "plain words"}


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "epoch": 3}])
def test_a_pytorch_file_of_tensors_is_read(tmp_path, wrap):
    net, other = Net(seed=0), Net(seed=1)
    torch.save(wrap(net.state_dict()), tmp_path / "w.pth")
    assert load_weights(other, tmp_path / "w.pth", "student.weights") == {}
    assert same(net.state_dict(), other.state_dict())


@pytest.mark.parametrize("content", [{}, [1], {"epoch": 3}, torch.zeros(2), {"state_dict": torch.zeros(2)}])
def test_a_pytorch_file_without_a_state_dict_gets_a_sentence(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"w\.pt: no state_dict in it"):
        read_weights(tmp_path / "w.pt")


def test_a_pickle_named_safetensors_gets_a_sentence_and_does_not_run(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(pickle.dumps(Attack(tmp_path / "ran")))
    with pytest.raises(ValueError, match=r"w\.safetensors: not a safetensors file, or damaged"):
        read_weights(tmp_path / "w.safetensors")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("left", [0, 4, 60, 400, -1])
def test_a_truncated_safetensors_file_gets_a_sentence(tmp_path, left):
    path = tmp_path / "w.safetensors"
    save_weights(path, Net(), {})
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match=r"w\.safetensors: not a safetensors file, or damaged"):
        read_weights(path)


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("where", [b"happy", b"happy\\", b"", b"0.25"])
def test_one_flipped_bit_of_a_weight_file_is_noticed_wherever_it_is_read(tmp_path, where):
    path = tmp_path / "w.safetensors"
    save_weights(path, Net(), {"classes": ["happy", "sad"], "number": 0.25})
    flip(path, path.read_bytes().index(where) + len(where) - 1 if where else -3)
    with pytest.raises(ValueError, match=r"w\.safetensors: .*damaged \("):
        read_weights(path)
    with pytest.raises(ValueError, match=r"w\.safetensors: is damaged \(.*\)\. Train it again\."):
        intact(path, "Train it again.")


@pytest.mark.parametrize("read", [load_state, read_weights])
def test_a_block_of_zeros_in_a_pytorch_file_is_noticed_by_its_crc(tmp_path, read):
    path = tmp_path / "last.pt"
    torch.save({"weight": torch.rand(20000)}, path)
    content = bytearray(path.read_bytes())
    content[40000:44096] = bytes(4096)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"last\.pt: .*the CRC-32 of its part last/data/0 is wrong"):
        read(path)


@pytest.mark.parametrize("read", [load_state, read_weights])
def test_a_part_of_a_pytorch_file_that_is_marked_as_a_folder_is_not_read_as_nothing(tmp_path, read):
    path = tmp_path / "last.pt"
    torch.save({"weight": torch.rand(20000)}, path)
    content = bytearray(path.read_bytes())
    name = content.rindex(b"last/data/0")  # in the table of contents, 46 bytes behind the start of its entry
    content[name - 46 + 38] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"last\.pt: .*one of its parts is marked as a folder"):
        read(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    (tmp_path / "folder.safetensors").mkdir()
    for name in ("none.safetensors", "folder.safetensors"):
        with pytest.raises(ValueError, match=f"{re.escape(str(tmp_path / name))}: no such weight file"):
            load_weights(Net(), tmp_path / name, "student.weights")


# Digests


def test_a_digest_does_not_depend_on_the_order_of_keys_and_a_file_hash_is_that_of_its_bytes(tmp_path):
    assert digest({"a": 1, "b": [2, 3]}) == digest({"b": [2, 3], "a": 1}) != digest({"a": 1, "b": [3, 2]})
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_classes_in_a_header_may_be_one_comma_separated_string(tmp_path):
    save_file({"w": torch.zeros(1)}, tmp_path / "a.safetensors", {"classes": "neutral,happiness, surprise"})
    assert read_weights(tmp_path / "a.safetensors")[1]["classes"] == ["neutral", "happiness", "surprise"]
