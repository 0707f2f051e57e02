"""python -m distill.report on folders of runs: what it reads, writes, chooses and says of what is damaged."""

import csv
import html
import json
import re
import shutil
import statistics
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from run_folders import write_run

from distill.report import __main__ as report
from distill.report.aggregate import aggregate_runs
from distill.runs.reading import find

POOLINGS, WIDTHS, TEMPERATURES = ("none", "first", "second", "both"), ("M", "S", "XS", "XXS"), (2, 4, 8, 16)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Two configurations, the better one with two seeds."""
    runs = tmp_path_factory.mktemp("three")
    write_run(runs / "sweep" / "a0", "student.width=S", valid=0.80, test=0.70, parameters=250_000, latency=0.9)
    write_run(
        runs / "sweep" / "a1", "student.width=S", "seed=1", valid=0.76, test=0.72, parameters=250_000, latency=0.9
    )
    write_run(runs / "b", "student.width=XXS", valid=0.70, test=0.75)
    return runs


def refused(*words):
    with pytest.raises(SystemExit) as end:
        report.main([*map(str, words)])
    assert "\n" not in end.value.code and end.value.code.startswith("error: ")
    return end.value.code


def test_sixty_four_runs_make_a_small_page_with_one_row_each_and_only_the_settings_that_differ(tmp_path):
    for k, (pooling, width, temperature) in enumerate(
        (p, w, t) for p in POOLINGS for w in WIDTHS for t in TEMPERATURES
    ):
        words = (f"student.pooling={pooling}", f"student.width={width}", f"loss.kd.temperature={temperature}")
        write_run(tmp_path / str(k // 8) / str(k), *words, valid=0.6 + 0.003 * k, parameters=50_000 + 999 * k)
    report.main([str(tmp_path), "--no-faces"])
    page = (tmp_path / "report.html").read_text()
    assert page.count("<tbody data-c=") == 64 and page.count('<div class="command">') == 64 and len(page) < 3_000_000
    rows = list(csv.DictReader((tmp_path / "report.csv").read_text().splitlines()))
    assert list(rows[0])[:6] == [
        "configuration",
        "status",
        "student.width",
        "student.pooling",
        "loss.kd.temperature",
        "seed",
    ]
    assert len({(row["student.width"], row["student.pooling"], row["loss.kd.temperature"]) for row in rows}) == 64
    assert "Not every combination" not in page and "<h2>Faces" not in page
    assert 'title="microexpnet · width XXS · pooling both · temperature 16"' in page, "the winner, by its student, too"
    for key in ("student.width", "student.pooling", "loss.kd.temperature"):
        assert f"<h3>{key}</h3>" in page
    numbers = set(re.findall(r'<path class="curve[^>]* data-c="(\d+)"', page))
    assert len(numbers) == 64, "every run has its line"


def test_seeds_are_one_row_with_mean_sample_deviation_and_number(three, capsys):
    report.main([str(three), "--format", "md"])
    header, _, first, second = capsys.readouterr().out.strip().splitlines()
    mean, spread = statistics.fmean((80, 76)), statistics.stdev((80, 76))
    assert f"| 1 | S | 2 | {mean:.2f} ± {spread:.2f} |" in first and "| 2 | XXS | 1 | 70.00 |" in second
    assert header.startswith("| # | student.width | n | valid top-1 (%) | test top-1 (%) |")


def test_the_table_for_programs_has_every_run_with_full_numbers_and_what_was_left_out(three, tmp_path, capsys):
    report.main([str(three), "--format", "csv"])
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [(row["configuration"], row["seed"], float(row["valid/top1_accuracy"])) for row in rows] == [
        ("1", "0", 0.80),
        ("1", "1", 0.76),
        ("2", "0", 0.70),
    ]


def test_the_command_of_a_row_is_what_was_typed_and_where_none_is_recorded_that_is_said(tmp_path):
    folder = write_run(tmp_path / "typed", valid=0.8)
    (folder / "env.json").write_text(json.dumps({"command": "python -m distill.run experiment='<mine>'"}))
    write_run(tmp_path / "not", "student.width=S")
    report.main([str(tmp_path), "--no-faces"])
    commands = re.findall('<div class="command"><code>(.*?)</code>', (tmp_path / "report.html").read_text())
    assert [html.unescape(command).split(";")[0] for command in commands] == [
        "python -m distill.run experiment='<mine>'",
        "not recorded",
    ]
    rows = list(csv.DictReader((tmp_path / "report.csv").read_text().splitlines()))
    assert [row["command"] for row in rows] == ["python -m distill.run experiment='<mine>'", ""]


def test_damaged_failed_and_unfinished_runs_are_named_and_the_rest_is_whole(tmp_path, capsys):
    good = write_run(tmp_path / "good")
    with open(good / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "epo')
    (good / "predictions" / "test.csv").write_text("id,label\nface0,neutral\n")
    for name, file, text in (
        ("cut", "result.json", '{"status": "comp'),
        ("failed", "result.json", '{"status": "failed", "error": "ValueError: <b>no</b> such root"}'),
        ("hollow", "result.json", '{"status": "complete", "student": {}}'),
        ("config", "config.yaml", "seed: 0\ndata: {"),
    ):
        (write_run(tmp_path / name, "seed=5") / file).write_text(text)
    (write_run(tmp_path / "killed", "seed=6") / "result.json").unlink()
    report.main([str(tmp_path)])
    page = (tmp_path / "report.html").read_text()
    left_out = page[page.index('id="left-out"') :]
    for name, words in {
        "cut": "result.json: is cut off",
        "failed": "&lt;b&gt;no&lt;/b&gt; such root",
        "hollow": "no student.metrics",
        "config": "config.yaml: ",
        "killed": "stopped or still at work: 2 of ",
    }.items():
        assert re.search(f"{tmp_path / name}</code>: .*{words}", left_out), name
    assert "5 run folders not counted" in page and page.count("<tbody data-c=") == 1
    assert "predictions cannot be shown" in page and "test.csv is damaged" in page and "Learning curves" in page
    told = capsys.readouterr().err
    assert "5 run folders not counted:" in told and "  and" not in told
    assert all(f"  {tmp_path / name}: " in told for name in ("cut", "failed", "hollow", "config", "killed"))


def test_folders_without_one_finished_run_still_get_a_page_and_those_without_any_a_sentence(tmp_path):
    (write_run(tmp_path / "runs" / "only") / "result.json").write_text("")
    report.main([str(tmp_path / "runs")])
    assert "No finished run" in (tmp_path / "runs" / "report.html").read_text()
    (tmp_path / "empty").mkdir()
    assert "no run is in there" in refused(tmp_path / "empty") and "no such folder" in refused(tmp_path / "nowhere")


def test_folds_and_generations_are_one_run_each(tmp_path):
    whole = json.loads((write_run(tmp_path / "fold" / "fold-0", valid=0.9) / "result.json").read_text())
    write_run(tmp_path / "fold" / "fold-1", valid=0.5)
    whole |= {"folds": [{"fold": 0}, {"fold": 1}]}
    whole["student"] = whole["student"] | {"spread": {"valid/top1_accuracy": 0.2}}
    (tmp_path / "fold" / "result.json").write_text(json.dumps(whole))
    write_run(tmp_path / "born" / "generation-1", "student.width=S")
    last = write_run(tmp_path / "born" / "generation-2", "student.width=S", "seed=1", valid=0.65)
    (tmp_path / "born" / "result.json").write_text((last / "result.json").read_text())
    write_run(tmp_path / "stopped" / "fold-0")
    for name in ("fold", "born", "stopped"):
        shutil.copyfile(next((tmp_path / name).glob("*-*/config.yaml")), tmp_path / name / "config.yaml")
    found = aggregate_runs(find([tmp_path]))
    assert [(c.runs[0].folder.name, len(c.runs), c.repeats) for c in found.configurations] == [
        ("fold", 1, "2 folds"),
        ("born", 1, "1"),
    ]
    assert found.configurations[0].spread["valid/top1_accuracy"] == 0.2
    assert [run.error for run in found.left_out] == ["stopped or still at work: 1 of its sub-runs are complete"]
    report.main([str(tmp_path), "--no-faces"])
    assert "128 test faces" in (tmp_path / "report.html").read_text(), "the faces of both folds"


def test_the_same_run_found_twice_counts_once(three, tmp_path):
    (tmp_path / "link").symlink_to(three)
    assert len(aggregate_runs(find([three, three / "b", tmp_path])).runs) == 3
    write_run(tmp_path / "again", "student.width=XXS", valid=0.71)
    found = aggregate_runs(find([three, tmp_path]))
    assert found.configurations[1].mean["valid/top1_accuracy"] == 0.71, "the newer one"
    assert [run.error for run in found.left_out] == [
        f"the same configuration and seed as {tmp_path / 'again'}, which is newer"
    ]


def test_best_prints_the_folder_alone(three, capsys):
    for rule, folder in {
        "max valid/top1_accuracy": "sweep/a0",
        "max valid/top1_accuracy where bytes<9e5 and latency_ms<1": "b",
        "min latency_ms where valid/top1_accuracy >= 0.75": "sweep/a0",
        "min bytes": "b",
    }.items():
        report.main([str(three), "--best", rule])
        assert capsys.readouterr().out == f"{three / folder}\n", rule


def of_data(folder, name, rows, protocol):
    """Let a run folder be of other data."""
    result = json.loads((folder / "result.json").read_text())
    result["data"] |= {"name": name, "rows": {"train": 9, "valid": rows, "test": 9}, "protocol": protocol}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def test_best_compares_no_runs_of_different_data_and_says_how_to_choose_some(tmp_path, capsys):
    drawn = write_run(tmp_path / "drawn", "student.width=S", valid=0.9)
    votes = of_data(
        write_run(tmp_path / "votes", "student.width=XXS", valid=0.7), "ferplus", 3191, "majority, targets votes"
    )
    hard = write_run(tmp_path / "hard", "student.width=M", valid=0.6)
    of_data(hard, "ferplus", 3191, "majority, targets majority")
    few = of_data(write_run(tmp_path / "few", "student.width=XS", valid=0.8), "ferplus", 100, "majority, targets votes")
    told = refused(tmp_path, "--best", "max valid/top1_accuracy")
    assert "procedural (64 validation faces; seed 0)" in told and told.endswith('where valid_rows==3191".')
    told = refused(tmp_path, "--best", "max valid/top1_accuracy where data==ferplus")
    assert told.endswith('where data==ferplus and valid_rows==3191".') and "procedural" not in told
    for words, folder in {
        "data!=ferplus": drawn,
        "data=ferplus and valid_rows==3191": votes,
        "data==ferplus and student.width==M": hard,
        "valid_rows<1e3 and data==ferplus": few,
    }.items():
        report.main([str(tmp_path), "--best", f"max valid/top1_accuracy where {words}"])
        assert capsys.readouterr().out == f"{folder}\n", words
    for words, sentence in {
        "data==rafdb": "Here data is ferplus or procedural.",
        "data<ferplus": "is no condition",
        "student.widht==M": "Did you mean student.width?",
    }.items():
        assert sentence in refused(tmp_path, "--best", f"max valid/top1_accuracy where {words}")


def test_best_reads_its_words_in_capitals_too_and_knows_settings_that_all_runs_share(three, tmp_path, capsys):
    one = write_run(tmp_path / "one", "student.width=S", valid=0.8)
    for folders, rule, folder in (
        (three, "MAX valid/top1_accuracy WHERE bytes<9e5 AND latency_ms<1", three / "b"),
        (three, "Min bytes Where seed>=0 And student.width!=XXS", three / "sweep" / "a0"),
        (tmp_path, "max valid/top1_accuracy where student.width==S and teacher==resnet50 and data==procedural", one),
        (tmp_path, "max valid/top1_accuracy where augment.autoaugment==false and loss.dist.temperature>0", one),
    ):
        report.main([str(folders), "--best", rule])
        assert capsys.readouterr().out == f"{folder}\n", rule
    nothing = refused(tmp_path, "--best", "max valid/top1_accuracy where student.width==M")
    assert "none of 1 configurations fits" in nothing and "Here student.width is S." in nothing


def test_a_condition_on_the_seed_looks_at_the_runs_of_that_seed_alone(three, capsys):
    for rule, folder in {
        "max valid/top1_accuracy where seed==1": "sweep/a1",
        "max valid/top1_accuracy where seed==0": "sweep/a0",
        "max valid/top1_accuracy where seed!=1 and student.width==XXS": "b",
    }.items():
        report.main([str(three), "--best", rule])
        assert capsys.readouterr().out == f"{three / folder}\n", rule
    assert "no run has such a seed. There are 0, 1; type" in refused(three, "--best", "min bytes where seed==7")


def test_best_refuses_test_numbers_unknown_names_and_what_is_no_rule_and_says_when_nothing_fits(three):
    for rule in ("max test/top1_accuracy", "min bytes where test/top1_accuracy>0.7"):
        assert "choosing is done on validation" in refused(three, "--best", rule)
    unknown = refused(three, "--best", "max valid/top1")
    assert "Did you mean valid/top1_accuracy?" in unknown and "num_parameters" in unknown and "test/" not in unknown
    for rule in (
        "best",
        "max",
        "max bytes where",
        "max bytes where macs",
        "max bytes where macs<x",
        "__import__('os')",
    ):
        assert "--best: " in refused(three, "--best", rule) and not Path("report.html").exists()
    nothing = refused(three, "--best", "max valid/top1_accuracy where bytes<1e3")
    assert "none of 2 configurations fits" in nothing and "bytes is 260000 to 1e+06" in nothing


def test_what_was_written_before_stays_whole_when_writing_fails(three, tmp_path, monkeypatch):
    report.main([str(three), "--out", str(tmp_path), "--no-faces"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {"report.html", "report.md", "report.csv"}

    def half(self, text, **more):
        self.write_bytes(text.encode()[: len(text) // 2])
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "write_text", half)
    assert refused(three, "--out", tmp_path, "--no-faces") == "error: the disk is full"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_words_of_a_run_cannot_become_markup(tmp_path):
    for k, name in enumerate(("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>')):
        folder = write_run(tmp_path / str(k), valid=0.7 + 0.1 * k)
        cfg = OmegaConf.load(folder / "config.yaml")
        cfg.student.init = name
        OmegaConf.save(cfg, folder / "config.yaml")
    report.main([str(tmp_path), "--no-faces"])
    page = (tmp_path / "report.html").read_text()
    assert "<script>alert" not in page and "<img src=x" not in page and "&lt;script&gt;alert" in page
