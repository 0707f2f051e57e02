"""The terms of training steps, kept on the device between lines of the log."""

import torch
from torch import Tensor


class LossMeter:
    """Collects the loss terms of steps on the device and reads them back once per log line.

    Args:
        log_every_n_steps: steps per line.
    """

    def __init__(self, log_every_n_steps: int):
        self.log_every_n_steps, self.first = log_every_n_steps, 0
        self.names: list[str] = []
        self.rows: list[Tensor] = []

    def add(self, terms: dict[str, Tensor]) -> None:
        self.names = list(terms)
        self.rows.append(torch.stack([value.float() for value in terms.values()]))

    def full(self) -> bool:
        return len(self.rows) >= self.log_every_n_steps

    def flush(self) -> dict[str, float]:
        """Return the mean of each term since the last call.

        Raises:
            FloatingPointError: a term was not finite, with its name and step.
        """
        rows = self._finite()
        self.first, self.rows = self.first + len(self.rows), []
        return {f"train/{name}": value for name, value in zip(self.names, rows.mean(0).tolist(), strict=True)}

    def _finite(self) -> Tensor:
        """Return the rows, read back, after checking them."""
        rows = torch.stack(self.rows).cpu()
        bad = (~rows.isfinite()).nonzero()
        if len(bad):
            step = int(bad[0, 0])
            names = [self.names[k] for k in bad[bad[:, 0] == step, 1].tolist()]
            culprit = next((name for name in names if name != "loss"), "loss")
            raise FloatingPointError(
                f"loss term {culprit!r} is {rows[step, self.names.index(culprit)].item()} at step {self.first + step + 1}; "
                "training stopped, the last checkpoint is sound. Lower optimizer.lr, set train.max_grad_norm=1, or train.precision=fp32."
            )
        return rows

    def state(self) -> dict:
        return {"names": self.names, "first": self.first, "rows": self._finite() if self.rows else None}

    def restore(self, state: dict) -> None:
        self.names, self.first = state["names"], state["first"]
        self.rows = [] if state["rows"] is None else list(state["rows"].unbind(0))
