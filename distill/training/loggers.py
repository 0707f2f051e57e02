"""Where training numbers go: a JSON-lines file, which is the record, and Weights & Biases, which mirrors it."""

import json
import math
import os
import secrets
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distill.system.errors import ConfigError, expect
from distill.system.files import write_text, writing

MODES = ("auto", "offline", "online", "disabled")
TIMEOUT = 15.0  # seconds to wait for wandb's server at the start; four times as long for uploads at the end


class JsonLines:
    """Appends one JSON object per line, {"step": ..., name: number}, to a file; not-a-number and infinity become null.

    A line is in the operating system's hands before log returns. Resume: keep position() in the checkpoint and call
    truncate() with it, so that what was written after the checkpoint is written again and not twice.

    Args:
        path: the file; it is made, or continued where it ends.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115, unbuffered: a kill loses nothing

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Appends one line."""
        numbers = {name: value if isinstance(value, int) else float(value) for name, value in metrics.items()}
        line = {"step": int(step)} | {name: n if math.isfinite(n) else None for name, n in numbers.items()}
        with writing(self.path):
            self._file.write(json.dumps(line).encode() + b"\n")

    def position(self) -> int:
        """Bytes written so far: what a checkpoint stores."""
        return os.fstat(self._file.fileno()).st_size

    def truncate(self, offset: int) -> None:
        """Drops what was written after a position.

        Args:
            offset: in bytes, from position().

        Raises:
            ValueError: the file is shorter than that.
        """
        if self.position() < offset:
            raise ValueError(
                f"{self.path}: has {self.position()} bytes, but the checkpoint was made at {offset}: the file was "
                "edited or replaced. Remove the run folder to train from the start."
            )
        self._file.truncate(offset)

    def finish(self, result: dict, exit_code: int = 0) -> None:
        """Closes the file."""
        self._file.close()


class Silent:
    """Mirrors nothing: the run folder is the only record. Takes and ignores whatever Wandb takes."""

    def __init__(self, folder: str | Path = ".", **ignored: object): ...

    def log(self, metrics: dict[str, float], step: int) -> None: ...

    def images(self, pictures: dict[str, str | Path]) -> None: ...

    def confusion_matrix(
        self, labels: Sequence[int], predictions: Sequence[int], classes: Sequence[str], picture: str | Path
    ) -> None: ...

    def artifact(self, path: str | Path, name: str) -> None: ...

    def finish(self, result: dict, exit_code: int = 0) -> None: ...


class NoLines(Silent):
    """Stands for metrics.jsonl in a process that does not write it."""

    def position(self) -> int:
        return 0

    def truncate(self, offset: int) -> None: ...


class Wandb:
    """Mirrors a run to Weights & Biases: offline into <folder>/wandb (`wandb sync` uploads it), or live when asked.

    It asks no questions, waits for a dead network no longer than its timeouts, and an error inside wandb ends in one
    warning, not in the end of the training. <folder>/wandb_id keeps the run's id: a resumed run continues it. Several
    may be open in one process.

    Args:
        folder: the run folder.
        config: the resolved configuration as plain dicts, lists, numbers and strings.
        name: the run's display name; None lets wandb choose.
        group: what the run belongs to, e.g. its sweep.
        job_type: e.g. teacher or student.
        labels: what the run is made of, as tags to filter by: data=ferplus, loss=kd.
        tags: more of them.
        project: the wandb project.
        entity: the wandb user or team; None is the key's owner.
        mode: auto (the environment's WANDB_MODE; without it online for a job of `wandb agent`, else offline) | offline |
            online | disabled.

    Raises:
        ValueError: an unknown mode; or online without a key.
    """

    def __init__(
        self,
        folder: str | Path,
        config: dict | None = None,
        name: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        labels: Sequence[str] = (),
        tags: Sequence[str] = (),
        project: str = "fer-distill",
        entity: str | None = None,
        mode: str = "auto",
    ):
        expect(mode in MODES, "logger.mode", ", ".join(MODES), repr(mode))
        if mode == "auto":
            mode = os.environ.get("WANDB_MODE") or ("online" if _of_an_agent() else "offline")
            if mode not in MODES[1:]:
                raise ValueError(f"WANDB_MODE: {mode!r} is in the environment; give one of {', '.join(MODES[1:])}.")
        self.mode, self._warned = mode, False
        self._run: Any = None
        if self.mode == "disabled" or (_of_an_agent() and job_type == "teacher"):
            return
        options: dict[str, Any] = {"name": name, "group": group, "job_type": job_type, "project": project}
        options |= {"entity": entity, "dir": os.path.abspath(folder), "config": config or {}, "reinit": "create_new"}
        options["tags"] = list(dict.fromkeys([*labels, *tags]))
        kept_id = Path(folder) / "wandb_id"
        if not kept_id.exists():
            write_text(kept_id, secrets.token_hex(4) + "\n")
        self._run = self._start(kept_id.read_text(encoding="utf-8").strip(), options)

    def _start(self, run_id: str, options: dict) -> Any:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its crash reports wait for the network at exit
        import wandb

        self._wandb = wandb
        wandb.setup(settings=wandb.Settings(silent=True))  # a silent wandb sees no terminal: it cannot ask for a key
        options["settings"] = wandb.Settings(
            silent=True, console="off", init_timeout=TIMEOUT, finish_timeout=4 * TIMEOUT, finish_timeout_raises=True
        )
        try:
            if self.mode == "online":
                return wandb.init(id=run_id, mode="online", resume="allow", **options)
        except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
            raise ConfigError(
                "logger.mode",
                f"got online, but wandb refuses: {str(error).rstrip('.')}. Type `wandb login` "
                "or set WANDB_API_KEY; or use logger.mode=offline.",
            ) from error
        except Exception as error:
            self._warn("the server does not answer, the run is logged offline", error)
            self.mode, run_id = "offline", f"{run_id}-offline"  # wandb holds on to the id that it failed to start
        try:
            return wandb.init(id=run_id, mode="offline", **options)
        except Exception as error:
            self._warn("the run is not mirrored", error)

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Records numbers, by name, at an optimizer step; steps must not go down."""
        self._guard("numbers are not mirrored", lambda: self._run.log(dict(metrics), step=int(step)))

    def images(self, pictures: dict[str, str | Path]) -> None:
        """Shows PNG files, by name, beside the numbers of the last step."""

        def show() -> None:
            self._run.log({name: self._wandb.Image(str(path)) for name, path in pictures.items()}, commit=False)

        self._guard("pictures are not mirrored", show)

    def confusion_matrix(
        self, labels: Sequence[int], predictions: Sequence[int], classes: Sequence[str], picture: str | Path
    ) -> None:
        """Shows how often each class was taken for each, as wandb's own plot.

        Args:
            labels, predictions: of each face, [N], as numbers of classes.
            classes: their names.
            picture: a PNG of it, for loggers without such a plot.
        """

        def show() -> None:
            truth, guess = ([int(k) for k in numbers] for numbers in (labels, predictions))
            names, draw = list(classes), self._wandb.plot.confusion_matrix
            plot = draw(y_true=truth, preds=guess, class_names=names, title="test faces")
            self._run.log({"confusion_matrix": plot}, commit=False)

        self._guard("the confusion matrix is not mirrored", show)

    def artifact(self, path: str | Path, name: str) -> None:
        """Registers a file as a versioned artifact; it is referred to where it lies, so leave it there until uploaded.

        Args:
            path: the file, the best student's weights.
            name: the artifact's name.
        """

        def register() -> None:
            item = self._wandb.Artifact(name, type="model")
            item.add_file(os.path.abspath(path), policy="immutable", skip_cache=True)
            self._run.log_artifact(item, aliases=["best"])

        self._guard(f"{path} is not mirrored", register)

    def finish(self, result: dict, exit_code: int = 0) -> None:
        """Writes the summary and closes the run.

        Args:
            result: its numbers, nested ones as outer/inner, become the summary, in place of the last ones logged.
            exit_code: 0, or 1 for a failed run.
        """

        def close() -> None:
            self._run.log({}, commit=True)  # a row still open would overwrite the summary with last values
            self._run.summary.update(_flat_numbers(result))

        self._guard("the summary is not mirrored", close)
        self._guard("the run was not closed", lambda: self._run.finish(exit_code=exit_code))
        self._run = None

    def _guard(self, consequence: str, action: Callable[[], object]) -> None:
        try:
            if self._run is not None:
                action()
        except Exception as error:
            self._warn(consequence, error)

    def _warn(self, consequence: str, error: Exception) -> None:
        if not self._warned:
            reason = " ".join(str(error).split())[:200]
            warnings.warn(f"wandb: {consequence} ({type(error).__name__}: {reason}).", stacklevel=4)
        self._warned = True


def _of_an_agent() -> bool:
    """Say whether `wandb agent` started this process: the run's id is the agent's, and it is the student's."""
    return bool(os.environ.get("WANDB_SWEEP_ID"))


def _flat_numbers(result: dict, prefix: str = "") -> dict[str, float]:
    flat: dict[str, float] = {}
    for key, value in result.items():
        if isinstance(value, dict):
            flat |= _flat_numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            flat[f"{prefix}{key}"] = value
    return flat
