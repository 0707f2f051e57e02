"""Publishing an exported run, as a person types it: what lies in the folder, that it loads again, and what is refused."""

import hashlib
import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from inside import folder_of, job, read
from PIL import Image

from distill import bench, publish
from distill.export import __main__ as export_line
from distill.export import load, source_run
from distill.export import parity as gate
from distill.export import weights_and_config as package
from distill.export.runtimes import open_file
from distill.pipeline import completed
from distill.predict.student import find
from distill.system.weights import read_weights

FILES = {
    *("README.md", "model.safetensors", "config.json", "model.onnx", "model.int8.onnx"),
    "preprocessor_config.json",
}


def exported(home, *words, option="export.int8=true"):
    """A finished run, exported; one epoch teaches too little for the gate of int8, which has tests of its own."""
    more = ("teacher=none", "loss=[ce]", "loss.ce.weight=1", "train.epochs=1", "data.size=40")
    job(*more, *words, store=home / "store", runs=home / "runs")
    folder = folder_of(home / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_line, "loud_warnings", lambda: None)
        patch.setattr(gate, "MAX_ACCURACY_DROP", 1.0)
        patch.setattr(gate, "MAX_AGREEMENT_CHANGE", 1.0)
        export_line.main([str(folder), option])
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("home"))


@pytest.fixture()
def run(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "a run, käse"))


@pytest.fixture()
def published(run, tmp_path):
    publish.main([str(run), str(tmp_path / "hub")])
    return tmp_path / "hub"


def refusal(*words):
    """Return the sentence that the command line ends with."""
    with pytest.raises(SystemExit) as stopped:
        publish.main([str(word) for word in words])
    assert stopped.value.code.startswith("error: ") and "\n" not in stopped.value.code
    return stopped.value.code.removeprefix("error: ")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_folder_holds_what_a_hub_expects_and_no_pickle(run, published):
    found = contents(published)
    assert set(found) == FILES
    parity = json.loads((run / "export" / "parity.json").read_text())["files"]
    for name, (first, file) in {
        "model.onnx": ("student.onnx", "student.onnx"),
        "model.safetensors": ("student.safetensors", "student.safetensors"),
        "config.json": ("student.safetensors", "config.json"),
    }.items():
        assert hashlib.sha256(found[name]).hexdigest() == parity[first]["sha256"][file]
    for name, content in found.items():
        assert not zipfile.is_zipfile(published / name) and content[:1] != b"\x80", f"{name} may be a pickle"
    assert zipfile.is_zipfile(run / "export" / "student.pt2"), "which is why it stays there"
    assert not [path for path in published.parent.iterdir() if path.name.startswith(".hub")]


def test_the_line_that_is_printed_loads_the_student_again(run, published, capsys):
    publish.main([str(run), str(published)])
    printed = capsys.readouterr().out
    names = {}
    exec(re.search(r"next: (.*)", printed)[1], names)  # as a reader would type it
    images = torch.randn(2, 1, 36, 36)
    with torch.no_grad():
        assert torch.equal(names["student"](images).logits, load(run / "export")(images).logits)
    assert all(name in printed for name in FILES) and "license of the data: drawn by fer-distill: MIT" in printed


def test_the_card_s_code_runs_in_the_folder(published, monkeypatch, capsys):
    Image.fromarray(np.full((50, 60, 3), 99, np.uint8)).save(published / "face.jpg")
    monkeypatch.chdir(published)
    text = (published / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for block in blocks:
        exec(block, {})
    assert len(blocks) == 2 and capsys.readouterr().out.count("'contempt': ") == 2
    assert "student.onnx" not in text and "student.pt2" not in text
    assert "\n- name: hub\n" in text and "\n# hub: microexpnet on procedural\n" in text
    listed = re.findall(r"^([0-9a-f]{64})  (.*)$", text, re.MULTILINE)
    assert {name for _, name in listed} == FILES - {"README.md", "preprocessor_config.json"}
    assert all(hashlib.sha256((published / name).read_bytes()).hexdigest() == value for value, name in listed)


def test_timm_reads_a_timm_student_by_the_name_it_expects(tmp_path):
    words = ("student=timm", "student.name=test_resnet", "student.pretrained=false", "data.valid=64")
    run, hub = exported(tmp_path, *words, option="export.int8=false"), tmp_path / "hub"
    publish.main([str(run), str(hub)])
    theirs, own = timm.create_model(f"local-dir:{hub}", pretrained=True).eval(), load(hub)
    images = torch.randn(2, own.input.channels, own.input.size, own.input.size)
    with torch.no_grad():
        temperature = json.loads((hub / "config.json").read_text())["fer_distill"]["temperature"]
        assert temperature != 1 and torch.equal(theirs(images) / temperature, own(images).logits)
    facts, spec = json.loads((hub / "preprocessor_config.json").read_text()), theirs.pretrained_cfg
    assert facts["image_mean"] == pytest.approx(spec["mean"]) and facts["image_std"] == pytest.approx(spec["std"])
    assert [facts["num_channels"], *facts["size"].values()] == list(spec["input_size"])
    text = (hub / "README.md").read_text()
    assert "library_name: timm" in text and 'timm.create_model("local-dir:.", pretrained=True)' in text


def test_the_preprocessor_s_facts_make_the_network_s_input(published):
    facts, student = json.loads((published / "preprocessor_config.json").read_text()), load(published)
    side = facts["size"]["height"]
    gray = np.random.default_rng(0).integers(0, 256, (1, side, side, 1), dtype=np.uint8)
    images = (gray * facts["rescale_factor"] - facts["image_mean"]) / facts["image_std"]
    with torch.no_grad():
        wanted = student(torch.from_numpy(images).permute(0, 3, 1, 2).float()).logits
    opened = open_file(published / "model.onnx", 1)
    np.testing.assert_allclose(opened.answer(np.repeat(gray, 3, 3))[0], wanted, atol=1e-4)
    assert len(publish.preparation({"size": 9, "channels": 3, "mean": [0.5], "std": [0.1]})["image_std"]) == 3


def test_a_compact_folder_has_weights_in_float16_and_one_int8_file_and_teaches_and_answers(run, tmp_path, capsys):
    hub, export = tmp_path / "hub", run / "export"
    publish.main([str(run), str(hub), "--compact"])
    assert set(contents(hub)) == FILES - {"model.onnx"}
    text, ours = (hub / "README.md").read_text(), json.loads((hub / "config.json").read_text())["fer_distill"]
    listed = {name: value for value, name in re.findall(r"^([0-9a-f]{64})  (.*)$", text, re.MULTILINE)}
    assert listed == {name: hashlib.sha256((hub / name).read_bytes()).hexdigest() for name in listed}
    assert set(listed) == {"model.safetensors", "config.json", "model.int8.onnx"}
    assert listed["model.safetensors"] == ours["sha256"]
    size = f"{(hub / 'model.safetensors').stat().st_size:,}"
    share = f"{100 * float(ours['facts']['file_agreement_with_pytorch']):.2f}%"
    assert f"| `model.safetensors` | PyTorch weights, float16 | {size} | {share} |" in text
    assert f"the same answer as the run's own weights for {share} of the validation faces" in text
    assert "model.onnx" not in text and ", float16" not in (export / "model-card.md").read_text()
    tensors, _ = read_weights(hub / "model.safetensors")
    whole, _ = read_weights(export / "student.safetensors")
    assert all(
        torch.equal(tensor, whole[name].half()) for name, tensor in tensors.items() if tensor.is_floating_point()
    )
    images = torch.randn(2, 1, 36, 36)
    with torch.no_grad():
        torch.testing.assert_close(load(hub)(images).logits, load(export)(images).logits, atol=0.02, rtol=0)
    assert completed.weights(hub) == hub / "model.safetensors" and find(hub) == hub / "model.int8.onnx"
    publish.main([str(run), str(hub)])
    assert set(contents(hub)) == FILES and find(hub) == hub / "model.onnx"


def test_a_compact_folder_of_a_run_without_int8_is_refused(run, tmp_path):
    path = run / "export" / "parity.json"
    parity = json.loads(path.read_text())
    del parity["files"]["student.int8.onnx"]
    path.write_text(json.dumps(parity))
    assert "holds no student.int8.onnx (export.int8=false). Export this run" in refusal(
        run, tmp_path / "hub", "--compact"
    )


def test_an_earlier_publication_of_the_same_run_is_replaced(run, published):
    (published / "model.onnx").write_bytes(b"old")
    publish.main([str(run), str(published)])
    assert set(contents(published)) == FILES and (published / "model.onnx").stat().st_size > 1000


def test_a_folder_that_holds_something_else_is_replaced_only_when_asked_to(run, published):
    (published / "notes.txt").write_text("mine")
    assert refusal(run, published).endswith(
        "holds other files (notes.txt). Give another folder, or --overwrite to replace all that is in it."
    )
    (published / "notes.txt").unlink()
    config = json.loads((published / "config.json").read_text())
    config["fer_distill"]["facts"]["run"] = "another"
    (published / "config.json").write_text(json.dumps(config))
    assert f"is not of {read(run)['name']}. Give another folder, or --overwrite" in refusal(run, published)
    publish.main([str(run), str(published), "--overwrite"])
    assert json.loads((published / "config.json").read_text())["fer_distill"]["facts"]["run"] == read(run)["name"]


def test_publish_never_deletes_what_cannot_be_made_again(run, tmp_path):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for place in (run, run / "export", run / "hub", tmp_path):
        assert "is, holds or lies in the run folder" in refusal(run, place, "--overwrite")
    (tmp_path / "clone" / ".git").mkdir(parents=True)
    assert "holds folders (.git), which are never deleted here" in refusal(run, tmp_path / "clone", "--overwrite")
    (tmp_path / "file").write_text("mine")
    assert "is a file. Give a folder." in refusal(run, tmp_path / "file", "--overwrite")
    assert "cannot be written" in refusal(run, tmp_path / "file" / "hub")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_damaged_export_is_refused_and_the_earlier_publication_stays(run, published):
    before = contents(published)
    for name in ("student.int8.onnx", "student.safetensors", "student.pt2"):
        path = run / "export" / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:])
        assert f"{name}: damaged or changed, it is not the file that passed the gate" in refusal(run, published)
        path.write_bytes(whole)
    (run / "export" / "student.onnx").unlink()
    assert "student.onnx: missing. Type python -m distill.export" in refusal(run, published)
    assert contents(published) == before and {path.name for path in published.parent.iterdir()} == {run.name, "hub"}


@pytest.mark.parametrize("number", [1, 4, len(FILES) + 1, 2 * len(FILES)])
def test_a_publication_that_fails_while_files_are_moved_leaves_the_earlier_one(run, published, monkeypatch, number):
    (published / "README.md").write_text("earlier")
    before, rename, moves = contents(published), publish.os.rename, []

    def fail(source, target):
        moves.append(source)
        if len(moves) == number:
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(publish.os, "rename", fail)
    assert "cannot be written (No space left on device)" in refusal(run, published)
    assert len(moves) == 2 * number - 1, "each move is undone"
    assert contents(published) == before and {path.name for path in published.parent.iterdir()} == {run.name, "hub"}


def test_a_shell_in_the_folder_stays_in_it(run, tmp_path, monkeypatch):
    (tmp_path / "hub").mkdir()
    monkeypatch.chdir(tmp_path / "hub")
    for _ in range(2):
        publish.main([str(run), "."])
        assert {path.name for path in Path(".").iterdir()} == FILES


def test_a_file_that_the_gate_refused_is_left_out_and_said_to_be(run, tmp_path, capsys):
    path = run / "export" / "parity.json"
    parity = json.loads(path.read_text())
    parity["refused"]["student.int8.onnx"] = "loses 9.00 points of validation accuracy"
    path.write_text(json.dumps(parity))
    publish.main([str(run), str(tmp_path / "hub")])
    assert set(contents(tmp_path / "hub")) == FILES - {"model.int8.onnx"}
    assert "left out, student.int8.onnx: loses 9.00 points" in capsys.readouterr().out
    assert "`student.int8.onnx` was refused: loses 9.00 points" in (tmp_path / "hub" / "README.md").read_text()


def test_a_run_that_is_not_finished_not_exported_or_trained_again_is_refused(run, tmp_path):
    hub = tmp_path / "hub"
    with open(run / "checkpoints" / "best.safetensors", "ab") as file:
        file.write(b"0")
    assert "its weights are not those that were exported. Type python -m distill.export" in refusal(run, hub)
    shutil.rmtree(run / "export")
    assert refusal(run, hub) == f"{run}: this run is not exported. Type python -m distill.export '{run}'"
    (run / "result.json").unlink()
    assert "this run is not finished (stopped or still at work" in refusal(run, hub)
    assert refusal(tmp_path / "nowhere", hub) == f"{tmp_path / 'nowhere'}: no such folder." and not hub.exists()


def test_a_folder_cannot_allow_itself_to_run_code(published, tmp_path):
    ran = tmp_path / "ran"
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "hubconf.py").write_text(f"open({str(ran)!r}, 'w')\n\n\ndef net(**more):\n    return None\n")
    config = json.loads((published / "config.json").read_text())
    attack = {"_target_": "torch.hub.load", "repo_or_dir": str(tmp_path / "evil"), "source": "local", "model": "net"}
    config["fer_distill"] |= {"plugins": ["torch"], "network": attack | {"trust_repo": True}}
    (published / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"torch\.hub\.load, is from the package torch, whose code is not run unasked"):
        load(published)
    with pytest.raises(SystemExit, match="--plugins torch"):
        bench.main([str(published), "--threads", "1", "--seconds", "0.01", "--rounds", "1"])
    assert not ran.exists()
    with pytest.raises(ValueError, match=r"torch\.hub\.load is no class of networks"):
        load(published, plugins=["torch"])
    assert not ran.exists(), "even where its package is allowed"


def test_published_folder_does_not_tell_where_a_student_started(original, tmp_path):
    run = source_run.read_run(original, [])
    node = run.cfg.student | {"weights": "/home/anna/start.safetensors"}
    package.save(tmp_path, run.student, node, run.classes, [], {})
    assert all(b"anna" not in path.read_bytes() for path in tmp_path.iterdir())
    assert load(tmp_path).classes == run.classes
