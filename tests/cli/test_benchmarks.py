"""benchmarks/: each goes from end to end on next to nothing; how long anything takes is nobody's promise here."""

import json
import re
import sys
from argparse import Namespace

import numpy as np
import pytest
import torch
from commandline import ROOT, benchmark

from distill.export.runtimes import open_file
from distill.runs.published import SHIPPED


def lines(printed: str) -> dict[str, float]:
    """Return name -> number of lines such as `name: 1,234 images/s`."""
    found = re.findall(r"^ *(.+): +([\d,.]+)(?: images/s)?$", printed, re.MULTILINE)
    return {name: float(number.replace(",", "")) for name, number in found}


def test_throughput_times_every_part_of_a_run(monkeypatch, capsys):
    throughput = benchmark("throughput")
    monkeypatch.setattr(throughput, "FACES", 16)
    words = ["microexpnet", "--threads", "1", "--batch-size", "8", "--turns", "1"]
    monkeypatch.setattr(sys, "argv", ["throughput.py", *words])
    throughput.main()
    printed = capsys.readouterr().out
    found = lines(printed)
    assert "1 threads" in printed and "batch 8" in printed and all(rate > 0 for rate in found.values())
    parts = ("bare step", "whole loop", "whole / bare", "rendering")
    assert [name for name in found if "microexpnet" in name] == [f"microexpnet {part}" for part in parts]
    assert {name.split(",")[0].split()[0] for name in found} == {"drawing", "decoding", "teacher", "microexpnet"}


def test_stacked_students_learn_what_they_learn_in_turn_and_both_are_timed(monkeypatch, capsys):
    stacked, cpu = benchmark("stacked"), torch.device("cpu")
    for words, near in (
        (["student=microexpnet", "student.width=XXS"], 1e-5),
        (["student=ferlite", "student.width=S"], 1e-3),
    ):
        states, batches, teacher = (
            stacked.states_of(words, 3, cpu),
            stacked.batches_of(3, 8, cpu),
            stacked.StoredLogits(24, cpu),
        )
        as_one = stacked.Stacked(states, torch.float32)
        for _ in range(3):
            alone = [
                stacked.train_step(b, teacher, s, torch.float32)["loss"] for b, s in zip(batches, states, strict=True)
            ]
            assert as_one.step(batches, teacher).tolist() == pytest.approx([float(loss) for loss in alone], rel=near)
        assert len({round(float(loss), 4) for loss in alone}) == 3
    words = [
        "student=microexpnet",
        "--students",
        "2",
        "--batch-size",
        "4",
        "--turns",
        "1",
        "--threads",
        "1",
        "--device",
        "cpu",
    ]
    monkeypatch.setattr(sys, "argv", ["stacked.py", *words])
    stacked.main()
    printed = capsys.readouterr().out
    assert "2 x student=microexpnet, stacked: " in printed and float(printed.split("in turn / stacked: ")[1]) > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", ["stacked", "throughput"])
def test_a_gpu_that_is_not_there_is_said_in_a_sentence(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--device", "cuda"])
    with pytest.raises(SystemExit):
        benchmark(name).main()
    assert "error: --device cuda: torch sees no GPU here. Type --device cpu." in capsys.readouterr().err


def test_the_cost_of_a_loss_is_measured_and_written_beside_those_of_the_others(monkeypatch, tmp_path, capsys):
    losses, place = benchmark("losses"), tmp_path / "cost.json"
    place.write_text(json.dumps({"how": "before", "milliseconds": {"at": 1.5}}))
    monkeypatch.setattr(losses, "COST", place)
    monkeypatch.setattr(losses, "FACES", 8)
    monkeypatch.setattr(sys, "argv", ["losses.py", "kd", "catkd", "--repeats", "1", "--write"])
    losses.main()
    written = json.loads(place.read_text())
    assert written["milliseconds"].keys() == {"at", "kd", "catkd"} and written["milliseconds"]["at"] == 1.5
    assert "median of 1 on one thread of " in written["how"]
    assert re.findall(r"^(\w+) +-?[\d.]+ ms$", capsys.readouterr().out, re.MULTILINE) == ["kd", "catkd"]


def test_the_published_cern_runs_beside_an_exported_student(tmp_path, capsys):
    words = [
        "--width",
        "0.25",
        "--size",
        "32",
        "--seconds",
        "0.001",
        "--rounds",
        "1",
        "--json",
        str(tmp_path / "a.json"),
    ]
    benchmark("cern_speed").main([str(SHIPPED / "microexpnet" / "model.int8.onnx"), *words])
    rows = [line.strip("|").split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    _, eager, file = ([cell.strip() for cell in row] for row in rows)
    assert eager[0] == "CERN, width 0.25, 32 px, eager PyTorch" and eager[2] == eager[4] == "1.0"
    assert file[0] == "MicroExpNet (width XXS, size 84), model.int8.onnx" and eager[5] == file[5] == "-"
    written = json.loads((tmp_path / "a.json").read_text())["rows"]
    assert [row["name"] for row in written] == [eager[0], file[0]]
    assert [f"{row['passes']['32']['images_per_second']:,.0f}" for row in written] == [eager[3], file[3]]
    assert all(float(row[1].split()[0]) > 0 and float(row[3].replace(",", "")) > 0 for row in (eager, file))


def test_networks_are_timed_in_turns_and_written_down(tmp_path, capsys):
    asked = ["student=microexpnet", "student=microexpnet student.width=S"]
    benchmark("networks").main([*asked, "--rounds", "2", "--json", str(tmp_path / "a.json")])
    written, printed = json.loads((tmp_path / "a.json").read_text()), capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed] == list(written["networks"]) == asked and len(
        written["rounds"]
    ) == 2
    for name, line in zip(asked, printed, strict=True):
        rates = sorted(one[name]["images_per_second"] for one in written["rounds"])
        assert rates[0] <= written["networks"][name]["images_per_second"] <= rates[1]
        assert f"{written['networks'][name]['images_per_second']:,.0f} images/s" in line


def test_the_front_of_graphs_joins_what_runs_reached_and_draws_it(tmp_path, capsys):
    front, costs = benchmark("graph_front"), {"name": "ferlite", "num_parameters": 61664, "macs": 9693952}
    base = {
        "teacher": None,
        "epochs": 100,
        "seed": 0,
        "data": {"name": "ferplus", "protocol": "majority", "rows": {"valid": 3191}},
    }
    for name, value in (("better", 0.86), ("worse", 0.7)):
        (tmp_path / name).mkdir()
        result = base | {"student": costs | {"metrics": {"valid/top1_accuracy": value}}}
        (tmp_path / name / "result.json").write_text(json.dumps(result))
    words = ["--graphs", "FerLite S", "FerLite S, separable", "--rounds", "1", "--seconds", "0.001"]
    words += ["--results", str(tmp_path / "worse"), str(tmp_path / "better" / "result.json")]
    front.main([*words, "--json", str(tmp_path / "front.json"), "--plot", str(tmp_path / "front.png")])
    small, separable = json.loads((tmp_path / "front.json").read_text())["graphs"]
    assert [one["run"] for one in small["results"]] == ["better", "worse"] and "results" not in separable
    assert small["num_parameters"] == 61664 and separable["num_parameters"] <= 65000
    assert all(us > 0 for row in (small, separable) for us in row["microseconds"].values())
    assert small["int8_bytes"] < small["float32_bytes"] and (tmp_path / "front.png").read_bytes()[:4] == b"\x89PNG"
    assert "| FerLite S | 61,664 | 9.69 M |" in capsys.readouterr().out
    again = ["--times", str(tmp_path / "front.json"), "--results", str(tmp_path / "worse")]
    front.main([*again, "--json", str(tmp_path / "again.json")])
    joined = json.loads((tmp_path / "again.json").read_text())["graphs"]
    assert [one["run"] for one in joined[0].pop("results")] == ["worse"] and small.pop("results")
    assert joined == [small, separable], "the times of the earlier file"
    (tmp_path / "none.json").write_text("{}")
    with pytest.raises(ValueError, match=r"expected the result\.json of a finished run"):
        front.join([small], [tmp_path / "none.json"])


def test_the_front_leaves_out_what_another_graph_beats():
    front = benchmark("graph_front")
    rows = [{"graph": name, "cost": cost} for name, cost in (("a", 1), ("b", 2), ("c", 3), ("d", 0.5))]
    for row, value in zip(rows, (0.7, 0.6, 0.8), strict=False):
        row["results"] = [{"valid_top1_accuracy": value}]
    assert [row["graph"] for row in front.front(rows, lambda row: row["cost"])] == ["a", "c"]


def test_the_peers_train_one_student_with_one_loss_and_one_that_is_missing_is_left_out(tmp_path, monkeypatch, capsys):
    peers, losses = benchmark("peers"), {}
    monkeypatch.setattr(peers, "rounds", lambda steps, feed, *counts: losses.update(three_steps(steps, feed)))
    asked = Namespace(faces=16, teacher="test_resnet", size=48, batch_size=16, rounds=1, quick=1)
    bare = peers.build.bare_teacher
    monkeypatch.setattr(peers.build, "bare_teacher", lambda *of: sure(bare(*of)))
    peers.measure("student=ferlite student.width=S", asked, tmp_path)
    assert losses.keys() == {"alone", "stored", "live", "torchdistill", "timm"}
    for name in ("stored", "torchdistill", "timm"):
        assert losses[name] == pytest.approx(losses["live"], rel=1e-4), name
    assert losses["live"][0] > 1.2 * losses["alone"][0] and losses["live"][0] > losses["live"][2]
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "torchdistill.core.distillation", None)
    place, words = tmp_path / "a.json", ["--rounds", "1", "--quick", "1", "--faces", "16", "--batch-size", "8"]
    peers = benchmark("peers")
    peers.main([*words, "--teacher", "test_resnet", "--size", "32", "--json", str(place)])
    printed, written = capsys.readouterr().out, json.loads(place.read_text())["students"]
    assert "torchdistill is left out: " in printed and "pip install -U torchdistill" in printed
    assert written.keys() == peers.STUDENTS.keys()
    for name, found in written.items():
        assert found["contestants"].keys() == found["rounds"].keys() == {"alone", "stored", "live", "timm"}
        for who, row in found["contestants"].items():
            assert row["step"] == found["rounds"][who][0] > 0
            assert row["over_stored"] == pytest.approx(row["step"] / found["rounds"]["stored"][0])
            first_pass = 8 * 10_000 * found["first_pass_per_face"] if who == "stored" else 0
            assert row["sweep"] == pytest.approx(16 * 32 * 10_000 / 8 * row["step"] + first_pass)
            assert f"{name} {who:>12} {1e3 * row['step']:9.2f} ms" in printed


def test_published_networks_have_the_published_parameters_and_are_written_as_files_that_take_pictures(
    tmp_path, monkeypatch
):
    graphs = benchmark("published_graphs")
    made, told = graphs.networks(), json.loads((ROOT / "docs" / "results" / "published.json").read_text())
    counts = {f"published/{name}.onnx": sum(p.numel() for p in net.parameters()) for name, net in made.items()}
    assert counts == {row["timed"]: row["num_parameters"] for row in told.values()}
    monkeypatch.setattr(graphs, "networks", lambda: {"fer_model": made["fer_model"]})
    graphs.main([str(tmp_path / "published")])
    opened = open_file(tmp_path / "published" / "fer_model.onnx", 1)
    logits, probabilities = opened.answer(np.full((2, 60, 40, 3), 9, np.uint8))
    assert logits.shape == (2, 8) and probabilities.sum(1) == pytest.approx(1)
    assert (opened.facts["num_parameters"], opened.facts["macs"]) == ("169553", "38333952")


def sure(network):
    """Return a teacher with its logits far from each other."""
    network.net.get_classifier().weight.data *= 300
    return network


def three_steps(steps, feed):
    """Return name -> the loss of three steps on one batch."""
    batch = next(feed)
    return {name: [float(step(batch)) for _ in range(3)] for name, step in steps.items()}
