"""The faces of which the best student is most sure and wrong, with the places where it and its teacher look."""

import base64
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from distill import build
from distill.augment.views import identity, render
from distill.data.packing.reader import open_pack
from distill.models.feature_hooks import Layer
from distill.pipeline.completed import rebuild
from distill.report.gradcam import grad_cam
from distill.report.predictions import Predictions, run_predictions
from distill.runs.folder import RunFolder
from distill.runs.reading import Run, goal_of
from distill.system.weights import load_weights, read_weights

SIDE = 96  # pixels of a picture on the page
Answer = tuple[str, float]  # class, probability


class Face(NamedTuple):
    """One face: what it is, what the networks say with which probability, and pictures as data URIs."""

    id: str
    label: str
    student: Answer
    teacher: Answer | None
    picture: str
    looks: list[tuple[str, str]]  # (whose, picture)


class Faces(NamedTuple):
    """The chosen faces, and facts about them as messages."""

    wrong: list[Face]
    right: list[Face]
    notes: list[str]


def example_faces(run: Run, n: int = 12) -> Faces:
    """Choose faces of the test split and look at them with both networks.

    Args:
        run: the best run, of a job over folds its best fold.
        n: how many wrong ones at most; of the right ones, the surest of each class.

    Raises:
        ValueError: packed pictures, predictions or the student's weights are out of reach.
    """
    run = max(run.leaves, key=lambda leaf: leaf.numbers[goal_of(leaf.numbers)])
    answers, classes = run_predictions(run), tuple(run.result.data["classes"])
    if answers.labels.min() < 0:
        raise ValueError("nobody has said what they show")
    wrong, right = choose(answers, n)
    rows = np.concatenate([wrong, right])
    pixels = _pictures(run, [answers.ids[row] for row in rows])
    guesses = torch.from_numpy(answers.probabilities[rows].argmax(1))
    weights = RunFolder(run.folder).weights
    student = rebuild(run.config.student, classes, run.config.plugins, read_weights(weights)[0])
    load_weights(student, weights, str(run.folder))
    heat, _, layer = grad_cam(student, _images(student, pixels), guesses)
    looks, notes = [("student", heat)], [f"Student: {run.result.student['name']}, {_place(layer)}"]
    teacher = _teacher_maps(run, classes, pixels, notes)  # maps, answers
    if teacher is not None:
        looks.append(("teacher", teacher[0]))
    faces = []
    for k, row in enumerate(rows):
        answer_row, packed = answers.probabilities[row], pixels[k]
        picture = Image.fromarray(packed[0].numpy() if len(packed) == 1 else packed.permute(1, 2, 0).numpy())
        face = np.asarray(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        seen = [(whose, _uri(_lit(face, maps[k].numpy()))) for whose, maps in looks]
        teacher_answer, answer = teacher and teacher[1][k], (classes[int(answer_row.argmax())], float(answer_row.max()))
        faces.append(Face(answers.ids[row], classes[answers.labels[row]], answer, teacher_answer, _uri(face), seen))
    if license := run.result.data.get("notes", {}).get("license"):
        notes.append(str(license))
    return Faces(faces[: len(wrong)], faces[len(wrong) :], notes)


def choose(answers: Predictions, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the n surest mistakes, and of the surest right answer of each class."""
    guess, sure = answers.probabilities.argmax(1), answers.probabilities.max(1)
    order = np.argsort(-sure, kind="stable")
    wrong = order[guess[order] != answers.labels[order]][:n]
    right = order[guess[order] == answers.labels[order]]
    _, first = np.unique(guess[right], return_index=True)
    return wrong, right[first]


def _pictures(run: Run, ids: list[str]) -> Tensor:
    """Return [N, C, H, W] uint8 of faces by name, from the packed data of the store: a report packs nothing itself."""
    packed = run.result.data.get("notes", {}).get("packed")
    folder = Path(run.config.paths.store).expanduser() / "packed" / str(packed)
    if not packed or not folder.is_dir():
        raise ValueError(f"the packed pictures are not in {folder.parent} (there would be {packed})")
    splits = open_pack(folder).splits
    for name in sorted(splits, key=lambda name: name != "test"):
        rows = {face: row for row, face in enumerate(splits[name].ids)}
        if all(face in rows for face in ids):
            return torch.from_numpy(np.stack([splits[name].pixels[rows[face]] for face in ids]))
    raise ValueError(f"{folder} does not hold all faces of predictions/test.csv")


def _teacher_maps(
    run: Run, classes: tuple[str, ...], pixels: Tensor, notes: list[str]
) -> tuple[Tensor, list[Answer]] | None:
    """Return the teacher's maps and answers, of several teachers the first one's; none, with a note, where it is out of reach."""
    weights = (run.result.teacher or {}).get("weights") or []
    if not weights:
        unknown = "The run does not say where its teacher's weights are"
        notes.append(unknown if run.result.teacher else "It had no teacher")
        return None
    node = build.members(run.config.teacher)[0]
    try:
        network = build.bare_teacher(node, run.config.plugins, classes)
        load_weights(network, weights[0], "teacher")
        maps, probabilities, layer = grad_cam(network, _images(network, pixels))
    except Exception as error:  # whatever it is, the student's maps are worth showing
        notes.append(f"The teacher could not be asked: {error}")
        return None
    first = ", its first member" if len(weights) > 1 else ""
    notes.append(f"Teacher: {run.result.teacher['name']}{first}, {_place(layer)}")
    best = probabilities.max(1)
    return maps, [(classes[k], float(p)) for k, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)]


def _place(layer: Layer) -> str:
    return f"layer {layer.name}, {layer.shape[1]} x {layer.shape[2]} places"


def _images(network: nn.Module, pixels: Tensor) -> Tensor:
    return render(pixels, identity(len(pixels)), network.input).contiguous()


def _lit(face: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Return a face with its map over it: darkened and gray where nothing speaks for the class, glowing where much does."""
    from matplotlib import colormaps  # slow to import, and most calls of the command line draw no face

    heat = Image.fromarray(heat.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    heat = np.asarray(heat).clip(0, 1)
    gray = face.mean(2, keepdims=True).repeat(3, 2) * 0.75
    strength = 0.6 * heat[..., None]
    return (gray * (1 - strength) + 255 * colormaps["inferno"](0.25 + 0.75 * heat)[..., :3] * strength).astype(np.uint8)


def _uri(picture: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
