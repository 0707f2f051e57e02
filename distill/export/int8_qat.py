"""Fine-tuning with the rounding of int8 in place: the student learns to answer as it did before, in steps of 8 bits."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from distill import build
from distill.augment.views import render
from distill.data.loader import batches, epoch_order, steps_per_epoch
from distill.export.int8_graph import LARGE
from distill.export.int8_static import STEP, calibration_images
from distill.export.options import Options
from distill.export.source_run import Finished
from distill.pipeline.completed import rebuild
from distill.system.console import track
from distill.types import Dataset

BATCH = 128


class RoundedWeight(nn.Module):
    """w -> s_c round(w / s_c), s_c = max |w_c| / 127 of each output channel c; the gradient passes as if nothing were rounded."""

    def forward(self, weight: Tensor) -> Tensor:
        scale = weight.detach().flatten(1).abs().amax(1).clamp_min(1e-12) / 127
        zero = torch.zeros(len(weight), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -127, 127)


class RoundedInput:
    """x -> s (clip(round(x / s) + z, 0, 255) - z): a hook before a layer; it first learns s and z from what it sees."""

    def __init__(self):
        self.low, self.high, self.learning = 0.0, 0.0, True

    def __call__(self, layer: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (x,) = arguments
        if self.learning:
            self.low, self.high = min(self.low, float(x.min())), max(self.high, float(x.max()))
            return arguments
        scale = max(self.high - self.low, 1e-12) / 255
        return (torch.fake_quantize_per_tensor_affine(x, scale, round(-self.low / scale), 0, 255),)


def fine_tuned(run: Finished, data: Dataset, options: Options) -> Iterator[nn.Module]:
    """Yield a student whose weights bear the rounding, taught by the unrounded one on the run's training views, round by round.

    loss = KL(p_float || p_rounded), AdamW without decay, cosine to zero; running statistics and dropout stay as they are.

    Args:
        run: the finished run.
        data: its data.
        options: qat_epochs of each round, qat_rounds, qat_lr, calibration.
    """
    student = rebuild(run.cfg.student, run.classes, run.cfg.plugins, run.student.state_dict())
    student.load_state_dict(run.student.state_dict())
    images = calibration_images(data.splits["valid"], student.input, options.calibration)
    for number in range(options.qat_rounds):
        undo = _round_inside(student.eval().requires_grad_(True), images)  # also after it was exported
        try:
            _distil(student, run, data, options, number * options.qat_epochs)
        finally:
            undo()
        yield student


def _round_inside(student: nn.Module, images: Tensor):
    """Round every layer's input and weight from now on; return what ends that and leaves the weights unrounded."""
    layers = [layer for layer in student.modules() if _is_rounded(layer)]
    hooks = [RoundedInput() for _ in layers]
    handles = [layer.register_forward_pre_hook(hook) for layer, hook in zip(layers, hooks, strict=True)]
    with torch.no_grad():
        for part in images.split(STEP):
            student(part)
    for layer, hook in zip(layers, hooks, strict=True):
        hook.learning = False
        parametrize.register_parametrization(layer, "weight", RoundedWeight())

    def undo() -> None:
        for handle in handles:
            handle.remove()
        for layer in layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)

    return undo


def _is_rounded(layer: nn.Module) -> bool:
    """Say whether the int8 file rounds a layer; see distill.export.int8_graph.stays_float."""
    return isinstance(layer, nn.Conv2d) or (isinstance(layer, nn.Linear) and layer.weight.numel() >= LARGE)


def _distil(student: nn.Module, run: Finished, data: Dataset, options: Options, first: int) -> None:
    split, recipe = data.splits["train"], build.recipe(run.cfg.views)
    steps = steps_per_epoch(len(split), BATCH)
    optimizer = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], options.qat_lr, weight_decay=0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps * options.qat_epochs)
    for epoch in range(first, first + options.qat_epochs):
        table = recipe.table(run.cfg.views.seed, epoch + 1, len(split.pixels))
        drawn = batches(split, table, BATCH, epoch_order(run.cfg.seed, epoch, len(split)))
        for batch in track(drawn, steps, f"fine-tuning with rounding, epoch {epoch + 1}"):
            images = render(batch.pixels, batch.view, student.input)
            with torch.no_grad():
                wanted = run.student(images).logits.log_softmax(1)
            found = student(images).logits.log_softmax(1)
            loss = F.kl_div(found, wanted, reduction="batchmean", log_target=True)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
