"""The loss of a batch: augmentation, the student's and the teacher's forward pass, the weighted losses."""

from typing import cast

import torch
from torch import Tensor, nn

from distill.augment.views import render_batch
from distill.losses.base.objective import Objective
from distill.models.teacher import Teacher
from distill.system.errors import ConfigError
from distill.system.hardware import autocast
from distill.system.sync_batch import all_gather_outputs, local_random_numbers, local_shard
from distill.types import Batch, InputSpec, MixedBatch, Outputs


class BatchLoss(nn.Module):
    """Student and objective as one module, for DistributedDataParallel: from a batch to its loss.

    Args:
        student: images -> Outputs.
        objective: its losses.
        compiled: torch.compile the student's pass; a narrower last batch of an evaluation, which is not one, compiles nothing.
    """

    def __init__(self, student: nn.Module, objective: Objective, compiled: bool = False):
        super().__init__()
        self.student, self.objective = student, objective
        self.forward_student = torch.compile(lambda images: student(images)) if compiled else student.__call__

    def forward(
        self, batch: Batch | MixedBatch, teacher: Teacher | None, precision: torch.dtype
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total and each term; of several processes each forwards its shard, and all compare the whole batch.

        Raises:
            ConfigError: the student does not answer Outputs.
        """
        shard, rows = local_shard(batch), len(batch.index)
        images = render_batch(shard, cast(InputSpec, self.student.input))
        with local_random_numbers():
            with autocast(images.device, precision):
                student = self.forward_student(images)
            if not isinstance(student, Outputs):
                raise ConfigError(
                    "student",
                    f"answers a {type(student).__name__}. Let it answer Outputs(logits, heads, features) of distill.types.",
                )
            teacher_outputs = None if teacher is None else teacher(shard)
        student, teacher_outputs = all_gather_outputs(student, rows), all_gather_outputs(teacher_outputs, rows)
        return self.objective(cast(Outputs, student)._replace(index=batch.index), teacher_outputs, batch.target)
