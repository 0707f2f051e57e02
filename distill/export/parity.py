"""The parity gate: an exported file answers the whole validation split as the PyTorch student does, or it is not written."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import nn

from distill.augment.views import identity, render
from distill.evaluation import inference
from distill.evaluation.metrics import agreement, bootstrap, top1_accuracy
from distill.export.export_module import as_picture
from distill.export.int8_static import evenly_spaced
from distill.export.runtimes import Answer
from distill.system.console import bar, track
from distill.types import Split

MIN_AGREEMENT = 0.999  # of float files, top-1
MAX_ACCURACY_DROP = 0.005  # of accuracy, by int8 files
RECORDED = 5e-3  # mean |dp| to the run's own predictions, which bfloat16 or TF32 may have rounded
CLOSE = 1e-3  # probabilities of a float file at other sizes and batch sizes
MAX_AGREEMENT_CHANGE = 0.02  # of agreement, between the packed size and another one, of int8 files
BATCH, OTHER_BATCHES, FACES = 32, (1, 7), 56  # alone, among a few, and all FACES together
# height and width in units of the network's side: up, down by blocks, small
SIZES = ((1.25, 1.7), (2.3, 2.6), (0.6, 0.45))


@dataclass(frozen=True)
class ReferenceOutputs:
    """What the PyTorch student answers.

    Shape:
        logits: [N, K] of the validation split; resized: one (pictures [B, H, W, 3], logits [B, K]) per other size;
        recorded: [N, K] probabilities of the same faces as packed that the run has written, None where it wrote others;
        temperature: a number, which the logits are divided by, those behind `recorded` not.
    """

    split: Split
    logits: np.ndarray
    resized: tuple[tuple[np.ndarray, np.ndarray], ...]
    recorded: np.ndarray | None = None
    temperature: float = 1.0

    @property
    def accuracy(self) -> float:
        return top1_accuracy(self.logits, self.split.label)


@dataclass(frozen=True)
class Parity:
    """How near a file comes: shares in [0, 1]; `accuracy_ci` a bootstrap 95% interval; `other` the largest |dp| elsewhere.

    accuracy is by the labels, of faces without any by the run's own answers.
    recorded is the mean |dp| to the run's own predictions, None where those are of other views.
    other_sizes is the number of other picture sizes that were tried: none where a file takes one size.
    """

    agreement: float
    accuracy: float
    accuracy_ci: tuple[float, float]
    difference: float
    other_batch: float
    other_size: float
    other_size_agreement: float
    other_sizes: int
    recorded: float | None = None


@torch.no_grad()
def reference(student: nn.Module, split: Split, preprocess: bool) -> ReferenceOutputs:
    """Ask the PyTorch student, in float32, about the whole split, and about some faces at other sizes."""
    with bar() as progress:
        task = progress.add_task("PyTorch student", total=len(split))
        logits = inference.predict(student, split, batch_size=BATCH, tick=lambda n: progress.advance(task, n)).numpy()
    pictures = as_picture(split.pixels[split.rows[evenly_spaced(split, FACES)]])
    side, resized = student.input.size, []
    for tall, wide in SIZES if preprocess else ():
        size = (max(round(wide * side), 1), max(round(tall * side), 1))  # as PIL has it: width first
        drawn = np.stack([np.asarray(Image.fromarray(p).resize(size, Image.Resampling.BICUBIC)) for p in pictures])
        images = render(torch.from_numpy(drawn).permute(0, 3, 1, 2), identity(len(drawn)), student.input)
        resized.append((drawn, student(images).logits.numpy()))
    return ReferenceOutputs(split, logits, tuple(resized))


def refuse_changed_student(
    student: nn.Module, wanted: ReferenceOutputs, recorded: np.ndarray, tta: str
) -> ReferenceOutputs:
    """Refuse a PyTorch student that does not answer as the run that is told of; return what files are measured by.

    Args:
        student: made of the run's config and weights.
        wanted: its answers about faces as packed.
        recorded: [N, K] probabilities that the run has written.
        tta: of which those are, plain, mirror or crops8.

    Raises:
        ValueError: code, weights or predictions were changed since.
    """
    plain = tta == "plain"
    computed = _softmax(wanted.logits if plain else inference.student_logits(student, wanted.split, tta).numpy())
    if (difference := _mean_difference(computed, recorded)) > RECORDED:
        raise ValueError(
            f"the student that its code and weights make today answers otherwise than predictions/valid.csv says: mean |dp| "
            f"{difference:.3f}, the same answer for {agreement(computed, recorded):.1%} of the faces. Code or weights were changed since "
            "it was measured: bring them back, or train again, with paths.run=ANOTHER_FOLDER."
        )
    return replace(wanted, recorded=recorded if plain else None)


def calibrated(wanted: ReferenceOutputs, temperature: float) -> ReferenceOutputs:
    """Return what files are measured by whose logits are divided by a temperature."""
    resized = tuple((pictures, logits / temperature) for pictures, logits in wanted.resized)
    return replace(wanted, logits=wanted.logits / temperature, resized=resized, temperature=temperature)


def _mean_difference(computed: np.ndarray, recorded: np.ndarray) -> float:
    return float(np.abs(computed - recorded).mean())


def measure(answer: Answer, wanted: ReferenceOutputs, spec=None, words: str = "file") -> Parity:
    """Run a file on the whole split, again in other batch sizes, and on faces of other sizes.

    Args:
        answer: the file's function.
        wanted: the PyTorch student's answers.
        spec: the InputSpec where the file is the bare network, which sees rendered faces.
        words: what the progress bar calls it.

    Raises:
        ValueError: it does not answer finite logits and their softmax.
    """
    split = wanted.split
    parts = np.array_split(np.arange(len(split)), -(-len(split) // BATCH))
    tracked = track(parts, len(parts), f"{words} on {len(split):,} faces")
    answers = [answer(inputs(split, rows, spec)) for rows in tracked]
    logits, probabilities = (np.concatenate(part) for part in zip(*answers, strict=True))
    if logits.shape != wanted.logits.shape or not np.isfinite(logits).all():
        raise ValueError(
            f"it answers {list(logits.shape)} numbers, not all finite, in place of {list(wanted.logits.shape)}"
        )
    if _largest(probabilities, _softmax(logits)) > 1e-4:
        raise ValueError("its probabilities are not the softmax of its logits")
    again = [_largest(answer(inputs(split, rows, spec))[1], probabilities[rows]) for rows in _few(split)]
    elsewhere = [(answer(pictures), expected) for pictures, expected in wanted.resized]
    accuracy = top1_accuracy(logits, split.label)
    return Parity(
        agreement=agreement(logits, wanted.logits),
        accuracy=accuracy,
        accuracy_ci=bootstrap(logits, split.label),
        difference=accuracy - wanted.accuracy,
        other_batch=max(again),
        other_size=max((_largest(outputs[1], _softmax(expected)) for outputs, expected in elsewhere), default=0.0),
        other_size_agreement=min((agreement(outputs[0], expected) for outputs, expected in elsewhere), default=1.0),
        other_sizes=len(elsewhere),
        recorded=None
        if wanted.recorded is None
        else _mean_difference(_softmax(logits * wanted.temperature), wanted.recorded),
    )


def inputs(split: Split, rows: np.ndarray, spec) -> np.ndarray:
    """Return faces of a split as a file takes them: pictures, or with the InputSpec of a bare network rendered faces."""
    pixels = split.pixels[split.rows[rows]]
    return as_picture(pixels) if spec is None else render(torch.from_numpy(pixels), identity(len(rows)), spec).numpy()


def _few(split: Split) -> Iterator[np.ndarray]:
    """Yield rows in batches of other sizes, and one batch of them all in another order."""
    rows = evenly_spaced(split, FACES)
    for number in OTHER_BATCHES:
        yield from np.array_split(rows[: 3 * number], min(3, -(-len(rows[: 3 * number]) // number)))
    yield np.random.default_rng(0).permutation(rows)


def _softmax(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).softmax(1).numpy()


def _largest(a: np.ndarray, b: np.ndarray) -> float:
    if a.shape != b.shape or not np.isfinite(a).all():
        raise ValueError(f"it answers {list(a.shape)} probabilities, not all finite, in place of {list(b.shape)}")
    return float(np.abs(a - b).max())


def parity_failure(parity: Parity, exact: bool) -> str | None:
    """Return why a file may not be written, or None.

    Args:
        parity: what was measured.
        exact: a float file: it agrees and stays close; else an int8 file: it may lose little accuracy.
    """
    if exact and parity.agreement < MIN_AGREEMENT:
        return f"agrees with the PyTorch student on {parity.agreement:.2%} of the faces, less than {MIN_AGREEMENT:.1%}"
    if exact and parity.recorded is not None and parity.recorded > RECORDED:
        return f"answers otherwise than the run's own predictions/valid.csv: mean |dp| {parity.recorded:.3f}"
    if not exact and -parity.difference > MAX_ACCURACY_DROP + 1e-9:  # 2 of 400 faces are 0.005 and a little
        return f"loses {-100 * parity.difference:.2f} points of validation accuracy, more than {100 * MAX_ACCURACY_DROP:.1f}"
    if exact and max(parity.other_batch, parity.other_size) > CLOSE:
        where = "batch size" if parity.other_batch > CLOSE else "picture size"
        return f"answers otherwise at another {where}: a probability differs by {max(parity.other_batch, parity.other_size):.3f}"
    if parity.other_batch > 0.1:  # an int8 file may round one step otherwise
        return f"answers otherwise at another batch size: a probability differs by {parity.other_batch:.3f}"
    if not exact and parity.other_size_agreement < parity.agreement - MAX_AGREEMENT_CHANGE - 2 / FACES:
        return (
            f"agrees with the PyTorch student on {parity.other_size_agreement:.1%} of faces of another size, and on "
            f"{parity.agreement:.1%} of those as packed"
        )
    return None
