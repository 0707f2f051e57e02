"""Exporting where something breaks: a form, the card, the command itself; what is proven stays, what is old does not mix in."""

import errno
import json
import os
import resource
import shutil
from pathlib import Path

import pytest
from exported import export, small_run

from distill.export import __main__ as command_line
from distill.export import formats as module_of_forms
from distill.export import job
from distill.export import onnx_graph as graph
from distill.export import parity as gate
from distill.export.formats import FILES, export_formats
from distill.export.runtimes import open_file
from distill.runs.folder import RunFolder
from students.microexpnet import MicroExpNet

WEIGHTS = {"student.safetensors", "config.json", "parity.json"}
CARD = {"model-card.md"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of a small MicroExpNet."""
    return small_run(tmp_path_factory.mktemp("home"))


@pytest.fixture()
def folder(finished, tmp_path, monkeypatch):
    """A copy of it, with the files of an earlier export."""
    monkeypatch.setattr(command_line, "loud_warnings", lambda: None)
    copy = Path(shutil.copytree(finished, tmp_path / "a run, käse"))
    (copy / "export").mkdir()
    for name in (*FILES, "parity.json", "model-card.md"):
        (copy / "export" / name).write_text("earlier")
    return copy


def test_a_form_that_an_engine_or_a_converter_breaks_on_is_refused_and_the_others_are_written(
    folder, capsys, monkeypatch
):
    load_exported = job.load_exported

    def breaks_at_seven(form, *given):
        file = load_exported(form, *given)

        def answer(batch):
            if len(batch) == 7:
                raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : Reshape\nat line 7")
            return file.answer(batch)

        return file._replace(answer=answer) if form.files[0] == "student.onnx" else file

    def breaks(*given, **named):
        raise NotImplementedError("no such operation")

    monkeypatch.setattr(job, "load_exported", breaks_at_seven)
    monkeypatch.setattr(module_of_forms.graph, "save_program", breaks)
    monkeypatch.setattr("onnxruntime.quantization.quantize_static", breaks)
    _, said = export(capsys, folder)
    wanted = {
        "student.onnx": "RuntimeError: [ONNXRuntimeError] : 1 : FAIL : Reshape. An operation of this network",
        "student.pt2": "NotImplementedError: no such operation. An operation of this network",
        "student.int8.onnx": "this network cannot be quantized (NotImplementedError: no such operation). Type export.int8=false",
    }
    lines = dict(zip(wanted, said.splitlines(), strict=True))
    assert all(lines[name].startswith(f"error: {name}: {words}") for name, words in wanted.items())
    assert {path.name for path in (folder / "export").iterdir()} == WEIGHTS | CARD, "none of the earlier export"
    assert set(json.loads((folder / "export" / "parity.json").read_text())["refused"]) == set(wanted)


def test_a_program_that_finds_no_space_is_an_error_not_the_end_of_the_process(tmp_path):
    student = MicroExpNet(8, 36, "XXS", "both", 0.0, "xavier", 0.5, 0.25).eval()
    traced, limits = graph.deployed(student, True), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            graph.save_program(traced, tmp_path / "student.pt2", {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    graph.save_program(traced, tmp_path / "student.pt2", {"name": "value"})
    assert open_file(tmp_path / "student.pt2", 1, fresh=True).facts == {"name": "value"}


def contents(folder):
    return {path.name: path.read_bytes() for path in (folder / "export").iterdir()}


def test_an_export_that_cannot_begin_leaves_the_earlier_one_as_it_was(folder, capsys, monkeypatch):
    before = contents(folder)
    with RunFolder(folder).lock(wait=False):
        _, said = export(capsys, folder)
    assert said.startswith("error: ") and "another process is at work in this run folder" in said

    def stopped(*given):
        raise KeyboardInterrupt

    def closed(*given):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def full(*given):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(gate, "measure", stopped)
    assert export(capsys, folder)[1] == 130
    monkeypatch.setattr(gate, "measure", closed)
    assert export(capsys, folder)[1] == "error: Bad file descriptor"
    monkeypatch.setattr(gate, "measure", full)
    assert export(capsys, folder)[1] == "error: No space left on device"
    assert contents(folder) == before


def test_a_card_that_cannot_be_written_is_said_and_the_proven_files_stay(folder, capsys, monkeypatch):
    (folder / "predictions" / "test.csv").unlink()
    monkeypatch.setattr(job, "export_formats", lambda *given: [next(export_formats(*given))])
    out, said = export(capsys, folder)
    assert said is None and "model-card.md: not written: " in out and "test.csv" in out
    assert set(contents(folder)) == WEIGHTS
    assert "model-card.md: not written" in json.loads(contents(folder)["parity.json"])["left_out"][0]
