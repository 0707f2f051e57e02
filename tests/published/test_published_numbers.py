"""The numbers in the tables of README.md and docs/ are those of the runs' own files, rounded as they are printed."""

import csv
import json
from collections import defaultdict
from statistics import mean, stdev

import pytest
from commandline import ROOT
from page_tables import table, tables

from distill.export.runtimes import open_file
from distill.runs.published import SHIPPED, shipped

RESULTS = ROOT / "docs" / "results"
RUNS = {
    "teacher: MobileNetV1 from faces, 10 epochs": "mobilenetv1_faces-teacher",
    "MicroExpNet XXS, labels alone, 32 epochs": "microexpnet-ce",
    "MicroExpNet XXS, distilled by `kd`, 32 epochs": "microexpnet-kd",
    "MicroExpNet XXS, distilled by `dist`, 32 epochs": "microexpnet-dist",
    "CERN at half width, labels alone, 4 epochs": "cern-ce",
    "CERN at half width, distilled by `kd`, 4 epochs": "cern-kd",
    "CERN at half width, distilled by `dist`, 8 epochs": "cern-dist-8",
    "CERN at full width, distilled by `kd`, 4 epochs": "cern-full-kd",
    "MicroExpNet XXS, distilled by `kd`, 4 epochs": "microexpnet-4-kd",
    "MobileNetV2 + Inception (reconstruction B), distilled by `kd`, 4 epochs": "mobilenet_inception-kd",
    "SCAN-CCI on ResNet-18 from scratch, shared masks, distilled by `kd`, 4 epochs": "scan_cci-kd",
}
STUDENTS = list(RUNS)[1:]
TIMED = {  # what docs/speeds/networks.json calls a row
    "student=timm student.name=mobilenetv1_100 student.size=96 +student.pad_type=same": "teacher",
    "student=microexpnet": "MicroExpNet",
    "student=cern student.width=0.5 student.size=64": "CERN at half",
    "student=cern student.size=64": "CERN at full",
    "student=mobilenet_inception student.size=64 student.reconstruction=B": "MobileNetV2",
    "student=scan_cci student.size=64 student.backbone=resnet18 student.pretrained=false": "SCAN-CCI",
}
SHOWN = {  # the heading of a column of docs/losses-ferplus.md -> of the CSV files
    "valid top-1": "valid/top1_accuracy",
    "test top-1": "test/top1_accuracy",
    "test mean-class": "test/mean_class_accuracy",
    "test ECE": "test/expected_calibration_error",
    "agrees with teacher": "test/agreement",
}


def runs(row: str) -> list[dict]:
    """Return the results behind a row, the first seed first."""
    stem = f"ferplus-{RUNS[row]}"
    paths = [RESULTS / f"{stem}.json", *sorted(RESULTS.glob(f"{stem}-seed?.json"))]
    found = [json.loads(path.read_text()) for path in paths]
    assert [result["seed"] for result in found] == list(range(len(found)))
    return found


def spread(values) -> str:
    """Return a mean over seeds in percent, with the standard deviation where there are several."""
    values = [100 * value for value in values]
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def speeds(name: str) -> dict:
    return json.loads((ROOT / "docs" / "speeds" / f"{name}.json").read_text())


def size(number: int) -> str:
    return f"{number / 1e3:.3g} kB" if number < 1e6 else f"{number / 1e6:.3g} MB"


FERLITE = ("ferplus-ferlite-s-ce", "ferplus-ferlite-m-ce")
DISTILLED = (
    "ferplus-microexpnet-100-distilled",
    "ferplus-ferlite-s-distilled",
    "ferplus-ferlite-m-distilled",
    "ferplus-ferlite-l",
)


def test_every_result_stands_behind_a_row():
    used = {path for stem in RUNS.values() for path in RESULTS.glob(f"ferplus-{stem}*.json")}
    used |= {
        path for stem in (*FERLITE, *DISTILLED, "ferplus-microexpnet-100-ce") for path in RESULTS.glob(f"{stem}*.json")
    }
    shown = [row.get(key) for row in json.loads((RESULTS / "readme.json").read_text()) for key in ("result", "twins")]
    assert used | {RESULTS / name for name in shown if name} >= set(RESULTS.glob("ferplus-*.json"))


def test_what_was_reached_with_a_graph_is_what_its_run_says():
    graphs = json.loads((RESULTS / "graph-front.json").read_text())["graphs"]
    reached = [own for row in graphs for own in row.get("results", [])]
    assert len(reached) > 5
    for own in reached:
        result = json.loads((RESULTS / f"{own['run']}.json").read_text())
        assert own["valid_top1_accuracy"] == result["student"]["metrics"]["valid/top1_accuracy"]
        assert own["epochs"] == result["epochs"]


def test_no_result_is_better_than_what_is_said_to_have_been_reached_with_its_graph():
    cost = ("name", "num_parameters", "macs")
    graphs = json.loads((RESULTS / "graph-front.json").read_text())["graphs"]
    best = {(row["student"], row["num_parameters"], row["macs"]): row.get("results") for row in graphs}
    found = [json.loads(path.read_text()) for path in RESULTS.glob("ferplus-*.json")]
    runs = [result["student"] for result in found if "student" in result and "epochs" in result]
    small = [student for student in runs if tuple(student.get(key) for key in cost) in best]
    assert len(small) > 8
    for student in small:
        reached = best[tuple(student[key] for key in cost)] or [{"valid_top1_accuracy": 0}]
        assert student["metrics"]["valid/top1_accuracy"] <= reached[0]["valid_top1_accuracy"], student["name"]


@pytest.mark.parametrize("stem", FERLITE)
def test_what_is_said_of_ferlite_is_what_its_results_say(stem):
    said = (ROOT / "docs" / "ferplus.md").read_text()
    found, unseen, other = (
        json.loads((RESULTS / f"{stem}{name}.json").read_text()) for name in ("", "-unseen", "-muxspace48")
    )
    metrics, clean = found["student"]["metrics"], unseen["extra_test_splits"]["without_near_duplicates"]
    valid, test, mean_class = (
        f"{100 * metrics[key]:.2f}" for key in ("valid/top1_accuracy", "test/top1_accuracy", "test/mean_class_accuracy")
    )
    assert f"valid {valid}, test {test} (mean-class {mean_class}; one seed)" in said
    assert f"{100 * clean['top1_accuracy']:.2f} ({100 * clean['mean_class_accuracy']:.2f}) without" in said
    elsewhere = other["test"]
    assert f"{100 * elsewhere['top1_accuracy']:.2f} (mean-class {100 * elsewhere['mean_class_accuracy']:.2f})" in said


@pytest.mark.parametrize("stem", DISTILLED)
def test_what_is_said_of_the_ensemble_is_what_its_students_result_says(stem):
    said, metrics = (
        (ROOT / "docs" / "ferplus.md").read_text(),
        json.loads((RESULTS / f"{stem}.json").read_text())["teacher"]["metrics"],
    )
    pairs = [
        [100 * metrics[f"{split}/{key}"] for key in ("top1_accuracy", "mean_class_accuracy")]
        for split in ("valid", "test")
    ]
    assert "has {:.2f} / {:.2f} on validation and {:.2f} / {:.2f} on test".format(*pairs[0], *pairs[1]) in said


def test_the_tables_of_each_budget_are_those_of_the_results():
    found = [rows for rows in tables("docs/ferplus.md") if {"network", "MACs"} <= rows[0].keys()]
    rows = {row["network"]: row for rows in found for row in rows}
    assert rows.keys() == RUNS.keys()
    assert all(len({row["network"].split(", ")[-1] for row in rows}) == 1 for rows in found), "one budget a table"
    for name, row in rows.items():
        found = runs(name)
        student, metrics = found[0]["student"], [result["student"]["metrics"] for result in found]
        if name.startswith("teacher"):  # its intervals are in the results of the students that it taught
            taught = runs(STUDENTS[1])[0]["teacher"]["metrics"]
            assert metrics[0].items() <= taught.items()
            metrics = [taught]
        assert {result["epochs"] for result in found} == {int(name.split(", ")[-1].removesuffix(" epochs"))}
        wanted = {
            "parameters": f"{student['num_parameters']:,}",
            "MACs": f"{student['macs'] / 1e6:.3g} M",
            "size": size(student["bytes"]),
            "valid top-1": spread(m["valid/top1_accuracy"] for m in metrics),
            "agrees with teacher": spread(m["test/agreement"] for m in metrics) if found[0]["teacher"] else "",
            "n": str(len(found)),
        }
        for head, key in (("test top-1", "test/top1_accuracy"), ("test mean-class", "test/mean_class_accuracy")):
            low, high = (100 * end for end in metrics[0][f"{key}_ci"])
            wanted[head] = f"{spread(m[key] for m in metrics)} ({low:.1f} to {high:.1f})"
        assert wanted == {head: row[head] for head in wanted}, name
        (words,) = (words for words, start in TIMED.items() if name.startswith(start))
        wanted["images/s"] = f"{speeds('networks')['networks'][words]['images_per_second']:,.0f}"
        assert wanted["images/s"] == row["images/s"] and row.keys() - wanted.keys() == {"network", "input"}


def test_the_table_of_protocols_is_that_of_the_results():
    rows = {row["student"]: row for row in table("docs/ferplus.md", "student", "argmax")}
    assert list(rows) == STUDENTS
    for name, row in rows.items():
        for protocol in row.keys() - {"student"}:
            assert row[protocol] == spread(r["extra_test_splits"][protocol]["top1_accuracy"] for r in runs(name)), name


def test_the_table_of_spoilt_faces_is_that_of_the_results():
    rows = {row["student"]: row for row in table("docs/ferplus.md", "student", "sunglasses")}
    assert len(rows) == 8
    for name, row in rows.items():
        later = RESULTS / f"ferplus-{RUNS[name]}-corrupted.json"  # of python -m distill.measure
        found = (json.loads(later.read_text()) if later.exists() else runs(name)[0])["robustness"]
        assert found["severities"] == [1, 3, 5]
        shares = {"clean": found["clean"]} | {kind: of["mean"] for kind, of in found["corruptions"].items()}
        wanted = {kind: f"{100 * of['top1_accuracy']:.1f}" for kind, of in shares.items()}
        assert row == {"student": name} | wanted


def test_faces_that_training_and_test_share_are_told_as_they_were_counted():
    page = " ".join((ROOT / "docs" / "ferplus.md").read_text().split())
    for name, who in (("microexpnet-dist", "MicroExpNet"), ("cern-dist-8", "CERN")):
        found = json.loads((RESULTS / f"ferplus-{name}-unseen.json").read_text())
        whole, unseen, seen = found["test"], found["unseen"], found["seen_in_training"]
        assert unseen["rows"] + seen == whole["rows"]
        assert f"{seen} of the {whole['rows']:,} test faces ({seen / whole['rows']:.1%})".replace("%", " %") in page
        top1, mean_class = ([100 * of[f"{key}_accuracy"] for of in (unseen, whole)] for key in ("top1", "mean_class"))
        told = "{:.2f} instead of {:.2f} ({}{:.2f} instead of {:.2f})"
        assert f"{who} {told.format(*top1, 'mean-class ' * (who != 'CERN'), *mean_class)}" in page


def test_the_faces_of_each_protocol_are_those_that_the_results_counted():
    counted = runs(STUDENTS[0])[0]["data"]["notes"]["counts"]
    rows = table("docs/data.md", "protocol", "rule")
    assert len(rows) == 4
    for row in rows:
        wanted = counted[row["protocol"].removesuffix(" (default)")]
        assert [row[split] for split in ("train", "valid", "test")] == [f"{n:,}" for n in wanted]


@pytest.mark.parametrize(("place", "file"), [(0, "ferplus-losses.csv"), (1, "ferplus-losses-cern.csv")])
def test_the_tables_of_losses_are_those_of_the_results(place, file):
    found = defaultdict(list)
    with open(RESULTS / file, newline="") as lines:
        for row in csv.DictReader(lines):
            how = "weighted" if row["loss.ttm.weighted"] == "true" else ""
            how = "standardized, T = 1" if row["loss.kd.standardize"] == "true" else how
            found[row["loss"] + (f" ({how})" if how else "")].append(row)
    rows = [rows for rows in tables("docs/losses-ferplus.md") if "test ECE" in rows[0]][place]
    assert {row["loss"] for row in rows} >= {name for name, seeds in found.items() if len(seeds) > 1}
    for row in rows:
        seeds = found[row["loss"]]
        wanted = {
            head: spread(float(s[key]) for s in seeds) if all(s[key] for s in seeds) else ""
            for head, key in SHOWN.items()
        }
        assert row == {"loss": row["loss"], **wanted, "n": str(len(seeds))}


def test_bytes_agreement_and_accuracy_of_the_shipped_files_are_their_own():
    rows = table("docs/benchmarks.md", "file", "same answer as PyTorch")
    files = ("model.safetensors", "model.onnx", "model.int8.onnx")
    assert [row["file"] for row in rows] == [
        f"{name}, {file}" for name in shipped() for file in files if (SHIPPED / name / file).exists()
    ]
    for row in rows:
        folder, file = row["file"].split(", ")
        path = SHIPPED / folder / file
        config = json.loads(path.with_name("config.json").read_text())["fer_distill"]
        facts = open_file(path, 1).facts if path.suffix == ".onnx" else config["facts"]
        agreement, top1 = float(facts["file_agreement_with_pytorch"]), float(facts["file_top1_accuracy"])
        told = (row["bytes"], row["same answer as PyTorch"], row["valid top-1"])
        assert told == (f"{path.stat().st_size:,}", f"{100 * agreement:.2f} %", f"{100 * top1:.2f} %"), row["file"]


def test_readme_shows_each_result_that_is_there_and_leaves_the_others_out():
    asked = json.loads((RESULTS / "readme.json").read_text())
    there = [row for row in asked if "published" in row or (RESULTS / row["result"]).exists()]
    rows = table("README.md", "network", "top-1 without twins")
    assert len(asked) == 6 and len(rows) == len(there)
    assert all(row["network"].startswith(wanted["name"]) for row, wanted in zip(rows, there, strict=True))


def test_results_that_readme_shows_of_shipped_students_are_those_of_their_cards():
    asked = [row for row in json.loads((RESULTS / "readme.json").read_text()) if "shipped" in row]
    for row in (row for row in asked if (RESULTS / row["result"]).exists()):
        card, result = (SHIPPED / row["shipped"] / "README.md").read_text(), RESULTS / row["result"]
        metrics = json.loads(result.read_text())["student"]["metrics"]
        for key in ("valid/top1_accuracy", "test/top1_accuracy", "test/mean_class_accuracy"):
            assert f"value: {metrics[key]}\n" in card, f"{row['shipped']} is another student than that of {result.name}"
        if "twins" in row:
            assert json.loads((RESULTS / row["twins"]).read_text())["weights"] in card
