"""The numbers in the tables of README.md and docs/ are those of the runs' own files, rounded as they are printed."""

import csv
import json
import re
from collections import defaultdict

import pytest
from commandline import ROOT
from page_tables import table, tables
from published_results import CONVERGED, RESULTS, seeds, spread

from distill.export.runtimes import open_file
from distill.runs.published import SHIPPED, shipped

RUNS = {  # at a short budget
    "CERN at half width, labels alone, 4 epochs": "cern-ce",
    "CERN at half width, distilled by `kd`, 4 epochs": "cern-kd",
    "CERN at full width, distilled by `kd`, 4 epochs": "cern-full-kd",
    "MicroExpNet XXS, distilled by `kd`, 4 epochs": "microexpnet-4-kd",
    "MobileNetV2 + Inception (reconstruction B), distilled by `kd`, 4 epochs": "mobilenet_inception-kd",
    "SCAN-CCI on ResNet-18 from scratch, shared masks, distilled by `kd`, 4 epochs": "scan_cci-kd",
}
TIMED = {  # what docs/speeds/networks.json calls a row
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


def test_every_result_stands_behind_a_row():
    rows = [*RUNS.values(), *CONVERGED.values(), "cern-dist-8", "mobilenetv1_faces-teacher", "teacher"]
    names = re.compile(rf"ferplus-({'|'.join(rows)})(-seed\d)?(-muxspace48|-unseen|-corrupted)?\.json")
    assert [path.name for path in RESULTS.glob("ferplus-*.json") if not names.fullmatch(path.name)] == []


def speeds(name: str) -> dict:
    return json.loads((ROOT / "docs" / "speeds" / f"{name}.json").read_text())


def size(number: int) -> str:
    return f"{number / 1e3:.3g} kB" if number < 1e6 else f"{number / 1e6:.3g} MB"


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


def test_what_is_said_beside_the_short_budget_is_what_its_results_say():
    said = " ".join((ROOT / "docs" / "ferplus.md").read_text().split())
    keys = ("valid/top1_accuracy", "test/top1_accuracy", "test/mean_class_accuracy")
    told = {
        "cern-dist-8": "for 8 epochs: valid {:.2f}, test {:.2f} / {:.2f} (one seed",
        "mobilenetv1_faces-teacher": "has {:.2f} on validation, {:.2f} / {:.2f} on test",
    }
    for name, sentence in told.items():
        metrics = json.loads((RESULTS / f"ferplus-{name}.json").read_text())["student"]["metrics"]
        assert sentence.format(*(100 * metrics[key] for key in keys)) in said


def test_what_the_ranking_of_losses_says_of_100_epochs_is_the_mean_over_the_seeds():
    top1 = [result["student"]["metrics"]["test/top1_accuracy"] for result in seeds("microexpnet-100-ce")]
    told = f"At 100 epochs the same MicroExpNet has {spread(top1, 1)} on test on labels alone"
    assert len(top1) == 3 and told in (ROOT / "docs" / "losses-ferplus.md").read_text()


def test_the_number_of_losses_is_the_one_that_readme_and_home_page_say():
    number = len([*(ROOT / "conf" / "loss").glob("*.yaml")])
    assert f"It has {number} losses" in (ROOT / "README.md").read_text()
    assert f"one of {number}\n" in (ROOT / "docs" / "index.md").read_text()


def test_the_tables_of_each_budget_are_those_of_the_results():
    found = [rows for rows in tables("docs/ferplus.md") if {"network", "MACs"} <= rows[0].keys()]
    rows = {row["network"]: row for rows in found for row in rows}
    assert rows.keys() == RUNS.keys()
    assert all(len({row["network"].split(", ")[-1] for row in rows}) == 1 for rows in found), "one budget a table"
    for name, row in rows.items():
        found = seeds(RUNS[name])
        student, metrics = found[0]["student"], [result["student"]["metrics"] for result in found]
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


def test_the_faces_of_each_protocol_are_those_that_the_results_counted():
    counted = seeds(next(iter(RUNS.values())))[0]["data"]["notes"]["counts"]
    rows = table("docs/data.md", "protocol", "rule")
    assert len(rows) == 4
    for row in rows:
        wanted = counted[row["protocol"].removesuffix(" (default)")]
        assert [row[split] for split in ("train", "valid", "test")] == [f"{n:,}" for n in wanted]


@pytest.mark.parametrize(
    ("place", "file"),
    [(0, "ferplus-losses-ferlite.csv"), (1, "ferplus-losses.csv"), (2, "ferplus-losses-cern.csv")],
)
def test_the_tables_of_losses_are_those_of_the_results(place, file):
    found = defaultdict(list)
    with open(RESULTS / file, newline="") as lines:
        for row in csv.DictReader(lines):
            how = "weighted" if row.get("loss.ttm.weighted") == "true" else ""
            softer = (
                f"T = {row['loss.kd.temperature']}" if row.get("loss.kd.temperature") not in (None, "", "2") else ""
            )
            softer = softer or (f"weight {w}" if (w := row.get("loss.kd.weight") or "0.9") != "0.9" else "")
            how = "standardized, T = 1" if row.get("loss.kd.standardize") == "true" else how or softer
            found[row["loss"] + (f" ({how})" if how else "")].append(row)
    rows = [rows for rows in tables("docs/losses-ferplus.md") if "test ECE" in rows[0]][place]
    most = max(map(len, found.values()))
    assert {row["loss"] for row in rows} == {name for name, seeds in found.items() if len(seeds) == most}
    for row in rows:
        seeds = found[row["loss"]]
        wanted = {
            head: spread(float(s[key]) for s in seeds) if all(s[key] for s in seeds) else ""
            for head, key in SHOWN.items()
        }
        assert row == {"loss": row["loss"], **wanted, "n": str(len(seeds))}


def test_the_table_of_the_poolings_is_that_of_the_results():
    with open(RESULTS / "ferplus-poolings.csv", newline="") as lines:
        runs = list(csv.DictReader(lines))
    rows = table("docs/ferplus.md", "pooling", "n")
    assert len(rows) == 8 and len({(run["student.pooling"], run["teacher"], run["seed"]) for run in runs}) == len(runs)
    for row in rows:
        pooling, taught = row["pooling"].split(", ")
        teacher = "none" if taught == "labels alone" else "ensemble"
        of_row = [run for run in runs if (run["student.pooling"], run["teacher"]) == (pooling, teacher)]
        wanted = {
            head: spread(float(run[key]) for run in of_row)
            for head, key in SHOWN.items()
            if all(run[key] for run in of_row)
        }
        assert row == {"pooling": row["pooling"], **dict.fromkeys(SHOWN, ""), **wanted, "n": str(len(of_row))}


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
        assert told == (f"{path.stat().st_size:,}", f"{100 * agreement:.2f}%", f"{100 * top1:.2f}%"), row["file"]
