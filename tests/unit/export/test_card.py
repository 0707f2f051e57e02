"""The model card of an exported run: its numbers are those of the run folder, its code runs, what is missing is said."""

import csv
import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from exported import export_whatever, small_run
from huggingface_hub import ModelCard
from inside import read
from PIL import Image
from sklearn.metrics import precision_recall_fscore_support

from distill import export as exporting
from distill.augment.views import identity, render
from distill.evaluation.metrics import wilson
from distill.export.card import card
from distill.export.card.text import without_folders

MEANT = "An expression on a face is not an emotion"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return export_whatever(small_run(tmp_path_factory.mktemp("home")))


@pytest.fixture()
def copy(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "a run, käse"))


def change(folder, **more):
    """Write other things into result.json."""
    (folder / "result.json").write_text(json.dumps(read(folder) | more))


def section(text, heading):
    return re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)[1]


def rows(text, heading, number=0):
    """Return {first cell: other cells} of a section's table."""
    lines = re.findall(r"(?:^\|.*\|\n?)+", section(text, heading), re.MULTILINE)[number].strip().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return {first: others for first, *others in cells}


def test_an_export_leaves_a_card_beside_its_files(folder):
    text = (folder / "export" / card.NAME).read_text()
    assert text == card.card(folder) and MEANT in text and "n = 1" in text
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings[0] == "Use" and {"Each class", "Robustness", "Intended use and limits", "License"} <= set(headings)


def test_each_block_of_code_runs_as_it_stands_and_answers_as_evaluation_does(copy, monkeypatch, capsys):
    drawn = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(drawn).resize((61, 83), Image.Resampling.BICUBIC).save(copy / "export" / "face.jpg")
    face = np.array(Image.open(copy / "export" / "face.jpg").convert("RGB"))
    student = exporting.load(copy / "export")
    images = render(torch.from_numpy(face).permute(2, 0, 1)[None], identity(1), student.input)
    with torch.no_grad():
        wanted = dict(zip(student.classes, student(images).logits.softmax(1)[0].tolist(), strict=True))
    monkeypatch.chdir(copy / "export")
    blocks = re.findall(r"```python\n(.*?)```", card.card(copy), re.DOTALL)
    assert len(blocks) == 2 and "onnxruntime" in blocks[0] and "distill.export" in blocks[1]
    for block in blocks:
        assert len(block.splitlines()) == 7
        exec(block, {})  # as a reader of the card would type it
        assert yaml.safe_load(capsys.readouterr().out) == pytest.approx(wanted, abs=1e-4)


def test_the_hub_s_own_reader_finds_the_measured_results(folder):
    metrics, text = read(folder)["student"]["metrics"], card.card(folder)
    front = ModelCard(text).data
    found = {(r.dataset_split, r.metric_type): r.metric_value for r in front.eval_results}
    assert found["test", "accuracy"] == metrics["test/top1_accuracy"]
    assert found["valid", "balanced_accuracy"] == metrics["valid/mean_class_accuracy"] and len(found) == 8
    assert (front.license, front.library_name, front.datasets) == ("other", "fer-distill", ["procedural"])
    assert "onnx" in front.tags and "knowledge-distillation" not in front.tags


def test_results_are_those_of_the_run(folder):
    metrics, found = read(folder)["student"]["metrics"], rows(card.card(folder), "Results")
    assert list(found) == ["validation", "test"]
    low, high = metrics["test/mean_class_accuracy_ci"]
    wanted = f"{100 * metrics['test/mean_class_accuracy']:.2f}% ({100 * low:.1f} to {100 * high:.1f})"
    assert found["test"][0] == "32" and found["test"][2] == wanted
    assert found["test"][3] == f"{metrics['test/expected_calibration_error']:.3f}" and found["test"][5] == "-"


def test_each_class_has_the_precision_recall_f1_and_support_that_scikit_learn_finds(folder):
    classes = read(folder)["data"]["classes"]
    for number, split in enumerate(("test", "valid")):
        with open(folder / "predictions" / f"{split}.csv", newline="") as file:
            pairs = [(row["label"], row["prediction"]) for row in csv.DictReader(file)]
        labels, named = zip(*pairs, strict=True)
        wanted = precision_recall_fscore_support(labels, named, labels=classes, zero_division=np.nan)
        found = rows(card.card(folder), "Each class", number)
        assert list(found) == classes
        for k, (faces, precision, recall, f1, worst) in enumerate(found.values()):
            assert int(faces) == wanted[3][k] > 0
            assert precision.partition(" (")[0] == (
                f"{100 * wanted[0][k]:.1f}%" if classes[k] in named else "never named"
            )
            low, high = wilson(round(wanted[1][k] * wanted[3][k]), int(faces))
            assert recall == f"{100 * wanted[1][k]:.1f}% ({100 * low:.1f} to {100 * high:.1f})"
            assert f1 == f"{100 * wanted[2][k]:.1f}%" and worst.split(",")[0] in {*classes, "-"} - {classes[k]}


def test_an_interval_has_a_width_where_no_face_or_every_face_is_right():
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 16) == pytest.approx((0, 0.1936), abs=1e-4)
    assert wilson(16, 16) == pytest.approx((1 - 0.1936, 1), abs=1e-4)


def test_calibration_counts_every_test_face_once_and_its_mean_is_the_accuracy(folder):
    result, found = read(folder), rows(card.card(folder), "Calibration", 1)
    faces = np.array([int(cells[0]) for cells in found.values()])
    right = np.array([float(cells[2].removesuffix("%")) for cells in found.values()])
    assert faces.sum() == result["data"]["rows"]["test"]
    accuracy = result["student"]["metrics"]["test/top1_accuracy"]
    assert (faces * right).sum() / faces.sum() == pytest.approx(100 * accuracy, abs=0.1)


def test_the_files_have_the_gate_s_numbers_and_their_hashes(folder):
    text, parity = card.card(folder), json.loads((folder / "export" / "parity.json").read_text())["files"]
    found = rows(text, "Exported files")
    assert list(found) == [f"`{name}`" for name in parity]
    assert found["`student.int8.onnx`"][2] == f"{100 * parity['student.int8.onnx']['agreement']:.2f}%"
    listed = dict(reversed(line.split("  ")) for line in re.findall(r"^[0-9a-f]{64}  .*$", text, re.MULTILINE))
    assert set(listed) == {*parity, "config.json"}
    for name, value in listed.items():
        assert hashlib.sha256((folder / "export" / name).read_bytes()).hexdigest() == value


def test_card_of_a_run_without_teacher_or_numbers_says_what_is_missing(copy):
    env = json.loads((copy / "env.json").read_text())
    (copy / "env.json").write_text(json.dumps({key: value for key, value in env.items() if key != "command"}))
    text = card.card(copy)
    assert "Not measured" in section(text, "Robustness") and "eval.robustness=[mask," in section(text, "Robustness")
    assert "Its speed was not measured in this run" in section(text, "Size and speed")
    assert "Command: not recorded" in text and "NLL before" in section(text, "Calibration")
    assert "drawn by fer-distill: MIT" in text
    assert "Teacher: none; learned from labels alone" in text


def test_card_shows_what_was_measured(copy):
    scores = {"top1_accuracy": 0.4321, "mean_class_accuracy": 0.4}
    corruptions = {"blur": {"3": scores, "mean": scores}}
    spoilt = {"rows": 32, "severities": [3], "clean": scores, "corruptions": corruptions, "mean": scores}
    student = read(copy)["student"] | {"latency_ms": 0.75, "images_per_second": 2000.0, "speed_batch": 64}
    student["metrics"] |= {"test/agreement": 0.8125}
    teacher = {"name": "resnet50", "metrics": {"test/top1_accuracy": 0.9}, "num_parameters": 25_000_000}
    teacher["start"] = ["weights"]
    data = read(copy)["data"] | {"notes": {"license": "research only, do not redistribute"}}
    change(copy, robustness=spoilt, student=student, teacher=teacher, data=data)
    config = yaml.safe_load((copy / "config.yaml").read_text())
    config["teacher"] |= {"weights": "/home/somebody/faces.safetensors"}
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    env = json.loads((copy / "env.json").read_text()) | {
        "command": "python -m distill.run data.root=/home/somebody/faces.tar.gz 'plugins=[~/mine/ours]' optimizer.lr=1e-3",
        "processor": "a chip",
    }
    (copy / "env.json").write_text(json.dumps(env))
    text = card.card(copy)
    assert rows(text, "Robustness") == {"blur": ["43.21%", "43.21%"]}
    assert "one thread of a chip: 0.75 ms a face, 2,000 faces/s in batches of 64" in section(text, "Size and speed")
    assert "distilled from resnet50" in text and "(25.0M parameters), test top-1 90.00%" in text
    assert rows(text, "Results")["test"][5] == "81.25%" and "- knowledge-distillation" in text
    assert "weights (faces.safetensors)" in section(text, "License") and "/home/somebody" not in text
    assert "```\npython -m distill.run data.root=faces.tar.gz 'plugins=[ours]' optimizer.lr=1e-3\n```" in text


@pytest.mark.parametrize(
    "node, starts, said",
    [
        ({"run": "/home/anna/S"}, [None], "it started from the finished run S, which started from random weights"),
        ({"_target_": "teachers.peer.Peer"}, [], "it learned beside the student, in the same run"),
        (
            {"weights": [0.7, 0.3], "members": {"a": {"weights": "/x/f.safetensors"}, "b": {"run": "R"}}},
            ["weights", "pretrained"],
            "it started from weights (f.safetensors), the finished run R, which started from pretrained; the license",
        ),
        ({"weights": None}, ["scratch"], "it started from random weights\n"),
    ],
)
def test_a_card_says_what_every_kind_of_teacher_began_with(copy, node, starts, said):
    change(copy, teacher={"name": "t", "metrics": {}, "num_parameters": 9, "start": starts})
    config = yaml.safe_load((copy / "config.yaml").read_text())
    config["teacher"] = {"_target_": "teachers.timm_teacher.TimmTeacher"} | node
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    text = card.card(copy)
    assert f"- Teacher: {said}" in section(text, "License") and "None" not in section(text, "License")
    assert said.partition(";")[0].strip() in section(text, "Training")


@pytest.mark.parametrize(
    "typed, shown",
    [
        ("'data.root=/home/anna/My Secret Clients/faces'", "data.root=faces"),
        ("data.root=../clients/acme/faces", "data.root=faces"),
        ("'teacher.run=/home/anna/b, c/run1'", "teacher.run=run1"),
        ("'paths={store: /home/anna/b c/d, runs: \"e, g/f\"}'", "'paths={store: d, runs: f}'"),
        ("data.root=/home/a=b/c", "data.root=c"),
        ("'loss=[ce,kd]' hydra/launcher=joblib", "'loss=[ce,kd]' hydra/launcher=joblib"),
        ("train.monitor=-valid/nll", "train.monitor=-valid/nll"),
    ],
)
def test_of_a_path_in_the_command_the_last_part_is_shown(typed, shown):
    assert without_folders(f"python -m distill.run {typed} seed=1") == f"python -m distill.run {shown} seed=1"


def test_names_of_classes_are_no_markdown(copy):
    for path in (copy / "predictions").glob("*.csv"):
        path.write_text(path.read_text().replace("sadness", "<b>[sad]*"))
    data = read(copy)["data"]
    classes = [name.replace("sadness", "<b>[sad]*") for name in data["classes"]]
    change(copy, data=data | {"classes": classes})
    text = card.card(copy)
    outside = "".join(text.split("```")[::2])
    assert "<b>[sad]*" in text, "in the code block, as it is"
    assert "<b>" not in outside.replace(r"\<b>", "") and outside.count(r"\<b>\[sad\]\*") > 3
    assert rows(text, "Each class")[r"\<b>\[sad\]\*"]


def test_other_faces_that_these_weights_were_measured_on_are_shown_and_those_of_other_weights_not(copy):
    weights = json.loads((copy / "export" / "parity.json").read_text())["facts"]["weights_sha256"]
    test = {"rows": 400, "top1_accuracy": 0.5, "top1_accuracy_ci": [0.45, 0.55], "mean_class_accuracy": 0.4}
    (copy / "measured").mkdir()
    for name, of in (("fedro", weights), ("jaffe", "0" * 64)):
        found = {
            "data": {"name": name},
            "weights": of,
            "test": test,
            "robustness": {},
            "classes": {"compared": ["fear"] * 7},
        }
        (copy / "measured" / f"{name}-1.json").write_text(json.dumps(found))
    found = rows(card.card(copy), "Results")
    assert found["fedro, by 7 classes, measured afterwards"][:3] == ["400", "50.00% (45.0 to 55.0)", "40.00%"]
    assert not [name for name in found if "jaffe" in name]


def test_classes_that_are_few_or_hardly_found_are_named_as_limits(copy):
    path = copy / "predictions" / "test.csv"
    with open(path, newline="") as file:
        found = list(csv.DictReader(file))
    classes = read(copy)["data"]["classes"]
    for row in found:  # happiness is always called neutral, everything else is right
        answer = row["label"].replace("happiness", "neutral")
        row |= {"prediction": answer, **{f"p_{name}": "0.3" if name == answer else "0.1" for name in classes}}
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, found[0])
        writer.writeheader()
        writer.writerows(found)
    student, happy = read(copy)["student"], sum(row["label"] == "happiness" for row in found)
    student["metrics"] |= {"test/top1_accuracy": 1 - happy / len(found)}
    change(copy, student=student)
    limits = section(card.card(copy), "Intended use and limits")
    assert f"Hardly found, less than one test face in five: happiness (0 of {happy})." in limits
    assert f"Too few test faces to say much (less than 50): neutral ({happy})" in limits
    assert rows(card.card(copy), "Each class")["happiness"][-1] == "neutral, 100%"


def test_a_card_of_a_run_that_does_not_hold_together_is_refused_in_one_sentence(copy, tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        card.card(tmp_path / "nowhere")
    student = read(copy)["student"]
    student["metrics"] |= {"test/top1_accuracy": 0.99}
    change(copy, student=student)
    with pytest.raises(ValueError, match=r"test.csv: .* right, but result.json says 99.00%"):
        card.card(copy)
    (copy / "predictions" / "valid.csv").unlink()
    with pytest.raises(ValueError, match=r"valid.csv is missing"):
        card.card(copy)
    for text, sentence in (("{}", "damaged, or of an earlier version"), (None, "this run is not exported")):
        parity = copy / "export" / "parity.json"
        parity.unlink() if text is None else parity.write_text(text)
        with pytest.raises(ValueError, match=f"{sentence}. Type python -m distill.export"):
            card.card(copy)
