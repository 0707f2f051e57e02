"""The training numbers for TensorBoard: tensorboard --logdir runs shows all runs side by side."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from distill.training.loggers import Silent


class TensorBoard(Silent):
    """Writes event files into <folder>/tensorboard; a resumed run hides what was logged after its checkpoint.

    Args:
        folder: the run folder.
        config: the resolved configuration, shown as text.
        ignored: what else a logger is told.

    Raises:
        ValueError: tensorboard is not installed.
    """

    def __init__(self, folder: str | Path, config: dict | None = None, **ignored: object):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ValueError(
                "logger=tensorboard: tensorboard is not installed. Type pip install -e '.[tensorboard]', or choose "
                "logger=csv, wandb or none."
            ) from None
        self.folder, self.config, self.step = Path(folder) / "tensorboard", config or {}, 0
        self._make = SummaryWriter
        self._writer: SummaryWriter | None = None

    def _open(self, step: int) -> Any:
        if self._writer is None:  # not before the first step is known: later ones of an earlier start are hidden
            self._writer = self._make(str(self.folder), purge_step=step)
            self._writer.add_text("config", f"```\n{json.dumps(self.config, indent=1, default=str)}\n```", step)
        return self._writer

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Records numbers, by name, at an optimizer step."""
        writer, self.step = self._open(step), step
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)
        if any(name.startswith("valid/") for name in metrics):
            writer.flush()

    def images(self, pictures: dict[str, str | Path]) -> None:
        """Shows PNG files, by name, at the last step."""
        for name, path in pictures.items():
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            self._open(self.step).add_image(name, pixels, self.step, dataformats="HWC")

    def confusion_matrix(
        self, labels: Sequence[int], predictions: Sequence[int], classes: Sequence[str], picture: str | Path
    ) -> None:
        """Shows its picture."""
        self.images({"confusion_matrix": picture})

    def finish(self, result: dict, exit_code: int = 0) -> None:
        """Closes the files."""
        if self._writer is not None:
            self._writer.close()
