"""Speeds in README.md and docs/ are those of the benchmarks' own files."""

import json
import re
from statistics import median

from commandline import ROOT
from page_tables import table

from distill.runs.published import SHIPPED

RESULTS = ROOT / "docs" / "results"


def test_faces_per_second_of_readme_are_those_of_one_run_of_bench():
    timed = json.loads((ROOT / "docs" / "speeds" / "ferlite.json").read_text())
    speeds = {row["name"]: f"{row['passes']['1']['images_per_second']:,.0f}" for row in timed["rows"]}
    assert {row["threads"] for row in timed["rows"]} == {1} and {row["takes"] for row in timed["rows"]} == {"pictures"}
    rows = {row["network"]: row["faces/s"] for row in table("README.md", "network", "without twins")}
    published = json.loads((RESULTS / "published.json").read_text())
    for wanted in json.loads((RESULTS / "readme.json").read_text()):
        if "published" in wanted:
            assert rows[wanted["name"]] == speeds[published[wanted["published"]]["timed"]]
        elif "shipped" in wanted and (SHIPPED / wanted["shipped"]).exists():
            (told,) = (speed for name, speed in rows.items() if name.startswith(wanted["name"]))
            assert told == speeds.get(f"distill/shipped/{wanted['shipped']}/model.int8.onnx", "-")


def test_our_step_beside_those_of_others_is_told_as_the_rounds_were_timed():
    timed = json.loads((ROOT / "docs" / "peers.json").read_text())
    versions = timed["machine"]["packages"]
    rows = iter(table("docs/benchmarks.md", "step", "/ stored logits"))
    page = " ".join((ROOT / "docs" / "benchmarks.md").read_text().split())
    assert f"torchdistill {versions['torchdistill']} nor timm {versions['timm']} keeps" in page
    for student, found in timed["students"].items():
        rounds, name, elsewhere = found["rounds"], student.split()[0], []
        assert [*rounds] == ["alone", "stored", "live", "torchdistill", "timm"]
        for who, seconds in rounds.items():
            over = [median(a / b for a, b in zip(seconds, rounds[of], strict=True)) for of in ("alone", "stored")]
            row, step = next(rows), median(seconds)
            told = (row["time"], row["/ labels alone"], row["/ stored logits"])
            assert told == (f"{1e3 * step:.3g} ms", *(f"{ratio:.3g}" for ratio in over)), (student, who)
            if who == "stored":
                assert over[0] <= 1.05 and re.search(rf"\b{100 * (over[0] - 1):.0f}%[^.]* for {name}", page)
            elif who in versions:
                assert row["step"].startswith(f"{who} {versions[who]}, ")
                elsewhere.append(f"{over[1]:.0f}")
        assert f"{' to '.join(sorted({*elsewhere}))} times as long for {name}" in page
    assert next(rows, None) is None
