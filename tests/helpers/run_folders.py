"""Run folders as a finished run leaves them, written without training, for tests of what reads them."""

import csv
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from distill.config import schema as config
from distill.data.common.emotions import EMOTIONS

BASE = ("student=microexpnet", "teacher.name=resnet50", "logger=none", "paths.store=/nowhere")


@cache
def base():
    with initialize_config_module("conf", version_base="1.3"):
        return asdict(config.typed(compose("run", overrides=list(BASE))))


def predictions(path, accuracy, seed=0, faces=64):
    """Write a predictions file of which about that share is right."""
    draw = np.random.default_rng(seed)
    labels = np.arange(faces) % len(EMOTIONS)
    sure = np.where(draw.random(faces) < accuracy, labels, (labels + 1) % len(EMOTIONS))
    probabilities = np.full((faces, len(EMOTIONS)), 0.02)
    probabilities[np.arange(faces), sure] = 1 - 0.02 * (len(EMOTIONS) - 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "label", "prediction", *(f"p_{name}" for name in EMOTIONS)])
        for k in range(faces):
            named = (EMOTIONS[labels[k]], EMOTIONS[sure[k]])
            rows.writerow([f"face{k}", *named, *(f"{p:.6f}" for p in probabilities[k])])


def write_run(folder, *settings, valid=0.7, test=0.6, parameters=65_000, latency=0.5, **more):
    """Write one complete run folder, its config with some settings, such as student.width=S, and return it."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    cfg = OmegaConf.merge(base(), OmegaConf.from_dotlist(list(settings)))
    metrics = {}
    for split, value in (("valid", valid), ("test", test)):
        names = ("top1_accuracy", "mean_class_accuracy", "expected_calibration_error", "agreement")
        metrics |= {f"{split}/{name}": value - 0.05 * k for k, name in enumerate(names)}
        metrics[f"{split}/top1_accuracy_ci"] = [value - 0.01, value + 0.01]
        predictions(folder / "predictions" / f"{split}.csv", value)
    costs = {"num_parameters": parameters, "macs": 44 * parameters, "bytes": 4 * parameters, "latency_ms": latency}
    rows = {"train": 2400, "valid": 64, "test": 64}
    result = {
        "status": "complete",
        "data": {"name": "procedural", "protocol": "seed 0", "classes": list(EMOTIONS), "rows": rows, "notes": {}},
        "student": {"name": "microexpnet", "metrics": metrics, **costs, "images_per_second": 1000 / latency},
        **{"teacher": None, "seed": cfg["seed"], "epochs": 2, "best_epoch": 1, "seconds": {"total": 120.0}},
        **more,
    }
    OmegaConf.save(cfg, folder / "config.yaml")
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "env.json").write_text(json.dumps({"processor": "a test's", "packages": {"torch": "2"}}))
    lines = [{"step": 1, "epoch": 0, "train/loss": 2.0}, {"step": 2, "epoch": 0, "valid/top1_accuracy": valid - 0.1}]
    lines += [{"step": 3, "epoch": 1, "train/loss": 1.0}, {"step": 4, "epoch": 1, "valid/top1_accuracy": valid}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
