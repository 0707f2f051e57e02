"""What other toolkits get wrong in a step and between epochs: modes that stay behind, and numbers that are waited for."""

from itertools import groupby

import numpy as np
import pytest
import torch
from tiny_training import DATA, Net, frozen, run, train_state

from distill.augment.views import ViewRecipe
from distill.data.loader import make_batch
from distill.training.loop import train_step


def test_train_after_validation_only_the_student_is_in_train_mode(monkeypatch, tmp_path):
    calls, forward = [], Net.forward
    monkeypatch.setattr(Net, "forward", lambda net, x: calls.append((net, net.training)) or forward(net, x))
    student = run(tmp_path / "run")
    own, taught = ([mode for net, mode in calls if (net is student) == mine] for mine in (True, False))
    assert [mode for mode, _ in groupby(own)] == [True, False] * 3, "three epochs, each with its validation"
    assert own.count(True) == len(taught) == 18 and not any(taught)


def test_train_step_reads_no_number_back_from_the_device(monkeypatch):
    made, teacher = train_state(), frozen(1)
    made.optimizer = torch.optim.SGD(made.student.parameters(), 0.1)  # Adam reads its own count of steps, on the CPU
    faces = make_batch(DATA.splits["train"], ViewRecipe().table(0, 1, 60), np.arange(16))
    with monkeypatch.context() as patch:
        for name in ("item", "tolist", "cpu", "numpy", "__float__", "__int__", "__bool__"):
            patch.setattr(torch.Tensor, name, lambda *_: pytest.fail("a GPU would have been waited for"))
        terms = train_step(faces, teacher, made, torch.float32, 1.0)
    assert terms.keys() == {"loss", "ce", "kd"} and all(value.isfinite() for value in terms.values())
