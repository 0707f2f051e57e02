"""Our losses against those of torchdistill on random inputs: equal where they should be, and where not, by how much and why."""

import pytest
import torch
import torch.nn.functional as F

from distill.losses.ab import ActivationBoundary
from distill.losses.at import AttentionTransfer
from distill.losses.cc import CorrelationCongruence
from distill.losses.ce import CrossEntropy
from distill.losses.dist import Dist
from distill.losses.fsp import FlowOfSolution, flow
from distill.losses.ft import FactorTransfer
from distill.losses.kd import KnowledgeDistillation
from distill.losses.pkt import ProbabilisticTransfer
from distill.losses.rkd import RelationalDistillation
from distill.losses.sp import SimilarityPreserving
from distill.losses.vid import SMALLEST, VariationalInformation
from distill.models.feature_hooks import Layer
from distill.types import Outputs

theirs = pytest.importorskip("torchdistill.losses.mid_level")
B, K, T = 6, 8, 4.0
LOGITS = ("out", "output", "out", "output")  # where torchdistill finds them
MAPS = {f"{who}": {"path": "map", "io": "output"} for who in ("student", "teacher")}


def random(*shape, seed):
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def logits():
    label = torch.arange(B) % K
    return random(B, K, seed=0).requires_grad_(), random(B, K, seed=1), label


def outputs(logits=None, **features):
    logits = torch.zeros(B, K) if logits is None else logits
    return Outputs(logits, logits[:, None], features)


def ours(loss, student, teacher):
    """The mean of a loss on feature maps; its learned parts are made."""
    loss.pairs = [
        (Layer(name, tuple(student[name].shape[1:]), False), Layer(name, tuple(teacher[name].shape[1:]), False))
        for name in student
    ]
    torch.manual_seed(0)
    loss.make()
    return loss(outputs(**student), outputs(**teacher), None).mean()


def told(x, name="map"):
    return {name: {"output": x}}


def same_gradient(a, b, x):
    gradients = [torch.autograd.grad(value, x, retain_graph=True)[0] for value in (a, b)]
    return gradients[0].abs().max() > 0 and torch.allclose(*gradients, rtol=1e-3, atol=1e-6)


def test_kd_beside_cross_entropy_has_torchdistill_s_value():
    z, z_t, label = logits()
    value = theirs.KDLoss(*LOGITS, temperature=T, alpha=0.3)(told(z, "out"), told(z_t, "out"), label)
    ce = CrossEntropy()(outputs(z), None, F.one_hot(label, K).float()).mean()
    mixture = 0.3 * ce + 0.7 * KnowledgeDistillation(T)(outputs(z), outputs(z_t), None).mean()
    assert torch.allclose(mixture, value, rtol=1e-5) and same_gradient(mixture, value, z)


def test_their_kd_with_alpha_0_forgets_t_squared_and_ours_alone_has_it():
    z, z_t, label = logits()
    value = KnowledgeDistillation(T)(outputs(z), outputs(z_t), None).mean()
    alone = theirs.KDLoss(*LOGITS, temperature=T, alpha=0)(told(z, "out"), told(z_t, "out"), label)
    nearly = theirs.KDLoss(*LOGITS, temperature=T, alpha=1e-6)(told(z, "out"), told(z_t, "out"), label)
    assert torch.allclose(value, T**2 * alone, rtol=1e-5) and torch.allclose(value, nearly, rtol=1e-4)
    with pytest.raises(TypeError):
        theirs.KDLoss(*LOGITS, temperature=T)  # their own defaults


def test_standardized_logits_have_torchdistill_s_value():
    z, z_t, label = logits()
    value = theirs.LogitStdKDLoss(*LOGITS, temperature=2.0, alpha=1e-9, beta=1.0)(
        told(z, "out"), told(z_t, "out"), label
    )
    assert torch.allclose(
        KnowledgeDistillation(2.0, standardize=True)(outputs(z), outputs(z_t), None).mean(), value, rtol=1e-5
    )


def test_dist_has_torchdistill_s_value():
    z, z_t, _ = logits()
    value = theirs.DISTLoss(*LOGITS, beta=1.0, gamma=0.5, tau=T)(told(z, "out"), told(z_t, "out"))
    mine = Dist(beta=1.0, gamma=0.5, temperature=T)(outputs(z), outputs(z_t), None).mean()
    assert torch.allclose(mine, value, rtol=1e-4) and same_gradient(mine, value, z)


def test_at_in_form_code_is_theirs_and_in_form_paper_half_of_theirs():
    own, other = random(B, 3, 4, 4, seed=0).requires_grad_(), random(B, 5, 4, 4, seed=1)
    for form, factor in (("code", 1.0), ("paper", 0.5)):
        value = theirs.ATLoss({"one": MAPS}, mode=form)(told(own), told(other))
        mine = ours(AttentionTransfer(form=form), {"map": own}, {"map": other})
        assert torch.allclose(mine, factor * value, rtol=1e-5) and same_gradient(mine, factor * value, own)


def test_sp_divides_rows_by_their_length_where_theirs_divides_by_the_sum_of_absolute_values():
    """Equation 2 of the paper asks for the length; theirs passes 1 in the place of p to normalize()."""
    own, other = random(B, 3, 4, 4, seed=0), random(B, 5, 2, 2, seed=1)
    value = theirs.SPKDLoss("map", "map", "batchmean")(told(own), told(other))
    products = [x.flatten(1) @ x.flatten(1).T for x in (own, other)]
    length, total = ([F.normalize(g, p=p) for g in products] for p in (2, 1))
    assert torch.allclose(
        ours(SimilarityPreserving(), {"map": own}, {"map": other}), (length[0] - length[1]).square().mean()
    )
    assert torch.allclose(value, (total[0] - total[1]).square().mean())


def test_rkd_has_torchdistill_s_value():
    own, other = random(B, 5, seed=0).requires_grad_(), random(B, 7, seed=1)
    value = theirs.RKDLoss("map", "map", 1.0, 2.0, "mean")(told(own), told(other))
    mine = ours(RelationalDistillation(distance=1.0, angle=2.0), {"map": own}, {"map": other})
    assert torch.allclose(mine, value, rtol=1e-4) and same_gradient(mine, value, own)


def test_pkt_in_form_code_is_theirs_and_in_form_paper_their_sum():
    own, other = random(B, 5, seed=0), random(B, 7, seed=1)
    value = theirs.PKTLoss(*(2 * ("map", "output")))(told(own), told(other))
    assert torch.allclose(ours(ProbabilisticTransfer(form="code"), {"map": own}, {"map": other}), value, rtol=1e-4)
    assert torch.allclose(
        ours(ProbabilisticTransfer(form="paper"), {"map": own}, {"map": other}), B**2 * value, rtol=1e-4
    )


def test_cc_is_the_papers_mean_of_squares_where_theirs_is_the_root_of_their_sum_over_b_squared():
    own, other = random(B, 5, seed=0), random(B, 7, seed=1)
    loss = CorrelationCongruence(gamma=0.4)
    mine = ours(loss, {"map": own}, {"map": other})
    unit = [F.normalize(loss.regressors[0](own), dim=1), F.normalize(other, dim=1)]
    kernel = {"type": "gaussian", "gamma": 0.4, "max_p": 2}
    value = theirs.CCKDLoss("map", "map", kernel, "batchmean")(*map(told, unit))
    assert torch.allclose(mine, (value * B**2) ** 2 / B**2, rtol=1e-4)
    assert not torch.allclose(mine, value, rtol=0.1)


def test_the_matrices_of_fsp_are_theirs_and_its_distance_is_of_squares():
    own = {"a": random(B, 3, 4, 4, seed=0), "b": random(B, 5, 4, 4, seed=1)}
    other = {"a": random(B, 3, 4, 4, seed=2), "b": random(B, 5, 4, 4, seed=3)}
    matrices = [theirs.FSPLoss.compute_fsp_matrix(x["a"], x["b"]) for x in (own, other)]
    assert all(torch.allclose(flow(x["a"], x["b"]), m, rtol=1e-4) for x, m in zip((own, other), matrices, strict=True))
    places = {
        f"{who}_{place}": {"path": name, "io": "output"}
        for who in ("student", "teacher")
        for place, name in (("first", "a"), ("second", "b"))
    }
    value = theirs.FSPLoss({"one": places})(
        *({name: {"output": x} for name, x in maps.items()} for maps in (own, other))
    )
    mine, apart = ours(FlowOfSolution(), own, other), matrices[0] - matrices[1]
    assert torch.allclose(mine, apart.square().mean(), rtol=1e-4), "equations 1 and 2, as a mean"
    assert torch.allclose(value, apart.norm(dim=1).sum() / B, rtol=1e-4), "theirs sums the lengths of columns"


def test_fsp_meets_maps_of_two_sizes_by_averages_and_theirs_by_maxima():
    first, second = random(B, 3, 8, 8, seed=0), random(B, 5, 4, 4, seed=1)
    maxima = theirs.FSPLoss.compute_fsp_matrix(first, second)
    assert torch.allclose(maxima, flow(F.max_pool2d(first, 2), second), rtol=1e-4)
    assert torch.allclose(flow(first, second), flow(F.avg_pool2d(first, 2), second), rtol=1e-4)


def test_ab_is_theirs_over_the_size_of_the_map(monkeypatch):
    own, other = random(B, 5, 4, 4, seed=0).requires_grad_(), random(B, 5, 4, 4, seed=1)
    value = theirs.AltActTransferLoss({"one": MAPS}, margin=1.0, reduction="mean")(told(own), told(other))
    monkeypatch.setattr(ActivationBoundary, "connected", lambda *outputs: [(own, other)])  # without a connector
    mine = ActivationBoundary(margin=1.0)(outputs(map=own), outputs(map=other), None).mean()
    assert torch.allclose(80 * mine, value, rtol=1e-5) and same_gradient(80 * mine, value, own)


@pytest.mark.parametrize("p", [1, 2])
def test_ft_without_its_auto_encoders_loss_is_theirs_and_with_p_2_the_square_of_theirs(p):
    own, other = random(1, 4, 3, 3, seed=0), random(1, 6, 3, 3, seed=1)
    loss = FactorTransfer(p=p, reconstruction=0.1)
    mine = ours(loss, {"map": own}, {"map": other})
    factor, translated = loss.encoders[0](other), loss.translators[0](own)
    mine = mine - 0.1 * (loss.decoders[0](factor) - other).square().mean()
    value = theirs.FTLoss(p=p)({"translator": {"output": translated}}, {"paraphraser": {"output": factor}})
    assert torch.allclose(mine if p == 1 else mine * factor.numel(), value**p, rtol=1e-3)


def test_vid_has_torchdistill_s_value():
    own, other = random(B, 3, 4, 4, seed=0), random(B, 5, 4, 4, seed=1)
    loss = VariationalInformation()
    mine = ours(loss, {"map": own}, {"map": other})
    variance = F.softplus(loss.rho[0])[:, None, None] + SMALLEST
    assert torch.allclose(variance, torch.tensor(5.0))
    value = theirs.VIDLoss({"one": MAPS})(told((loss.means[0](own), variance)), told(other))
    assert torch.allclose(mine, value, rtol=1e-5)
