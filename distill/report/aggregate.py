"""Runs as a table: one row per configuration, its seeds folded, with only those settings that differ."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from distill.report.number_format import fewer_words, plain, value_words
from distill.report.settings import settings_of
from distill.runs.config import COMPONENTS
from distill.runs.folder import RunFolder
from distill.runs.reading import COSTS, FIRST, Run, goal_of

SPEEDS = ("latency_ms", "images_per_second")


class Column(NamedTuple):
    """A number of the table: its name in the run's numbers, its heading, the group above it, its unit, and what is better."""

    name: str
    title: str
    group: str
    unit: str
    better: str = ""

    @property
    def heading(self) -> str:
        """The heading and its group in one."""
        return self.title if self.group == "cost" else f"{self.title} {self.group}"


def _both(name: str, group: str, better: str = "") -> tuple[Column, ...]:
    return tuple(Column(f"{split}/{name}", split, group, "percent", better) for split in ("valid", "test"))


COLUMNS = (
    *_both("top1_accuracy", "top-1 (%)", "max"),
    *_both("mean_class_accuracy", "mean-class (%)", "max"),
    Column("num_parameters", "parameters", "cost", "count", "min"),
    Column("macs", "MACs", "cost", "count", "min"),
    Column("bytes", "size", "cost", "bytes", "min"),
    Column("latency_ms", "latency (ms)", "cost", "ms", "min"),
    Column("images_per_second", "images/s", "cost", "rate", "max"),
    Column("minutes", "minutes", "cost", "minutes"),
    *_both("expected_calibration_error", "ECE (%)", "min"),
    *_both("agreement", "agreement (%)"),
)


@dataclass(frozen=True)
class Configuration:
    """The runs that differ in nothing but their seed."""

    runs: tuple[Run, ...]  # best on validation first
    # all of them by dotted key, and each component's name under the component; not the seed
    settings: dict[str, object]
    mean: dict[str, float]  # of every number over the runs
    # their sample standard deviation; over folds where one job did them all; without a number where there is one run
    spread: dict[str, float]
    # its rank in a table by mean validation top-1, from 1 on; data sets follow one another, each ranked by itself
    number: int = 0
    # the settings that differ between the configurations of the table
    values: dict[str, object] = field(default_factory=dict)
    label: str = ""  # these in words, no two configurations alike
    short: str = ""  # the same without the names of the settings

    @property
    def repeats(self) -> str:
        folds = len(self.runs[0].result.folds or ()) if len(self.runs) == 1 else 0
        return f"{folds} folds" if folds else str(len(self.runs))

    @property
    def goal(self) -> str:
        """The name of the number that it is ranked by."""
        return goal_of(self.mean)

    @property
    def score(self) -> float:
        """Its mean over the runs."""
        return self.mean[self.goal]

    @property
    def goal_words(self) -> str:
        """What that number is: without labels nobody knows what is right."""
        return "validation top-1" if self.goal == FIRST else "agreement with the teacher on validation"

    @property
    def data_name(self) -> str:
        """The data set, and its folder where that tells it apart."""
        root = f" ({self.settings['data.root']})" if "data.root" in self.settings else ""
        return self.runs[0].result.data["name"] + root

    @property
    def speed_of(self) -> str | None:
        """The exported file whose speed is shown; None means eager PyTorch."""
        return self.runs[0].result.student.get("speed_of")

    @property
    def faces(self) -> tuple:
        """What its accuracies are of: data set, its place where that tells it apart, numbers of faces, protocol, classes."""
        data = self.runs[0].result.data
        protocol = str(data["protocol"]).split(", targets ")[0]  # FER+'s targets are learned, not validated
        rows = [data["rows"].get(split, 0) for split in ("valid", "test")]
        return data["name"], self.settings.get("data.root"), *rows, protocol, tuple(data["classes"])


class RunTable(NamedTuple):
    """Everything that a report is made from."""

    keys: tuple[str, ...]  # the settings that differ, dotted, or the name of a component
    configurations: tuple[Configuration, ...]  # best first; of several data sets, one after the other
    left_out: tuple[Run, ...] = ()  # runs that are not in the table, with the reason in .error
    debug: int = 0  # how many runs of debug=smoke or overfit are neither in the table nor in left_out

    @property
    def columns(self) -> list[Column]:
        """The numbers that at least one configuration has."""
        return [column for column in COLUMNS if any(column.name in c.mean for c in self.configurations)]

    @property
    def runs(self) -> list[Run]:
        return [run for c in self.configurations for run in c.runs]

    @property
    def by_faces(self) -> list[list[Configuration]]:
        """The configurations that were measured on the same faces, best first; only these can be ranked together."""
        groups: dict[tuple, list[Configuration]] = {}
        for c in self.configurations:
            groups.setdefault(c.faces, []).append(c)
        return list(groups.values())

    @property
    def sections(self) -> list["RunTable"]:
        """One table for each data set, with the settings that differ within it; numbers go on from one to the next."""
        return [table_of(members, first=members[0].number) for members in self.by_faces]


def aggregate_runs(runs: Sequence[Run], debug: bool = False) -> RunTable:
    """Fold runs into configurations, ranked by mean validation top-1 on the same faces.

    A run whose configuration and seed occur twice counts once, with its newest result.

    Args:
        runs: as find() returns them.
        debug: count those of debug=smoke and debug=overfit, too.
    """
    wanted = [run for run in runs if debug or not run.is_debug]
    complete = _timed_together([run for run in wanted if run.status == "complete"])
    flat = settings_of(complete)
    keys = _swept(flat)
    groups: dict[str, list[tuple[Run, dict]]] = {}
    for run, settings in zip(complete, flat, strict=True):
        groups.setdefault(repr([settings.get(key) for key in keys]), []).append((run, settings))
    configurations, repeated = [], []
    for members in groups.values():
        newest, more = _once([run for run, _ in members])
        configurations.append(configuration(newest, next(values for run, values in members if run is newest[0])))
        repeated += more
    left_out = (*(run for run in wanted if run.status != "complete"), *repeated)
    return table_of(configurations)._replace(left_out=left_out, debug=len(runs) - len(wanted))


def table_of(configurations: Sequence[Configuration], first: int = 1) -> RunTable:
    """Return configurations as a table of their own: ranked, numbered, and called by the settings that differ among them."""
    ranked = sorted(configurations, key=lambda c: (repr(c.faces), -c.score))
    keys = _swept([c.settings for c in ranked])
    values = [{key: c.settings.get(key) for key in keys} for c in ranked]
    labels = _labels(keys, values, ranked)
    numbered = [
        replace(c, number=number, values=of_one, label=label, short=short)
        for number, (c, of_one, (label, short)) in enumerate(zip(ranked, values, labels, strict=True), first)
    ]
    return RunTable(tuple(keys), tuple(numbered))


def _timed_together(runs: list[Run]) -> list[Run]:
    """Give runs of one network and machine the median of their speeds, of its exported files where there are any."""
    exported: dict[str, list[dict]] = {}
    eager: dict[str, list[dict]] = {}
    for run in runs:
        exported.setdefault(_network(run), []).extend(filter(None, [run.exported_speed]))
        eager.setdefault(_network(run) + _machine(run), []).append(run.numbers)
    timed = []
    for run in runs:
        files = exported[_network(run)]
        speeds_of = [file for file in files if file["file"] == files[0]["file"]] or eager[_network(run) + _machine(run)]
        speeds = {name: [file[name] for file in speeds_of if name in file] for name in SPEEDS}
        more = {name: statistics.median(values) for name, values in speeds.items() if values}
        more |= {"speed_of": files[0]["file"], "speed_on": files[0]["processor"]} if files else {}
        timed.append(replace(run, result=replace(run.result, student=run.result.student | more)))
    return timed


def _network(run: Run) -> str:
    return repr([run.config.student, run.result.student.get("macs")])


def _machine(run: Run) -> str:
    return repr([run.env.get(name) for name in ("processor", "gpu", "threads", "packages")])


def _once(members: list[Run]) -> tuple[list[Run], list[Run]]:
    """Return the newest run of each seed, best first, and the older ones with that as their error."""
    newest: dict[object, Run] = {}
    older: list[tuple[Run, Run]] = []
    for run in sorted(members, key=lambda run: -RunFolder(run.folder).result.stat().st_mtime):
        seed = run.config.seed
        if seed in newest:
            older.append((run, newest[seed]))
        else:
            newest[seed] = run
    why = "the same configuration and seed as {}, which is newer"
    again = [Run(run.folder, "repeated", why.format(other.folder)) for run, other in older]
    return sorted(newest.values(), key=lambda run: -run.numbers[goal_of(run.numbers)]), again


def _swept(flat: list[dict]) -> list[str]:
    """Return the components and keys that differ; not those that merely follow from another component."""
    parts = [part for part in COMPONENTS if len({settings.get(part) for settings in flat}) > 1]
    names = {f"{part}.name" for part in COMPONENTS}
    keys = dict.fromkeys(key for settings in flat for key in settings if key not in COMPONENTS and key not in names)
    return parts + [key for key in keys if _varies(key, flat)]


def _varies(key: str, flat: list[dict]) -> bool:
    """Say whether a key has several values among runs whose component of that name is the same."""
    component = key.split(".")[0]
    seen: dict[object, set[str]] = {}
    for settings in flat:
        if key in settings:
            owner = settings[component] if component in COMPONENTS and component in settings else None
            seen.setdefault(owner, set()).add(repr(settings[key]))
    return any(len(values) > 1 for values in seen.values())


def _labels(keys: list[str], values: list[dict], ranked: list[Configuration]) -> list[tuple[str, str]]:
    """Return (label, short label) of each configuration; the short one says which of two teachers, ... where it is rarer."""
    used: list[str] = []
    for key in keys:
        if _distinct(values, [*used, key]) > max(_distinct(values, used), 1):
            used.append(key)
    kinds = {key: Counter(plain(settings[key]) for settings in values) for key in used if key in COMPONENTS[1:]}
    usual = {key: counts.most_common(1)[0][0] for key, counts in kinds.items() if len(counts) == 2}
    labels = []
    for settings, c in zip(values, ranked, strict=True):
        there = [key for key in used if settings[key] is not None]
        words = [value_words(key, settings[key]) for key in there]
        short = [fewer_words(key, settings[key]) for key in there if plain(settings[key]) != usual.get(key)]
        name = c.runs[0].result.student.get("name", "student")
        labels.append((" · ".join(words) or name, " · ".join(short) or name))
    return labels


def _distinct(values: list[dict], keys: list[str]) -> int:
    return len({repr([settings[key] for key in keys]) for settings in values})


def configuration(runs: list[Run], settings: dict) -> Configuration:
    """Return the runs of one configuration, best first, with their means and spreads.

    Args:
        runs: which differ in nothing but their seed.
        settings: of the first one.
    """
    shared = set.intersection(*(set(run.numbers) for run in runs))
    mean = {name: statistics.fmean(run.numbers[name] for run in runs) for name in sorted(shared)}
    spread = {name: statistics.stdev(run.numbers[name] for run in runs) for name in shared if len(runs) > 1}
    if len(runs) == 1:
        spread = dict(runs[0].result.student.get("spread") or {})
    spread = {name: value for name, value in spread.items() if name not in COSTS}  # speeds are medians of all its runs
    return Configuration(tuple(runs), settings, mean, spread)


def data_words(members: Sequence[Configuration]) -> str:
    """Return what configurations were measured on: data set, protocol, numbers of faces and classes."""
    data = [c.runs[0].result.data for c in members]
    rows = [facts["rows"] for facts in data]
    counts = {name: [of_one.get(name, 0) for of_one in rows] for name in rows[0]}  # training sets may differ
    ranges = {name: f"{min(n):,}" if min(n) == max(n) else f"{min(n):,} to {max(n):,}" for name, n in counts.items()}
    faces = ", ".join(f"{words} {name}" for name, words in ranges.items())
    return f"{members[0].data_name}, {data[0]['protocol']}; {faces} faces; {len(data[0]['classes'])} classes"
