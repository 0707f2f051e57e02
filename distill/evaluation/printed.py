"""The tables that end a run and a measurement, on the console."""

import math
from pathlib import Path

from rich.box import SIMPLE
from rich.table import Table

from distill.data.common.walker import left_out_message
from distill.evaluation.calibration import FEW_VALID, LEAST, MOST
from distill.evaluation.tables import BYTES, Scores, compact, corruptions, scores
from distill.runs.result import RunResult
from distill.system.console import WITHOUT_TWINS, console, duration


def summary(result: RunResult, next_step: str, trial: bool = False) -> None:
    """Print the table that ends a run.

    Args:
        result: of the run.
        next_step: what to type next.
        trial: it tried the tools (debug=smoke or overfit), and no accuracy is worth a warning.
    """
    data, student, teacher = result.data, result.student, result.teacher
    title = f"{data['name']}: {data['protocol']}, {data['rows']['valid']} valid and {data['rows']['test']} test faces"
    table = Table(title=title, title_justify="left")
    columns = [("teacher", teacher), ("student", student)] if teacher else [("student", student)]
    for name in ("", *(f"{role} {network['name']}" for role, network in columns)):
        table.add_column(name, justify="right" if name else "left")
    numbers = [_numbers(network) for _, network in columns]
    for name in numbers[0]:
        cells = [of_network[name] for of_network in numbers]
        if set(cells) != {"-"} or name.startswith("images/s"):
            table.add_row(name, *cells)
    console.print()
    console.print(table)
    passes = ""
    if teacher:
        console.print("agreement: share of test faces on which the student answers as the teacher does", style="dim")
        passes = f"teacher forward passes in this run: {result.teacher_forward_images:,} faces; "
    console.print(
        f"best epoch {result.best_epoch + 1} of {result.epochs} by {result.monitor}; {passes}{duration(result.seconds['total'])}"
    )
    if result.calibration and data["rows"]["valid"] < FEW_VALID:
        console.print(f"no temperature: on fewer than {FEW_VALID} validation faces none is fitted")
    elif calibrated := result.calibration:
        before, after = (calibrated["test"][when] for when in ("before", "after"))
        limit = "" if LEAST * 1.001 < calibrated["temperature"] < MOST / 1.001 else " (the limit)"
        console.print(
            f"temperature {calibrated['temperature']:.3f}{limit}, fitted on validation: "
            f"test NLL {before['nll']:.3f} -> {after['nll']:.3f}, "
            f"ECE {before['expected_calibration_error']:.3f} -> {after['expected_calibration_error']:.3f}; exported files have it inside"
        )
    if trial:
        console.print("a trial of the tools, which work; accuracies after so few faces and steps mean nothing")
    for line in [] if trial else warnings_of(result):
        console.print(line, style="bold")
    _extra_test_splits(result.extra_test_splits, result.test_subset)
    if result.widths:
        _front(result.widths)
    if result.robustness:
        console.print(f"accuracy on corrupted test faces: {result.folder}/robustness.csv and figures/robustness.png")
    console.print(f"run folder: {result.folder}")
    console.print(f"next: {next_step}")


def warnings_of(result: RunResult) -> list[str]:
    """Return what a run's numbers warn of: networks at chance, and a teacher that is no better than its student."""
    student, teacher = result.student, result.teacher
    lines = [chance_warning(result.data, *one) for one in (("teacher", teacher), ("student", student)) if one[1]]
    both = (student, teacher)
    student_top1, teacher_top1 = (network and network["metrics"].get("valid/top1_accuracy") for network in both)
    has_finished = teacher and teacher.get("weights") and not result.generations  # no peer, no generation before
    if has_finished and student_top1 and teacher_top1 and student_top1 >= teacher_top1:
        lines.append(
            f"*** THE TEACHER IS NO BETTER than its student: valid top-1 {teacher_top1:.2%} and {student_top1:.2%}. Train it for longer, "
            "choose a larger one or one with weights to start from, or compare with teacher=none, labels alone."
        )
    return [line for line in lines if line]


def chance_warning(data: dict, role: str, network: dict) -> str:
    """Return the warning about a network that answers validation faces as by chance, or nothing.

    At chance it is where its mean-class accuracy is below 1 / K + 2 sqrt(1 / K (1 - 1 / K) / N), of K classes and N faces.

    Args:
        data: of the run's result.
        role: student or teacher.
        network: of the run's result.
    """
    accuracy = network["metrics"].get("valid/mean_class_accuracy")
    chance, faces = 1 / len(data["classes"]), data["rows"]["valid"]
    if accuracy is None or accuracy >= chance + 2 * math.sqrt(chance * (1 - chance) / faces):
        return ""
    mend = f"{'teacher.' if role == 'teacher' else ''}train.min_steps"
    return (
        f"*** AT CHANCE: the {role} {network['name']} has a valid mean-class accuracy of {accuracy:.2%}; guessing has {chance:.2%} in "
        f"{len(data['classes'])} classes. Look at faces and labels, train for longer ({mend}), or start from weights."
    )


def _numbers(network: dict) -> dict[str, str]:
    """Return the cells of a network by the names of their rows."""
    metrics, spread, rate = network["metrics"], network.get("spread", {}), network.get("images_per_second")
    shares = {"valid top-1": "valid/top1_accuracy", "test top-1": "test/top1_accuracy"}
    shares |= {"test mean-class": "test/mean_class_accuracy", "agreement": "test/agreement"}
    cells = dict.fromkeys(shares, "-")
    for name, key in shares.items():
        if key in metrics:
            cells[name] = f"{metrics[key]:.2%}" + (f" ± {100 * spread[key]:.2f}" if key in spread else "")
    return cells | {
        "valid KL": f"{metrics['valid/kl']:.3f}" if "valid/kl" in metrics else "-",
        "parameters": f"{network['num_parameters']:,}",
        "MACs": compact(network["macs"]),
        "size": compact(network["bytes"], BYTES),
        "images/s, one thread": "-" if rate is None else f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}",
    }


def _front(rows: list[dict]) -> None:
    """Print what each width of an elastic student costs and reaches, widest first."""
    table = Table(box=SIMPLE, pad_edge=False, collapse_padding=True)
    metric, heading = ("top1_accuracy", "top-1") if "valid/top1_accuracy" in rows[0] else ("agreement", "agreement")
    for name in ("width", "parameters", "MACs", "ms, eager", f"valid {heading}", f"test {heading}"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in sorted(rows, key=lambda row: -row["width"]):
        milliseconds = row["latency_ms"]
        costs = (f"{row['num_parameters']:,}", compact(row["macs"]), (milliseconds and f"{milliseconds:.2f}") or "-")
        table.add_row(f"{row['width']:g}", *costs, f"{row[f'valid/{metric}']:.2%}", f"{row[f'test/{metric}']:.2%}")
    console.print(table)
    console.print(
        f"the epoch was chosen by width {rows[0]['width']:g}; the others are runs of their own, {rows[0]['folder']}/width-W, for "
        "python -m distill.export RUN --width W",
    )


def _extra_test_splits(splits: dict[str, dict], subsets: dict) -> None:
    subset_splits = [name for name in splits if name in subsets or name == WITHOUT_TWINS]
    if protocols := [name for name in splits if name not in subset_splits]:
        shares = (f"{name} {splits[name]['top1_accuracy']:.2%} of {splits[name]['rows']:,}" for name in protocols)
        console.print("the student's test top-1 under other protocols: " + ", ".join(shares))
    for name in subset_splits:
        part = scores(splits[name])
        faces = "test faces whose photograph no other split has" if name == WITHOUT_TWINS else f"test subset {name}"
        console.print(
            f"the student on {faces}: top-1 {part.top1.value:.2%}, mean-class {part.mean_class.value:.2%} of {part.faces:,} faces"
        )


def measured(result: dict, path: Path) -> None:
    """Print the table of a finished run on other faces.

    Args:
        result: as written by python -m distill.measure.
        path: where.
    """
    data, classes = result["data"], result["classes"]
    title = f"{result['run']} on {data['name']}: {data['protocol']}"
    table = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False, collapse_padding=True)
    for name in ("", "faces", "top-1", "95%", "mean-class", "95%"):
        table.add_column(name, justify="right" if name else "left", no_wrap=bool(name))
    unseen = {"test, never seen": result["unseen"]} if result["unseen"] else {}
    if clean := result["extra_test_splits"].get(WITHOUT_TWINS):
        unseen["test, no photograph seen"] = clean
    extra_test_splits = {name: values for name, values in result["extra_test_splits"].items() if name != WITHOUT_TWINS}
    for name, values in {"test": result["test"], **unseen, **extra_test_splits}.items():
        table.add_row(name, *_cells(scores(values)))
    for name, by_severity in result["robustness"].get("corruptions", {}).items():
        table.add_row(name, *_cells(scores(by_severity["mean"], faces=result["test"]["rows"])))
    console.print(table)
    if unread := data["notes"].get("left_out"):
        console.print(f"data: {left_out_message(unread)}")
    shares = (f"{name} {share:.1%}" for name, share in result["recall"].items() if share is not None)
    console.print(f"found of each class: {', '.join(shares)}")
    if corrupted := corruptions(result["robustness"]):
        console.print(f"corrupted faces: mean over severities {', '.join(map(str, corrupted.severities))}")
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
            f"*** {result['seen_in_training']:,} of the test faces are, pixel for pixel, ones that the run LEARNED FROM or chose by",
            style="bold",
        )
    if result["near_duplicates"]:
        console.print(
            f"*** {result['near_duplicates']:,} of the test faces show a photograph, up to crop or contrast, that the run LEARNED FROM "
            "or chose by",
            style="bold",
        )
    if result["seen_in_training"] is None:
        console.print(
            "*** whether the run learned from some of these faces is not known: its own data are not there as it saw them, or "
            "their pictures are of another size"
        )
    console.print(f"written: {path}, predictions beside it")


def _cells(part: Scores) -> list[str]:
    shares = [(f"{share.value:.2%}", share.interval) for share in (part.top1, part.mean_class)]
    return [f"{part.faces:,}", *(cell for pair in shares for cell in pair)]
