"""A number that is not finite is told with the term that it came from and the step, counted over log lines and restarts."""

import pytest
import torch

from distill.training.meter import Ledger


def terms(kd, ce=1.0):
    return {"loss": torch.tensor(ce + kd), "ce": torch.tensor(ce), "kd": torch.tensor(kd)}


@pytest.mark.parametrize("restarted", [False, True])
def test_ledger_infinite_term_is_named_with_its_step(restarted):
    ledger = Ledger(3)
    for value in (1.0, 2.0, 6.0):
        ledger.add(terms(value))
    assert ledger.full() and ledger.flush() == {"train/loss": 4.0, "train/ce": 1.0, "train/kd": 3.0}
    ledger.add(terms(5.0))
    if restarted:
        state, ledger = ledger.state(), Ledger(3)
        ledger.restore(state)
    ledger.add(terms(float("nan")))
    assert not ledger.full()
    with pytest.raises(FloatingPointError, match=r"loss term 'kd' is nan at step 5; .* last checkpoint is sound"):
        ledger.flush()


def test_ledger_overflowing_total_is_called_loss():
    ledger = Ledger(1)
    ledger.add({"loss": torch.tensor(float("inf")), "ce": torch.tensor(3e38), "kd": torch.tensor(3e38)})
    with pytest.raises(FloatingPointError, match="loss term 'loss' is inf at step 1"):
        ledger.flush()
