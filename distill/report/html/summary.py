"""What the page says in words: what was compared, on what, and the numbers of a data set's best configuration."""

from math import sqrt
from typing import NamedTuple

from distill.evaluation.tables import Share
from distill.report.aggregate import COLUMNS, Configuration, RunTable
from distill.report.number_format import plain, show
from distill.runs.reading import AGREEMENT, FIRST

TILES = {
    FIRST: "validation top-1",
    AGREEMENT: "agreement with the teacher, validation",
    "test/top1_accuracy": "test top-1",
    "test/mean_class_accuracy": "test mean-class",
    "num_parameters": "parameters",
    "macs": "MACs",
    "bytes": "size",
    "latency_ms": "latency, one thread",
}


class Tile(NamedTuple):
    """One number of the winner: its heading, the number with its unit, and what else there is to say of it."""

    title: str
    value: str
    notes: list[str]


def title(table: RunTable) -> str:
    """Return the title of the page: the data sets of its runs."""
    names = sorted({run.result.data["name"] for run in table.runs})
    return f"Distilled students on {' and '.join(names)}" if names else "No finished run"


def warnings(table: RunTable) -> list[str]:
    """Return why the speeds of configurations cannot be ranked together."""
    lines, timed = [], [c for c in table.configurations if "latency_ms" in c.mean]
    exported = [c for c in timed if c.speed_of]
    leaves = [(run, leaf) for c in timed for run in c.runs for leaf in run.leaves]
    processors = [run.result.student.get("speed_on") or leaf.env.get("processor") for run, leaf in leaves]
    if len(machines := sorted({str(name) for name in processors if name})) > 1:
        lines.append(f"Speeds are of different machines and cannot be ranked together: {'; '.join(machines)}.")
    if len({c.speed_of for c in timed}) > 1:
        lines.append(
            f"Speeds are of different engines and cannot be ranked together: of {len(exported)} of {len(timed)} configurations "
            "those of exported files, of the others eager PyTorch's. Hover a speed to see which; python -m distill.bench of "
            "their exports gives the others."
        )
    return lines


def speeds(table: RunTable) -> str:
    """Return what the speeds are of."""
    if files := sorted({c.speed_of for c in table.configurations if c.speed_of}):
        return (
            f"Latency and images/s of {' and '.join(files)} are the exported file's on one thread, as python -m distill.bench "
            "timed it, instead of eager PyTorch's."
        )
    timed = any("latency_ms" in c.mean for c in table.configurations)
    return "They are eager PyTorch's; python -m distill.bench of an exported run times its files." if timed else ""


def trained_on(table: RunTable) -> list[str]:
    """Return the machines, and the versions of what computes."""
    machines: dict[str, None] = {}
    for run in table.runs:
        versions, where = run.env.get("packages") or {}, run.env.get("gpu") or run.env.get("processor")
        torch, timm = (versions.get(name, "unknown") for name in ("torch", "timm"))
        threads = run.env.get("threads", "unknown")
        machines[f"{where or 'an unknown machine'}, threads: {threads}, torch {torch}, timm {timm}"] = None
    return list(machines)


def chance(table: RunTable) -> str | None:
    """Return how far two equally good students may lie apart on so few validation faces, 95% of the time; of one seed each."""
    best = table.configurations[0]
    if best.spread or any(len(c.runs) > 1 for c in table.configurations):
        return None
    share, faces = best.score, best.runs[0].result.data["rows"].get("valid", 0)
    return f"{100 * 1.96 * sqrt(2 * share * (1 - share) / faces):.1f} points" if faces else "a few points"


def tiles(best: Configuration) -> list[Tile]:
    """Return the numbers of the best configuration, each with its uncertainty and what the teacher has of it."""
    made = []
    for name, words in TILES.items():
        if name in best.mean and (name != AGREEMENT or best.goal == AGREEMENT):
            column = next(column for column in COLUMNS if column.name == name)
            notes = _uncertainty(name, best) if column.unit == "percent" else []
            if name == "latency_ms":
                notes = [best.speed_of or "eager PyTorch"]
            notes += _beside_teacher(name, best)
            value = show(column, best.mean[name]) + {"percent": "%", "ms": " ms"}.get(column.unit, "")
            made.append(Tile(words, value, notes))
    return made


def _uncertainty(name: str, best: Configuration) -> list[str]:
    run = best.runs[0]
    if name in best.spread:
        over = best.repeats if run.result.folds and len(best.runs) == 1 else f"{best.repeats} seeds"
        return [f"± {100 * best.spread[name]:.2f} over {over}"]
    match run.result.student["metrics"].get(f"{name}_ci"):
        case [int() | float() as low, int() | float() as high]:
            return [f"95%: {Share(best.mean[name], low, high).interval}"]
    return []


def _beside_teacher(name: str, best: Configuration) -> list[str]:
    """Return what the teacher has of a number; of a file's speed nothing, as the teacher's is eager PyTorch's."""
    value, teacher = best.mean[name], best.runs[0].teacher_numbers.get(name)
    if not teacher or not value or (name == "latency_ms" and best.speed_of):
        return []
    if "/" in name:
        return [f"teacher {100 * teacher:.1f}"]
    times = teacher / value
    return [f"teacher {plain(round(times, 1) if times < 10 else round(times))} times that"]
