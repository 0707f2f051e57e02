"""Born-again networks: generations=N students of one kind, each distilled from the one before."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from distill import build
from distill.evaluation import inference
from distill.evaluation.calibration import as_logits
from distill.evaluation.metrics import evaluate_predictions
from distill.pipeline import completed, validation
from distill.pipeline.job import Job
from distill.pipeline.reuse import is_measured, refuse_another, write_config_and_env
from distill.pipeline.run import run
from distill.runs.config import RunConfig
from distill.runs.folder import RunFolder
from distill.runs.result import RunResult
from distill.system import distributed as parallel
from distill.system.console import console


def run_generations(cfg: RunConfig, folder: RunFolder, job: Job) -> RunResult:
    """Do the job once per generation: the first as asked, generation k with the run of generation k - 1 as its teacher.

    Each starts afresh, with seed + k - 1. A generation that is complete is not done again. Without a first teacher, generation 1
    learns as a run with teacher=none does.

    Args:
        cfg: checked config with generations, their number.
        folder: run folder of the whole; generation k is in folder/generation-k.
        job: what the runs are a part of.

    Returns:
        The last generation's result with `generations` (each one's metrics) and `ensemble` (those of the mean probability of
        all generations, on valid and test).

    Reference: Furlanello et al., Born-Again Neural Networks, arXiv 1805.04770, section 3 and equation 5 (ensemble).
    Deviation: of the labels and the teacher's answers each generation learns by the run's own losses.
    """
    if not is_measured(folder, cfg.eval, cfg.data):
        build.dataset(cfg.data, cfg.paths.store, cfg.plugins)  # a mistake in it is said before there is a folder
        write_config_and_env(cfg, folder, job.command)
    results = []
    for k in range(1, cfg.generations + 1):
        one = _first(cfg) if k == 1 else _next(cfg, k, folder.part("generation", k - 1))
        refuse_another(one, where := folder.part("generation", k))
        results.append(run(one, where, job))
    combined = replace(results[-1], name=folder.name, folder=str(folder))
    combined.generations = [
        {"generation": k, "folder": r.folder, "seed": r.seed, **r.student["metrics"]} for k, r in enumerate(results, 1)
    ]
    together, classes = dict[str, Any](), tuple(results[0].data["classes"])
    for split in ("valid", "test"):
        files = [RunFolder(Path(result.folder)).predictions(split) for result in results]
        probabilities, labels, _ = zip(*(inference.read_predictions(file, classes) for file in files), strict=True)
        numbers = evaluate_predictions(as_logits(np.mean(probabilities, axis=0)), labels[0], classes)
        together |= {f"{split}/{key}": value for key, value in numbers.items()}
    combined.ensemble = {"average": "probabilities", "metrics": together}
    combined.teacher_forward_images = sum(result.teacher_forward_images or 0 for result in results)
    combined.seconds = {part: sum(result.seconds[part] for result in results) for part in combined.seconds}
    if parallel.is_main():
        combined.write(folder.result)
    lines = [(f"generation {one['generation']}", one) for one in combined.generations]
    for name, metrics in [*lines, ("all of them together", combined.ensemble["metrics"])]:
        console.print(
            f"{name}: valid top-1 {metrics['valid/top1_accuracy']:.2%}, test top-1 {metrics['test/top1_accuracy']:.2%}"
        )
    return combined


def _first(cfg: RunConfig) -> RunConfig:
    """Return the config of generation 1; without a teacher it leaves out the terms that need one."""
    one, left_out = validation.learned_by(replace(cfg, generations=1))
    if cfg.teacher["_target_"] is None:
        one = replace(one, eval=replace(cfg.eval, cka=False))
    if left_out:
        console.print(
            f"*** generation 1 has no teacher: it learns by {', '.join(one.loss)} alone, without {', '.join(left_out)}",
            style="bold",
        )
    return one


def _next(cfg: RunConfig, k: int, before: RunFolder) -> RunConfig:
    """Return the config of generation k, distilled from the run in a folder."""
    live = cfg.train.mixup > 0 or build.losses_with("needs_features", cfg.loss, cfg.plugins)
    cache = cfg.teacher.get("cache", not live)
    if isinstance(cache, str) and cache != "features":
        cache = str(Path(cache) / f"generation-{k - 1}")
    node = {"_target_": "distill.pipeline.completed.network", "run": str(before), "name": None, "sha256": None}
    teacher = node | {"cache": cache, "precision": cfg.teacher.get("precision", "auto")}
    resolved = completed.resolve_weight_files(cfg.student, teacher, cfg.data)
    return replace(cfg, generations=1, seed=cfg.seed + k - 1, **resolved)
