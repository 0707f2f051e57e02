"""Images per second of each part of a run, all in one process: python benchmarks/throughput.py [student ...] [--threads N]
[--device cuda].

bare step   forward, loss, backward and optimizer on one resident batch of rendered images and stored soft targets
whole loop  distill.training.loop.train itself: rows gathered, views rendered, stored logits read, log lines, schedule, validation
            on 64 faces, checkpoint written and synced
Bare and whole are measured in turns, so that a neighbor on the machine slows both; medians over the turns.
"""

import argparse
import io
import os
import statistics
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_module
from PIL import Image

from distill import build
from distill.augment.views import ViewRecipe, render
from distill.config import schema as config
from distill.data.ferplus.label_folders import decode
from distill.data.loader import batches, epoch_order, to
from distill.evaluation.cost import profile
from distill.runs.folder import RunFolder
from distill.system.console import TrainingProgress
from distill.system.hardware import autocast, environment, pick_device, pick_precision, set_threads, tune_allocator
from distill.training.loggers import JsonLines
from distill.training.loop import Settings, TrainOutput, TrainState, train
from distill.training.optim import ModelEma
from distill.types import Outputs, Split
from teachers.frozen import FrozenTeacher
from teachers.logit_cache import LogitCache
from teachers.output_store import manifest

FACES = 24576
SIZES = {"cern": ["student.size=64"]}  # what the README quotes; others at their yaml's size
CPU = torch.device("cpu")


class StoredLogits:
    """A teacher that answers from an array, as the cache does."""

    learns = False

    def __init__(self, rows: int, classes: int, device: torch.device = CPU):
        self.current = torch.randn(rows, classes, device=device)

    def open(self, split: str, view_id: int, table: torch.Tensor, features: bool = True) -> None:
        """Every view has the same logits here."""

    def __call__(self, batch):
        logits = self.current[batch.index]
        return Outputs(logits, logits[:, None], {})


def rate(work, images: int, turns: int = 1) -> float:
    """Return the median images/s of some turns of work()."""
    seconds = []
    for _ in range(turns):
        wait_for_gpu()
        start = time.perf_counter()
        work()
        wait_for_gpu()
        seconds.append(time.perf_counter() - start)
    return images / statistics.median(seconds)


def wait_for_gpu() -> None:
    """Wait until a GPU, where there is one, has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def bare_step(batch, images, soft, train_state, precision) -> None:
    """The least that training can cost: no gather, no rendering, no ledger."""
    with autocast(images.device, precision):
        student = train_state.student(images)
    total, _ = train_state.objective(student, soft, batch.target)
    train_state.optimizer.zero_grad(set_to_none=True)
    total.backward()
    train_state.optimizer.step()
    train_state.ema.update(train_state.student)


def measure(student: str, batch_size: int, store: Path, turns: int, device: torch.device = CPU) -> dict[str, float]:
    """Return images/s of each part for one student."""
    with initialize_config_module("conf", version_base="1.3"):
        overrides = [
            f"student={student}",
            f"data.train={FACES}",
            "data.valid=64",
            "data.test=64",
            f"paths.store={store}",
        ]
        cfg = config.typed(compose("run", overrides=overrides))
    data = build.dataset(cfg.data, cfg.paths.store, cfg.plugins)
    precision, recipe = pick_precision("auto", device), ViewRecipe()
    network = build.network(cfg.student, cfg.plugins, data).to(device, memory_format=torch.channels_last)
    count = batch_size * min(FACES // batch_size, 192 if profile(network, network.input)["macs"] < 50e6 else 6)
    small = replace(data, splits=data.splits | {"train": first(data.splits["train"], count)})
    split = small.splits["train"]
    teacher = StoredLogits(len(split.pixels), len(data.classes), device)
    objective = build.objective(cfg.loss, cfg.plugins, data)
    objective.bind(network, teacher)
    objective.to(device)
    optimizer = build.optimizer(cfg.optimizer, None, [network, objective])
    train_state = TrainState(
        network, objective, optimizer, build.make(cfg.schedule, cfg.plugins), ModelEma(network, 0.998), student
    )
    table = recipe.table(0, 1, len(split.pixels))
    resident = to(next(batches(split, table, batch_size, epoch_order(0, 0, count))), device)
    images = render(resident.pixels, resident.view, network.input).contiguous(memory_format=torch.channels_last)
    soft, folders = teacher(resident), iter(range(1000))
    numbers = replace(cfg.train, epochs=1, batch_size=batch_size, monitor="valid/nll")
    settings = Settings(numbers, replace(cfg.augment, num_views=0), 0, precision, save_every=200)

    def bare():
        for _ in range(count // batch_size):
            bare_step(resident, images, soft, train_state, precision)

    def loop():
        folder = store / "runs" / f"{student}-{next(folders)}"
        folder.mkdir(parents=True)
        lines = JsonLines(folder / "metrics.jsonl")
        with (
            open(os.devnull, "w", encoding="utf-8") as nowhere,
            redirect_stdout(nowhere),
            TrainingProgress(student, 1) as progress,
        ):
            output = TrainOutput(lines, lines.log, progress)
            train(train_state, teacher, small, recipe, settings, RunFolder(folder), output, {})

    network.train()
    bare(), loop()
    pairs = [(rate(bare, count), rate(loop, count)) for _ in range(turns)]
    return {
        "bare step": statistics.median(b for b, _ in pairs),
        "whole loop": statistics.median(w for _, w in pairs),
        "whole / bare": statistics.median(w / b for b, w in pairs),
        "rendering": rate(lambda: render(resident.pixels, resident.view, network.input), batch_size, turns),
    }


def first(split: Split, count: int) -> Split:
    """Return the first rows of a split."""
    kept = {name: getattr(split, name)[:count] for name in ("rows", "target", "label", "ids")}
    return replace(split, **kept)


def shared_parts(store: Path) -> dict[str, float]:
    """Return images/s of what does not depend on the student: drawing and packing, PNG decoding, the teacher's cache."""
    overrides = [
        f"data.train={FACES}",
        "data.valid=64",
        "data.test=64",
        f"paths.store={store}",
        "teacher.pretrained=false",
        "teacher.size=64",
    ]
    with initialize_config_module("conf", version_base="1.3"):
        cfg = config.typed(compose("run", overrides=overrides))
    start = time.perf_counter()
    data = build.dataset(cfg.data, cfg.paths.store, cfg.plugins)
    packing = (FACES + 128) / (time.perf_counter() - start)
    files = [png(picture[0]) for picture in data.splits["train"].pixels[:1000]]
    small = replace(data, splits={"train": first(data.splits["train"], 768)})
    precision, recipe = pick_precision("auto", CPU), ViewRecipe()
    network = build.bare_teacher(cfg.teacher, cfg.plugins, data.classes)
    teacher = FrozenTeacher(network, "resnet50", data.classes, precision)
    cache = LogitCache(store / "logits", manifest(small, "none", [], recipe, 0, "auto"), lambda: teacher, small, CPU)
    views = iter(range(1, 100))

    def fill() -> None:
        view = next(views)
        cache.open("train", view, recipe.table(0, view, len(small.splits["train"].pixels)))

    fill()
    return {
        "drawing and packing procedural faces": packing,
        "decoding 48-px PNG": rate(lambda: [decode(file, "memory") for file in files], len(files), 3),
        "teacher caching, resnet50 at 64 px": rate(fill, 768, 3),
    }


def png(picture: np.ndarray) -> bytes:
    """Return a picture as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("students", nargs="*", default=["microexpnet", "cern"])
    parser.add_argument("--threads", type=int, default=None, help="torch threads; every core if not given")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--device", default="cpu", help="cpu or cuda, of the students; the shared parts are the CPU's")
    parser.add_argument("--turns", type=int, default=9, help="repetitions, of which the median counts")
    args = parser.parse_args()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error(f"--device {args.device}: torch sees no GPU here. Type --device cpu.")
    tune_allocator()
    threads = set_threads(args.threads)
    print(f"{environment()['processor']}, {threads} threads, torch {torch.__version__}, batch {args.batch_size}")
    if pick_device(args.device).type == "cuda":
        print(environment()["gpu"])
    with tempfile.TemporaryDirectory() as store:
        for name, value in shared_parts(Path(store)).items():
            print(f"{name:>40}: {value:10,.0f} images/s")
        for student in args.students:
            for name, value in measure(
                student, args.batch_size, Path(store), args.turns, pick_device(args.device)
            ).items():
                unit = "" if "/" in name else " images/s"
                print(
                    f"{student + ' ' + name:>40}: {value:10,.2f}{unit}"
                    if not unit
                    else f"{student + ' ' + name:>40}: {value:10,.0f}{unit}"
                )


if __name__ == "__main__":
    main()
