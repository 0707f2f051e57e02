"""Exporting a finished run, as a person types it: what is written, what is in it, what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import ROOT
from exported import export, export_whatever, small_run
from inside import folder_of
from PIL import Image

from distill import export as exporting
from distill.augment.views import identity, render
from distill.export import __main__ as command_line
from distill.export import formats as module_of_forms
from distill.export import job, source_run
from distill.export import parity as gate
from distill.export.formats import export_formats
from distill.export.options import Options
from distill.export.runtimes import open_file
from distill.system.files import sha256
from distill.types import InputSpec

MADE = {"student.safetensors", "student.onnx", "student.pt2", "student.int8.onnx"}
FILES = MADE | {"config.json", "parity.json"}
CARD = {"model-card.md"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A finished run of a small MicroExpNet, and its store."""
    home = tmp_path_factory.mktemp("home")
    small_run(home)
    return home


@pytest.fixture(scope="module")
def folder(home):
    return export_whatever(folder_of(home / "runs"))


@pytest.fixture()
def copy(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "a run, käse"))


def pictures(height, width, number=3):
    return np.random.default_rng(height).integers(0, 256, (number, height, width, 3), dtype=np.uint8)


def pytorch(student, given):
    """What the student answers to pictures as evaluation renders them."""
    images = render(torch.from_numpy(given).permute(0, 3, 1, 2), identity(len(given)), student.input)
    with torch.no_grad():
        return student(images).logits.numpy()


def test_a_run_leaves_every_file_and_a_table_that_says_how_near_they_are(folder):
    assert {path.name for path in (folder / "export").iterdir()} == FILES | CARD
    found = json.loads((folder / "export" / "parity.json").read_text())
    assert set(found["files"]) == MADE and found["refused"] == {}
    for name, numbers in found["files"].items():
        assert numbers["agreement"] == 1 or name == "student.int8.onnx"
        assert numbers["other_sizes"] == 3 and numbers["bytes"] >= (folder / "export" / name).stat().st_size
        assert all(sha256(folder / "export" / part) == text for part, text in numbers["sha256"].items())
        low, high = numbers["accuracy_ci"]
        assert 0 <= low <= numbers["accuracy"] <= high <= 1


@pytest.mark.parametrize("name", ["student.onnx", "student.pt2", "student.int8.onnx"])
def test_a_file_answers_pictures_of_any_size_and_number_as_evaluation_does(folder, name):
    student, opened = exporting.load(folder / "export"), open_file(folder / "export" / name, 1)
    assert opened.dtype == "uint8" and opened.shape == (None, None, None, 3)
    for number, height, width in ((1, 40, 40), (3, 36, 36), (2, 91, 57), (5, 23, 200), (1, 1, 1)):
        given = pictures(height, width, number)
        logits, probabilities = opened.answer(given)
        assert logits.shape == probabilities.shape == (number, 8)
        np.testing.assert_allclose(probabilities, torch.from_numpy(logits).softmax(1), atol=1e-5)
        np.testing.assert_allclose(logits, pytorch(student, given), atol=0.3 if "int8" in name else 1e-4)


def test_a_file_says_what_it_is(folder):
    facts = open_file(folder / "export" / "student.int8.onnx", 1).facts
    result = json.loads((folder / "result.json").read_text())
    assert json.loads(facts["classes"]) == result["data"]["classes"] and facts["dataset"] == "procedural"
    assert (
        facts["protocol"] == result["data"]["protocol"] and facts["data_fingerprint"] == result["data"]["fingerprint"]
    )
    assert len(facts["weights_sha256"]) == 64 and "not an emotion" in facts["limits"] and facts["license_of_the_data"]
    low, high = json.loads(facts["valid_top1_accuracy_ci"])
    assert low <= json.loads(facts["valid_top1_accuracy"]) <= high
    parity = json.loads((folder / "export" / "parity.json").read_text())["files"]["student.int8.onnx"]
    assert float(facts["file_top1_accuracy"]) == parity["accuracy"]
    assert open_file(folder / "export" / "student.pt2", 1).facts["classes"] == facts["classes"]


@pytest.mark.parametrize("name", ["student.onnx", "student.int8.onnx"])
def test_an_onnx_file_says_nothing_of_the_machine_that_made_it(folder, name):
    content = (folder / "export" / name).read_bytes()
    assert b"pkg.torch" not in content and str(ROOT).encode() not in content


def test_the_int8_file_is_rounded_inside_and_prepares_pictures_in_float(folder):
    import onnx

    proto = onnx.load(folder / "export" / "student.int8.onnx")
    types = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    weights = [
        n
        for n in proto.graph.node
        if n.op_type == "DequantizeLinear" and types.get(n.input[0]) == onnx.TensorProto.INT8
    ]
    assert len(weights) == 3, "two convolutions and the larger linear layer"
    scales = {tensor.name: list(tensor.dims) for tensor in proto.graph.initializer}
    assert [16] in [scales[n.input[1]] for n in weights], "one scale per channel"
    activations = [n for n in proto.graph.node if n.op_type == "QuantizeLinear"]
    assert activations and {types[n.input[2]] for n in activations} == {onnx.TensorProto.UINT8}
    prepared = {output for n in proto.graph.node if n.name.startswith("prepare/") for output in n.output}
    inside = {name for n in activations for name in n.input} & prepared
    assert not inside - {"images"} and prepared
    assert not [n for n in proto.graph.node if n.metadata_props or "/" in n.doc_string], "no paths of this machine"


def test_the_loaded_student_is_the_trained_one(folder):
    from distill.system.weights import read_weights

    student = exporting.load(str(folder / "export"))
    tensors, _ = read_weights(folder / "checkpoints" / "best.safetensors")
    assert student.classes[0] == "neutral" and not student.training
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in student.state_dict().items())


def test_the_bare_network_sees_rendered_faces_and_what_loses_too_much_is_not_left(copy, capsys, monkeypatch):
    monkeypatch.setattr(gate, "MAX_ACCURACY_DROP", -1.0)
    place = copy / "export" / "bare"
    (place / ".writing-killed").mkdir(parents=True)
    shutil.copy(copy / "export" / "student.int8.onnx", place)
    out, said = export(capsys, copy, "export.preprocess=false")
    assert said.startswith("error: student.int8.onnx: loses ") and "\n" not in said
    assert "export.int8=false" in said and "NOT WRITTEN" in out
    assert {path.name for path in place.iterdir()} == FILES - {"student.int8.onnx"}
    opened, student = open_file(place / "student.onnx", 1), exporting.load(copy / "export")
    assert opened.dtype == "float32" and opened.shape == (None, 1, 36, 36)
    images = np.random.default_rng(0).standard_normal((5, 1, 36, 36), dtype=np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(opened.answer(images)[0], student(torch.from_numpy(images)).logits, atol=1e-5)


def test_the_best_run_of_a_folder_or_of_a_sweep_s_links_is_exported(home, folder, tmp_path, capsys):
    (tmp_path / "size=40").symlink_to(folder, target_is_directory=True)
    for words in (["best", "of", home / "runs"], ["best", "of", tmp_path], [tmp_path, "--best", "min bytes"]):
        asked = command_line._read([*map(str, words), "export.int8=false"])
        assert command_line._folder(asked) == folder and asked.words == ["export.int8=false"]
    asked = command_line._read([str(tmp_path / "size=40"), "export.int8=false"])
    assert command_line._folder(asked).samefile(folder), "a folder whose name has an equals sign"


def test_words_that_name_no_run_get_one_sentence(home, folder, capsys):
    for words, sentence in (
        (
            ("best", "of", home / "runs", "--best", "max valid/top1_accuracy where bytes<10"),
            "none of 1 configurations fits",
        ),
        (("best", "of", home / "nowhere"), "no such folder. Give a run folder"),
        ((folder, folder), "cannot be read. Type python -m distill.export RUN"),
        (("export.int8=false",), "no run: cannot be read."),
    ):
        _, said = export(capsys, *words)
        assert said.startswith("error: ") and sentence in said and "\n" not in said


OF_ONE_SIZE = ("executorch", "litert")


@pytest.mark.parametrize(
    "name, file", [("openvino", "student.xml"), ("executorch", "student.pte"), ("litert", "student.tflite")]
)
def test_a_file_for_another_engine_passes_the_same_gate(folder, copy, capsys, monkeypatch, name, file):
    pytest.importorskip({"litert": "ai_edge_litert"}.get(name, name))
    monkeypatch.setattr(job, "export_formats", lambda *given: (f for f in export_formats(*given) if f.files[0] == file))
    _, said = export(capsys, copy, "export.int8=false", f"export.{name}=true")
    numbers = json.loads((copy / "export" / "parity.json").read_text())["files"][file]
    assert said is None and numbers["agreement"] == 1 and numbers["other_sizes"] == (0 if name in OF_ONE_SIZE else 3)
    opened, student, given = open_file(copy / "export" / file, 1), exporting.load(folder / "export"), pictures(40, 40)
    assert opened.dtype == "uint8" and json.loads(opened.facts["classes"])[0] == "neutral"
    assert opened.shape == ((None, 40, 40, 3) if name in OF_ONE_SIZE else (None, None, None, 3))
    np.testing.assert_allclose(opened.answer(given)[0], pytorch(student, given), atol=1e-4)


def test_engines_that_are_not_installed_are_left_out_and_named(folder, monkeypatch):
    names = {"openvino": "openvino", "executorch": "executorch", "litert": "ai_edge_litert"}
    monkeypatch.setattr(module_of_forms, "find_spec", lambda wanted: None if wanted in names.values() else wanted)
    for name in ("bare_onnx", "prepare_onnx", "deployable", "deployed"):  # what takes long, and is of no interest here
        monkeypatch.setattr(module_of_forms.graph, name, lambda *given: None)
    run, said = source_run.read_run(folder, []), []
    options = Options(int8=False, openvino=True, executorch=True, litert=True)
    assert [form.files[0] for form in export_formats(run, source_run.faces(run), options, said.append)][
        -1
    ] == "student.pt2"
    wanted = "export.{0}: left out, {1} is not installed. Type pip install -e '.[{0}]'."
    assert said == [wanted.format(*engine) for engine in names.items()]


def test_litert_s_int8_file_passes_the_gate_of_int8_and_is_timed(folder, copy, capsys, monkeypatch):
    pytest.importorskip("ai_edge_quantizer")
    file = "student.int8.tflite"
    monkeypatch.setattr(job, "export_formats", lambda *given: (f for f in export_formats(*given) if f.files[0] == file))
    monkeypatch.setattr(gate, "MAX_ACCURACY_DROP", 1.0)  # one epoch teaches too little
    _, said = export(capsys, copy, "export.litert=true", "export.calibration=16")
    assert said is None
    found = json.loads((copy / "export" / "parity.json").read_text())["files"][file]
    assert found["agreement"] > 0.5 and found["bytes"] == (copy / "export" / file).stat().st_size
    monkeypatch.setattr(gate, "MAX_ACCURACY_DROP", -1.0)
    _, said = export(capsys, copy, "export.litert=true", "export.calibration=16")
    assert file in said and "points of validation accuracy" in said and not (copy / "export" / file).exists()


BAD = [
    ("export.int9=off", "export.int9: no such key. Did you mean export.int8?"),
    ("export.calibration=few", "export.calibration: expected a whole number, got 'few'."),
    ("export.calibration=0", "export.calibration: expected 1 or more, got 0."),
    ("export.preprocess=2", "export.preprocess: expected true or false, got '2'."),
    ("export.int8={", "export.int8: '{' cannot be read. Close brackets and quotes."),
    ("export.calibration=!!python/object:os.system", "export.calibration: '!!python/object:os.system' cannot be read."),
    ("plugins=[5]", "plugins: expected a list of names, such as plugins=[mypackage], got [5]."),
    ("student.width=2", "student.width=2: cannot be asked of an export. Type export.KEY=VALUE"),
]


@pytest.mark.parametrize("word, sentence", BAD)
def test_export_of_what_cannot_be_asked_is_refused_in_one_sentence(folder, capsys, word, sentence):
    _, said = export(capsys, folder, word)
    assert said.startswith(f"error: {sentence}") and "\n" not in said


def test_other_faces_than_the_run_saw_are_refused(copy, capsys):
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config.replace("valid: 64", "valid: 48"))
    assert config != (copy / "config.yaml").read_text()
    _, said = export(capsys, copy)
    assert said.startswith("error: data: the faces that this config finds") and "data.root=DIR" in said


def test_a_folder_without_a_finished_run_is_refused(home, copy, tmp_path, capsys):
    _, said = export(capsys, tmp_path)
    assert (
        said == f"error: {tmp_path}: holds several runs. Give one of them, such as {copy}, or type best of {tmp_path}."
    )
    whole = (copy / "config.yaml").read_text()
    for text in ("data: {", "data: 1", ""):
        (copy / "config.yaml").write_text(text)
        assert f"{copy / 'config.yaml'}: damaged, or no config of a run (" in export(capsys, copy)[1]
    (copy / "config.yaml").write_text(whole)
    (copy / "result.json").write_text('{"status": "failed"}')
    assert "this run is not finished (status 'failed'). Its own command, typed again" in export(capsys, copy)[1]
    assert "nowhere: no such folder. Give the run folder" in export(capsys, tmp_path / "nowhere")[1]


def test_a_damaged_export_is_told_in_one_sentence(copy):
    place = copy / "export"
    for name in ("student.onnx", "student.pt2"):
        (place / name).write_bytes((place / name).read_bytes()[:1000])
        with pytest.raises(ValueError, match=r"damaged or changed: it is not the file that passed the gate"):
            open_file(place / name, 1)
        with pytest.raises(ValueError, match=r"damaged, or no .* file of a student"):
            open_file(place / name, 1, fresh=True)
    (place / "parity.json").unlink()
    (place / "student.txt").write_text("")
    for name, sentence in (("student.txt", "not an exported file"), ("absent.onnx", "no such file")):
        with pytest.raises(ValueError, match=sentence):
            open_file(place / name, 1)
    (place / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="no config of an exported student"):
        exporting.load(place)


def test_a_picture_is_prepared_as_evaluation_renders_it():
    from distill.export.export_module import Preprocess

    for spec in (InputSpec(20, 1, (0.5,), (0.25,)), InputSpec(17, 3, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))):
        prepare = Preprocess(spec)
        for height, width in ((20, 20), (48, 48), (13, 31), (64, 45), (101, 83), (59, 200), (1, 1)):
            given = torch.from_numpy(pictures(height, width))
            wanted = render(given.permute(0, 3, 1, 2), identity(len(given)), spec)
            torch.testing.assert_close(prepare(given), wanted, atol=1e-5, rtol=0)


def test_a_photograph_resized_by_hand_changes_little(folder):
    opened = open_file(folder / "export" / "student.onnx", 1)
    smooth = np.asarray(Image.fromarray(pictures(6, 6, 1)[0]).resize((72, 72), Image.Resampling.BICUBIC))
    larger = np.asarray(Image.fromarray(smooth).resize((288, 288), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(opened.answer(smooth[None])[1], opened.answer(larger[None])[1], atol=0.02)
