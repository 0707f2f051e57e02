"""Cross-entropy with label distributions."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.objective import Loss, check_choices, reduce_heads, select_heads
from distill.types import Outputs


class CrossEntropy(Loss):
    """Cross-entropy between the target distribution and each head.

    loss[b] = sum or mean over heads h of -sum_k w_k q[b, k] log softmax(z[b, h])_k,
    q = (1 - label_smoothing) * target + label_smoothing / K.

    Class weights multiply as given; the batch mean divides by B, not by the sum of the weights met (unlike PyTorch's
    mean for class indices), so a sample counts the same in any batch. Weights of mean 1 keep the loss's scale.

    Args:
        target: soft: the distribution as it is; hard: one-hot of its largest entry (the first of equals).
        class_weights: K numbers, or None for all 1.
        label_smoothing: in [0, 1).
        apply_to: heads, or logits (the fused prediction).
        head_reduction: sum or mean; published CERN uses the sum over its 5 heads.

    Shape:
        heads [B, H, K] or logits [B, K], target [B, K] -> [B].

    Raises:
        ValueError: for a choice that does not exist, or class weights of another length than K.

    Reference: class weights and smoothing as torch.nn.functional.cross_entropy with reduction='none'.
    """

    def __init__(
        self,
        target: str = "soft",
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        apply_to: str = "heads",
        head_reduction: str = "mean",
    ):
        super().__init__()
        check_choices(
            "ce",
            target=(target, ("soft", "hard")),
            apply_to=(apply_to, ("heads", "logits")),
            head_reduction=(head_reduction, ("sum", "mean")),
        )
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"loss.ce.label_smoothing: {label_smoothing} was asked for; give a fraction in [0, 1).")
        self.hard = target == "hard"
        self.label_smoothing, self.apply_to, self.head_reduction = label_smoothing, apply_to, head_reduction
        weights = None if class_weights is None else torch.tensor([float(w) for w in class_weights])
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        num_classes = target.shape[1]
        q = F.one_hot(target.argmax(dim=1), num_classes).float() if self.hard else target.float()
        q = (1 - self.label_smoothing) * q + self.label_smoothing / num_classes
        if self.class_weights is not None:
            if len(self.class_weights) != num_classes:
                raise ValueError(f"loss.ce.class_weights: {len(self.class_weights)} numbers for {num_classes} classes.")
            q = q * self.class_weights
        log_p = F.log_softmax(select_heads(student, self.apply_to), dim=-1)
        return reduce_heads(-(q[:, None] * log_p).sum(dim=-1), self.head_reduction)
