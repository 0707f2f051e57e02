"""Every published variant of CERN answers what the authors' code answers, has its size, and trains at any width and pooling."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from student_nets import PARITY, assert_trains, macs, make_cern, needs_parity, num_parameters, parity_weights

from students.cern import POOLINGS, VARIANTS

HEADS = {"no_global": 4, "no_regions": 1, "base_only": 1}
PARAMS = {  # 7 classes
    "full": 1_453_551,
    "eca_in_front": 1_453_539,
    "no_global": 1_400_556,
    "no_regions": 1_241_571,
    "no_mirror": 1_444_591,
    "base_only": 1_189_920,
}
ONE_OF_A_KIND = {"eca_in_front": ("eca.0.", "eca."), "base_only": ("classifiers.0.", "classifiers.")}  # ours, published


def published_name(name, variant):
    return name.replace(*ONE_OF_A_KIND.get(variant, ("", "")))


def scales_of(variant, global_scale):
    """How much longer each head's logits are than those of a network of equal weights whose global head is not scaled."""
    ours, plain = (make_cern(size=32, width=0.25, variant=variant, scale=scale).eval() for scale in (global_scale, 1))
    plain.load_state_dict(ours.state_dict())
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        return (ours(images).heads / plain(images).heads).mean((0, 2)).tolist()


@needs_parity
@pytest.mark.parametrize(("variant", "num_classes"), [*((variant, 7) for variant in VARIANTS), ("full", 8)])
def test_every_variant_answers_what_the_published_code_answers(variant, num_classes):
    parity, net = parity_weights(), make_cern(num_classes, size=128, variant=variant).eval()
    named = {name: (published_name(name, variant), tuple(value.shape)) for name, value in net.state_dict().items()}
    net.load_state_dict({name: torch.from_numpy(parity.weight(*published)) for name, published in named.items()})
    expected = np.load(PARITY / "cern.npz")[f"{variant}_{num_classes}"].reshape(2, num_classes, -1)
    with torch.no_grad():
        out = net(torch.from_numpy(parity.images("cern", (2, 1, 128, 128))))
    np.testing.assert_allclose(out.heads.transpose(1, 2).numpy(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out.logits.numpy(), expected.mean(2), rtol=1e-4, atol=1e-5)


@needs_parity
def test_every_published_vector_of_cern_is_compared():
    assert set(np.load(PARITY / "cern.npz")) == {f"{variant}_7" for variant in VARIANTS} | {"full_8"}


@pytest.mark.parametrize(("variant", "expected"), PARAMS.items())
def test_every_variant_has_the_published_parameters_and_macs(variant, expected):
    net = make_cern(7, size=128, variant=variant)
    assert num_parameters(net) == expected
    assert sum(p.numel() for p in net.base.parameters()) == 1_188_576
    one_pass = variant in ("no_mirror", "base_only")
    assert macs(net, 128) == pytest.approx(1.776e9 if one_pass else 3.552e9, rel=1e-3)


def test_eight_classes_have_the_published_parameters():
    assert num_parameters(make_cern(8, size=128)) == 1_456_111


CHOICES = [*itertools.product(VARIANTS, POOLINGS, [0.25]), *((variant, "max_avg", 0.5) for variant in VARIANTS)]


@pytest.mark.parametrize(("variant", "pooling", "width"), CHOICES)
def test_every_variant_trains_at_every_width_and_pooling(variant, pooling, width):
    assert_trains(make_cern(size=32, width=width, pooling=pooling, variant=variant), heads=HEADS.get(variant, 5))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_starts_with_filters_and_features_of_zero_sum(variant):
    net = make_cern(width=0.25, variant=variant)
    layers = [layer for part in (net.base, net.region_net) for layer in part.modules() if hasattr(layer, "weight")]
    assert len(layers) == 11 + (0 if variant == "base_only" else HEADS.get(variant, 5))
    for layer in layers:
        assert layer.weight.flatten(1).sum(1).abs().max() < 1e-4 and layer.weight.std() > 0 and not layer.bias.any()


@pytest.mark.parametrize("variant", ["no_mirror", "base_only"])
def test_without_the_mirror_a_mirrored_face_swaps_the_heads_of_a_network_that_cannot_tell_left_from_right(variant):
    net = make_cern(size=32, width=0.25, variant=variant).eval()
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        for layer in (m for m in net.base.modules() if isinstance(m, torch.nn.Conv2d)):
            layer.weight.copy_(layer.weight + layer.weight.flip(-1))
        for part in (net.eca, net.region_net, net.classifiers):
            for module in part:
                module.load_state_dict(part[0].state_dict())
        face, mirrored = net(images).heads, net(images.flip(-1)).heads
    order = [1, 0, 3, 2, 4] if variant == "no_mirror" else [0]
    assert torch.allclose(mirrored, face[:, order], rtol=1e-3, atol=1e-4)
    assert variant == "base_only" or not torch.allclose(mirrored[:, :4], face[:, :4], rtol=1e-3, atol=1e-4)


def test_a_mirrored_face_gets_another_answer_but_swapped_halves_explain_it():
    net = make_cern(size=32, width=0.5).eval()
    with torch.no_grad():
        before, images = net.classifiers[4].weight.clone(), torch.rand(2, 1, 32, 32)
        face, mirrored = net(images).heads[:, 4], net(images.flip(-1)).heads[:, 4]
        net.classifiers[4].weight.copy_(before.roll(before.shape[1] // 2, dims=1))
        swapped = net(images).heads[:, 4]
    assert not torch.allclose(face, mirrored, atol=1e-4)
    assert torch.allclose(mirrored, swapped, atol=1e-5)


def test_a_local_head_sees_its_quadrant_and_is_scaled_by_30_but_the_global_head_is_not():
    net = make_cern(width=0.25).eval()
    maps = torch.rand(2, net.base.group2.conv.filter.out_channels // 2, 8, 8)
    with torch.no_grad():
        for p in net.classifiers.parameters():
            p.fill_(1.0)
        before = torch.stack(net.classify(maps), 1)
        maps[:, :, :4, 4:] += torch.rand(maps.shape[1], 1, 1)
        after = torch.stack(net.classify(maps), 1)
    assert ((before - after).abs().amax(dim=(0, 2)) > 1e-4).tolist() == [False, True, False, False, True]
    longest = net.classifiers[0].in_features ** 0.5
    assert (before[:, :4] > longest).all() and (before[:, 4] <= longest + 1e-4).all()


def test_a_global_scale_of_30_repairs_the_global_head_and_touches_no_other():
    assert scales_of("full", 30) == pytest.approx([1, 1, 1, 1, 30], rel=1e-4)
    assert scales_of("no_mirror", 30) == pytest.approx([1, 1, 1, 1, 30], rel=1e-4)
    assert scales_of("no_regions", 30) == pytest.approx([30], rel=1e-4)


@pytest.mark.parametrize("variant", ["no_global", "base_only"])
def test_a_global_scale_without_a_scaled_global_head_is_noticed(variant):
    with pytest.warns(UserWarning, match=f"global_scale=30 has no effect: student.variant={variant}"):
        assert scales_of(variant, 30) == pytest.approx([1.0] * HEADS[variant])


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant != "base_only"])
def test_normalized_classifier_weights_make_the_logits_a_multiple_of_the_cosine(variant):
    net = make_cern(size=32, width=0.25, variant=variant, scale=30.0 if variant != "no_global" else 1.0, normalize=True)
    raw = make_cern(size=32, width=0.25, variant=variant, scale=30.0 if variant != "no_global" else 1.0)
    images = torch.rand(4, 1, 32, 32)
    with torch.no_grad():
        for classifier in net.classifiers:
            classifier.weight.mul_(7)
        before = net(images).heads
        raw.load_state_dict(net.state_dict())
        assert not torch.allclose(raw(images).heads, before, rtol=0.1)
        for classifier in raw.classifiers:
            classifier.weight.copy_(F.normalize(classifier.weight))
        assert torch.allclose(raw(images).heads, before, rtol=1e-4, atol=1e-4)
    assert before.abs().max() <= 30


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: make_cern(variant="no_eca"),
            "student.variant: expected .*full, eca_in_front, .* or base_only.*, got 'no_eca'",
        ),
        (lambda: make_cern(scale=0), "student.global_scale: expected .*above 0.*, got 0"),
    ],
)
def test_a_wrong_variant_or_scale_gets_a_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
