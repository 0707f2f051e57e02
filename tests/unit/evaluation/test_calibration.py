"""A temperature fitted on validation: the number, where a run and its export keep it, and that every file answers by it."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from exported import export, small_run
from inside import folder_of, job, read

from distill import export as exporting
from distill.evaluation.calibration import FEW_VALID, LEAST, MOST, as_logits, calibration, fit_temperature, scaled
from distill.evaluation.inference import read_predictions
from distill.evaluation.metrics import expected_calibration_error, nll
from distill.export import __main__ as command_line
from distill.export import parity as gate
from distill.export.card import card
from distill.export.runtimes import open_file
from distill.system.weights import read_weights


def drawn(temperature, faces=4000, seed=0):
    """Logits [N, 5] and labels that are drawn from softmax(logits / temperature)."""
    draw = np.random.default_rng(seed)
    logits = 3 * draw.standard_normal((faces, 5))
    return logits, (logits / temperature + draw.gumbel(size=logits.shape)).argmax(1)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_that_labels_were_drawn_with_is_found(temperature):
    assert fit_temperature(*drawn(temperature)) == pytest.approx(temperature, rel=0.06)


def test_no_temperature_of_a_fine_grid_is_better_and_logits_may_be_of_torch():
    logits, labels = drawn(2.5, faces=300)
    found = fit_temperature(torch.from_numpy(logits), torch.from_numpy(labels))
    best = nll(logits / found, labels)
    assert all(best <= nll(logits / t, labels) + 1e-12 for t in np.geomspace(LEAST, MOST, 4000))
    assert found == fit_temperature(logits, labels) == pytest.approx(fit_temperature(7 * logits, labels) / 7, rel=1e-6)


def test_where_every_face_is_right_or_the_answers_say_nothing_the_temperature_stays_within_its_bounds():
    logits = 9 * np.eye(4)
    assert fit_temperature(logits, np.arange(4)) == pytest.approx(LEAST)
    assert fit_temperature(logits, (np.arange(4) + 1) % 4) == pytest.approx(MOST)
    assert LEAST <= fit_temperature(np.zeros((4, 4)), np.arange(4)) <= MOST


def test_what_is_told_of_each_split_is_measured_with_the_temperature_of_validation():
    valid, test = drawn(2.0, 500), drawn(2.0, 500, seed=1)
    found = calibration({"valid": valid, "test": test})
    assert found["temperature"] == fit_temperature(*valid) != fit_temperature(*test)
    for split, (logits, labels) in (("valid", valid), ("test", test)):
        for when, z in (("before", logits), ("after", logits / found["temperature"])):
            wanted = {"nll": nll(z, labels), "expected_calibration_error": expected_calibration_error(z, labels)}
            assert found[split][when] == wanted
        assert found[split]["after"]["nll"] < found[split]["before"]["nll"]


def test_calibration_on_few_validation_faces_fits_no_temperature():
    few, enough, test = drawn(4.0, FEW_VALID - 1), drawn(4.0, FEW_VALID), drawn(4.0, 500, seed=1)
    found = calibration({"valid": few, "test": test})
    assert found["temperature"] == 1 and found["test"]["after"] == found["test"]["before"]
    assert calibration({"valid": enough, "test": test})["temperature"] == fit_temperature(*enough) != 1


def test_probabilities_of_a_file_are_scaled_as_their_logits_would_be():
    logits = torch.from_numpy(drawn(1.0, 50)[0])
    np.testing.assert_allclose(scaled(logits.softmax(1).numpy(), 2.5), (logits / 2.5).softmax(1), atol=1e-4)
    assert np.isfinite(as_logits(np.array([[0.0, 1.0]]))).all()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def folder(finished):
    """The run, exported, with a temperature in its result that shows in every answer."""
    result = read(finished)
    temperature = result["calibration"]["temperature"]
    result["calibration"]["temperature"] = 3.0
    result["calibration"]["test"] = {
        "before": {"nll": 9.125, "expected_calibration_error": 0.875},
        "after": {"nll": 8.125, "expected_calibration_error": 0.625},
    }
    copy = Path(shutil.copytree(finished, finished.parents[1] / "changed" / finished.name))
    (copy / "result.json").write_text(json.dumps(result))
    assert temperature != 3.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command_line, "loud_warnings", lambda: None)
        patch.setattr(gate, "MAX_ACCURACY_DROP", 1.0)
        patch.setattr(gate, "MAX_AGREEMENT_CHANGE", 1.0)
        command_line.main([str(copy)])
    return copy


@pytest.fixture()
def copy(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "run"))


def test_a_run_writes_its_temperature_and_what_it_changes(finished):
    found, classes = read(finished)["calibration"], read(finished)["data"]["classes"]
    metrics = read(finished)["student"]["metrics"]
    for split in ("valid", "test"):
        assert {f"{split}/{name}": value for name, value in found[split]["before"].items()}.items() <= metrics.items()
    probabilities, labels, _ = read_predictions(finished / "predictions" / "valid.csv", classes)
    assert found["temperature"] == pytest.approx(fit_temperature(as_logits(probabilities), labels), rel=1e-3)
    assert found["valid"]["after"]["nll"] <= found["valid"]["before"]["nll"]


def test_a_run_says_its_temperature_in_one_line_and_fits_it_to_faces_as_packed(finished, tmp_path):
    words = ("teacher=none", "loss=[ce]", "loss.ce.weight=1", "train.epochs=1", "data.valid=64", "data.size=40")
    said = job(*words, "eval.tta=mirror", store=finished.parents[1] / "store", runs=tmp_path)
    other = read(folder_of(tmp_path))
    assert other["calibration"] == read(finished)["calibration"], "the same student, asked about other views"
    assert other["student"]["metrics"]["valid/nll"] != other["calibration"]["valid"]["before"]["nll"]
    lines = re.findall(r"temperature (\d+\.\d{3}.*), fitted on validation", said)
    assert lines == [f"{other['calibration']['temperature']:.3f} (the limit)"]


def pictures(number):
    return np.random.default_rng(0).integers(0, 256, (number, 40, 40, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["student.onnx", "student.pt2", "student.int8.onnx"])
def test_every_file_and_the_loaded_student_answer_logits_divided_by_the_temperature(folder, name):
    from distill.export.export_module import ExportModule

    given, loaded = pictures(6), exporting.load(folder / "export")
    with torch.no_grad():
        wanted, probabilities = (part.numpy() for part in ExportModule(loaded)(torch.from_numpy(given)))
        raw = type(loaded).forward(loaded, ExportModule(loaded).prepare(torch.from_numpy(given))).logits.numpy()
    np.testing.assert_allclose(wanted, raw / 3, atol=1e-6)
    opened = open_file(folder / "export" / name, 1)
    found = opened.answer(given)
    near = 0.1 if "int8" in name else 1e-5
    np.testing.assert_allclose(found[0], wanted, atol=near)
    np.testing.assert_allclose(found[1], probabilities, atol=near)
    assert json.loads(opened.facts["temperature"]) == 3


def test_the_config_of_an_export_has_the_temperature_and_the_weights_are_as_trained(folder):
    config = json.loads((folder / "export" / "config.json").read_text())["fer_distill"]
    assert config["temperature"] == 3 and json.loads(config["facts"]["temperature"]) == 3
    tensors, _ = read_weights(folder / "checkpoints" / "best.safetensors")
    loaded = exporting.load(folder / "export").state_dict()
    assert loaded.keys() == tensors.keys() and all(torch.equal(loaded[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("temperature", ["0", "-1", "NaN", '"warm"'])
def test_a_config_with_a_temperature_that_cannot_be_is_refused(copy, temperature):
    (copy / "export" / "parity.json").unlink()
    file = copy / "export" / "config.json"
    text = re.sub(r'"temperature": 3\.0', f'"temperature": {temperature}', file.read_text())
    assert text != file.read_text()
    file.write_text(text)
    with pytest.raises(ValueError, match="no config of an exported student"):
        exporting.load(copy / "export")


def test_the_card_tells_nll_and_ece_before_and_after(folder):
    text = re.search(r"^## Calibration\n(.*?)^## ", card.card(folder), re.MULTILINE | re.DOTALL)[1]
    assert "divided by a temperature, 3.000" in text and "| test | 9.125 | 8.125 | 0.875 | 0.625 |" in text
    valid = read(folder)["calibration"]["valid"]
    before, after = valid["before"], valid["after"]
    shares = (before["nll"], after["nll"], before["expected_calibration_error"], after["expected_calibration_error"])
    assert "| validation | " + " | ".join(f"{value:.3f}" for value in shares) + " |" in text
    answers = read_predictions(folder / "predictions" / "test.csv", read(folder)["data"]["classes"])
    confidence, right = scaled(answers[0], 3.0).max(1).mean(), (answers[0].argmax(1) == answers[1]).mean()
    assert f"on test it is {100 * abs(confidence - right):.1f} points" in text


def test_export_calibrate_false_leaves_logits_as_they_were_trained(copy, capsys):
    scaled_logits = open_file(copy / "export" / "student.onnx", 1).answer(pictures(4))[0]
    assert export(capsys, copy, "export.int8=false", "export.calibrate=false")[1] is None
    opened = open_file(copy / "export" / "student.onnx", 1)
    np.testing.assert_allclose(opened.answer(pictures(4))[0] / 3, scaled_logits, atol=1e-5)
    assert json.loads(opened.facts["temperature"]) == 1
    assert "as they were trained, without a temperature" in card.card(copy) and "NLL before" not in card.card(copy)


def test_a_run_of_few_validation_faces_its_files_and_its_card_say_that_no_temperature_is_fitted(tmp_path, capsys):
    words = ("teacher=none", "loss=[ce]", "loss.ce.weight=1", "train.epochs=1", "data.valid=24", "data.size=40")
    said = job(*words, store=tmp_path / "store", runs=tmp_path / "runs")
    assert "no temperature: on fewer than 50 validation faces none is fitted" in said and "temperature 1" not in said
    folder = folder_of(tmp_path / "runs")
    assert export(capsys, folder, "export.int8=false")[1] is None
    assert json.loads(open_file(folder / "export" / "student.onnx", 1).facts["temperature"]) == 1
    assert "without a temperature: on fewer than 50 validation faces none is fitted." in card.card(folder)


def test_the_gate_compares_with_the_predictions_of_the_run_which_have_no_temperature(folder):
    parity = json.loads((folder / "export" / "parity.json").read_text())["files"]
    assert parity["student.onnx"]["recorded"] < 1e-4 and parity["student.pt2"]["recorded"] < 1e-4
