"""One job over every fold of a data set whose people are divided into folds: data.fold=all."""

import statistics
from dataclasses import replace

from distill import build
from distill.pipeline.generations import run_generations
from distill.pipeline.job import Job
from distill.pipeline.reuse import is_measured, refuse_another, write_config_and_env
from distill.pipeline.run import run
from distill.runs.config import RunConfig
from distill.runs.folder import RunFolder
from distill.runs.result import RunResult
from distill.system import distributed as parallel


def run_folds(cfg: RunConfig, folder: RunFolder, job: Job) -> RunResult:
    """Do the job once per fold, each in a run folder of its own, and write mean and spread over the folds.

    A fold that is complete is not done again, so a killed job goes on in the fold where it was.

    Args:
        cfg: checked config with data.fold=all and data.folds, their number.
        folder: run folder of the whole; fold k is in folder/fold-k.
        job: what the runs are a part of.

    Returns:
        The first fold's result with the mean of every metric, `spread` (sample standard deviation over the folds, as
        fractions) and `folds` (each fold's own metrics).
    """
    if not is_measured(folder, cfg.eval, cfg.data):
        build.dataset(cfg.data | {"fold": 0}, cfg.paths.store, cfg.plugins)  # fails before there is a folder
        write_config_and_env(cfg, folder, job.command)
    results = []
    for fold in range(cfg.data["folds"]):
        one, where = replace(cfg, data=cfg.data | {"fold": fold}), folder.part("fold", fold)
        refuse_another(one, where)
        results.append((run if cfg.generations == 1 else run_generations)(one, where, job))
    first = results[0]
    combined = replace(first, name=folder.name, folder=str(folder), robustness={}, extra_test_splits={}, cka={})
    combined.generations = combined.calibration = None  # those of one fold
    if first.widths:
        combined.widths = []
        for rows in zip(*(result.widths for result in results), strict=True):
            where = rows[0]["folder"].replace(str(folder.part("fold", 0)), f"{folder}/fold-K")
            combined.widths.append(rows[0] | {"folder": where} | over_folds(list(rows))["metrics"])
    combined.folds = [{"fold": k, **result.student["metrics"]} for k, result in enumerate(results)]
    combined.student = first.student | over_folds([result.student["metrics"] for result in results])
    if first.teacher:
        combined.teacher = first.teacher | over_folds([result.teacher["metrics"] for result in results])
    if first.ensemble:
        combined.ensemble = first.ensemble | over_folds([result.ensemble["metrics"] for result in results])
    combined.teacher_forward_images = sum(result.teacher_forward_images or 0 for result in results)
    combined.seconds = {part: sum(result.seconds[part] for result in results) for part in first.seconds}
    combined.data = first.data | {"protocol": f"mean of {len(results)} folds: {first.data['protocol']}"}
    if parallel.is_main():
        combined.write(folder.result)
    return combined


def over_folds(metrics: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return {"metrics": mean over the folds, "spread": sample standard deviation} of every number that all folds have."""
    shared = [key for key, value in metrics[0].items() if isinstance(value, float) and all(key in m for m in metrics)]
    values = {key: [m[key] for m in metrics] for key in shared}
    spread = {key: statistics.stdev(v) if len(v) > 1 else 0.0 for key, v in values.items()}
    return {"metrics": {key: statistics.fmean(v) for key, v in values.items()}, "spread": spread}
