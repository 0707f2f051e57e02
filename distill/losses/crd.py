"""Contrastive representation distillation, with a memory of every training picture."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.base.feature_loss import FeatureLoss, Names, channels
from distill.losses.base.logit_loss import check_numbers
from distill.system.errors import ConfigError, expect
from distill.types import Outputs


class ContrastiveRepresentation(FeatureLoss):
    """Tell a picture's embedding by the other network from those of pictures of other classes.

    With g_s and g_t learned linear maps to `width` channels and length 1, m_s and m_t their memories, r_0 the picture's own
    row and r_1 .. r_K drawn from the rows of other classes, x_k = g_s . m_t[r_k] / temperature - log z - log K:
    loss[b] = -log sigmoid(x_0) - sum_{k=1..K} log sigmoid(-x_k), plus the same of g_t and m_s.
    z = the mean of exp(g . m / temperature) over the first batch, then fixed, one for each direction.
    A batch's rows are first refreshed: m <- momentum m + (1 - momentum) g, at length 1; m <- g the first time. Of a row that
    a batch holds several times (train.class_balance_power) the last one counts.

    Rows not seen yet are drawn only while no picture of another class has been seen; they hold random vectors. The draw takes
    numbers from torch's own generator by place in the batch: shuffling a batch changes the draw, not its distribution.
    The memories take rows * width * 8 bytes (29 MB for FER+), in checkpoints, too.

    Args:
        rows: number of packed training pictures; the build fills it in.
        student, teacher: layers, see FeatureLoss; without names the embeddings.
        negatives: K, drawn with replacement for each picture, at least 1.
        temperature: above 0.
        momentum: of the memories, in [0, 1).
        width: channels of the learned maps.

    Shape:
        features [B, C, H, W], [B, N, C] or [B, C], target [B, K], index [B] -> [B], by way of [B, negatives, width].

    Raises:
        ConfigError: a number out of range, more than one pair of layers, no index, or one beyond the memory.

    Reference: Tian et al., Contrastive Representation Distillation, arXiv 1910.10699, equation 18 as the authors' code
    counts; with z M instead of their constant Z, M, the number of pictures, cancels from K / M.
    Deviations: a picture's own row is refreshed before it is compared, where the released code compares with what it held
    an epoch ago (a random vector in the first epoch); classes are those of the target's largest entry, as they are seen;
    K = 1024 by default instead of 16384; no 1e-7 in the logarithms, which need none as log sigmoid.
    """

    term = "crd"
    pairing = "embedding"
    needs_memory = True
    needs_every_label = True

    def __init__(
        self,
        rows: int | None = None,
        student: Names = None,
        teacher: Names = None,
        negatives: int = 1024,
        temperature: float = 0.07,
        momentum: float = 0.5,
        width: int = 128,
    ):
        super().__init__(student, teacher)
        check_numbers(
            self.term,
            rows=(rows, rows is None or rows >= 1, "the number of packed training pictures, or null"),
            negatives=(negatives, negatives >= 1, "1 or more, such as 1024"),
            temperature=(temperature, temperature > 0, "a number above 0, such as 0.07"),
            momentum=(momentum, 0 <= momentum < 1, "a number in [0, 1), such as 0.5"),
            width=(width, width >= 1, "1 channel or more, such as 128"),
        )
        self.rows, self.width = rows, width
        self.negatives, self.temperature, self.momentum = negatives, temperature, momentum

    def make(self) -> None:
        rows, width = self.rows, self.width
        expect(len(self.pairs) == 1, f"loss.{self.term}", "one pair of layers", len(self.pairs))
        if rows is None:
            raise ConfigError(f"loss.{self.term}.rows", "null; give the number of packed training pictures.")
        self.embed_student, self.embed_teacher = (nn.Linear(channels(layer.shape), width) for layer in self.pairs[0])
        for name in ("student_memory", "teacher_memory"):
            self.register_buffer(name, F.normalize(torch.randn(rows, width), dim=1))
        self.register_buffer("label", torch.full((rows,), -1))  # -1: not seen yet
        self.register_buffer("log_z", torch.full((2,), math.nan))

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        index, label = student.index, target.argmax(dim=1)
        if index is None:
            raise ConfigError(
                f"loss.{self.term}",
                "remembers pictures by their row in the packed data, but the student's outputs have no "
                "index. Give outputs._replace(index=batch.index).",
            )
        if index.device.type == "cpu" and int(index.max()) >= len(self.label):  # a GPU would have to be waited for
            raise ConfigError(
                f"loss.{self.term}.rows",
                f"{len(self.label)}, but row {int(index.max())} of the packed data came. Give the "
                "number of packed training pictures, or null.",
            )
        s, t = self.vectors(student, teacher)[0]
        s = F.normalize(self.embed_student(s), dim=1)
        t = F.normalize(self.embed_teacher(t), dim=1)
        last = last_places(index)
        self._refresh(self.student_memory, index, s[last])
        self._refresh(self.teacher_memory, index, t[last])
        self.label[index] = label[last]
        rows = torch.cat([index[:, None], self._draw(label)], dim=1)
        return self._contrast(0, s, self.teacher_memory[rows]) + self._contrast(1, t, self.student_memory[rows])

    @torch.no_grad()
    def _refresh(self, memory: Tensor, index: Tensor, vectors: Tensor) -> None:
        kept = self.momentum * (self.label[index] >= 0).float()[:, None]
        memory[index] = F.normalize(kept * memory[index] + (1 - kept) * vectors, dim=1)

    @torch.no_grad()
    def _draw(self, label: Tensor) -> Tensor:
        """Return rows of other classes than label [B], evenly and with replacement: [B, negatives]."""
        ordered, rows = self.label.sort(stable=True)  # not seen, class 0, class 1, ...
        start = torch.searchsorted(ordered, label)
        count = torch.searchsorted(ordered, label, right=True) - start
        unmet = torch.searchsorted(ordered, torch.zeros_like(label))
        others = len(rows) - unmet - count
        first, size = torch.where(others > 0, unmet, 0), torch.where(others > 0, others, unmet).clamp(min=1)
        chance = torch.rand(len(label), self.negatives, device=label.device)
        place = first[:, None] + (chance * size[:, None]).long().minimum(size[:, None] - 1)
        place = place + count[:, None] * (place >= start[:, None])  # past the picture's own class
        return rows[place.clamp(max=len(rows) - 1)]

    def _contrast(self, direction: int, anchor: Tensor, memory: Tensor) -> Tensor:
        """Return [B] from anchors [B, C] and their rows [B, 1 + negatives, C], the first of which is their own."""
        score = torch.einsum("bkc,bc->bk", memory, anchor) / self.temperature
        with torch.no_grad():
            first = score.logsumexp(dim=(0, 1)) - math.log(score.numel())
            self.log_z[direction] = torch.where(self.log_z[direction].isnan(), first, self.log_z[direction])
        x = score - self.log_z[direction].clone() - math.log(score.shape[1] - 1)
        return -F.logsigmoid(x[:, 0]) - F.logsigmoid(-x[:, 1:]).sum(dim=1)


def last_places(index: Tensor) -> Tensor:
    """Return for every place of a batch the last one that holds the same row, [B]: two writes to one row have no order on a GPU."""
    place = torch.arange(len(index), device=index.device)
    return torch.where(index[:, None] == index, place, -1).amax(dim=1)
