"""One job over every fold of a data set whose people are divided into folds: data.fold=all."""

import statistics
from collections.abc import Callable
from pathlib import Path

from distill.system import distributed as parallel
from distill.system.files import write_json


def run_folds(cfg: dict, folder: Path, run: Callable[[dict, Path], dict]) -> dict:
    """Do the job once per fold, each in a run folder of its own, and write mean and spread over the folds.

    A fold that is complete is not done again, so a killed job goes on in the fold where it was.

    Args:
        cfg: plain, checked config with data.fold=all and data.folds, their number.
        folder: run folder of the whole; fold k is in folder/fold-k.
        run: (config, run folder) -> result of one fold.

    Returns:
        The first fold's result with the mean of every metric, `spread` (sample standard deviation over the folds, as
        fractions) and `folds` (each fold's own metrics).
    """
    results = []
    for fold in range(cfg["data"]["folds"]):
        results.append(run(cfg | {"data": cfg["data"] | {"fold": fold}}, folder / f"fold-{fold}"))
    whole = results[0] | {"name": folder.name, "folder": str(folder), "robustness": {}, "further": {}, "cka": {}}
    for name in ("generations", "calibration"):  # those of one fold
        whole.pop(name, None)
    whole["folds"] = [{"fold": k, **result["student"]["metrics"]} for k, result in enumerate(results)]
    whole["student"] = whole["student"] | over_folds([result["student"]["metrics"] for result in results])
    if whole["teacher"]:
        whole["teacher"] = whole["teacher"] | over_folds([result["teacher"]["metrics"] for result in results])
    if "ensemble" in whole:
        whole["ensemble"] = whole["ensemble"] | over_folds([result["ensemble"]["metrics"] for result in results])
    whole["teacher_forward_images"] = sum(result["teacher_forward_images"] for result in results)
    whole["seconds"] = {part: sum(result["seconds"][part] for result in results) for part in whole["seconds"]}
    whole["data"] = whole["data"] | {"protocol": f"mean of {len(results)} folds: {whole['data']['protocol']}"}
    if parallel.is_main():
        write_json(folder / "result.json", whole)
    return whole


def over_folds(metrics: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return {"metrics": mean over the folds, "spread": sample standard deviation} of every number that all folds have."""
    shared = [key for key, value in metrics[0].items() if isinstance(value, float) and all(key in m for m in metrics)]
    values = {key: [m[key] for m in metrics] for key in shared}
    spread = {key: statistics.stdev(v) if len(v) > 1 else 0.0 for key, v in values.items()}
    return {"metrics": {key: statistics.fmean(v) for key, v in values.items()}, "spread": spread}
