"""Several teachers that answer as one."""

from typing import Any

import torch
from torch import nn

from distill.models.teacher import LiveTeacher
from distill.system.errors import ConfigError, expect
from distill.types import Batch, Outputs

AVERAGES = ("logits", "probabilities")


class Ensemble(LiveTeacher):
    """Averages its members, each of which renders the same view at its own size and color.

    logits:        z = sum_m w_m z_m
    probabilities: z = log sum_m w_m softmax(z_m), again logits: softmax(z) is the mean probability.

    Args:
        members: live teachers of one class order.
        average: logits or probabilities.
        weights: one number per member, normalized to sum 1; none means equal.

    Shape:
        logits [B, K], heads [B, M, K], the members' own logits.

    Raises:
        ConfigError: unknown average, or a wrong number of weights.
    """

    def __init__(self, members: list[nn.Module], average: str = "probabilities", weights: list[float] | None = None):
        super().__init__()
        expect(average in AVERAGES, "teacher.average", " or ".join(AVERAGES), repr(average))
        weights = [1.0] * len(members) if weights is None else list(weights)
        if len(weights) != len(members) or not members or min(weights) < 0 or sum(weights) <= 0:
            raise ConfigError(
                "teacher.weights", f"{weights} for {len(members)} members; give one number >= 0 for each."
            )
        self.members: Any = nn.ModuleList(members)
        self.average, self.shares = average, [weight / sum(weights) for weight in weights]
        self.name = " + ".join(str(member.name) for member in members)
        self.classes = members[0].classes

    @property
    def forward_images(self) -> int:
        return sum(member.forward_images for member in self.members)

    def train(self, mode: bool = True) -> "Ensemble":
        return super().train(False)

    def inspect_layers(self):
        """Refuse to answer which layers there are.

        Raises:
            ConfigError: always; they are several networks'.
        """
        raise ConfigError(
            "teacher",
            f"the layers of {self.name} are those of several networks. A loss on feature maps needs one teacher, such "
            "as teacher=resnet50; or choose losses on logits.",
        )

    @torch.no_grad()
    def forward(self, batch: Batch) -> Outputs:
        heads = torch.stack([member(batch).logits for member in self.members], 1)
        shares = torch.tensor(self.shares, device=heads.device)[None, :, None]
        if self.average == "logits":
            return Outputs((shares * heads).sum(1), heads, {})
        return Outputs(torch.logsumexp(heads.log_softmax(-1) + shares.log(), 1), heads, {})
