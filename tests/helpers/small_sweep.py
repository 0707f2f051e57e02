"""A small sweep file, for tests."""

from pathlib import Path

import yaml

from distill.sweep.space import SweepFile, read

SMALL = """
program: distill/run.py
command: ["${env}", "${interpreter}", -m, distill.run, student=microexpnet, "${args_no_hyphens}"]
method: random
metric: {name: valid/top1_accuracy, goal: maximize}
run_cap: 4
parameters:
  student.width: {values: [XS, XXS]}
  optimizer.lr: {distribution: log_uniform_values, min: 0.001, max: 0.01}
"""


def small(folder: Path, **changes) -> SweepFile:
    """The small file, with other keys."""
    (folder / "small.yaml").write_text(yaml.safe_dump(yaml.safe_load(SMALL) | changes, sort_keys=False))
    return read(folder / "small.yaml")
