"""SCAN-CCI equals its published vectors and counts, takes other backbones and sizes, and is a teacher on the command line."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from commandline import distill, result_of
from hydra import compose, initialize_config_module
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

from distill import build
from distill.config.schema import check, teacher_run, typed
from distill.evaluation.cost import macs, num_parameters
from distill.losses.ce import CrossEntropy
from distill.system.weights import save_weights
from distill.types import Outputs
from teachers.scan_cci import MaskNet, ScanCci, cut

PARITY = Path(__file__).resolve().parents[4] / "shared" / "parity"
needs_parity = pytest.mark.skipif(not PARITY.is_dir(), reason="the parity vectors are not here")
CLASSES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")


def make(num_classes=8, size=64, backbone="resnet18", pretrained=False, **options):
    return ScanCci(num_classes, CLASSES[:num_classes], size, backbone, pretrained=pretrained, **options)


def parity_module():
    spec = importlib.util.spec_from_file_location("parity_weights", PARITY / "weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fill(net, parity):
    kinds = {torch.nn.BatchNorm2d: "bn_weight", torch.nn.PReLU: "prelu"}
    for name, tensor in net.state_dict().items():
        layer, _, part = name.rpartition(".")
        if part != "num_batches_tracked":
            kind = kinds.get(type(net.get_submodule(layer)), "auto") if part == "weight" else "auto"
            tensor.copy_(torch.from_numpy(parity.weight(name, tuple(tensor.shape), kind)))


@needs_parity
@pytest.mark.parametrize("masks", ["shared", "separate"])
def test_scan_cci_answers_what_the_published_code_answers(masks):
    parity, expected = parity_module(), np.load(PARITY / "scan_cci.npz")
    net = make(size=224, backbone="resnet50", masks=masks).eval()
    fill(net, parity)
    with torch.no_grad():
        out = net(torch.from_numpy(parity.images("scan_cci", (2, 3, 224, 224), -1.0, 1.0)))
    for ours, part in ((out.heads[:, 0], "attention"), (out.heads[:, 1:].mT, "regions"), (out.logits, "fused")):
        np.testing.assert_allclose(ours.numpy(), expected[f"{masks}_{part}"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("masks", "num_classes", "expected"),
    [
        ("separate", 8, 70_197_589),
        ("shared", 8, 13_537_621),
        ("separate", 7, 70_196_307),
        ("shared", 7, 13_536_339),
    ],
)
def test_scan_cci_has_the_published_parameters(masks, num_classes, expected):
    net = make(num_classes, 224, "resnet50", masks=masks)
    assert num_parameters(net) == expected and num_parameters(net.base) == 8_543_296


def test_scan_cci_has_the_published_macs():
    net = make(size=224, backbone="resnet50")
    assert macs(net, net.input) == pytest.approx(6.978e9, rel=1e-4)


def by_hand(maps, bottom_strip):
    """The 25 patches in the published order, pixel by pixel of the definition."""
    edge, side = maps.shape[-1] - 4, maps.shape[-1] // 4 - 1
    steps = range(0, edge, side)
    patches = [maps[:, :, r : r + side, c : c + side] for r in steps for c in steps]
    patches += [maps[:, :, r : r + side, edge:] for r in steps]
    if bottom_strip == "published":
        rows = [maps[:, :, edge + j, :edge] for j in range(4)]
        patches += [torch.stack([row[..., c : c + side] for c in steps], 2) for row in rows]
    else:
        patches += [maps[:, :, edge:, c : c + side] for c in steps]
    return [*patches, maps[:, :, edge:, edge:]]


@pytest.mark.parametrize("bottom_strip", ["published", "repaired"])
@pytest.mark.parametrize(("size", "side"), [(28, 6), (12, 2), (8, 1)])
def test_a_map_is_cut_into_25_patches_that_hold_every_pixel_once(size, side, bottom_strip):
    maps = torch.arange(2 * 3 * size * size).view(2, 3, size, size)
    groups = cut(maps, bottom_strip)
    assert [tuple(g.shape) for g in groups] == [
        (2, 16, 3, side, side),
        (2, 4, 3, side, 4),
        (2, 4, 3, 4, side),
        (2, 1, 3, 4, 4),
    ]
    patches = [patch for group in groups for patch in group.unbind(1)]
    assert all(map(torch.equal, patches, by_hand(maps, bottom_strip))) and len(patches) == 25
    assert torch.equal(torch.cat([p.flatten() for p in patches]).sort().values, maps.flatten())


@pytest.mark.parametrize("bottom_strip", ["published", "repaired"])
def test_each_patch_is_masked_as_if_there_were_no_other(bottom_strip):
    net = make(size=96, bottom_strip=bottom_strip).eval()
    maps = torch.randn(2, 128, 12, 12)
    with torch.no_grad():
        pooled = net.att.local(cut(maps, bottom_strip))
        mask = net.att.local_attention_masks.attention
        alone = torch.stack([(p * mask(p)).mean((2, 3)) for p in by_hand(maps, bottom_strip)], 1)
    torch.testing.assert_close(pooled, alone)


def test_separate_masks_that_are_equal_answer_what_a_shared_one_answers():
    shared, separate = make(size=96).eval(), make(size=96, masks="separate").eval()
    shared.att.global_attention_mask.load_state_dict(separate.att.global_attention_mask.state_dict())
    for net in separate.att.local_attention_masks:
        net.load_state_dict(shared.att.local_attention_masks.state_dict())
    separate.att.fc.load_state_dict(shared.att.fc.state_dict())
    maps = torch.randn(2, 128, 12, 12)
    with torch.no_grad():
        torch.testing.assert_close(shared.att(maps), separate.att(maps))


def test_in_training_a_shared_mask_takes_its_statistics_from_all_patches_together():
    net, groups = MaskNet(8).train(), [torch.randn(n, 8, *side) for n, side in ((32, (2, 2)), (8, (2, 4)), (2, (4, 4)))]
    net(groups)
    pixels = torch.cat([net.attention[:2](group).movedim(1, -1).flatten(0, 2) for group in groups])
    torch.testing.assert_close(net.attention[2].running_mean, 0.1 * pixels.mean(0))


def test_a_region_head_sees_its_quadrant_and_every_head_has_one_vote():
    net = make().eval()
    torch.nn.init.zeros_(net.reg.eca.conv.weight)  # the scale of a channel looks at the whole map
    maps = torch.randn(1, 256, 4, 4)
    changed = maps.clone()
    changed[:, :, :2, 2:] += 1
    with torch.no_grad():
        assert ((net.reg(maps) - net.reg(changed)).abs().amax((0, 2)) > 1e-4).tolist() == [False, True, False, False]
        out = net(torch.randn(2, 3, 64, 64))
    torch.testing.assert_close(out.logits, out.heads.mean(1))


@pytest.mark.parametrize(
    ("backbone", "size", "masks", "widths"),
    [
        ("resnet18", 64, "shared", (128, 256)),
        ("resnet34", 96, "separate", (128, 256)),
        ("resnet50", 64, "shared", (512, 1024)),
        ("convnext_atto", 128, "shared", (80, 160)),
    ],
)
def test_scan_cci_trains_on_any_backbone_at_any_size_and_follows_its_widths(backbone, size, masks, widths):
    net = make(size=size, backbone=backbone, masks=masks, channels=1).train()
    assert (net.att.fc.in_features, net.reg.region_net[0].in_features) == (2 * widths[0], widths[1])
    out = net(torch.randn(2, 1, size, size))
    assert out.heads.shape == (2, 5, 8) and out.features == {}
    out.heads.logsumexp(-1).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_bf16_changes_an_answer_only_a_little():
    torch.manual_seed(0)
    net, images = make(size=96).eval(), torch.randn(4, 3, 96, 96)
    with torch.no_grad():
        exact = net(images).heads
        with torch.autocast("cpu", torch.bfloat16):
            fast = net(images).heads
    assert fast.dtype == torch.float32 and 0 < (fast - exact).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": 100}, "teacher.size: expected a multiple of 32 from 64 on, .* got 100"),
        ({"size": 32}, "teacher.size: expected a multiple of 32 from 64 on, .* got 32"),
        ({"masks": "both"}, "teacher.masks: expected shared or separate, got 'both'"),
        ({"bottom_strip": "fixed"}, "teacher.bottom_strip: expected published or repaired, got 'fixed'"),
        ({"backbone": "resnet5O"}, "teacher.backbone: .*'resnet5O'.*resnet50"),
        ({"backbone": "vit_tiny_patch16_224"}, "teacher.backbone: .* stride 8 and 16"),
        ({"weights": "a.safetensors", "pretrained": True}, "choose one"),
    ],
)
def test_scan_cci_with_options_that_cannot_be_is_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(**options)


def test_a_weight_file_of_the_whole_starts_the_whole_and_of_other_classes_all_but_the_heads(tmp_path):
    net = make()
    save_weights(tmp_path / "whole.safetensors", net, {"classes": CLASSES})
    again = make(weights=str(tmp_path / "whole.safetensors"))
    assert again.start == "weights"
    assert all(map(torch.equal, net.state_dict().values(), again.state_dict().values()))
    save_weights(tmp_path / "bare.safetensors", net, {})
    seven = make(7, weights=str(tmp_path / "bare.safetensors"))
    assert seven.start == "weights without a classifier"
    assert torch.equal(seven.reg.region_net[0].weight, net.reg.region_net[0].weight)
    some = make(7, weights=str(tmp_path / "whole.safetensors"))
    assert some.start == "weights" and torch.equal(some.att.fc.weight, net.att.fc.weight[:7])
    assert torch.equal(some.reg.region_net[2].bias, net.reg.region_net[2].bias[:7])


@pytest.mark.parametrize("prefix", ["", "net."])
def test_a_weight_file_of_a_whole_resnet_starts_the_backbone(tmp_path, prefix):
    resnet, path = timm.create_model("resnet18"), tmp_path / "faces.safetensors"
    save_file({prefix + name: tensor for name, tensor in resnet.state_dict().items()}, path)
    net = make(weights=str(path))
    assert net.start == "weights without a classifier"
    assert all(torch.equal(resnet.state_dict()[name], tensor) for name, tensor in net.base.state_dict().items())
    with pytest.raises(ValueError, match=r"neither of this SCAN-CCI nor of its backbone: .* teacher.backbone"):
        make(backbone="resnet34", weights=str(path))


def test_pretrained_is_the_backbones_or_said_aloud_where_it_is_out_of_reach(monkeypatch):
    create = timm.create_model

    def reachable(name, pretrained=False, **options):
        net = create(name, pretrained=False, **options)
        if pretrained:
            torch.nn.init.ones_(net.conv1.weight)
        return net

    monkeypatch.setattr(timm, "create_model", reachable)
    net = make(pretrained=None)
    assert net.start == "pretrained" and (net.base.conv1.weight == 1).all()

    def unreachable(name, pretrained=False, **options):
        if pretrained:
            raise OSError("no network")
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.warns(UserWarning, match="FROM SCRATCH"):
        assert make(pretrained=None).start == "scratch"
    with pytest.raises(ValueError, match="'resnet18' are out of reach"):
        make(pretrained=True)


def test_the_published_recipe_has_the_published_loss_rates_and_decay():
    with initialize_config_module("conf", version_base="1.3"):
        cfg = typed(compose("run", overrides=["experiment=ferplus_scan_cci", "data.root=faces"]))
    check(cfg)
    inner = teacher_run(cfg, cfg.teacher)
    net = build.bare_teacher(cfg.teacher | {"backbone": "resnet18"}, [], CLASSES)
    assert isinstance(net.att.local_attention_masks, torch.nn.ModuleList) and net.input.size == 224
    made = build.optimizer(inner.optimizer, inner.student["lr_scale"], [net])
    groups = {id(p): group for group in made.param_groups for p in group["params"]}
    for name, parameter in net.named_parameters():
        group, rate = groups[id(parameter)], 1e-4 if name.startswith("base.") else 1e-2
        assert (group["lr"], group["weight_decay"], group["momentum"]) == (pytest.approx(rate), 1e-3, 0.9), name
    assert [build.make(inner.schedule, []).lr_factor(epoch, 60) for epoch in (0, 0.9, 1, 2.5)] == pytest.approx(
        [1, 1, 0.95, 0.9025]
    )
    heads, label = torch.randn(2, 5, 8), torch.tensor([1, 7])
    loss = CrossEntropy(target="hard", head_weights=inner.loss["ce"]["head_weights"])
    each = [cross_entropy(heads[:, h], label, reduction="none") for h in range(5)]
    target = torch.nn.functional.one_hot(label, 8).float()
    torch.testing.assert_close(
        loss(Outputs(heads.mean(1), heads, {}), None, target), 0.2 * each[0] + 0.8 * sum(each[1:])
    )


def test_scan_cci_is_fine_tuned_by_one_command_and_teaches_a_student(tmp_path):
    words = ("teacher=scan_cci", "teacher.backbone=resnet18", "teacher.size=64", "teacher.pretrained=false")
    words += ("teacher.train.epochs=1", "teacher.train.batch_size=16", "train.epochs=1")
    few = ("data.train=64", "data.valid=32", "data.test=32")
    done = distill(*words, *few, store=tmp_path / "store", runs=tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    teacher = result_of(tmp_path / "runs")["teacher"]
    assert teacher["num_parameters"] == num_parameters(make()) and teacher["start"] == ["scratch"]
    (inner,) = (tmp_path / "store" / "teachers").glob("*/result.json")
    assert json.loads(inner.read_text())["status"] == "complete"
