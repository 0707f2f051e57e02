"""The tables of converged students in docs/ferplus.md and README.md are those of docs/results, with as many seeds as there are."""

import importlib
import json
import shutil
from statistics import mean

import pytest
from commandline import ROOT
from page_tables import table, tables
from published_results import CONVERGED, RESULTS, seeds, spread

from distill.runs.published import SHIPPED

BUDGET = {"FerLite L, 40 epochs": 40, "FerLite S, 300 epochs": 300}
BUDGET |= {row: 40 if "then 40" in row else 5 for row in CONVERGED if ", then " in row}
BUDGET |= {row: 60 for row in CONVERGED if "milder" in row and row not in BUDGET}
BUDGET |= {row: 16 for row in CONVERGED if row.startswith("CERN") and row not in BUDGET}


def there() -> list[str]:
    """Return the students of docs/ferplus.md whose result has been landed."""
    return [row for row, name in CONVERGED.items() if (RESULTS / f"ferplus-{name}.json").exists()]


def further_seeds(name: str) -> list[str]:
    return [f"{name}-seed{seed}" for seed in range(1, len(seeds(name)))]


def shipped_and_others(head: str) -> dict[str, dict[str, str]]:
    """Return the rows of two tables with a heading, the shipped students first, which have each student of docs/ferplus.md once."""
    shipped, others = (rows for rows in tables("docs/ferplus.md") if {"student", head} <= rows[0].keys())
    found = {row["student"]: row for row in [*shipped, *others]}
    assert len(shipped) + len(others) == len(there()) and found.keys() == {*there()}
    answers = {row["result"] for row in json.loads((RESULTS / "readme.json").read_text()) if "shipped" in row}
    answers.add("ferplus-microexpnet-mild-rare.json")
    assert {f"ferplus-{CONVERGED[row['student']]}.json" for row in shipped} == answers
    return found


def test_each_seed_of_a_student_has_its_answers_and_its_curve():
    kept = [json.loads((RESULTS / f"{name}.json").read_text()) for name in ("answers", "curves")]
    names = {name for row in there() for name in (CONVERGED[row], *further_seeds(CONVERGED[row]))}
    assert {f"ferplus-{name}" for name in names} == kept[0]["answers"].keys() == kept[1].keys()


def test_the_table_of_converged_students_is_that_of_their_results():
    found = [rows for rows in tables("docs/ferplus.md") if {"student", "other faces"} <= rows[0].keys()]
    assert [len({BUDGET.get(row["student"], 100) for row in rows}) for rows in found[:2]] == [1, 1], (
        "one budget a table"
    )
    rows = {row["student"]: row for rows in found for row in rows}
    calibrated = shipped_and_others("ECE, calibrated")
    assert rows.keys() == calibrated.keys() and len(rows) > 6
    rows = {name: row | calibrated[name] for name, row in rows.items()}
    for name, row in rows.items():
        found, metrics = seeds(CONVERGED[name]), [result["student"]["metrics"] for result in seeds(CONVERGED[name])]
        assert {result["epochs"] for result in found} == {BUDGET.get(name, 100)}
        wanted = {"seeds": str(len(found))}
        for split in ("valid", "test"):
            wanted[split] = " / ".join(
                spread(m[f"{split}/{key}"] for m in metrics) for key in ("top1_accuracy", "mean_class_accuracy")
            )
        for head, key in (("NLL", "nll"), ("ECE", "expected_calibration_error")):
            for when, end in (("before", ""), ("after", ", calibrated")):
                values = [result["calibration"]["test"][when][key] for result in found]
                wanted[head + end] = spread((value / 100 for value in values), 3)
        assert wanted == {head: row[head] for head in wanted}, name


def test_the_table_of_pairs_counts_the_answers_that_are_kept():
    kept = json.loads((RESULTS / "answers.json").read_text())
    found = [rows for rows in tables("docs/ferplus.md") if {"student, faces", "p"} <= rows[0].keys()]
    assert [len({"then" in row["student, faces"] for row in rows}) for rows in found] == [1, 1, 1, 1], (
        "one budget a table"
    )
    rows = {row["student, faces"]: row for rows in found for row in rows}
    on_labels, wanted = "labels alone", {}
    for row, teacher in ((row, teacher) for teacher in ("the ensemble", "FerLite L", "FerLite M") for row in there()):
        if on_labels in row and (distilled := row.replace(on_labels, f"from {teacher}")) in there():
            names = [CONVERGED[row], CONVERGED[distilled]]
            wanted |= {f"{row.replace(f', {on_labels}', '')}, {split}": (split, names) for split in ("valid", "test")}
    assert [*rows] == [*wanted]
    for name, row in rows.items():
        split, names = wanted[name]
        both = [seeds(of_seeds) for of_seeds in names]
        shares = next(row[head] for head in row if head.startswith("one alone is right: from")).split("; ")
        assert row["seeds"] == str(min(map(len, both))) == str(len(shares)) == str(len(row["p"].split("; ")))
        for seed, told in enumerate(shares):
            end = f"-seed{seed}" if seed else ""
            alone, distilled = (kept["answers"][f"ferplus-{of_seeds}{end}"][split] for of_seeds in names)
            trio = list(zip(distilled, alone, kept["labels"][split], strict=True))
            assert told == f"{sum(a == y != b for a, b, y in trio)}, {sum(b == y != a for a, b, y in trio)}"
            metrics = both[1][seed]["student"]["metrics"]
            assert sum(a == y for a, _, y in trio) / len(trio) == pytest.approx(metrics[f"{split}/top1_accuracy"])
        gains = [
            100
            * (b["student"]["metrics"][f"{split}/top1_accuracy"] - a["student"]["metrics"][f"{split}/top1_accuracy"])
            for a, b in zip(*both, strict=False)
        ]
        assert row["top-1"].split(" ± ")[0] == f"{mean(gains):+.2f}"


def test_the_tables_of_classes_are_those_of_the_answers():
    kept, last = json.loads((RESULTS / "answers.json").read_text()), None
    names = {"FerLite L": "ferlite-l-rare", "MicroExpNet XXS": "microexpnet-mild-rare-seed2"}
    here, elsewhere = (rows for rows in tables("docs/ferplus.md") if "class" in rows[0])
    assert [row["class"] for row in here] == [row["class"] for row in elsewhere]
    for student, name in names.items():
        other = json.loads((RESULTS / f"ferplus-{name}-muxspace48.json").read_text())
        assert mean(other["recall"].values()) == pytest.approx(other["test"]["mean_class_accuracy"])
        for k, (row, last) in enumerate(zip(here, elsewhere, strict=True)):
            own = [
                answer == label
                for answer, label in zip(
                    kept["answers"][f"ferplus-{name}"]["test"], kept["labels"]["test"], strict=True
                )
                if label == str(k)
            ]
            assert (row["faces"], row[student]) == (f"{len(own):,}", f"{100 * mean(own):.0f}")
            assert last[student] == f"{100 * other['recall'][row['class']]:.0f}"


def test_the_curves_are_those_of_the_results():
    kept = json.loads((RESULTS / "curves.json").read_text())
    rows = {row["student"]: row for row in table("docs/ferplus.md", "student", "best (epoch)")}
    assert list(rows) == [row for row in there() if ", then " not in row]
    for name, row in rows.items():
        result, curve = seeds(CONVERGED[name])[0], kept[f"ferplus-{CONVERGED[name]}"]["top1_accuracy"]
        top1, best = result["student"]["metrics"]["valid/top1_accuracy"], result["best_epoch"]
        assert len(curve) == result["epochs"] == int(row["epochs"])
        assert curve[best] == max(curve) == pytest.approx(top1, abs=2e-3)
        assert row["best (epoch)"] == f"{100 * curve[best]:.1f} ({curve.index(max(curve)) + 1})"


def test_what_is_said_of_the_ensemble_is_what_its_students_result_says():
    said = " ".join((ROOT / "docs" / "ferplus.md").read_text().split())
    for name in (name for name in there() if seeds(CONVERGED[name])[0]["teacher"]):
        metrics = seeds(CONVERGED[name])[0]["teacher"]["metrics"]
        pairs = [
            [100 * metrics[f"{split}/{key}"] for key in ("top1_accuracy", "mean_class_accuracy")]
            for split in ("valid", "test")
        ]
        assert "has {:.2f} / {:.2f} on validation and {:.2f} / {:.2f} on test".format(*pairs[0], *pairs[1]) in said


def test_the_table_of_protocols_is_that_of_the_results():
    rows = shipped_and_others("argmax")
    for name, row in rows.items():
        for protocol in row.keys() - {"student"}:
            assert row[protocol] == spread(
                r["extra_test_splits"][protocol]["top1_accuracy"] for r in seeds(CONVERGED[name])
            ), name


def test_the_table_of_spoilt_faces_is_that_of_the_results():
    rows = {row["student"]: row for row in table("docs/ferplus.md", "student", "sunglasses")}
    assert rows
    for name, row in rows.items():
        found = json.loads((RESULTS / f"ferplus-{CONVERGED[name]}-corrupted.json").read_text())["robustness"]
        assert found["severities"] == [1, 3, 5]
        shares = {"clean": found["clean"]} | {kind: of["mean"] for kind, of in found["corruptions"].items()}
        wanted = {kind: f"{100 * of['top1_accuracy']:.1f}" for kind, of in shares.items()}
        assert row == {"student": name} | wanted


def test_accuracies_of_public_weights_are_those_of_the_answers_that_are_kept():
    """No run of this package stands behind them."""
    labels = json.loads((RESULTS / "answers.json").read_text())["labels"]["test"]
    answered = [row for row in json.loads((RESULTS / "published.json").read_text()).values() if "test_answers" in row]
    assert len(answered) == 1
    for row in answered:
        pairs = list(zip(row["test_answers"], labels, strict=True))
        assert len(pairs) == row["test_faces"]
        assert row["top1_accuracy"] == pytest.approx(mean(a == y for a, y in pairs))
        recalls = [mean(a == y for a, y in pairs if y == k) for k in sorted({*labels})]
        assert row["mean_class_accuracy"] == pytest.approx(mean(recalls))


def test_readme_shows_each_result_that_is_there_and_leaves_the_others_out():
    asked = json.loads((RESULTS / "readme.json").read_text())
    there = [row for row in asked if "published" in row or (RESULTS / row["result"]).exists()]
    rows = table("README.md", "network", "without twins")
    assert len(asked) == 6 and len(rows) == len(there)
    assert all(row["network"].startswith(wanted["name"]) for row, wanted in zip(rows, there, strict=True))


def test_results_that_readme_shows_of_shipped_students_are_those_of_their_cards():
    asked = [row for row in json.loads((RESULTS / "readme.json").read_text()) if "shipped" in row]
    for row in (row for row in asked if (RESULTS / row["result"]).exists()):
        card = (SHIPPED / row["shipped"] / "README.md").read_text()
        keys = ("valid/top1_accuracy", "test/top1_accuracy", "test/mean_class_accuracy")
        students = [result["student"]["metrics"] for result in seeds(row["result"][len("ferplus-") : -len(".json")])]
        assert any(all(f"value: {metrics[key]}\n" in card for key in keys) for metrics in students), (
            f"{row['shipped']} is another student than those of {row['result']}"
        )


def test_the_tables_take_as_many_seeds_as_there_are(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    tables_of = importlib.import_module("student_tables")
    for path in RESULTS.glob("*.json"):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(tables_of, "RESULTS", tmp_path)
    answers = json.loads((tmp_path / "answers.json").read_text())
    for how, shift in (("ce", 0.02), ("distilled", 0.01)):
        name = f"ferplus-ferlite-m-{how}"
        for path in tmp_path.glob(f"{name}*-seed?*.json"):
            path.unlink()
        second = json.loads((tmp_path / f"{name}.json").read_text())
        second["extra_test_splits"]["without_near_duplicates"] = tables_of.without_twins(name)
        second["student"]["metrics"]["test/top1_accuracy"] += shift
        (tmp_path / f"{name}-seed1.json").write_text(json.dumps(second))
        shutil.copy(tmp_path / f"{name}-muxspace48.json", tmp_path / f"{name}-seed1-muxspace48.json")
        answers["answers"][f"{name}-seed1"] = answers["answers"][name]
    (tmp_path / "answers.json").write_text(json.dumps(answers))
    rows = {line.split(" | ")[0]: line.split(" | ")[1:] for line in tables_of.students("students").splitlines()}
    first = 100 * seeds("ferlite-m-ce")[0]["student"]["metrics"]["test/top1_accuracy"]
    assert rows["| FerLite M, labels alone"][0] == "2"
    assert rows["| FerLite M, labels alone"][2].startswith(f"{first + 1:.2f} ± {2 / 2**0.5:.2f} /")
    rows = {line.split(" | ")[0]: line.split(" | ")[1:] for line in tables_of.pairs(tables_of.PAIRS).splitlines()}
    seed_count, counts, p, gain, *_ = rows["| FerLite M, test"]
    assert (seed_count, counts, p) == ("2", "106, 113; 106, 113", "0.69; 0.69")
    distilled = 100 * seeds("ferlite-m-distilled")[0]["student"]["metrics"]["test/top1_accuracy"]
    assert gain == f"{distilled - first - 0.5:+.2f} ± 0.50"
