"""What a person sees while a run goes on and when it ends."""

import sys
import time
import warnings
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

WITHOUT_TWINS = "without_near_duplicates"  # in result["further"]: test faces whose photograph no other split has
console = Console(stderr=False, soft_wrap=True, highlight=False, markup=False)  # loss=[ce,kd] is no markup


def loud_warnings() -> None:
    """Show warnings as plain lines on stderr."""
    warnings.showwarning = lambda message, *rest, **more: print(message, file=sys.stderr)


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
        minutes = (time.perf_counter() - self.start) / 60
        mark = "  best so far" if best["best_epoch"] == epoch else ""
        console.print(
            f"  {self.words}  epoch {epoch + 1:>3}/{self.epochs}  {self.last}  "
            f"valid top-1 {metrics['valid/top1_accuracy']:.2%}  mean-class {metrics['valid/mean_class_accuracy']:.2%}  "
            f"{minutes:.1f} min{mark}"
        )


def summary(result: dict, next_step: str) -> None:
    """Print the table that ends a run.

    Args:
        result: as written to result.json.
        next_step: what to type next.
    """
    data = result["data"]
    title = f"{data['name']}: {data['protocol']}, {data['rows']['valid']} valid and {data['rows']['test']} test faces"
    table = Table(title=title, title_justify="left")
    roles = [role for role in ("teacher", "student") if result.get(role)]
    for name in ("", *(f"{role} {result[role]['name']}" for role in roles)):
        table.add_column(name, justify="right" if name else "left")
    names = ("valid top-1", "test top-1", "test mean-class", "agreement", "parameters", "MACs", "size")
    names += ("images/s, one thread",)
    for row in zip(names, *(_numbers(result[role]) for role in roles), strict=True):
        if result.get("teacher") or row[0] != "agreement":
            table.add_row(*row)
    console.print()
    console.print(table)
    asked = ""
    if result.get("teacher"):
        console.print("agreement: share of test faces on which the student answers as the teacher does", style="dim")
        asked = f"teacher forward passes in this run: {result['teacher_forward_images']:,} faces; "
    console.print(
        f"best epoch {result['best_epoch'] + 1} of {result['epochs']} by {result['select']}; {asked}{result['seconds']['total']:.0f} s"
    )
    _further(result.get("further", {}), result.get("test_subset", {}))
    if result.get("robustness"):
        console.print(f"accuracy on corrupted test faces: {result['folder']}/robustness.csv and figures/robustness.png")
    console.print(f"run folder: {result['folder']}")
    console.print(f"next: {next_step}")


def measured(result: dict, path: Path) -> None:
    """Print the table of a finished run on other faces.

    Args:
        result: as written by python -m distill.measure.
        path: where.
    """
    data, classes = result["data"], result["classes"]
    title = f"{result['run']} on {data['name']}: {data['protocol']}"
    table = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False, collapse_padding=True)
    for name in ("", "faces", "top-1", "95 %", "mean-class", "95 %"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    unseen = {"test, never seen": result["unseen"]} if result["unseen"] else {}
    if clean := result["further"].pop(WITHOUT_TWINS, {}):
        unseen["test, no photograph seen"] = clean
    for name, values in {"test": result["test"], **unseen, **result["further"]}.items():
        shares = [cell for key in ("top1_accuracy", "mean_class_accuracy") for cell in _with_interval(values, key)]
        table.add_row(name, f"{values['rows']:,}", *shares)
    severities = result["robustness"].get("severities", [])
    for name, by_severity in result["robustness"].get("corruptions", {}).items():
        values = by_severity["mean"]
        top1, mean_class = (f"{values[key]:.2%}" for key in ("top1_accuracy", "mean_class_accuracy"))
        table.add_row(name, f"{result['test']['rows']:,}", top1, "", mean_class, "")
    console.print(table)
    if severities:
        console.print(f"spoilt faces: mean over severities {', '.join(map(str, severities))}")
    if classes["only_run"] or classes["only_data"]:
        console.print(f"compared by the {len(classes['compared'])} classes of both: {', '.join(classes['compared'])}")
    if classes["only_run"]:
        console.print(
            f"the run's logits of {', '.join(classes['only_run'])} are left out: {data['name']} has no such class"
        )
    if result["dropped"]:
        faces = ", ".join(f"{number:,} of {name}" for name, number in result["dropped"].items())
        console.print(f"*** LEFT OUT of the test faces, because the run does not know them: {faces}", style="bold")
    if result["seen_in_training"]:
        console.print(
            f"*** {result['seen_in_training']:,} of the test faces are, pixel for pixel, ones that the run LEARNT FROM or chose by",
            style="bold",
        )
    if result["near_duplicates"]:
        console.print(
            f"*** {result['near_duplicates']:,} of the test faces show a photograph, up to crop or contrast, that the run LEARNT FROM "
            "or chose by",
            style="bold",
        )
    if result["seen_in_training"] is None:
        console.print(
            "*** whether the run learnt from some of these faces is not known: its own data are not there as it saw them, or "
            "their pictures are of another size"
        )
    console.print(f"written: {path}, predictions beside it")


def _with_interval(values: dict, key: str) -> tuple[str, str]:
    low, high = values[f"{key}_ci"]
    return f"{values[key]:.2%}", f"{100 * low:.1f} to {100 * high:.1f}"


def _further(found: dict[str, dict], subsets: Collection[str]) -> None:
    protocols = {name: values for name, values in found.items() if name not in (*subsets, WITHOUT_TWINS)}
    if protocols:
        shares = (f"{name} {values['top1_accuracy']:.2%} of {values['rows']:,}" for name, values in protocols.items())
        console.print("the student's test top-1 under other protocols: " + ", ".join(shares))
    for name, values in ((name, found[name]) for name in found if name not in protocols):
        which = "test faces whose photograph no other split has" if name == WITHOUT_TWINS else f"test subset {name}"
        console.print(
            f"the student on {which}: top-1 {values['top1_accuracy']:.2%}, "
            f"mean-class {values['mean_class_accuracy']:.2%} of {values['rows']:,} faces"
        )


def _numbers(part: dict) -> tuple[str, ...]:
    metrics, spread = part["metrics"], part.get("spread", {})
    shares = ("valid/top1_accuracy", "test/top1_accuracy", "test/mean_class_accuracy", "test/agreement")
    cells = ["-" if key not in metrics else f"{metrics[key]:.2%}" for key in shares]
    cells = [
        cell + (f" ± {spread[key] * 100:.2f}" if key in spread else "") for key, cell in zip(shares, cells, strict=True)
    ]
    return (
        *cells,
        f"{part['num_parameters']:,}",
        _unit(part["macs"], ("", " k", " M", " G")),
        _unit(part["bytes"], (" B", " kB", " MB")),
        _rate(part.get("images_per_second")),
    )


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _unit(value: float, units: tuple[str, ...]) -> str:
    k = 0
    while value >= 1000 and k < len(units) - 1:
        value, k = value / 1000, k + 1
    return f"{value:.3g}{units[k]}"
