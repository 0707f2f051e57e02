"""What an epoch ends with: the weights that were measured are those that are kept, the schedule hears of them, and the log is whole."""

import json
from dataclasses import replace

import pytest
import tiny_training
from tiny_training import DATA, Net, learner, run

from distill.evaluation.inference import predict
from distill.evaluation.metrics import evaluate_predictions
from distill.losses.base.objective import Loss, Objective
from distill.system.weights import load_weights, read_weights
from distill.training import loop as training
from distill.training.loop import Phase, views_with_maps
from distill.training.optim import Constant


def test_train_keeps_the_weights_that_were_measured(tmp_path):
    run(tmp_path / "run")
    best, net = tmp_path / "run" / "checkpoints" / "best.safetensors", Net(9)
    said = read_weights(best)[1]
    load_weights(net, best, "best")
    found = evaluate_predictions(predict(net, DATA.splits["valid"]).numpy(), DATA.splits["valid"].label, DATA.classes)
    assert said["valid/nll"] == pytest.approx(found["nll"], rel=1e-5), "both of the moving average"


def test_schedule_hears_every_score_and_counts_its_phases_epochs(tmp_path, monkeypatch):
    told, asked = [], []

    class Told(Constant):
        def observe(self, value):
            told.append(value)

        def apply(self, optimizer, epoch, epochs, scale=1.0):
            asked.append((round(6 * epoch), epochs, scale))  # six steps an epoch
            return super().apply(optimizer, epoch, epochs, scale)

    monkeypatch.setattr(tiny_training, "learner", lambda: replace(learner(), schedule=Told(0)))
    run(tmp_path / "run", phases=(Phase(0, 1, ("ce",), 0.5), Phase(1, 2)))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert told == [line["valid/top1_accuracy"] for line in lines if "valid/top1_accuracy" in line] and len(told) == 3
    assert asked == [(step, 1, 0.5) for step in range(6)] + [(step, 2, 1.0) for step in range(12)]


def test_train_equal_epochs_keep_the_first_of_the_last_phase(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "validate", lambda *_: {"valid/top1_accuracy": 0.5})
    run(tmp_path / "run", phases=(Phase(0, 1, ("ce",)), Phase(1, 2)), log_every=4)
    assert read_weights(tmp_path / "run" / "checkpoints" / "best.safetensors")[1]["epoch"] == 1
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/loss" in line] == [4, 6, 10, 12, 16, 18]


def test_views_with_maps_are_those_of_the_phases_epochs():
    class OnMaps(Loss):
        needs_features = True

    objective = Objective(
        {"ce": Loss(), "hint": OnMaps()}, {"ce": 1.0, "hint": {"from": 1, "to": 0, "start": 5, "end": 5}}
    )
    phases = (Phase(0, 2, ("ce",)), Phase(2, 6, ("ce", "hint")))
    assert views_with_maps(objective, phases, 8, 0) == {3, 4, 5}, "epochs 2 to 4; then its weight is 0"
    assert views_with_maps(objective, (), 8, 3) == {1, 2, 3}
