"""Students equal their published vectors, counts and quirks, and every choice of theirs trains."""

import itertools

import numpy as np
import pytest
import torch
from commandline import ROOT
from hydra.utils import get_object
from omegaconf import OmegaConf
from student_nets import (
    PARITY,
    assert_trains,
    macs,
    make_cern,
    needs_parity,
    num_parameters,
    parity_weights,
    train_once,
)

from distill.evaluation.inference import refuse_answers_by_batch
from distill.types import InputSpec, Outputs, Split
from students.cern import POOLINGS as CERN_POOLINGS
from students.layers import Maximum, same_padding
from students.microexpnet import POOLINGS, MicroExpNet, load_tensorflow_weights
from students.timm_student import TimmStudent

VARIANTS = {"v": "none", "p1": "first", "p2": "second", "p12": "both"}
SIZES = ("M", "S", "XS", "XXS")
PARAMS = {
    "v": (1_002_808, 257_656, 133_464, 71_368),
    "p1": (1_002_808, 257_656, 133_464, 71_368),
    "p2": (900_920, 232_184, 120_728, 65_000),
    "p12": (900_920, 232_184, 120_728, 65_000),
}
MACS = {  # millions
    "v": (2.436, 1.691, 1.567, 1.505),
    "p1": (3.791, 3.046, 2.922, 2.860),
    "p2": (2.334, 1.666, 1.554, 1.498),
    "p12": (3.688, 3.020, 2.909, 2.853),
}


def make_micro(num_classes=8, size=84, width="XXS", pooling="both", dropout=0.0, init="xavier"):
    return MicroExpNet(num_classes, size, width, pooling, dropout, init, mean=0.5, std=0.25)


@pytest.mark.parametrize(("pooling", "width"), list(itertools.product(CERN_POOLINGS, [0.25, 0.5, 1.0])))
def test_cern_of_every_choice_trains(pooling, width):
    assert_trains(make_cern(size=32, width=width, pooling=pooling), heads=5)


def test_cern_without_pooling_costs_less_and_has_the_same_parameters_and_maps():
    pooled, strided = make_cern(), make_cern(pooling="none")
    assert macs(strided, 64) < 0.75 * macs(pooled, 64)
    assert {k: v.shape for k, v in strided.state_dict().items()} == {k: v.shape for k, v in pooled.state_dict().items()}
    images = torch.rand(1, 1, 64, 64)
    assert strided.base(images).shape == pooled.base(images).shape == (1, 192, 8, 8)


def test_the_poolings_of_cern_differ_in_value_and_max_avg_is_the_sum():
    nets = {p: make_cern(size=32, width=0.25, pooling=p) for p in CERN_POOLINGS}
    for net in nets.values():
        net.load_state_dict(nets["max"].state_dict())
    images = torch.rand(1, 1, 32, 32)
    answers = [net(images).logits for net in nets.values()]
    assert all(not torch.allclose(a, b, atol=1e-4) for a, b in itertools.combinations(answers, 2))
    x = torch.rand(2, 3, 6, 6)
    assert torch.allclose(nets["max_avg"].base.pool(x), nets["max"].base.pool(x) + nets["avg"].base.pool(x))


@pytest.mark.parametrize("size", [48, 64, 128])
def test_cern_takes_any_multiple_of_16(size):
    assert_trains(make_cern(size=size, width=0.25), heads=5)


def test_the_fast_maximum_equals_torch_maximum_forward_and_backward():
    a, b = (torch.randn(2, 4, 5, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    weight = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    ours = torch.autograd.grad((Maximum.apply(a, b) * weight).sum(), (a, b))
    theirs = torch.autograd.grad((torch.maximum(a, b) * weight).sum(), (a, b))
    assert torch.equal(Maximum.apply(a, b), torch.maximum(a, b))
    assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])


def test_cern_answers_in_train_mode_what_it_answers_in_eval_mode():
    net, images = make_cern(size=32, width=0.25), torch.rand(2, 1, 32, 32)
    assert torch.equal(net.train()(images).heads, net.eval()(images).heads)


@pytest.mark.parametrize("make", [make_cern, make_micro])
def test_bf16_autocast_and_channels_last_change_an_answer_only_a_little(make):
    torch.manual_seed(0)
    net, images = make(), torch.rand(4, 1, make().input.size, make().input.size)
    exact = net(images).logits
    with torch.autocast("cpu", torch.bfloat16):
        fast = net.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last)).logits
    assert (fast.float() - exact).norm() < 0.03 * exact.norm()


@needs_parity
@pytest.mark.parametrize(("variant", "size"), list(itertools.product(VARIANTS, SIZES)))
def test_every_microexpnet_answers_what_the_published_code_answers(variant, size):
    parity, expected = parity_weights(), np.load(PARITY / "microexpnet_variants.npz")
    net = make_micro(width=size, pooling=VARIANTS[variant]).eval()
    fc_in, units = net.fc.in_features, net.fc.out_features
    shapes = {"wc1": (8, 8, 1, 16), "bc1": (16,), "wc2": (4, 4, 16, 32), "bc2": (32,)}
    shapes |= {"wfc": (fc_in, units), "bfc": (units,), "wo": (units, 8), "bo": (8,)}
    arrays = {k: parity.weight(f"microexpnet.{variant}.{size}.{k}", s[::-1]).T for k, s in shapes.items()}
    load_tensorflow_weights(net, arrays)
    with torch.no_grad():
        logits = net(torch.from_numpy(parity.images("microexpnet", (3, 1, 84, 84), 0, 255))).logits
    np.testing.assert_allclose(logits.numpy(), expected[f"{variant}_{size}"], rtol=1e-4, atol=1e-5)
    assert num_parameters(net) == expected[f"{variant}_{size}_params"]


@needs_parity
@pytest.mark.parametrize("checkpoint", ["ck", "oulu"])
def test_the_published_microexpnet_weights_give_the_published_logits(checkpoint):
    arrays = np.load(PARITY / f"microexpnet_{checkpoint}.npz")
    net = make_micro().eval()
    load_tensorflow_weights(net, arrays)
    images = torch.from_numpy(parity_weights().images("microexpnet", (3, 1, 84, 84), 0, 255))
    with torch.no_grad():
        np.testing.assert_allclose(net(images).logits.numpy(), arrays["expected_logits"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("variant", "size"), list(itertools.product(VARIANTS, SIZES)))
def test_every_microexpnet_has_the_published_parameters_and_macs_and_trains(variant, size):
    net = make_micro(width=size, pooling=VARIANTS[variant])
    assert num_parameters(net) == PARAMS[variant][SIZES.index(size)]
    assert macs(net, 84) / 1e6 == pytest.approx(MACS[variant][SIZES.index(size)], abs=6e-4)
    assert_trains(net, heads=1)


@pytest.mark.parametrize(("pooling", "size"), list(itertools.product(POOLINGS, [1, 44, 48, 63, 96])))
def test_microexpnet_takes_other_sizes_and_numbers_of_units(pooling, size):
    assert_trains(make_micro(7, size, width=10, pooling=pooling, dropout=0.5, init="torch"), heads=1, num_classes=7)


def test_same_padding_puts_the_odd_pixel_after():
    assert same_padding(21, 4, 2) == (1, 2)
    assert same_padding(84, 8, 2) == (3, 3)
    assert same_padding(84, 8, 4) == (2, 2)


def test_the_inits_of_microexpnet_differ_only_where_they_say():
    published, xavier = (make_micro(width="M", init=init) for init in ("published", "xavier"))
    assert published.fc.bias.std().item() == pytest.approx(0.5, rel=0.1)
    assert not xavier.fc.bias.any()
    for net in (published, xavier):
        assert net.fc.weight.abs().max().item() == pytest.approx((6 / (1152 + 768)) ** 0.5, rel=1e-3)


def test_published_weights_of_another_width_are_refused_by_name():
    arrays = {"wc1": np.zeros((8, 8, 1, 16)), "bc1": np.zeros(16)}
    with pytest.raises(ValueError, match="'wc2' is missing"):
        load_tensorflow_weights(make_micro(), arrays)
    with pytest.raises(ValueError, match=r"'wc1' gives conv1\.weight the shape"):
        load_tensorflow_weights(make_micro(), {"wc1": np.zeros((5, 5, 1, 16))})


def test_a_timm_student_answers_at_its_own_size_and_channels():
    net = TimmStudent("resnet18", 8, 32, 1, 0.5, 0.25, pretrained=False, drop_rate=0.1)
    assert (net.input.size, net.input.channels, net.input.mean) == (32, 1, (0.5,))
    assert_trains(net, heads=1)
    vit = TimmStudent("vit_tiny_patch16_224", 8, 32, 3, [0.5] * 3, [0.5] * 3, False, 0.0, img_size=32, depth=1)
    assert_trains(vit, heads=1)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: make_cern(size=50), "student.size: expected .*multiple of 16.*, got 50"),
        (lambda: make_cern(width=0), "student.width: expected .*above 0.*, got 0"),
        (lambda: make_cern(pooling="mean"), "student.pooling: expected .*max_avg, max, avg or none.*, got 'mean'"),
        (lambda: make_micro(size=0), "student.size: expected .*, got 0"),
        (lambda: make_micro(width="L"), "student.width: expected .*M, S, XS, XXS or a whole number.*, got 'L'"),
        (lambda: make_micro(width=-3), "student.width: expected .*, got -3"),
        (lambda: make_micro(pooling="p12"), "student.pooling: expected .*none, first, second or both.*, got 'p12'"),
        (lambda: make_micro(dropout=1.0), "student.dropout: expected .*, got 1.0"),
        (lambda: make_micro(init="he"), "student.init: expected .*published.*, got 'he'"),
        (lambda: TimmStudent("resnet18", 8, 32, 3, 0, 0, False, 0.0), "input.std: expected numbers above 0, got .*0.0"),
        (lambda: TimmStudent("resnet81", 8, 32, 3, 0, 1, False, 0.0), "'resnet81'.*resnet"),
        (
            lambda: TimmStudent("vit_tiny_patch16_224", 8, 32, 3, 0, 1, False, 0.0, depth=1),
            r"student.size: got 32, but vit_tiny_patch16_224 takes 224\. Type \+student\.img_size=32, too\.",
        ),
        (
            lambda: TimmStudent("resnet18", 8, 32, 3, 0, 1, False, 0.0, img_size=32),
            "'resnet18' does not take.*img_size.*~student.OPTION",
        ),
    ],
)
def test_a_wrong_choice_gets_a_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


YAMLS = {path.stem: OmegaConf.load(path) for path in sorted((ROOT / "conf" / "student").glob("*.yaml"))}
NAMES = [name for name, keys in YAMLS.items() if keys._target_.startswith("students.")]


def make(name):
    """A student as its yaml has it, whoever added it."""
    keys = OmegaConf.to_container(YAMLS[name])
    kind, weights, _ = get_object(keys.pop("_target_")), keys.pop("weights", None), keys.pop("lr_scale", None)
    assert weights is None
    return kind(num_classes=8, **keys)


def test_a_yaml_is_all_that_makes_these_tests_find_a_student():
    assert {"cern", "ferlite", "microexpnet", "mobilenet_inception", "timm"} <= {*NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_every_yaml_makes_its_student_that_trains(name):
    net = make(name)
    assert net.input.size == YAMLS[name].get("size", net.input.size)
    assert_trains(net, heads=5 if name == "cern" else 1)


@pytest.mark.parametrize("name", NAMES)
def test_every_student_answers_a_face_alike_alone_and_in_a_permuted_batch(name):
    torch.manual_seed(0)
    net = make(name)
    train_once(net, 4)  # BatchNorm has statistics of its own
    pixels = np.random.default_rng(0).integers(0, 256, (6, 1, 48, 48), np.uint8)
    split = Split("valid", pixels, np.arange(6), np.eye(8)[:6], np.arange(6), tuple("abcdef"), "")
    refuse_answers_by_batch(net, split)
    assert net.training


class Centered(torch.nn.Module):
    """Takes the mean of the batch from each answer."""

    def __init__(self):
        super().__init__()
        self.input, self.factor = InputSpec(8), torch.nn.Parameter(torch.tensor(3.0))

    def forward(self, images):
        logits = self.factor * images.flatten(1)[:, :8]
        logits = logits - logits.mean(0)
        return Outputs(logits, logits[:, None], {})


def test_a_network_that_mixes_the_faces_of_a_batch_is_refused():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8), np.uint8)
    split = Split("valid", pixels, np.arange(6), np.eye(8)[:6], np.arange(6), tuple("abcdef"), "")
    with pytest.raises(ValueError, match="Centered answers otherwise about a face when others are beside it"):
        refuse_answers_by_batch(Centered(), split)
