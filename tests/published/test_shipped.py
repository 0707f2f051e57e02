"""The students that come with the package answer as their cards say, by either of their files, out of the box."""

import hashlib
import json
import re
import shutil

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from distill.data.common.emotions import EMOTIONS
from distill.export import load
from distill.export.export_module import ExportModule
from distill.export.runtimes import open_file
from distill.predict.student import open_student
from distill.runs.published import SHIPPED, shipped
from distill.serve.site import site

NAMES = ["ferlite_l", "ferlite_m", "ferlite_s", "microexpnet"]
BESIDE = {"README.md", "preprocessor_config.json"}  # what a card lists no hash of


def test_the_students_are_there_and_leave_room_for_a_teacher_within_14_megabytes():
    assert list(shipped()) == NAMES and open_student(None, 1).name == "ferlite_m"
    sizes = {folder.name: sum(file.stat().st_size for file in folder.iterdir()) for folder in SHIPPED.iterdir()}
    assert sum(sizes[name] for name in NAMES) < 7e6 and sum(sizes.values()) < 14e6


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_students_weights_and_onnx_answer_alike_for_pictures_of_several_sizes(name):
    student, opened = ExportModule(load(SHIPPED / name)).eval(), open_file(shipped()[name], 1)
    near = 1e-4 if shipped()[name].name == "model.onnx" else 0.2
    rng = np.random.default_rng(0)
    for height, width in ((48, 48), (75, 130), (300, 301)):
        pictures = rng.integers(0, 256, (2, height, width, 3), np.uint8)
        with torch.inference_mode():
            expected = student(torch.from_numpy(pictures))[1].numpy()
        np.testing.assert_allclose(opened.answer(pictures)[1], expected, atol=near)
        assert open_file(SHIPPED / name / "model.int8.onnx", 1).answer(pictures)[1].shape == (2, 8)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_folder_names_the_hash_of_its_weights_and_its_files_hold_nothing_that_is_not_read(name):
    config = json.loads((SHIPPED / name / "config.json").read_text())["fer_distill"]
    assert config["sha256"] == hashlib.sha256((SHIPPED / name / "model.safetensors").read_bytes()).hexdigest()
    for file in (SHIPPED / name).glob("*.onnx"):
        graph = onnx.load(file).graph
        read = {part for node in graph.node for part in node.input}
        assert graph.initializer and read >= {tensor.name for tensor in graph.initializer}


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_int8_file_answers_alike_on_processors_without_vnni(name):
    """Those add two products of uint8 by int8 in 16 bits: weights of 7 bits fit."""
    constants = map(onnx.numpy_helper.to_array, onnx.load(SHIPPED / name / "model.int8.onnx").graph.initializer)
    weights = [value.astype(int) for value in constants if value.dtype == np.int8 and value.ndim > 1]
    assert len(weights) > 1 and max(np.abs(weight).max() for weight in weights) <= 64


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_student_s_card_and_page_call_it_by_the_name_that_is_typed(name):
    card = (SHIPPED / name / "README.md").read_text()
    assert f"\n- name: {name}\n" in card and re.search(rf"^# {name}(: \w+)? on ", card, re.MULTILINE)
    found = json.loads(site(shipped()[name], {}, None)["facts.json"])
    assert found["about"].startswith(f"{name} · ") and not found["more"].startswith("Run ")


@pytest.mark.parametrize("name", NAMES)
def test_the_code_of_a_shipped_card_runs_in_its_folder(name, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(SHIPPED / name, tmp_path / name)
    Image.new("RGB", (60, 50), "gray").save(folder / "face.jpg")
    monkeypatch.chdir(folder)
    blocks = re.findall(r"^```python\n(.*?)^```$", (folder / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    for block in blocks:
        exec(block, {})
    assert len(blocks) == 2 and capsys.readouterr().out.count("'contempt': ") == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_card_has_the_hashes_of_its_files_and_the_accuracy_that_they_name(name):
    card = (SHIPPED / name / "README.md").read_text()
    listed = re.findall(r"^([0-9a-f]{64})  (\S+)$", card, re.MULTILINE)
    assert {file for _, file in listed} == {path.name for path in (SHIPPED / name).iterdir()} - BESIDE
    for value, file in listed:
        assert hashlib.sha256((SHIPPED / name / file).read_bytes()).hexdigest() == value
    facts = open_file(shipped()[name], 1).facts
    assert f"- Data: {facts['license_of_the_data']}" in card
    assert tuple(json.loads(facts["classes"])) == EMOTIONS
    assert f"{100 * float(facts['valid_top1_accuracy']):.2f}%" in card and "Not for decisions about people" in card
