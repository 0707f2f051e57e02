"""How fast networks answer before any export: eager PyTorch, float32, one thread, as a run measures its student.

python benchmarks/networks.py [--rounds 5] [--json FILE] WORDS...     WORDS: "student=cern student.width=0.5 student.size=64"

They take turns, so that what else the machine does meets all of them; of each the median of its rounds. FILE takes every round.
"""

import argparse
import shlex
import statistics
from pathlib import Path

import torch
from hydra import compose, initialize_config_module

from distill import build
from distill.config import schema as config
from distill.data.common.emotions import EMOTIONS
from distill.evaluation.cost import speed
from distill.system.files import write_json
from distill.system.hardware import environment
from distill.types import Dataset


def network(words: str) -> torch.nn.Module:
    """Make the student that words ask for, with weights from the start."""
    overrides = [*shlex.split(words), "logger=none", "teacher=none", "loss=[ce]"]
    with initialize_config_module("conf", version_base="1.3"):
        cfg = config.typed(compose("run", overrides=overrides))
    made = build.network(cfg.student, cfg.plugins, Dataset("", EMOTIONS, "", {}))
    return made.eval().to(memory_format=torch.channels_last)


def main(words: list[str] | None = None) -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", metavar="WORDS")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(words)
    made = {name: network(name) for name in args.networks}
    rounds = [{name: speed(net, net.input) for name, net in made.items()} for _ in range(args.rounds)]
    medians = {
        name: {key: statistics.median(one[name][key] for one in rounds) for key in rounds[0][name]} for name in made
    }
    for name, median in medians.items():
        print(f"{name}: {median['images_per_second']:,.0f} images/s, {median['latency_ms']:.3g} ms for one")
    if args.json:
        write_json(args.json, {"networks": medians, "rounds": rounds, "environment": environment()})


if __name__ == "__main__":
    main()
