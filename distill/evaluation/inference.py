"""Logits and metrics of a network on a split, pictures as packed."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from distill.augment.views import FIELDS, IDENTITY, identity, render
from distill.data.loader import in_order, to
from distill.models.feature_hooks import eval_mode
from distill.system import distributed as parallel
from distill.system.cli import format_error
from distill.system.errors import ConfigError, expect
from distill.system.files import atomic
from distill.system.hardware import autocast, faces_per_pass
from distill.types import Batch, Split

PROBE = "probe"  # key of a weight file's metadata
AGAIN = "Type the run's command again: it is measured anew."
CLOSE = 1e-3  # largest difference of a logit, shares of the largest logit
CROPS8 = ((0, 0), (0, 5), (0, 32), (5, 0), (32, 0), (5, 5), (32, 32), (5, 32))  # rows and columns of 224 pixels in 256


def tta_views(tta: str) -> Tensor:
    """Return the views of one face whose answers are combined when it is evaluated.

    plain:  the face as packed.
    mirror: as packed and mirrored; their logits are averaged.
    crops8: eight crops of 224 x 224 from the face at 256 x 256; their probabilities are averaged.

    Args:
        tta: test-time augmentation: plain, mirror or crops8.

    Shape:
        returns [V, P], columns as in distill.augment.views.FIELDS.

    Raises:
        ConfigError: another word.

    Reference: crops8 are the crops of MicroExpNet (arXiv 1711.07011), where each counts as a face of its own in the
    published accuracy; here a face counts once. Deviation: one interpolation from the packed face instead of two.
    """
    scale = 256 / 224  # with which a crop fills the picture
    shift = {corner: scale * ((1 - 224 / 256) / 2 - corner / 256) for pair in CROPS8 for corner in pair}
    crops = [{"scale": scale, "shift_x": shift[column], "shift_y": shift[row]} for row, column in CROPS8]
    rows: dict[str, list[dict]] = {"plain": [{}], "mirror": [{}, {"flip": 1.0}], "crops8": crops}
    expect(tta in rows, "eval.tta", ", ".join(rows), repr(tta))
    unchanged = dict(zip(FIELDS, IDENTITY, strict=True))
    return torch.tensor([list((unchanged | row).values()) for row in rows[tta]])


def aggregate_tta(logits: list[Tensor], tta: str) -> Tensor:
    """Return [N, K] logits from those of each view; of crops8 the logarithm of the mean probability."""
    stacked = torch.stack(logits)
    if tta == "crops8":
        return stacked.softmax(-1).mean(0).clamp_min(1e-30).log()
    return stacked.mean(0)


@torch.no_grad()
def predict(
    network: nn.Module,
    split: Split,
    table: Tensor | None = None,
    batch_size: int | None = None,
    precision: torch.dtype = torch.float32,
    tick: Callable[[int], None] = lambda faces: None,
) -> Tensor:
    """Run a network in eval mode over a split; of several processes each does whole batches, so that no logit depends on them.

    Args:
        network: images -> Outputs, with an input: InputSpec.
        split: the packed split.
        table: [M, P] view rows; none means pictures as packed.
        batch_size: pictures per forward pass; none is as many as suit the device.
        precision: dtype of the forward pass.
        tick: called with the number of faces just done.

    Returns:
        [N, K] float32 logits on the CPU. The network's mode is left as it was.
    """
    device = next(network.parameters()).device
    table = identity(len(split.pixels)) if table is None else table

    def forward(batch: Batch) -> Tensor:
        batch = to(batch, device)
        images = render(batch.pixels, batch.view, network.input).contiguous(memory_format=torch.channels_last)
        with autocast(device, precision):
            logits = network(images).logits.float()
        tick(len(batch.index))
        return logits

    with eval_mode(network):
        return _shared_out(forward, split, table, batch_size or faces_per_pass(device))


def _shared_out(forward: Callable[[Batch], Tensor], split: Split, table: Tensor, batch_size: int) -> Tensor:
    """Return the answers [N, K] about every row, the batches shared out among the processes."""
    batches = range(0, len(split), batch_size)
    parts = [forward(batch) for batch in in_order(split, table, batch_size, parallel.local_slice(len(batches)))]
    ends = np.cumsum([0, *parallel.shard_sizes(len(batches))]) * batch_size
    sizes = np.diff(ends.clip(max=len(split))).tolist()
    return parallel.gather(torch.cat(parts).cpu() if parts else None, sizes)


def student_logits(
    network: nn.Module, split: Split, tta: str = "plain", precision: torch.dtype = torch.float32
) -> Tensor:
    """Return a network's [N, K] float32 logits on the CPU, combined over the views of an evaluation."""
    tables = [row.expand(len(split.pixels), -1) for row in tta_views(tta)]
    return aggregate_tta([predict(network, split, table, precision=precision) for table in tables], tta)


def teacher_logits(teacher, split: Split, device: torch.device, tta: str = "plain") -> Tensor:
    """Return a teacher's [N, K] float32 logits on the CPU, combined as the student's; a cache answers from disk."""

    def forward(batch: Batch) -> Tensor:
        return teacher(to(batch, device)).logits.float()

    by_view = []
    for number, row in enumerate(tta_views(tta)):
        table = row.expand(len(split.pixels), -1)
        as_packed = torch.equal(row, torch.tensor(IDENTITY))
        teacher.open(split.name, 0 if as_packed else f"{tta}{number}", table)
        by_view.append(_shared_out(forward, split, table, faces_per_pass(device)))
    return aggregate_tta(by_view, tta)


@torch.no_grad()
def probe(network: nn.Module) -> list[list[float]]:
    """Return a network's logits [4, K] about four fixed pictures, in float32: kept beside its weights, they tell its code.

    Args:
        network: images -> Outputs, with an input: InputSpec. Its mode is left as it was.
    """
    device = next(network.parameters()).device
    coarse = np.random.default_rng(0).integers(0, 256, (4, 1, 6, 6), np.uint8)
    pixels = torch.from_numpy(coarse.repeat(8, 2).repeat(8, 3)).to(device)
    with eval_mode(network), torch.backends.cudnn.flags(enabled=False):  # it would round to TF32
        logits = network(render(pixels, identity(4).to(device), network.input)).logits
    return [[round(value, 5) for value in row] for row in logits.float().tolist()]


def refuse_changed_network(network: nn.Module, metadata: dict, path: Path, other: str = "paths.run") -> None:
    """Refuse a network that was made anew of its weights and answers otherwise than it did when they were written.

    Args:
        network: with the weights.
        metadata: of their file.
        path: of their file, or folder.
        other: the key that gives another folder to train in.

    Raises:
        ValueError: the code of the network, or of how a picture is prepared, was changed since.
    """
    if (kept := metadata.get(PROBE)) is None:  # weights of other origin
        return
    kept, computed = np.array(kept), np.array(probe(network))
    near = CLOSE * max(1, np.abs(kept).max())
    if kept.shape != computed.shape or not np.allclose(kept, computed, rtol=0, atol=near, equal_nan=True):
        raise ValueError(
            f"{path}: its network answers otherwise today than when these weights were written: its code, or "
            "its input (size, mean, std), was changed since. Bring them back as they were, or train again with the code as it "
            f"is: {other}=ANOTHER_FOLDER."
        )


@torch.no_grad()
def refuse_answers_by_batch(network: nn.Module, split: Split) -> None:
    """Refuse a network whose answer about a face depends on the faces beside it: its accuracy would depend on their order.

    Args:
        network: images -> Outputs, with an input: InputSpec. Its mode is left as it was.
        split: the packed split; eight faces of it are asked about together, in another order, and each alone, in float32.

    Raises:
        ConfigError: the logits differ.
    """
    device = next(network.parameters()).device
    rows = split.rows[np.unique(np.linspace(0, len(split) - 1, min(8, len(split))).astype(np.int64))]
    pixels = torch.from_numpy(split.pixels[rows]).to(device)
    with eval_mode(network), torch.backends.cudnn.flags(enabled=False):  # it would round to TF32
        images = render(pixels, identity(len(rows)).to(device), network.input)
        together, order = network(images).logits, torch.arange(len(rows) - 1, -1, -1, device=device)
        others = network(images[order]).logits[order], torch.cat([network(image[None]).logits for image in images])
    near = CLOSE * max(1.0, float(together.abs().max()))
    if not all(torch.allclose(together, other, rtol=0, atol=near, equal_nan=True) for other in others):
        raise ConfigError(
            "student",
            f"{type(network).__name__} answers otherwise about a face when others are beside it, so that no accuracy "
            "of it means anything. Let nothing in its forward() mix the faces of a batch in eval mode.",
        )


def write_predictions(
    path: Path, split: Split, classes: tuple[str, ...], logits: Tensor, teacher_logits: Tensor | None
) -> None:
    """Write one row per picture: id, label, prediction, teacher's prediction where there is one, probability of each class."""
    probabilities = logits.softmax(1).numpy()
    predicted = {"prediction": probabilities.argmax(1)}
    if teacher_logits is not None:
        predicted["teacher_prediction"] = teacher_logits.argmax(1).numpy()
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "label", *predicted, *(f"p_{name}" for name in classes)])
        for k, face in enumerate(split.ids):
            label = classes[split.label[k]] if split.label[k] >= 0 else ""
            named = (classes[answers[k]] for answers in predicted.values())
            rows.writerow([face, label, *named, *(f"{p:.6f}" for p in probabilities[k])])


def read_predictions(path: Path, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return [N, K] probabilities, [N] labels, -1 where a face has none, and [N] ids of a predictions file.

    Raises:
        ValueError: it is missing, damaged or empty.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:  # a spreadsheet puts a byte order mark in front
            rows = list(csv.DictReader(file))
        probabilities = np.array([[float(row[f"p_{name}"]) for name in classes] for row in rows])
        labels = np.array([classes.index(row["label"]) if row["label"] else -1 for row in rows])
        ids = tuple(row["id"] for row in rows)
        for row, column in np.argwhere(~((probabilities >= 0) & (probabilities <= 1)))[:1]:
            given = rows[row][f"p_{classes[column]}"]
            raise ValueError(f"face {ids[row]}: p_{classes[column]} is {given}, expected a number from 0 to 1")
    except FileNotFoundError:
        raise ValueError(f"{path} is missing. {AGAIN}") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}). {AGAIN}") from None
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(
            f"{path} is damaged ({type(error).__name__}: {format_error(error, inside=True)}). {AGAIN}"
        ) from error
    if not rows:
        raise ValueError(f"{path} has no row. {AGAIN}")
    return probabilities, labels, ids
