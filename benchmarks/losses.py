"""Milliseconds that each loss adds to a training step: python benchmarks/losses.py [loss ...] [--repeats N] [--write].

MicroExpNet XXS, a batch of 64 faces at 84 px, one thread, fp32; the maps and logits of a ResNet-18 teacher at 64 px are at hand.
A step is forward, loss, backward and AdamW; from its time that of a step whose loss is the mean of the logits is taken away.
Both are measured in turns, as processor time, so that a neighbor on the machine slows neither or both; medians over the turns.
A loss that MicroExpNet cannot have is measured with MobileNetV2 + Inception, reconstruction B, on both sides. --write puts the numbers into
docs/losses_cost.json, which docs/losses.md is made from.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_module

from distill import build
from distill.augment.views import identity, render_batch
from distill.config import schema as config
from distill.system.hardware import environment
from distill.types import Batch, Dataset, Split
from students.microexpnet import MicroExpNet
from students.mobilenet_inception import MobileNetInception
from teachers.frozen import FrozenTeacher
from teachers.peer import Peer
from teachers.timm_teacher import TimmTeacher

ROOT = Path(__file__).resolve().parents[1]
CONF, COST = ROOT / "conf" / "loss", ROOT / "docs" / "losses_cost.json"
FACES, CLASSES = 64, tuple("abcdefgh")
HOW = (
    "extra milliseconds of processor time per training step of MicroExpNet XXS (catkd: of MobileNetV2 + Inception B) at batch 64, "
    "with the maps of a ResNet-18 teacher at hand, median of {repeats} on one thread of {machine}."
)


def data() -> Dataset:
    """Noise with votes."""
    rng = np.random.default_rng(0)
    votes, rows = rng.dirichlet(np.full(8, 0.3), FACES).astype(np.float32), np.arange(FACES)
    pixels = rng.integers(0, 256, (FACES, 1, 64, 64), np.uint8)
    split = Split("train", pixels, rows, votes, votes.argmax(1), tuple(map(str, rows)), "noise")
    return Dataset("noise", CLASSES, "votes", {"train": split})


def student(plain: bool = True) -> torch.nn.Module:
    torch.manual_seed(0)
    if plain:
        return MicroExpNet(8, 84, "XXS", "both", 0.0, "xavier", 0.5, 0.25)
    return MobileNetInception(8, 64, 1.0, "max", "B", 0.0, 0.5, 0.25)


def teacher(learns: bool):
    torch.manual_seed(1)
    if learns:
        peer = Peer(student(), "peer", CLASSES, torch.float32)
        peer.open("train", 0, None)
        return peer
    return FrozenTeacher(TimmTeacher("resnet18", 8, CLASSES, 64, pretrained=False), "resnet18", CLASSES, torch.float32)


def bound(objective, node: dict):
    """Let an objective meet a student that it can have, and a teacher; return (student, teacher, plain)."""
    learns = node["_target_"].endswith("MutualLearning")
    for plain in (True, False):
        net, guide = student(plain), teacher(learns)
        try:
            objective.bind(net, guide)
            return net, guide, plain
        except ValueError:
            if not plain:
                raise


def stepper(net, batch, objective=None, guide=None):
    """Return a function that does one training step; without an objective the loss is the mean of the logits."""
    images = render_batch(batch, net.input).contiguous()
    modules = [net] if objective is None else [net, objective]
    optimizer = torch.optim.AdamW([p for m in modules for p in m.parameters() if p.requires_grad], 1e-3, fused=True)
    at_hand = None if guide is None else guide(batch)

    def step() -> None:
        answer = net(images)._replace(index=batch.index)
        if objective is None:
            total = answer.logits.mean()
        else:
            given = guide(batch) if guide.learns else at_hand
            total, _ = objective(answer, given, batch.target)
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()

    return step


def extra(name: str, node: dict, repeats: int) -> float:
    """Return the milliseconds that a loss adds to a step."""
    split = data().splits["train"]
    target = torch.from_numpy(split.target)
    rows = torch.arange(FACES)
    batch = Batch(torch.from_numpy(split.pixels), identity(FACES), target, target.argmax(1), rows)
    objective = build.objective({name: node}, [], data())
    net, guide, plain = bound(objective, node)
    objective.at(100.0)
    steps = {"bare": stepper(student(plain), batch), "whole": stepper(net, batch, objective, guide)}
    seconds = {key: [] for key in steps}
    for turn in range(repeats + 3):
        for key, step in steps.items():
            start = time.process_time()
            step()
            if turn >= 3:  # the first ones fill caches
                seconds[key].append(time.process_time() - start)
    return 1e3 * (statistics.median(seconds["whole"]) - statistics.median(seconds["bare"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = sorted(path.stem for path in CONF.glob("*.yaml"))
    parser.add_argument("losses", nargs="*", default=names)
    parser.add_argument("--repeats", type=int, default=50, help="steps of each kind")
    parser.add_argument("--write", action="store_true", help="into docs/losses_cost.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with initialize_config_module("conf", version_base="1.3"):
        chosen = (f"loss=[{','.join(args.losses)}]", "teacher=resnet50", "teacher.cache=features")
        cfg = config.typed(compose("run", overrides=["data=procedural", *chosen]))
    measured = {}
    for name in args.losses:
        measured[name] = round(extra(name, cfg.loss[name], args.repeats), 1)
        print(f"{name:18} {measured[name]:8.1f} ms", flush=True)
    if args.write:
        before = json.loads(COST.read_text(encoding="utf-8"))["milliseconds"] if COST.exists() else {}
        how = HOW.format(repeats=args.repeats, machine=environment()["processor"])
        COST.write_text(json.dumps({"how": how, "milliseconds": before | measured}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
