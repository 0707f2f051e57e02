"""The top of the page: what was compared, and the winner on validation with its numbers."""

from html import escape
from math import sqrt

from distill.report.aggregate import COLUMNS, Configuration, Sweep
from distill.report.number_format import plain, show
from distill.report.select import condition
from distill.runs.reading import FIRST, Run

TILES = {
    FIRST: "validation top-1",
    "test/top1_accuracy": "test top-1",
    "test/mean_class_accuracy": "test mean-class",
    "num_parameters": "parameters",
    "macs": "MACs",
    "bytes": "size",
    "latency_ms": "latency, one thread",
}


def title(found: Sweep) -> str:
    """Return the title of the page: the data sets of its runs."""
    names = sorted({run.result["data"]["name"] for run in found.runs})
    return f"Distilled students on {' and '.join(names)}" if names else "No finished run"


def head(found: Sweep) -> str:
    """Return the title, what the runs were measured on, and warnings."""
    seeds = len({run.config.get("seed") for run in found.runs})
    counts = f"{count(len(found.runs), 'run')} of {count(len(found.configurations), 'configuration')}, {count(seeds, 'seed')}"
    measured = _measured_on(found)
    lines = [f"<h1>{escape(title(found))}</h1>"]
    if measured:
        facts = [counts, *measured] if len(measured) == 1 else [counts]
        lines.append(f'<p class="soft">{escape(". ".join(facts))}.</p>')
    if len(measured) > 1:
        lines.append(
            '<p class="warn">These runs were measured on different faces, so their accuracies cannot be ranked together: '
            f"{escape('; and '.join(measured))}.</p>"
        )
    if len(machines := _machines(found)) > 1:
        lines.append(
            '<p class="warn">These runs were made on different machines, so their speeds cannot be ranked together: '
            f"{escape('; '.join(machines))}.</p>"
        )
    if n := len(found.left_out):
        lines.append(f'<p class="warn">{count(n, "run folder")} not counted: <a href="#left-out">why</a>.</p>')
    return "<header>" + "\n".join(lines) + "</header>"


def count(n: int, words: str) -> str:
    """Return a number of things in words, the plural with an s: 1 run, 2 runs."""
    return f"{n:,} {words}{'' if n == 1 else 's'}"


def _measured_on(found: Sweep) -> list[str]:
    """Return what the runs were measured on, in words; more than one means that they cannot be ranked together."""
    return [_faces_words(members) for members in found.by_faces]


def _faces_words(members: list[Configuration]) -> str:
    data = [c.runs[0].result["data"] for c in members]
    rows = ", ".join(f"{_range([own['rows'].get(name, 0) for own in data])} {name}" for name in data[0]["rows"])
    return f"{_data_name(members[0])}, {data[0]['protocol']}; {rows} faces; {len(data[0]['classes'])} classes"


def _range(counts: list[int]) -> str:
    """Return how many faces: runs on the same test faces may have learnt from more or fewer."""
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _data_name(c: Configuration) -> str:
    where = f" ({c.settings['data.root']})" if "data.root" in c.settings else ""
    return c.runs[0].result["data"]["name"] + where


def _machines(found: Sweep) -> list[str]:
    """Return the processors that the speeds were measured on."""
    named = (leaf.env.get("processor") for run in found.runs for leaf in run.leaves)
    return sorted({str(name) for name in named if name})


def winner(found: Sweep) -> str:
    """Return the best configuration's label and numbers, and how it was chosen."""
    best, total = found.configurations[0], len(found.configurations)
    run = best.runs[0]
    tiles = "".join(_tile(name, words, best, run) for name, words in TILES.items() if name in best.mean)
    why = "The only configuration" if total == 1 else f"Best of {total} configurations on validation"
    folder = max(run.leaves, key=lambda leaf: leaf.numbers.get(FIRST, 0)).folder
    rule = (
        "Configurations are ranked by their mean top-1 on validation. The test split was read once per run, after training, "
        "and chooses nothing."
    )
    if total > 8:
        rule += f" As the best of {total}, the winner is a little lucky on validation; its test number is not touched by that."
    if all(len(c.runs) == 1 for c in found.configurations) and not best.spread:
        rule += f" With one seed per configuration, differences of less than {_chance(run)} can be chance."
    return (
        f'<section class="winner"><h2>{why}</h2><p class="name">{escape(best.label)}</p><dl class="tiles">{tiles}</dl>'
        f'<p class="small soft">{rule}</p><p class="small soft last">Run folder: <code>{escape(str(folder))}</code></p></section>'
    )


def winners(found: Sweep) -> str:
    """Return the best configuration of each data set, and how to see more of one; no one is the best of them all."""
    names = [_data_name(members[0]) for members in found.by_faces]
    lines = []
    for name, members in zip(names, found.by_faces, strict=True):
        told = name if names.count(name) == 1 else _faces_words(members)
        where = condition(members, [c for c in found.configurations if c.faces != members[0].faces])
        rule = f' <code>--best "max {FIRST} where {escape(where)}"</code>' if where else ""
        among = "the only configuration" if len(members) == 1 else f"best of {len(members)} configurations"
        lines.append(
            f"<li><b>{escape(told)}</b>: {escape(members[0].label)}, validation top-1 "
            f"{100 * members[0].mean[FIRST]:.2f} %, {among}.{rule}</li>"
        )
    why = (
        "Plots, mistakes and faces are left out, as they would compare different faces: type python -m distill.report "
        "with the run folders of one data set, and --out FOLDER, for its page with all of them."
    )
    return (
        '<section class="winner"><h2>Best of each data set on validation</h2>'
        f'<ul class="list">{"".join(lines)}</ul><p class="small soft last">{why}</p></section>'
    )


def _chance(run: Run) -> str:
    """Return how far two equally good students may lie apart on so few validation faces, 95 % of the time."""
    share, faces = run.numbers[FIRST], run.result["data"]["rows"].get("valid", 0)
    return f"{100 * 1.96 * sqrt(2 * share * (1 - share) / faces):.1f} points" if faces else "a few points"


def _tile(name: str, words: str, best: Configuration, run: Run) -> str:
    column = next(column for column in COLUMNS if column.name == name)
    value, more = show(column, best.mean[name]), []
    if column.unit == "percent":
        more = _uncertainty(name, best, run)
    value += {"percent": " %", "ms": " ms"}.get(column.unit, "")
    more += _beside_teacher(name, best.mean[name], run.teacher_numbers.get(name))
    small = f"<small>{'<br>'.join(map(escape, more))}</small>" if more else ""
    return f"<div><dt>{words}</dt><dd>{value}{small}</dd></div>"


def _uncertainty(name: str, best: Configuration, run: Run) -> list[str]:
    if name in best.spread:
        over = best.repeats if run.result.get("folds") and len(best.runs) == 1 else f"{best.repeats} seeds"
        return [f"± {100 * best.spread[name]:.2f} over {over}"]
    match run.result["student"]["metrics"].get(f"{name}_ci"):
        case [int() | float() as low, int() | float() as high]:
            return [f"95 %: {100 * low:.1f} to {100 * high:.1f}"]
    return []


def _beside_teacher(name: str, value: float, theirs: float | None) -> list[str]:
    """Return what the teacher has of a number."""
    if not theirs or not value:
        return []
    if "/" in name:
        return [f"teacher {100 * theirs:.1f}"]
    times = theirs / value
    return [f"teacher {plain(round(times, 1) if times < 10 else round(times))} times that"]
