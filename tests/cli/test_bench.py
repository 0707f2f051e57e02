"""Timing exported students side by side; no test says how fast."""

import json
import shutil

import numpy as np
import pytest
import torch
from exported import vouch

from distill import bench
from distill.data.common.emotions import EMOTIONS
from distill.export import onnx_graph as graph
from distill.export import weights_and_config as package
from distill.runs.reading import read
from students.microexpnet import MicroExpNet

NODE = {
    **{"_target_": "students.microexpnet.MicroExpNet", "size": 36, "width": "XXS", "pooling": "both", "dropout": 0.0},
    **{"init": "xavier", "mean": 0.5, "std": 0.25, "weights": None},
}
QUICK = ("--seconds", "0.01", "--rounds", "2", "--threads", "1", "--batch", "4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An export folder with a student in three forms."""
    folder = tmp_path_factory.mktemp("run with a space") / "export"
    student = MicroExpNet(8, 36, "XXS", "both", 0.0, "xavier", 0.5, 0.25).eval()
    facts = {
        "num_parameters": "1234",
        "macs": "5678",
        "file_agreement_with_pytorch": "1.0",
        "file_top1_accuracy": "0.5",
    }
    (folder / "bare").mkdir(parents=True)
    package.save(folder, student, NODE, EMOTIONS, [], facts)
    network = graph.bare_onnx(student)
    graph.save_onnx(graph.deployable(network, graph.prepare_onnx(student), student, 8), folder / "student.onnx", facts)
    graph.save_onnx(graph.deployable(network, None, student, 8), folder / "bare" / "student.onnx", {})
    graph.save_program(graph.deployed(student, True), folder / "student.pt2", facts)
    vouch(folder / "student.pt2")
    return folder


def test_a_run_folder_is_timed_in_every_form_and_eagerly(folder, tmp_path, capsys):
    bench.main([str(folder.parent), *QUICK, "--picture", "40x30", "--json", str(tmp_path / "bench.json")])
    found = json.loads((tmp_path / "bench.json").read_text())
    rows = {row["name"].removeprefix(f"{folder.parent}").lstrip(": /"): row for row in found["rows"]}
    files = {"export/student.onnx", "export/bare/student.onnx", "export/student.pt2"}
    assert set(rows) == files | {"eager PyTorch", "eager PyTorch, network alone"} and found["picture"] == "40x30"
    for row in rows.values():
        assert set(row["passes"]) == {"1", "4"} and row["threads"] == 1
        for batch, timed in row["passes"].items():
            low, high = timed["quartiles"]
            assert 0 < low <= timed["milliseconds"] <= high and timed["passes"] >= 10
            assert timed["images_per_second"] == pytest.approx(1000 * int(batch) / timed["milliseconds"])
    sizes = {name: rows[name]["file_bytes"] for name in files}
    assert sizes == {name: (folder.parent / name).stat().st_size for name in files}
    takes = {name: row["takes"] for name, row in rows.items()}
    assert takes["export/student.onnx"] == takes["eager PyTorch"] == "pictures"
    assert takes["export/bare/student.onnx"] == takes["eager PyTorch, network alone"] == "rendered faces"
    assert rows["export/student.onnx"]["macs"] == 5678 and rows["export/bare/student.onnx"]["macs"] is None
    assert rows["eager PyTorch"]["num_parameters"] == sum(p.numel() for p in MicroExpNet(8, *_numbers()).parameters())
    memory = {name: row["peak_memory_bytes"] for name, row in rows.items()}
    assert 0 < memory["export/student.onnx"] < memory["eager PyTorch"], "an ONNX file is run without PyTorch"
    printed = capsys.readouterr().out
    assert "pictures of 40x30" in printed and "written: " in printed
    assert printed.splitlines()[0].startswith("timing 5 with 1 threads: ")
    fastest = min(("student.onnx", "student.pt2"), key=lambda n: rows[f"export/{n}"]["passes"]["1"]["milliseconds"])
    assert "of the 2 that passed the gate and take pictures" in " ".join(printed.split()) and fastest in printed


def test_a_file_without_an_engine_is_left_out_with_a_line(folder, tmp_path, capsys, monkeypatch):
    home = shutil.copytree(folder, tmp_path / "run" / "export")
    (home / "student.tflite").touch()
    known = bench.find_spec
    monkeypatch.setattr(bench, "find_spec", lambda name: None if name == "ai_edge_litert" else known(name))
    named = [name for name, _, _ in bench.entries([home])]
    assert str(home / "student.onnx") in named and str(home / "student.tflite") not in named
    said = f"{home}/*.tflite: left out without ai_edge_litert. Type pip install -e '.[litert]'."
    assert said in capsys.readouterr().out


def test_the_speeds_of_a_run_s_exported_files_are_left_beside_them(folder, tmp_path):
    export = shutil.copytree(folder, tmp_path / "run" / "export", ignore=shutil.ignore_patterns("*.pt2"))
    bench.main([str(export.parent), *QUICK])
    rows = json.loads((export / "bench.json").read_text())["rows"]
    assert [row["name"] for row in rows] == [str(export / "student.onnx")], "not those of other forms of the network"
    speed = read(export.parent).exported_speed
    assert speed["file"] == "student.onnx" and speed["latency_ms"] == rows[0]["passes"]["1"]["milliseconds"]
    assert speed["images_per_second"] == rows[0]["passes"]["4"]["images_per_second"]


def _numbers():
    return 36, "XXS", "both", 0.0, "xavier", 0.5, 0.25


def test_a_file_that_cannot_be_opened_is_told_in_one_sentence_and_the_others_are_timed(folder, tmp_path, capsys):
    (tmp_path / "cut.onnx").write_bytes((folder / "student.onnx").read_bytes()[:999])
    for path, sentence in (
        (tmp_path / "cut.onnx", "damaged, or no .onnx file of a student"),
        (tmp_path / "absent.onnx", "no such file"),
        (tmp_path / "absent", "no such file or folder. Give an exported file, or the folder of a run"),
        (tmp_path, f"no exported student is there. Type python -m distill.export {tmp_path}"),
    ):
        with pytest.raises(SystemExit) as stopped:
            bench.main([str(folder / "student.onnx"), str(path), *QUICK])
        assert stopped.value.code.startswith("error: ") and sentence in stopped.value.code
        assert "\n" not in stopped.value.code and "pictures of 48x48" in capsys.readouterr().out, "the other is timed"


def test_bench_where_nothing_can_be_timed_writes_nothing(folder, tmp_path, capsys):
    with pytest.raises(
        SystemExit, match=r"^error: .*absent\.onnx: no such[^\n]*\nerror: .*no exported student is there"
    ):
        bench.main([str(tmp_path / "absent.onnx"), str(tmp_path), *QUICK, "--json", str(tmp_path / "bench.json")])
    assert "pictures of" not in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_a_file_that_another_wrote_is_not_replaced_by_the_numbers(folder, tmp_path):
    models = [shutil.copy(folder / name, tmp_path) for name in ("student.onnx", "config.json")]
    before = {path: (tmp_path / path).read_bytes() for path in models}
    for path in models:
        with pytest.raises(SystemExit, match=f"error: --json: {path} is there and was not written by this command"):
            bench.main([models[0], *QUICK, "--json", path])
    assert before == {path: (tmp_path / path).read_bytes() for path in models}
    bench.main([models[0], *QUICK, "--rounds", "1"])
    assert not (tmp_path / "bench.json").exists(), "the export of no run"
    for _ in range(2):
        bench.main([models[0], *QUICK, "--rounds", "1", "--json", str(tmp_path / "bench.json")])
    assert len(json.loads((tmp_path / "bench.json").read_text())["rows"]) == 1


def test_a_published_folder_is_timed_too(folder, tmp_path):
    shutil.copy(folder / "config.json", tmp_path)
    shutil.copy(folder / "student.safetensors", tmp_path / "model.safetensors")
    shutil.copy(folder / "student.onnx", tmp_path / "model.onnx")
    bench.main([str(tmp_path), *QUICK, "--rounds", "1", "--json", str(tmp_path / "bench.json")])
    rows = {row["name"]: row["file_bytes"] for row in json.loads((tmp_path / "bench.json").read_text())["rows"]}
    weights = (tmp_path / "model.safetensors").stat().st_size
    assert rows == {
        f"{tmp_path}: eager PyTorch": weights,
        f"{tmp_path}: eager PyTorch, network alone": weights,
        str(tmp_path / "model.onnx"): (tmp_path / "model.onnx").stat().st_size,
    }


def test_an_engine_that_says_much_is_not_stopped_by_it_and_its_last_words_are_told(tmp_path, monkeypatch):
    talker = tmp_path / "talker"
    talker.write_text(
        "#!/bin/sh\nhead -c 999999 /dev/zero >&2\necho '{\"facts\": {}}'\nread line\necho 'no memory' >&2\n"
    )
    talker.chmod(0o755)
    monkeypatch.setattr(bench.sys, "executable", str(talker))
    with bench.Worker(tmp_path / "student.onnx", "file", 1, "40x30") as worker:
        assert worker.read() == {"facts": {}}
        for _ in range(2):
            with pytest.raises(ValueError, match=r"student\.onnx: its process ended: .*no memory"):
                worker.ask(1, 0.1)


@pytest.mark.parametrize(
    "words, sentence",
    [
        ("--picture 48", "HEIGHTxWIDTH"),
        ("--batch 0", "from 1 on"),
        ("--threads zero", "invalid int value"),
        ("--seconds inf", "from 0.001 to 3600"),
    ],
)
def test_a_size_that_cannot_be_is_refused(folder, capsys, words, sentence):
    with pytest.raises(SystemExit):
        bench.main([str(folder), *words.split()])
    assert sentence in capsys.readouterr().err


def test_median_and_quartiles_are_those_of_all_passes():
    times = [0.001 * k for k in (1, 2, 3, 4, 5, 6, 7)]
    found = bench.quartiles(times, 10)
    assert found["milliseconds"] == 4 and found["quartiles"] == [2, 6] and found["images_per_second"] == 2500
    assert found["passes"] == 7


def test_the_pictures_are_the_same_each_time(folder):
    from distill.export.runtimes import open_file
    from distill.export.timing_worker import inputs, passes

    opened = open_file(folder / "student.onnx", 1)
    given = inputs(opened, 3, (20, 30))
    assert given.shape == (3, 20, 30, 3) and given.dtype == np.uint8
    assert np.array_equal(given, inputs(opened, 3, (20, 30))) and len(passes(opened, given, 0.0)) == 5
    assert torch.from_numpy(given).float().std() > 50
