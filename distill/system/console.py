"""What a person sees while a run goes on and when it ends."""

import sys
import time
import warnings
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

WITHOUT_TWINS = "without_near_duplicates"  # of the extra test splits: test faces whose photograph no other split has
console = Console(stderr=False, soft_wrap=True, highlight=False, markup=False)  # loss=[ce,kd] is no markup


def loud_warnings() -> None:
    """Show warnings as plain lines on stderr."""
    warnings.showwarning = lambda message, *rest, **more: print(message, file=sys.stderr)


def duration(seconds: float) -> str:
    """Return a time in seconds, in minutes from one on, in hours from one on."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def bar() -> Progress:
    """Return a progress bar that draws on a terminal and keeps silent elsewhere."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def track(items: Iterable, total: int, words: str) -> Iterator:
    """Yield items with a progress bar, and one line at the end that says how long it took."""
    start = time.perf_counter()
    with bar() as progress:
        yield from progress.track(items, total=total, description=words)
    console.print(f"  {words}: {time.perf_counter() - start:.1f} s", style="dim")


class TrainingProgress:
    """A bar over all steps, and one line per epoch.

    Args:
        words: who is trained.
        epochs: how many.
    """

    def __init__(self, words: str, epochs: int):
        self.words, self.epochs, self.last = words, epochs, ""
        self.progress, self.task, self.start = bar(), None, time.perf_counter()

    def __enter__(self) -> "TrainingProgress":
        self.progress.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self.progress.__exit__(*error)

    def step(self, epoch: int, done: int, steps: int) -> None:
        if self.progress.disable:
            return
        if self.task is None:
            self.task = self.progress.add_task(self.words, total=self.epochs * steps)
        self.progress.update(self.task, completed=epoch * steps + done)

    def terms(self, terms: dict[str, float]) -> None:
        self.last = "  ".join(f"{name.removeprefix('train/')} {value:.3f}" for name, value in terms.items())

    def epoch(self, epoch: int, metrics: dict[str, float], best: dict) -> None:
        mark = "  best so far" if best["best_epoch"] == epoch else ""
        names = {"valid/top1_accuracy": "valid top-1", "valid/mean_class_accuracy": "mean-class"}
        names["valid/agreement"] = "agrees with the teacher on valid"
        shares = "  ".join(f"{words} {metrics[name]:.2%}" for name, words in names.items() if name in metrics)
        console.print(
            f"  {self.words}  epoch {epoch + 1:>3}/{self.epochs}  {self.last}  {shares}  "
            f"{duration(time.perf_counter() - self.start)}{mark}"
        )
