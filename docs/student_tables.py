"""The tables of docs/ferplus.md about students of several seeds, from docs/results; docs/tables.py lists them.

A result is NAME.json, its further seeds are NAME-seed1.json, ...; what one says of other faces is NAME-muxspace48.json.
answers.json has the class that each student answers for every validation and test face, a digit a face.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from distill.report.pair import mcnemar

RESULTS = Path(__file__).resolve().parent / "results"
PAIRS = {  # student -> its results on labels alone and from the ensemble, of one budget
    "MicroExpNet XXS": ("ferplus-microexpnet-100-ce", "ferplus-microexpnet-100-distilled"),
    "FerLite S": ("ferplus-ferlite-s-ce", "ferplus-ferlite-s-distilled"),
    "FerLite M": ("ferplus-ferlite-m-ce", "ferplus-ferlite-m-distilled"),
}
RARE = {  # the same, then five epochs in which rare classes count for more
    "MicroExpNet XXS": ("ferplus-microexpnet-100-ce-rare", "ferplus-microexpnet-100-distilled-rare"),
    "FerLite S": ("ferplus-ferlite-s-ce-rare", "ferplus-ferlite-s-distilled-rare"),
    "FerLite M": ("ferplus-ferlite-m-ce-rare", "ferplus-ferlite-m-rare"),
}


def rows_of(of_students: dict[str, tuple[str, str]], end: str = "") -> dict[str, str]:
    """Return row -> result of students on labels alone and from the ensemble."""
    hows = ("labels alone", "from the ensemble")
    return {
        f"{student}, {how}{end}": name
        for student, names in of_students.items()
        for how, name in zip(hows, names, strict=True)
    }


THEN = ", then rare classes"
ROWS = {  # table -> its rows -> results
    "students": rows_of(PAIRS),
    "rare": rows_of(RARE, THEN),
    "further": {
        "FerLite L, 40 epochs": "ferplus-ferlite-l",
        f"FerLite L, 40 epochs{THEN}": "ferplus-ferlite-l-rare",
        "FerLite S, 300 epochs": "ferplus-ferlite-s-distilled-300",
        f"FerLite S, 300 epochs{THEN}": "ferplus-ferlite-s-rare",
        "FerLite S at 64 px, for rare classes": "ferplus-ferlite-s64-rare",
        "FerLite S at 64 px, for rare classes, then 40 epochs": "ferplus-ferlite-s64-more",
        "FerLite M at 64 px, for rare classes": "ferplus-ferlite-m64-rare",
        "MicroExpNet XXS, then 40 epochs": "ferplus-microexpnet-100-distilled-more",
        "FerLite S, from the ensemble, 8 stored views": "ferplus-ferlite-s-distilled-views-8",
        "FerLite S, labels alone, 8 views": "ferplus-ferlite-s-ce-8-views",
    },
    "cern_48": {
        "CERN at half width, 48 px, labels alone": "ferplus-cern-mild-ce",
        "CERN at half width, 48 px, from FerLite L": "ferplus-cern-mild",
        f"CERN at half width, 48 px, from FerLite L{THEN}": "ferplus-cern-mild-rare",
    },
    "mild": {
        "MicroExpNet XXS in milder views, labels alone": "ferplus-microexpnet-mild-ce",
        "MicroExpNet XXS in milder views, from FerLite M": "ferplus-microexpnet-mild",
        f"MicroExpNet XXS in milder views, from FerLite M{THEN}": "ferplus-microexpnet-mild-rare",
    },
}
MICROEXPNET = "ferplus-microexpnet-mild-rare"  # whose seed 2 is shipped; README.md's table has the others
KEYS = ("top1_accuracy", "mean_class_accuracy")
TWINS = "without_near_duplicates"


def shown(*of_tables: str) -> dict[str, str]:
    """Return the rows of some of ROWS' tables, or of all, whose result is there."""
    rows = {row: name for of_table in of_tables or ROWS for row, name in ROWS[of_table].items()}
    return {row: name for row, name in rows.items() if (RESULTS / f"{name}.json").exists()}


def shown_of(shipped: bool) -> dict[str, str]:
    """Return the rows of students that come with the package, or all others."""
    names = {MICROEXPNET, *shipped_results().values()}
    return {row: name for row, name in shown().items() if (name in names) == shipped}


def shipped_results() -> dict[str, str]:
    """Return student -> result of the shipped students in README.md's table."""
    rows = [row for row in read("readme") if "shipped" in row]
    return {row["name"].strip("*"): row["result"].removesuffix(".json") for row in rows}


def read(name: str) -> dict:
    """Return docs/results/NAME.json."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def seeds(name: str) -> list[str]:
    """Return the names of a result and of its further seeds, as many as there are."""
    return [name, *sorted(path.stem for path in RESULTS.glob(f"{name}-seed?.json"))]


def without_twins(name: str) -> dict:
    """Return a result's numbers without near-duplicates: its own, or those measured afterwards."""
    splits = read(name)["extra_test_splits"]
    return splits[TWINS] if TWINS in splits else read(f"{name}-unseen")["extra_test_splits"][TWINS]


def spread(values: list[float], digits: int = 2, unit: float = 100) -> str:
    """Return a mean over seeds, with the standard deviation where there are several."""
    values = [unit * value for value in values]
    return f"{mean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown: the first column to the left, the others to the right."""
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, *rows)]
    return "\n".join([lines[0], f"|---{'|---:' * (len(heads) - 1)}|", *lines[1:]])


def students(of_table: str) -> str:
    """Return what the students of one of ROWS' tables reach, mean ± standard deviation over seeds."""
    heads = ["student", "seeds", "valid", "test", "test without twins", "other faces"]
    rows = []
    for student, name in shown(of_table).items():
        metrics = [read(seed)["student"]["metrics"] for seed in seeds(name)]
        splits = [[{key: m[f"{split}/{key}"] for key in KEYS} for m in metrics] for split in ("valid", "test")]
        splits += [[without_twins(seed) for seed in seeds(name)]]
        splits += [[read(f"{seed}-muxspace48")["test"] for seed in seeds(name)]]
        cells = [" /<br>".join(spread([result[key] for result in split]) for key in KEYS) for split in splits]
        rows.append([student, str(len(metrics)), *cells])
    return table(heads, rows)


def calibration(shipped: bool) -> str:
    """Return NLL and ECE of students before and after their temperature, and their agreement with their teacher, on test."""
    heads = ["student", "NLL", "NLL, calibrated", "ECE", "ECE, calibrated", "agrees with its teacher"]
    rows = []
    for student, name in shown_of(shipped).items():
        results = [read(seed) for seed in seeds(name)]
        tests = [result["calibration"]["test"] for result in results]
        cells = [
            spread([test[when][key] for test in tests], 3, 1)
            for key in ("nll", "expected_calibration_error")
            for when in ("before", "after")
        ]
        metrics = [result["student"]["metrics"] for result in results]
        agrees = spread([m["test/agreement"] for m in metrics]) if "test/agreement" in metrics[0] else "-"
        rows.append([student, *cells, agrees])
    return table(heads, rows)


def pairs(of_both: dict[str, tuple[str, str]], end: str = "", teacher: str = "the ensemble") -> str:
    """Return students from a teacher beside those on labels alone: McNemar over faces for each seed, and differences over seeds."""
    kept = read("answers")
    heads = ["student, faces", "seeds", f"one alone is right: from {teacher}, on labels", "p"]
    heads += ["top-1", "mean-class", "ECE"]
    rows = []
    for student, (alone, distilled) in of_both.items():
        if not (RESULTS / f"{alone}.json").exists() or not (RESULTS / f"{distilled}.json").exists():
            continue
        both = list(zip(seeds(alone), seeds(distilled), strict=False))
        for split in ("valid", "test"):
            labels = digits(kept["labels"][split])
            counts = [mcnemar(*(digits(kept["answers"][name][split]) == labels for name in (b, a))) for a, b in both]
            metrics = [[read(name)["student"]["metrics"] for name in pair] for pair in both]
            gains = [
                gain([b[f"{split}/{key}"] - a[f"{split}/{key}"] for a, b in metrics], places, unit)
                for key, places, unit in ((KEYS[0], 2, 100), (KEYS[1], 2, 100), ("expected_calibration_error", 3, 1))
            ]
            alone_right = "; ".join(f"{b}, {a}" for b, a, _ in counts)
            rows.append(
                [
                    f"{student}{end}, {split}",
                    str(len(both)),
                    alone_right,
                    "; ".join(f"{p:.2g}" for *_, p in counts),
                    *gains,
                ]
            )
    return table(heads, rows)


def digits(text: str) -> np.ndarray:
    """Return a digit a face as [N] classes."""
    return np.frombuffer(text.encode(), np.uint8) - ord("0")


def gain(differences: list[float], places: int, unit: float) -> str:
    """Return a mean difference over seeds, with its standard error where there are several."""
    values = [unit * value for value in differences]
    error = f" ± {stdev(values) / len(values) ** 0.5:.{places}f}" if len(values) > 1 else ""
    return f"{mean(values):+.{places}f}{error}"


def class_recalls(elsewhere: bool) -> str:
    """Return the share of each class that the shipped students find.

    Args:
        elsewhere: on the other data set instead of FER+'s test faces.
    """
    kept = read("answers")
    names = {**shipped_results(), "MicroExpNet XXS": f"{MICROEXPNET}-seed2"}
    labels, every = digits(kept["labels"]["test"]), read(names["MicroExpNet XXS"])["data"]["classes"]
    if elsewhere:
        others = {student: read(f"{name}-muxspace48") for student, name in names.items()}
        number = next(iter(others.values()))["data"]["notes"]["classes_of_test"]
        recall = {student: [result["recall"][name] for name in every] for student, result in others.items()}
    else:
        number = np.bincount(labels).tolist()
        right = {student: digits(kept["answers"][name]["test"]) == labels for student, name in names.items()}
        recall = {student: [result[labels == k].mean() for k in range(len(every))] for student, result in right.items()}
    rows = [
        [name, f"{number[k]:,}", *(f"{100 * recall[student][k]:.0f}" for student in names)]
        for k, name in enumerate(every)
    ]
    return table(["class", "faces", *names], rows)


def protocols(shipped: bool) -> str:
    """Return students' test top-1 under every protocol."""
    names = ("majority", "argmax", "votes", "emotions")
    rows = []
    for student, name in shown_of(shipped).items():
        splits = [read(seed)["extra_test_splits"] for seed in seeds(name)]
        rows.append([student, *(spread([split[protocol]["top1_accuracy"] for split in splits]) for protocol in names)])
    return table(["student", *names], rows)


def corrupted() -> str:
    """Return top-1 on corrupted test faces, the mean over severities, of the students that were measured so."""
    rows, kinds = [], []
    for student, name in shown().items():
        if (RESULTS / f"{name}-corrupted.json").exists():
            measured = read(f"{name}-corrupted")["robustness"]
            kinds = list(measured["corruptions"])
            shares = [measured["clean"], *(measured["corruptions"][kind]["mean"] for kind in kinds)]
            rows.append([student, *(f"{100 * scores['top1_accuracy']:.1f}" for scores in shares)])
    return table(["student", "clean", *kinds], rows)


def losses(of_results: str) -> str:
    """Return what students reach by each loss, from the report's CSV in docs/results, ranked by validation."""
    return ranked(of_results, "loss", loss_name)


def poolings() -> str:
    """Return what MicroExpNet reaches by each pooling, on labels alone and from the ensemble, ranked by validation."""
    return ranked("ferplus-poolings.csv", "pooling", pooling_name)


def milder_views() -> str:
    """Return what MicroExpNet reaches on validation by the ranges of its views, from the report's CSV in docs/results, the best first."""
    heads = ["rotate", "shear", "scale", "shift", "brightness", "contrast", "erase", "learning rate", "valid"]
    with open(RESULTS / "ferplus-microexpnet-views.csv", newline="") as lines:
        runs = sorted(csv.DictReader(lines), key=lambda run: -float(run["valid/top1_accuracy"]))
    rows = []
    for run in runs:
        ranges = {head: run.get(f"augment.{head}", "") for head in heads[:-2]}
        ranges["scale"] = f"{run['augment.scale_min']} to {run['augment.scale_max']}"
        reached = " / ".join(f"{100 * float(run[f'valid/{key}']):.2f}" for key in KEYS)
        rows.append([*ranges.values(), f"{float(run['optimizer.lr']):g}", reached])
    return table(heads, rows)


def ranked(of_results: str, what: str, name: Callable[[dict[str, str]], str]) -> str:
    """Return a report's CSV in docs/results as a table, its runs grouped by a name of them, over seeds, ranked by validation."""
    heads = {
        "valid top-1": "valid/top1_accuracy",
        "test top-1": "test/top1_accuracy",
        "test mean-class": "test/mean_class_accuracy",
        "test ECE": "test/expected_calibration_error",
        "agrees with teacher": "test/agreement",
    }
    grouped = defaultdict(list)
    with open(RESULTS / of_results, newline="") as lines:
        for run in csv.DictReader(lines):
            grouped[name(run)].append(run)
    most = max(map(len, grouped.values()))
    rows = []
    for group, runs in grouped.items():
        if len(runs) == most:
            values = {head: [float(run[key]) for run in runs if run[key]] for head, key in heads.items()}
            cells = [spread(values[head]) if values[head] else "" for head in heads]
            rows.append((mean(values["valid top-1"]), [group, *cells, str(most)]))
    best_first = sorted(rows, key=lambda row: -row[0])
    return table([what, *heads, "n"], [cells for _, cells in best_first])


def loss_name(run: dict[str, str]) -> str:
    """Return the losses of a row of a report's CSV, with the options that are not the default ones."""
    options = ["weighted"] if run.get("loss.ttm.weighted") == "true" else []
    options += ["standardized"] if run.get("loss.kd.standardize") == "true" else []
    temperature, weight = run.get("loss.kd.temperature"), run.get("loss.kd.weight")
    options += [f"T = {float(temperature):g}"] if temperature and float(temperature) != 2 else []
    options += [f"weight {float(weight):g}"] if weight and float(weight) != 0.9 else []
    return run["loss"] + (f" ({', '.join(options)})" if options else "")


def pooling_name(run: dict[str, str]) -> str:
    """Return the pooling of a row of a report's CSV, and what it learned from."""
    return f"{run['student.pooling']}, {'from the ensemble' if run['teacher'] == 'ensemble' else 'labels alone'}"
