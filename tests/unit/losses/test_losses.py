"""Losses are pinned to hand-computed numbers, invariances and PyTorch's own functions."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import nn

from distill.losses.base.objective import Objective
from distill.losses.ce import CrossEntropy
from distill.losses.focal import Focal
from distill.losses.kd import KnowledgeDistillation
from distill.types import Outputs

CONF = Path(__file__).resolve().parents[3] / "conf" / "loss"
B, H, K = 6, 5, 8


def outputs(logits, heads=None):
    return Outputs(logits, logits[:, None] if heads is None else heads, {})


def batch(seed=0, size=B, requires_grad=False):
    g = torch.Generator().manual_seed(seed)
    heads = torch.randn(size, H, K, generator=g).requires_grad_(requires_grad)
    teacher = (3 * torch.randn(size, K, generator=g)).requires_grad_(requires_grad)
    target = torch.rand(size, K, generator=g)
    return outputs(heads.mean(1), heads), outputs(teacher), target / target.sum(1, keepdim=True)


def test_kd_of_equal_or_shifted_logits_is_zero():
    z = 3 * torch.randn(B, K)
    for temperature in (1.0, 2.0, 16.0):
        kd = KnowledgeDistillation(temperature)
        assert kd(outputs(z), outputs(z), None).abs().max() < 1e-5
        assert kd(outputs(z + 5.0), outputs(z), None).abs().max() < 1e-4


def test_kd_equals_a_value_computed_by_hand():
    # T = 2: teacher (2 ln 4, 2 ln 2, 2 ln 2) -> (1/2, 1/4, 1/4); student (2 ln 2, 0, 0) -> (1/2, 1/4, 1/4)
    # and student (0, 0, 2 ln 2) -> (1/4, 1/4, 1/2): KL = 1/2 ln 2 - 1/4 ln 2 = ln 2 / 4
    ln2 = math.log(2)
    teacher = outputs(torch.tensor([[4 * ln2, 2 * ln2, 2 * ln2]] * 2))
    student = outputs(torch.tensor([[2 * ln2, 0, 0], [0, 0, 2 * ln2]]))

    def values(**options):
        return KnowledgeDistillation(2.0, **options)(student, teacher, None).tolist()

    assert values() == pytest.approx([0, ln2], abs=1e-6)
    assert values(scale_t2=False) == pytest.approx([0, ln2 / 4], abs=1e-6)
    assert values(scale_t2=False, form="ce") == pytest.approx([1.5 * ln2, 1.75 * ln2])


def test_kl_and_ce_forms_have_one_gradient_and_differ_by_the_teachers_entropy():
    student, teacher, _ = batch(requires_grad=True)
    kl, ce = (KnowledgeDistillation(3.0, True, form)(student, teacher, None) for form in ("kl", "ce"))
    entropy = torch.distributions.Categorical(logits=teacher.logits.detach() / 3).entropy()
    assert torch.allclose(ce - kl, 9 * entropy, atol=1e-5)
    grads = [torch.autograd.grad(v.sum(), student.heads)[0] for v in (kl, ce)]
    assert torch.allclose(*grads, atol=1e-5)


def test_logits_that_hardly_vary_are_not_standardized_and_get_no_gradient():
    loss, shape = KnowledgeDistillation(standardize=True), torch.arange(K, dtype=torch.float32) - (K - 1) / 2
    sure = 5.0 * torch.eye(K)[:1]
    for spread, counts in ((0.0, False), (1e-6, False), (3e-4, False), (1e-3, True), (1.0, True)):
        z = (spread * shape)[None].requires_grad_()
        loss(outputs(z), outputs(sure), None).sum().backward()
        assert z.grad.isfinite().all() and bool(z.grad.abs().max() > 0) == counts, spread
    even = loss(outputs(1e-6 * shape[None]), outputs(sure), None)
    assert torch.allclose(even, loss(outputs(torch.zeros(1, K)), outputs(sure), None))
    assert torch.allclose(
        *(loss(outputs(spread * shape[None]), outputs(sure), None) for spread in (1e-2, 7.0)), rtol=1e-4
    )


def test_each_head_is_compared_with_the_teachers_fused_logits():
    student, teacher, _ = batch()
    by_hand = [
        F.kl_div((student.heads[:, h] / 2).log_softmax(1), (teacher.logits / 2).softmax(1), reduction="none").sum(1) * 4
        for h in range(H)
    ]
    assert torch.allclose(KnowledgeDistillation()(student, teacher, None), sum(by_hand) / H, atol=1e-5)
    summed = KnowledgeDistillation(head_reduction="sum")(student, teacher, None)
    assert torch.allclose(summed, sum(by_hand), atol=1e-5)
    fused = KnowledgeDistillation(apply_to="logits")(student, teacher, None)
    assert torch.allclose(fused, KnowledgeDistillation()(outputs(student.logits), teacher, None))
    assert not torch.allclose(fused, summed / H, atol=1e-3)


def test_microexpnets_mixture_has_the_published_value():
    # loss = (1 - lam) CE(y, z) + lam CE(softmax(z_T / T), softmax(z / T)), no T^2
    lam, temperature = 0.3, 8.0
    z, z_t, target = torch.randn(B, K), 4 * torch.randn(B, K), F.one_hot(torch.arange(B), K).float()
    mixture = Objective(
        {"ce": CrossEntropy(), "kd": KnowledgeDistillation(temperature, scale_t2=False, form="ce")},
        {"ce": 1 - lam, "kd": lam},
    )
    soft = F.cross_entropy(z / temperature, (z_t / temperature).softmax(1))
    by_hand = (1 - lam) * F.cross_entropy(z, torch.arange(B)) + lam * soft
    assert mixture(outputs(z), outputs(z_t), target)[0].item() == pytest.approx(by_hand.item(), rel=1e-6)


def test_cross_entropy_of_one_hot_targets_equals_that_of_class_indices():
    z, label = torch.randn(B, K), torch.tensor([0, 3, 3, 7, 1, 5])
    weights = torch.rand(K) + 0.5
    for smoothing in (0.0, 0.1):
        ours = CrossEntropy("soft", weights.tolist(), smoothing)(outputs(z), None, F.one_hot(label, K).float())
        theirs = F.cross_entropy(z, label, weights, label_smoothing=smoothing, reduction="none")
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_soft_targets_are_used_as_they_are_and_hard_ones_by_their_largest_entry():
    student, _, target = batch()
    z = outputs(student.logits)
    assert torch.allclose(CrossEntropy()(z, None, target), F.cross_entropy(z.logits, target, reduction="none"))
    hard = F.cross_entropy(z.logits, target.argmax(1), reduction="none")
    assert torch.allclose(CrossEntropy("hard")(z, None, target), hard)


def test_the_sum_over_five_heads_is_five_times_their_mean():
    student, _, target = batch()
    mean, total = (CrossEntropy(head_reduction=r)(student, None, target) for r in ("mean", "sum"))
    by_hand = sum(F.cross_entropy(student.heads[:, h], target, reduction="none") for h in range(H))
    assert torch.allclose(total, by_hand, atol=1e-5) and torch.allclose(total, H * mean, atol=1e-5)


def test_an_objective_adds_weighted_terms_and_reports_them_unweighted_and_detached():
    student, teacher, target = batch(requires_grad=True)
    ce, kd = CrossEntropy(), KnowledgeDistillation()
    total, terms = Objective({"ce": ce, "kd": kd}, {"ce": 0.1, "kd": 0.9})(student, teacher, target)
    expected = {"ce": ce(student, None, target).mean(), "kd": kd(student, teacher, target).mean()}
    assert total.item() == pytest.approx(0.1 * expected["ce"].item() + 0.9 * expected["kd"].item(), rel=1e-6)
    assert total.requires_grad and total.dim() == 0
    for name, value in terms.items():
        assert not value.requires_grad
        assert torch.equal(value, expected[name])


def test_an_objective_takes_losses_that_give_a_scalar():
    class Relational(nn.Module):
        needs_teacher = False

        def forward(self, student, teacher, target):
            return student.logits.square().mean()

    student, _, target = batch()
    total, _ = Objective({"own": Relational()}, {"own": 2.0})(student, None, target)
    assert total.item() == pytest.approx(2 * student.logits.square().mean().item())


def test_binding_lets_every_loss_meet_both_networks_and_learned_parts_become_parameters():
    class Hint(CrossEntropy):
        def bind(self, student, teacher):
            self.regressor = nn.Linear(student.out_features, teacher.out_features)

    objective = Objective({"hint": Hint()}, {"hint": 1.0})
    objective.bind(nn.Linear(2, 3), nn.Linear(2, 4))
    assert [tuple(p.shape) for p in objective.parameters()] == [(4, 3), (4,)]


def test_a_loss_that_needs_a_teacher_says_so_when_there_is_none():
    ce_only = Objective({"ce": CrossEntropy()}, {"ce": 1.0})
    ce_only.bind(nn.Identity(), None)
    with pytest.raises(ValueError, match=r"loss.kd: needs a teacher, but teacher=none .* loss=\[ce\]"):
        Objective({"kd": KnowledgeDistillation()}, {"kd": 1.0}).bind(nn.Identity(), None)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: CrossEntropy(target="majority"), "loss.ce.target: expected .*soft or hard.*, got 'majority'"),
        (lambda: CrossEntropy(apply_to="head"), "loss.ce.apply_to: expected .*heads or logits.*, got 'head'"),
        (lambda: CrossEntropy(head_reduction="max"), "loss.ce.head_reduction: expected .*sum or mean.*, got 'max'"),
        (lambda: CrossEntropy(label_smoothing=1.0), "loss.ce.label_smoothing: expected .*, got 1.0"),
        (lambda: CrossEntropy(head_weights=[1, 2])(*batch()), "loss.ce.head_weights: 2 numbers for 5 heads; give one"),
        (lambda: Focal(head_weights=[1, 2])(*batch()), "loss.focal.head_weights: 2 numbers for 5 heads"),
        (
            lambda: CrossEntropy(class_weights="balanced"),
            "loss.ce.class_weights: expected .*list of numbers.*, got 'balanced'",
        ),
        (lambda: Focal(-1.0), "loss.focal.gamma: expected .*0 or more.*, got -1.0"),
        (lambda: Focal(target="majority"), "loss.focal.target: expected .*soft or hard.*, got 'majority'"),
        (lambda: KnowledgeDistillation(0.0), "loss.kd.temperature: expected .*, got 0.0"),
        (lambda: KnowledgeDistillation(form="mse"), "loss.kd.form: expected .*kl or ce.*, got 'mse'"),
        (lambda: Objective({}, {}), "nothing to learn"),
        (lambda: Objective({"ce": CrossEntropy()}, {"ce": -1.0}), "loss.ce.weight: expected .*, got -1.0"),
        (lambda: Objective({"ce": CrossEntropy()}, {"ce": float("nan")}), "loss.ce.weight: expected .*, got nan"),
        (lambda: CrossEntropy(class_weights=[1, 2])(*batch()), "loss.ce.class_weights: 2 numbers for 8 classes"),
        (
            lambda: KnowledgeDistillation()(batch()[0], outputs(torch.zeros(B, 7)), None),
            "loss.kd: the teacher knows 7 classes, the student 8",
        ),
    ],
)
def test_a_wrong_choice_gets_a_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.parametrize(("name", "kind"), [("ce", CrossEntropy), ("focal", Focal), ("kd", KnowledgeDistillation)])
def test_every_yaml_makes_its_loss_in_its_own_package(name, kind):
    text = (CONF / f"{name}.yaml").read_text()
    assert text.startswith(f"# @package loss.{name}\n")
    keys = OmegaConf.to_container(OmegaConf.create(text))
    assert keys.pop("_target_") == f"{kind.__module__}.{kind.__name__}"
    objective = Objective(
        {name: kind(**{k: v for k, v in keys.items() if k not in ("weight", "beta")})}, {name: keys["weight"]}
    )
    assert objective(*batch())[0].isfinite()
