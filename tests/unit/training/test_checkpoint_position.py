"""How far a run has come is counted over all its starts, and its log is cut off where the last checkpoint was written."""

from types import SimpleNamespace

import pytest
import torch

from distill.losses.base.objective import Loss, Objective
from distill.training import resume
from distill.training.loop import score, view_of
from distill.training.meter import LossMeter


def test_standing_resumed_run_adds_seconds_and_cuts_later_lines(tmp_path, monkeypatch):
    clock, cut = [100.0], []
    monkeypatch.setattr(resume.time, "perf_counter", lambda: clock[0])
    train_state = SimpleNamespace(state=dict, restore=lambda state, path: None)
    lines = SimpleNamespace(position=lambda: 77, truncate=cut.append)
    for began, ended, seconds in ((100.0, 130.0, 30.0), (5.0, 7.0, 32.0), (0.0, 1.0, 33.0)):
        clock[0] = began
        train_progress = resume.TrainProgress(tmp_path / "last.pt", train_state, LossMeter(1), lines)
        clock[0] = ended
        train_progress.save(train_progress.progress["epoch"] + 1, 4)
        assert train_progress.progress["seconds"] == pytest.approx(seconds)
    assert cut == [0, 77, 77] and (train_progress.progress["epoch"], train_progress.progress["step"]) == (3, 4)


def test_view_of_repeats_after_cached_views_and_score_negates_after_minus():
    assert [view_of(epoch, 3) for epoch in range(7)] == [1, 2, 3, 1, 2, 3, 1]
    assert [view_of(epoch, 0) for epoch in range(4)] == [1, 2, 3, 4]
    metrics = {"valid/nll": 1.5, "valid/top1_accuracy": 0.5}
    assert score(metrics, "-valid/nll") == -1.5 and score(metrics, "valid/top1_accuracy") == 0.5


class Own(Loss):
    calls = 0

    def forward(self, student, teacher, target):
        self.calls += 1
        return student


def test_objective_phase_of_zero_weights_computes_its_own_losses_only():
    objective = Objective({"a": Own(), "b": Own()}, {"a": 1.0, "b": {"from": 0, "to": 1, "start": 2}})
    objective.at(0.0, ("b",))
    total, terms = objective(torch.ones(4), None, None)
    assert total == 0 and terms == {"b": 1} and objective.losses["a"].calls == 0, "its maps may not be there"
