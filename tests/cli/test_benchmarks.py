"""benchmarks/: each goes from end to end on next to nothing; how long anything takes is nobody's promise here."""

import json
import re
import sys

from commandline import benchmark

from distill.predict.student import SHIPPED


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
