"""How near a student comes to its teacher: what can be said of faces without labels."""

import torch
from torch import Tensor

from distill.evaluation.metrics import agreement, bootstrap

KNOWN = ("valid/agreement", "valid/kl")  # what an epoch can be chosen by without labels


def evaluate_likeness(logits: Tensor, teacher_logits: Tensor) -> dict[str, float | list[float]]:
    """Compare two networks' answers about the same faces.

    Formula:
        agreement = share of faces with argmax z_s = argmax z_t, kl = mean_n sum_k p_t (log p_t - log p_s), p = softmax(z)

    Args:
        logits: the student's.
        teacher_logits: the teacher's.

    Shape:
        logits, teacher_logits: [N, K].

    Returns:
        agreement in [0, 1], agreement_ci, [low, high] of its bootstrap 95 % interval, and kl in nats.

    Raises:
        ValueError: the shapes differ, or a logit is not finite.
    """
    student, teacher = (values.double().log_softmax(1) for values in (logits, teacher_logits))
    return {
        "agreement": agreement(logits, teacher_logits),
        "agreement_ci": list(bootstrap(logits, teacher_logits.argmax(1))),
        "kl": float(torch.sum(teacher.exp() * (teacher - student), 1).mean()),
    }
