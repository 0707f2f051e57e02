"""Images per second of each part of a run, all in one process: python benchmarks/throughput.py [student ...] [--threads N].

bare step   forward, loss, backward and optimiser on one resident batch of rendered images and stored soft targets
whole loop  the same with everything that a run does: rows gathered, views rendered, cache read, ledger, progress
Bare and whole are measured in turns, so that a neighbour on the machine slows both; medians over the turns.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_module

from distill import build, config
from distill.batches import batches, epoch_order
from distill.evaluate import predict
from distill.optim import Average
from distill.runtime import autocast, environment, pick_precision, set_threads, tune_allocator
from distill.train import Learner, Ledger, train_step
from distill.types import Outputs
from distill.views import ViewRecipe, render

FACES = 4096
CPU = torch.device("cpu")


class StoredLogits:
    """A teacher that answers from an array, as the cache does."""

    def __init__(self, rows: int, classes: int):
        self.current = torch.randn(rows, classes)

    def __call__(self, batch):
        logits = self.current[batch.index]
        return Outputs(logits, logits[:, None], {})


def rate(work, images: int, turns: int = 1) -> float:
    """Return the median images/s of some turns of work()."""
    seconds = []
    for _ in range(turns):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return images / statistics.median(seconds)


def bare_step(batch, images, soft, learner, precision) -> None:
    """The least that training can cost: no gather, no rendering, no ledger."""
    with autocast(CPU, precision):
        student = learner.student(images)
    total, _ = learner.objective(student, soft, batch.target)
    learner.optimizer.zero_grad(set_to_none=True)
    total.backward()
    learner.optimizer.step()
    learner.average.update(learner.student)


def measure(student: str, batch_size: int, store: Path, turns: int) -> dict[str, float]:
    """Return images/s of each part for one student."""
    with initialize_config_module("conf", version_base="1.3"):
        overrides = [
            f"student={student}",
            f"data.train={FACES}",
            "data.valid=64",
            "data.test=64",
            f"paths.store={store}",
        ]
        cfg = config.plain(compose("run", overrides=overrides))
    data = build.dataset(cfg)
    split, precision, recipe = data.splits["train"], pick_precision("auto", CPU), ViewRecipe()
    network = build.network(cfg, data).to(memory_format=torch.channels_last)
    teacher = StoredLogits(len(split.pixels), len(data.classes))
    objective = build.objective(cfg, network, teacher)
    optimizer = build.optimiser(cfg, [network, objective])
    learner = Learner(network, objective, optimizer, build.schedule(cfg), Average(network, 0.998), student)
    table = recipe.table(0, 1, len(split.pixels))
    resident = next(batches(split, table, batch_size, epoch_order(0, 0, len(split))))
    images = render(resident.pixels, resident.view, network.input).contiguous(memory_format=torch.channels_last)
    soft, steps = teacher(resident), max(4, min(16, 4000 // (images.shape[-1] ** 2 // 8)))

    def bare():
        for _ in range(steps):
            bare_step(resident, images, soft, learner, precision)

    def loop():
        ledger = Ledger(50)
        for _, batch in zip(
            range(steps), batches(split, table, batch_size, epoch_order(0, 1, len(split))), strict=False
        ):
            ledger.add(train_step(batch, teacher, learner, precision))
            if ledger.full():
                ledger.flush()
        ledger.flush()

    network.train()
    bare(), loop()
    pairs = [(rate(bare, steps * batch_size), rate(loop, steps * batch_size)) for _ in range(turns)]
    return {
        "bare step": statistics.median(b for b, _ in pairs),
        "whole loop": statistics.median(w for _, w in pairs),
        "whole / bare": statistics.median(w / b for b, w in pairs),
        "rendering": rate(lambda: render(resident.pixels, resident.view, network.input), batch_size, turns),
    }


def shared_parts(store: Path) -> dict[str, float]:
    """Return images/s of what does not depend on the student: drawing and packing, and the teacher's forward pass."""
    overrides = [
        f"data.train={FACES}",
        "data.valid=64",
        "data.test=64",
        f"paths.store={store}",
        "teacher.pretrained=false",
    ]
    with initialize_config_module("conf", version_base="1.3"):
        cfg = config.plain(compose("run", overrides=overrides))
    start = time.perf_counter()
    data = build.dataset(cfg)
    packing = (FACES + 128) / (time.perf_counter() - start)
    teacher = build.bare_teacher(cfg, cfg["teacher"], data).to(memory_format=torch.channels_last)
    valid = data.splits["valid"]
    predict(teacher, valid, precision=pick_precision("auto", CPU))
    caching = rate(lambda: predict(teacher, data.splits["valid"], precision=pick_precision("auto", CPU)), len(valid), 3)
    return {"drawing and packing": packing, "teacher caching, resnet50 at 64 px": caching}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("students", nargs="*", default=["microexpnet", "cern"])
    parser.add_argument("--threads", type=int, default=None, help="torch threads; every core if not given")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--turns", type=int, default=9, help="repetitions, of which the median counts")
    args = parser.parse_args()
    tune_allocator()
    np.seterr(all="raise", under="ignore")
    threads = set_threads(args.threads)
    print(f"{environment()['processor']}, {threads} threads, torch {torch.__version__}, batch {args.batch_size}")
    with tempfile.TemporaryDirectory() as store:
        for name, value in shared_parts(Path(store)).items():
            print(f"{name:>40}: {value:10,.0f} images/s")
        for student in args.students:
            for name, value in measure(student, args.batch_size, Path(store), args.turns).items():
                unit = "" if "/" in name else " images/s"
                print(
                    f"{student + ' ' + name:>40}: {value:10,.2f}{unit}"
                    if not unit
                    else f"{student + ' ' + name:>40}: {value:10,.0f}{unit}"
                )


if __name__ == "__main__":
    main()
