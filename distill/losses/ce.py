"""Cross-entropy with label distributions."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.base.logit_loss import check_length, log_priors
from distill.losses.base.objective import Loss, check_choices, check_heads, reduce_heads, select_heads
from distill.system.errors import ConfigError, expect
from distill.types import Outputs


def effective_number_weights(counts: Sequence[int], beta: float) -> list[float]:
    """Return class-balanced weights, w_k proportional to (1 - beta) / (1 - beta^n_k), normalized to the sum K.

    Args:
        counts: [K] training pictures of each class, at least 1.
        beta: in [0, 1); 0 weights all equally, toward 1 as 1 / n_k.

    Reference: Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, equation 3 in 4.
    """
    weights = [(1 - beta) / (1 - beta**count) for count in counts]
    return [len(weights) * weight / sum(weights) for weight in weights]


class CrossEntropy(Loss):
    """Cross-entropy between the target distribution and each head.

    loss[b] = sum, mean or weighted sum over heads h of -sum_k w_k q[b, k] log softmax(z[b, h] + tau log pi)_k,
    q = (1 - label_smoothing) * target + label_smoothing / K, tau = logit_adjustment, pi = class_priors.

    With tau = 1 the least loss is at softmax(z) proportional to p(k | face) / pi_k: without tau log pi, as z is used after
    training, each class counts as if all were equally common. kd and dist have teacher_adjustment to match; train.class_balance_power
    draws rare classes more often and would count them twice.

    Class weights multiply as given; the batch mean divides by B, not by the sum of its samples' weights (unlike PyTorch's
    mean for class indices), so a sample counts the same in any batch. Weights of mean 1 keep the loss's scale.

    Args:
        target: soft: the distribution as it is; hard: one-hot of its largest entry (the first of equals).
        class_weights: K numbers, or None for all 1.
        label_smoothing: in [0, 1).
        apply_to: heads, or logits (the fused prediction).
        head_reduction: sum or mean; published CERN uses the sum over its 5 heads.
        head_weights: H factors of a sum over heads, used instead of head_reduction; or None.
        logit_adjustment: tau, at least 0; 0 leaves the logits as they are.
        class_priors: K numbers above 0, or None where tau is 0.

    Shape:
        heads [B, H, K] or logits [B, K], target [B, K] -> [B].

    Raises:
        ConfigError: for a choice that does not exist, a number out of range, or weights that are negative, all 0, or of
            another length than there are classes or heads.

    Reference: class weights and smoothing as torch.nn.functional.cross_entropy with reduction='none'; logit_adjustment:
    Menon et al., Long-tail Learning via Logit Adjustment, arXiv 2007.07314, its softmax cross-entropy.
    """

    term = "ce"  # its key in a config, for error messages

    def __init__(
        self,
        target: str = "soft",
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        apply_to: str = "heads",
        head_reduction: str = "mean",
        head_weights: Sequence[float] | None = None,
        logit_adjustment: float = 0.0,
        class_priors: Sequence[float] | None = None,
    ):
        super().__init__()
        check_heads(self.term, apply_to, head_reduction)
        check_choices(self.term, target=(target, ("soft", "hard")))
        expect(0 <= label_smoothing < 1, f"loss.{self.term}.label_smoothing", "a fraction in [0, 1)", label_smoothing)
        self.hard = target == "hard"
        self.label_smoothing, self.apply_to, self.head_reduction = label_smoothing, apply_to, head_reduction
        self.logit_adjustment = logit_adjustment
        priors = log_priors(self.term, class_priors, logit_adjustment=logit_adjustment)
        self.register_buffer("log_priors", priors, persistent=False)
        for name, numbers in (("class_weights", class_weights), ("head_weights", head_weights)):
            if isinstance(numbers, str):
                raise ConfigError(f"loss.{self.term}.{name}", f"expected a list of numbers, or null, got {numbers!r}.")
            if numbers is not None and not (all(0 <= w < math.inf for w in numbers) and any(numbers)):
                raise ConfigError(
                    f"loss.{self.term}.{name}",
                    f"expected finite numbers of at least 0, not all of them 0, got {list(numbers)}.",
                )
            weights = None if numbers is None else torch.tensor([float(w) for w in numbers])
            self.register_buffer(name, weights, persistent=False)

    def check(self, student: nn.Module, num_classes: int) -> None:
        self._check_classes(num_classes)

    def _check_classes(self, num_classes: int) -> None:
        check_length(self.term, "class_weights", self.class_weights, num_classes)
        check_length(self.term, "class_priors", self.log_priors, num_classes)

    def forward(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        num_classes = target.shape[1]
        q = F.one_hot(target.argmax(dim=1), num_classes).float() if self.hard else target.float()
        q = (1 - self.label_smoothing) * q + self.label_smoothing / num_classes
        q = q * target.any(dim=1, keepdim=True)  # a face without a label costs nothing
        self._check_classes(num_classes)
        if self.class_weights is not None:
            q = q * self.class_weights
        z = select_heads(student, self.apply_to)
        if self.logit_adjustment:
            z = z + self.logit_adjustment * self.log_priors.to(z)
        log_p = F.log_softmax(z, dim=-1)
        values = -(q[:, None] * self._modulate(log_p)).sum(dim=-1)  # [B, H]
        if self.head_weights is None:
            return reduce_heads(values, self.head_reduction)
        if len(self.head_weights) != values.shape[1]:
            raise ConfigError(
                f"loss.{self.term}.head_weights",
                f"{len(self.head_weights)} numbers for {values.shape[1]} heads; "
                "give one for each, or null; apply_to=logits has 1.",
            )
        return (values * self.head_weights).sum(dim=1)

    def _modulate(self, log_p: Tensor) -> Tensor:
        """What counts instead of log p; the focal loss puts its factor here."""
        return log_p
