"""Losses on feature maps equal formulas written again in float64 NumPy, and their gradients the differences of those."""

import numpy as np
import pytest
import torch
from feature_nets import NETS, K, Plain, bound, faces, frozen, meet, stirred
from torch import nn

from distill.losses.ab import ActivationBoundary
from distill.losses.at import AttentionTransfer
from distill.losses.fsp import FlowOfSolution
from distill.losses.ft import FactorTransfer
from distill.losses.hint import Hint
from distill.losses.nst import NeuronSelectivity
from distill.losses.ofd import Overhaul, margin
from distill.losses.sp import SimilarityPreserving
from distill.losses.vid import VariationalInformation
from distill.models.timm_net import TimmNet
from distill.types import InputSpec


def number(x):
    return x.detach().double().numpy()


# The formulas again: pairs is [(F_s, F_t)] of float64 [B, C, H, W]; learned weights are read from the loss


def pool(x, size):
    """Average over areas; area i of n is floor(i H / n) to ceil((i + 1) H / n)."""
    rows, columns = (
        [(i * x.shape[d] // n, -(-(i + 1) * x.shape[d] // n)) for i in range(n)]
        for d, n in zip((2, 3), size, strict=True)
    )
    return np.stack([np.stack([x[:, :, a:b, c:d].mean((2, 3)) for c, d in columns], -1) for a, b in rows], -2)


def enlarge(x, size):
    """Interpolate between the four pixels around, centres at (i + 1/2) H / n - 1/2."""
    out = np.zeros((*x.shape[:2], *size))
    for i in range(size[0]):
        for j in range(size[1]):
            y, z = (max((k + 0.5) * x.shape[d] / n - 0.5, 0) for k, d, n in ((i, 2, size[0]), (j, 3, size[1])))
            y0, z0 = int(y), int(z)
            y1, z1 = min(y0 + 1, x.shape[2] - 1), min(z0 + 1, x.shape[3] - 1)
            upper = x[:, :, y0, z0] * (1 - z + z0) + x[:, :, y0, z1] * (z - z0)
            lower = x[:, :, y1, z0] * (1 - z + z0) + x[:, :, y1, z1] * (z - z0)
            out[:, :, i, j] = upper * (1 - y + y0) + lower * (y - y0)
    return out


def as_theirs(own, theirs):
    size = theirs.shape[2:]
    return own if own.shape[2:] == size else (pool if own.shape[2] > size[0] else enlarge)(own, size)


def as_smaller(a, b):
    size = tuple(min(a.shape[d], b.shape[d]) for d in (2, 3))
    return pool(a, size), pool(b, size)


def conv(x, module):
    """Any odd kernel, stride 1, the size kept: a sum of shifted products."""
    weight, n = number(module.weight), module.kernel_size[0] // 2
    padded, out = np.pad(x, ((0, 0), (0, 0), (n, n), (n, n))), 0.0
    for i in range(2 * n + 1):
        for j in range(2 * n + 1):
            shifted = padded[:, :, i : i + x.shape[2], j : j + x.shape[3]]
            out = out + np.tensordot(weight[:, :, i, j], shifted, (1, 1)).swapaxes(0, 1)
    return out if module.bias is None else out + number(module.bias)[:, None, None]


def run(x, modules):
    for module in modules:
        if isinstance(module, nn.Conv2d):
            x = conv(x, module)
        elif isinstance(module, nn.BatchNorm2d):
            x = (x - x.mean((0, 2, 3), keepdims=True)) / np.sqrt(x.var((0, 2, 3), keepdims=True) + module.eps)
            x = x * number(module.weight)[:, None, None] + number(module.bias)[:, None, None]
        else:
            x = np.where(x > 0, x, getattr(module, "negative_slope", 0.0) * x)
    return x


def unit(x):
    return x / max(np.sqrt((x**2).sum()), 1e-8)


def hint(loss, pairs):
    total = 0.0
    for module, (own, theirs) in zip(loss.regressors, pairs, strict=True):
        both = [conv(as_theirs(own, theirs), module), theirs]
        if loss.normalize:
            both = [
                (x - x.mean((0, 2, 3), keepdims=True)) / np.sqrt(x.var((0, 2, 3), keepdims=True) + 1e-5) for x in both
            ]
        total = total + 0.5 * ((both[0] - both[1]) ** 2).mean((1, 2, 3)) / len(pairs)
    return total


def at(loss, pairs):
    values = np.zeros(len(pairs[0][0]))
    for own, theirs in (as_smaller(*pair) for pair in pairs):
        for b in range(len(own)):
            u, v = (unit((np.abs(x[b]) ** loss.p).sum(0).ravel()) for x in (own, theirs))
            gap = ((u - v) ** 2).sum()
            values[b] += gap / len(u) if loss.form == "code" else np.sqrt(gap) / 2
    return values


def sp(loss, pairs):
    total = 0.0
    for pair in pairs:
        n = len(pair[0])
        g_s, g_t = (np.stack([unit(np.array([(x[i] * x[j]).sum() for j in range(n)])) for i in range(n)]) for x in pair)
        total += ((g_s - g_t) ** 2).sum() / n**2
    return total


def nst(loss, pairs):
    values = np.zeros(len(pairs[0][0]))
    for own, theirs in (as_smaller(*pair) for pair in pairs):
        for b in range(len(own)):
            f_s, f_t = (np.stack([unit(channel.ravel()) for channel in x[b]]) for x in (own, theirs))
            for x, y, sign in ((f_s, f_s, 1), (f_t, f_t, 1), (f_s, f_t, -2)):
                values[b] += sign * np.mean([((y @ i) ** 2).mean() for i in x])
    return values


def fsp(loss, pairs):
    own = [
        x if isinstance(module, nn.Identity) else conv(x, module)
        for module, (x, _) in zip(loss.regressors, pairs, strict=True)
    ]
    theirs, total = [y for _, y in pairs], 0.0
    for i in range(len(pairs) - 1):
        flows = []
        for maps in (own, theirs):
            first, second = as_smaller(maps[i], maps[i + 1])
            flows.append(np.einsum("bihw,bjhw->bij", first, second) / first[0, 0].size)
        total = total + ((flows[0] - flows[1]) ** 2).mean((1, 2))
    return total


def ab(loss, pairs):
    total, m = 0.0, loss.margin
    for place, (own, t) in enumerate(pairs):
        s = run(as_theirs(own, t), loss.connectors[place])
        d = ((s > -m) & (t <= 0)) * (s + m) ** 2 + ((s <= m) & (t > 0)) * (s - m) ** 2
        total = total + d.mean((1, 2, 3)) / 2 ** (len(pairs) - 1 - place)
    return total


def ofd(loss, pairs):
    total = 0.0
    for place, (own, theirs) in enumerate(pairs):
        s = run(as_theirs(own, theirs), loss.connectors[place])
        t = np.maximum(theirs, number(getattr(loss, f"margin{place}")))
        d = np.where((s <= t) & (t <= 0), 0, (t - s) ** 2)
        total = total + d.mean((1, 2, 3)) / 2 ** (len(pairs) - 1 - place)
    return total


def ft(loss, pairs):
    values = np.zeros(len(pairs[0][0]))
    for encoder, decoder, translator, (own, theirs) in zip(
        loss.encoders, loss.decoders, loss.translators, pairs, strict=True
    ):
        f_t, f_s = run(theirs, encoder), run(as_theirs(own, theirs), translator)
        rebuilt = run(f_t, decoder)
        for b in range(len(own)):
            u, v = (unit(((x[b] ** 2).mean(0) if loss.form == "code" else x[b]).ravel()) for x in (f_s, f_t))
            values[b] += (np.abs(u - v) ** loss.p).mean() + loss.reconstruction * ((rebuilt[b] - theirs[b]) ** 2).mean()
    return values


def vid(loss, pairs):
    values = np.zeros(len(pairs[0][0]))
    for mean, rho, pair in zip(loss.means, loss.rho, pairs, strict=True):
        own, theirs = as_smaller(*pair)
        variance, mu = np.log1p(np.exp(number(rho).ravel())) + 1e-5, run(own, mean)
        for b in range(len(own)):
            for c, var in enumerate(variance):
                errors = (mu[b, c] - theirs[b, c]) ** 2 / var + np.log(var)
                values[b] += 0.5 * errors.mean() / len(variance)
    return values


CASES = {
    "hint": (Hint, hint),
    "hint, not normalised": (lambda: Hint(normalize=False), hint),
    "at": (AttentionTransfer, at),
    "at, paper": (lambda: AttentionTransfer(form="paper"), at),
    "at, p = 1": (lambda: AttentionTransfer(p=1.0), at),
    "sp": (SimilarityPreserving, sp),
    "nst": (NeuronSelectivity, nst),
    "fsp": (FlowOfSolution, fsp),
    "ab": (ActivationBoundary, ab),
    "ab, margin 1/2": (lambda: ActivationBoundary(margin=0.5), ab),
    "ofd": (Overhaul, ofd),
    "ft": (FactorTransfer, ft),
    "ft, code, p = 2": (lambda: FactorTransfer(form="code", p=2.0, rate=0.3, reconstruction=1.0), ft),
    "vid": (VariationalInformation, vid),
}
every_case = pytest.mark.parametrize(("make", "formula"), CASES.values(), ids=CASES.keys())


def learned(loss):
    """Move what was learned away from its start, where some of it is symmetric."""
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=g))
    return loss


@pytest.mark.parametrize("nets", NETS)
@every_case
def test_the_value_equals_the_formula_in_float64(make, formula, nets):
    loss, student, teacher = meet(make(), nets)
    value = learned(loss)(student, teacher, None)
    expected = formula(loss, [tuple(map(number, pair)) for pair in loss.maps(student, teacher)])
    assert value.shape == np.shape(expected) and value.dtype == torch.float32
    assert np.allclose(number(value), expected, rtol=2e-4, atol=1e-7)
    assert np.abs(expected).min() > 1e-6 and (
        np.ndim(expected) == 0 or np.ptp(expected) > 1e-4 * np.ptp([0, *expected])
    )


@pytest.mark.parametrize("nets", NETS[:2])
@every_case
def test_the_gradient_equals_the_differences_of_the_formula(make, formula, nets):
    loss, student, teacher = meet(make(), nets)
    value = learned(loss)(student, teacher, None).mean()
    names = list(dict.fromkeys(own.name for own, _ in loss.pairs))
    gradient = dict(zip(names, torch.autograd.grad(value, [student.features[n] for n in names]), strict=True))
    signs = np.random.default_rng(0)
    length = np.sqrt(sum((number(g) ** 2).sum() for g in gradient.values()))
    assert length > 0
    for sign in (lambda g: np.ones_like(g), lambda g: signs.choice([-1.0, 1.0], g.shape)):
        way = {name: number(g) * sign(number(g)) / length for name, g in gradient.items()}
        ahead, behind = (
            np.mean(
                formula(
                    loss,
                    [
                        (
                            number(student.features[own.name]) + step * way[own.name],
                            number(teacher.features[other.name]),
                        )
                        for own, other in loss.pairs
                    ],
                )
            )
            for step in (1e-5, -1e-5)
        )
        along = sum((number(g) * way[name]).sum() for name, g in gradient.items())
        assert (ahead - behind) / 2e-5 == pytest.approx(along, abs=2e-3 * length)


def test_the_stages_of_a_mobilenet_are_taken_before_the_activation_that_is_inside_timms_batch_norms():
    net = TimmNet("mobilenetv3_small_050", K)
    net.input = InputSpec(64, 3, (0.5,), (0.25,))
    loss, _, teacher = bound(Overhaul(), (Plain(16, 3, 4).eval(), frozen(stirred(net))))
    assert [theirs.name for _, theirs in loss.pairs] == ["net.bn1.act:in", "net.blocks.0.0.bn2.act:in"]
    norms, given = [net.net.bn1, net.net.blocks[0][0].bn2], []
    for norm in norms:
        norm.register_forward_pre_hook(lambda module, arguments: given.append(arguments[0].clone()))
    found = teacher(faces()).features
    for place, norm in enumerate(norms):
        exact = (given[place] - norm.running_mean[:, None, None]) / (norm.running_var + norm.eps).sqrt()[:, None, None]
        exact = exact * norm.weight[:, None, None] + norm.bias[:, None, None]
        assert torch.allclose(found[loss.pairs[place][1].name], exact, atol=1e-4) and exact.min() < -0.1
        assert torch.equal(loss.get_buffer(f"margin{place}").flatten(), margin(norm)) and margin(norm).max() < 0
