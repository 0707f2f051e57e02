"""What a report leaves out or takes instead: damaged files, debug runs, --where, --plot, speeds of exported files."""

import csv
import json
import re

import pytest
from run_folders import write_run

from distill.evaluation.inference import read_predictions
from distill.report import __main__ as report
from distill.report.aggregate import aggregate_runs
from distill.report.html import effects
from distill.report.html.summary import warnings
from distill.report.select import best, where
from distill.runs.reading import find, read


def refused(*words):
    with pytest.raises(SystemExit) as end:
        report.main([*map(str, words)])
    return end.value.code


def numbers_of(folder):
    """Return the rows of a folder's report.csv by the name of their run folder."""
    rows = csv.DictReader((folder / "report.csv").read_text().splitlines())
    return {row["folder"].rsplit("/", 1)[-1]: row for row in rows}


@pytest.mark.parametrize("value", ["nan", "1e999", "-0.1", "1.5", "inf", "much"])
def test_a_probability_that_is_none_names_its_run_and_file_and_the_rest_is_drawn(tmp_path, capsys, value):
    good, bad = write_run(tmp_path / "good", valid=0.8), write_run(tmp_path / "bad", "student.width=S", valid=0.9)
    file = bad / "predictions" / "test.csv"
    lines = file.read_text().splitlines()
    lines[7] = ",".join([*lines[7].split(",")[:5], value, *lines[7].split(",")[6:]])
    file.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=re.escape(str(file))):
        read_predictions(file, read(bad).result.data["classes"])
    for name in ("result.json", "config.yaml"):
        (write_run(tmp_path / name, "seed=3") / name).write_text('{"data": [')
    report.main([str(tmp_path), "--no-faces"])
    page = (tmp_path / "report.html").read_text()
    damaged = re.search('id="damaged".*?</section>', page, re.DOTALL)[0]
    assert damaged.count("<li>") == 1 and f"<code>{bad}</code>" in damaged and str(file) in damaged and value in damaged
    assert {name: row["status"] for name, row in numbers_of(tmp_path).items()} == {
        **{"good": "complete", "bad": "complete", "result.json": "damaged", "config.yaml": "damaged"}
    }
    assert "1 run with damaged files" in capsys.readouterr().err and f"<code>{good}</code>" in page


def test_a_line_of_metrics_that_is_none_is_named_and_the_others_are_drawn(tmp_path):
    folder = write_run(tmp_path / "run")
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(
            '[1]\n{"epoch": 1e400, "valid/top1_accuracy": 1}\n{"epoch": 9' + "9" * 400 + ', "train/loss": 1}\nhalf'
        )
    report.main([str(tmp_path), "--no-faces"])
    page = (tmp_path / "report.html").read_text()
    assert "metrics.jsonl is damaged: line 5 and 1 more" in page and "Validation top-1 by epoch" in page


def test_numbers_that_no_axis_holds_cost_one_plot_and_that_is_said(tmp_path):
    folder = write_run(tmp_path / "run")
    lines = [{"epoch": k, "train/loss": loss} for k, loss in enumerate((1e308, -1e308))]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    report.main([str(tmp_path), "--no-faces"])
    page = (tmp_path / "report.html").read_text()
    assert "Learning curves of procedural cannot be drawn" in page and "<h3>Each class</h3>" in page


def test_runs_of_debug_are_left_out_and_counted_unless_they_are_asked_for(tmp_path, capsys):
    write_run(tmp_path / "long", valid=0.7)
    write_run(tmp_path / "trial", "debug.limit=256", "student.width=S", valid=0.9)
    report.main([str(tmp_path), "--no-faces"])
    assert numbers_of(tmp_path).keys() == {"long"}
    assert "1 run of debug=smoke or overfit left out: --debug" in capsys.readouterr().err
    assert "1 run of debug=smoke or overfit left out" in (tmp_path / "report.html").read_text()
    report.main([str(tmp_path), "--no-faces", "--debug"])
    assert numbers_of(tmp_path).keys() == {"long", "trial"}
    assert not capsys.readouterr().err and "left out" not in (tmp_path / "report.html").read_text()
    report.main([str(tmp_path), "--best", "max valid/top1_accuracy"])
    assert capsys.readouterr().out == f"{tmp_path / 'long'}\n"
    said = refused(tmp_path / "trial", "--best", "max valid/top1_accuracy")
    assert "(1 of debug=smoke or overfit)" in said and "type their command without debug=" in said


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Two widths, three temperatures, two seeds; one width with dropout."""
    runs = tmp_path_factory.mktemp("grid")
    for width, plus in (("S", 0.1), ("XXS", 0.0)):
        for temperature in (2, 4, 8):
            for seed in (0, 1):
                words = (f"student.width={width}", f"loss.kd.temperature={temperature}", f"seed={seed}")
                valid = 0.5 + plus + temperature / 100 + seed / 50
                write_run(runs / f"{width}{temperature}{seed}", *words, valid=valid, test=valid - 0.1)
    return runs


@pytest.mark.parametrize(
    "rules, kept",
    [
        (["student.width=S"], 6),
        (["student.width=='S'"], 6),
        (["student.width=S", "loss.kd.temperature=4.0"], 2),
        (["loss.kd.temperature>=4", "seed=1"], 4),
        (["student.width!=S and loss.kd.temperature<8"], 4),
        (["data=procedural", "teacher=resnet50"], 12),
    ],
)
def test_where_keeps_the_runs_that_have_all_of_its_settings(grid, rules, kept):
    found = where(aggregate_runs(find([grid])), rules)
    assert len(found.runs) == kept and [c.number for c in found.configurations] == [
        *range(1, len(found.configurations) + 1)
    ]


def test_a_setting_that_where_leaves_one_value_of_is_no_column(grid, tmp_path):
    report.main([str(grid), "--no-faces", "--out", str(tmp_path), "--where", "student.width=S"])
    row = numbers_of(tmp_path)["S20"]
    assert "loss.kd.temperature" in row and "student.width" not in row


def test_losses_are_chosen_as_they_were_typed(tmp_path):
    for name, words in (("kd", ()), ("ce", ("loss.extra.weight=1",))):
        write_run(tmp_path / name, *words)
    found = aggregate_runs(find([tmp_path]))
    losses = {c.runs[0].folder.name: c.settings["loss"] for c in found.configurations}
    for name, loss in losses.items():
        typed = f"loss=[{','.join(loss.split(' + '))}]"
        assert [run.folder.name for run in where(found, [typed]).runs] == [name]


@pytest.mark.parametrize(
    "rule, sentence",
    [
        ("student.widht=S", "Did you mean student.width?"),
        ("student.width=L", "Here student.width is S or XXS."),
        ("test/top1_accuracy>0.5", "--where: got test/top1_accuracy"),
        ("student.width", "--where: 'student.width' is no condition"),
        ("seed=7", "--where: no run has such a seed"),
    ],
)
def test_where_says_what_it_expected(grid, rule, sentence):
    code = refused(grid, "--where", rule)
    assert sentence in code and "\n" not in code


def test_a_long_value_is_cut_in_the_table_and_whole_when_it_is_pointed_at(tmp_path):
    for k in range(2):
        write_run(
            tmp_path / str(k), f"student.init='{'many words ' * 9}{k}'", f"student.stages=[/a/long/path/{k}/package]"
        )
    report.main([str(tmp_path), "--no-faces"])
    cells = re.findall(
        '<td class="word" data-v="(.*?)" title="(.*?)">(.*?)</td>', (tmp_path / "report.html").read_text()
    )
    assert len(cells) == 4 and all(value == title and len(shown) <= 30 for value, title, shown in cells)
    assert any(title.startswith("many words") and shown.endswith("…") for _, title, shown in cells)
    assert any("/a/long/path" in title and "package" in shown for _, title, shown in cells)


def test_a_plot_over_a_setting_has_a_line_for_each_value_of_another_and_the_spread_over_seeds(grid, tmp_path):
    plot = effects.setting_plot(aggregate_runs(find([grid])), "loss.kd.temperature", "student.width")
    assert plot["series"] == ["S", "XXS"] and not plot["others"]
    (heading, valid), (_, test) = plot["pictures"]
    assert heading == "validation top-1" and all(
        re.findall('class="over (..)"', svg) == ["s0", "s1"] for svg in (valid, test)
    )
    assert valid.count('class="error s') == 6, "one bar for each point"
    assert "student.width S, loss.kd.temperature 4: 65.00 ± 1.41% over 2 runs" in valid
    assert "student.width XXS, loss.kd.temperature 8: 49.00 ± 1.41% over 2 runs" in test
    assert effects.setting_plot(aggregate_runs(find([grid])), "loss.kd.temperature")["others"] == ["student.width"]
    report.main([str(grid), "--no-faces", "--out", str(tmp_path), "--plot", "loss.kd.temperature,student.width"])
    assert "Top-1 over loss.kd.temperature, by student.width" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    "keys, sentence",
    [("temperature", "Did you mean loss.kd.temperature?"), ("student.width", "has no two numbers"), ("x,seed", "'x'")],
)
def test_a_plot_that_cannot_be_is_refused(grid, tmp_path, keys, sentence):
    assert sentence in refused(grid, "--no-faces", "--out", tmp_path, "--plot", keys)
    assert not list(tmp_path.iterdir())


def exported(folder, milliseconds, name="student.onnx", size=100):
    """Leave in a run folder what export and bench do: a file, and how fast it is."""
    (folder / "export").mkdir(exist_ok=True)
    (folder / "export" / name).write_bytes(b"x" * 100)
    passes = {"1": {"milliseconds": milliseconds}, "32": {"images_per_second": 9000.0}}
    row = {"name": f"runs/{folder.name}/export/{name}", "threads": 1, "file_bytes": size, "passes": passes}
    found = {"picture": "48x48", "rows": [row | {"threads": 2}, row], "environment": {"processor": "a fast one"}}
    (folder / "export" / "bench.json").write_text(json.dumps(found))


def test_speeds_of_an_exported_file_take_the_place_of_eager_ones_for_all_runs_of_its_network(tmp_path, capsys):
    for width, latency in (("S", 0.9), ("XXS", 0.5)):
        for seed in (0, 1):
            write_run(tmp_path / f"{width}{seed}", f"student.width={width}", f"seed={seed}", latency=latency)
    exported(tmp_path / "S0", 0.2)
    report.main([str(tmp_path), "--no-faces"])
    rows = numbers_of(tmp_path)
    assert {name: (row["speed_of"], float(row["latency_ms"])) for name, row in rows.items()} == {
        **{"S0": ("student.onnx", 0.2), "S1": ("student.onnx", 0.2), "XXS0": ("", 0.5), "XXS1": ("", 0.5)}
    }
    assert float(rows["S1"]["images_per_second"]) == 9000
    found = aggregate_runs(find([tmp_path]))
    assert best(found, "min latency_ms").name in ("S0", "S1")
    assert len(warnings(found)) == 2, "two engines, and two machines"
    cells = re.findall(' title="(student.onnx|eager PyTorch)">([0-9.,]*)', (tmp_path / "report.html").read_text())
    assert sorted(set(cells)) == [
        *(("eager PyTorch", v) for v in ("0.50", "2,000")),
        *(("student.onnx", v) for v in ("0.20", "9,000")),
    ]
    exported(tmp_path / "XXS1", 0.1)
    found = aggregate_runs(find([tmp_path]))
    assert [c.speed_of for c in found.configurations] == ["student.onnx"] * 2 and not warnings(found)


def test_a_file_that_was_not_timed_as_it_is_or_a_damaged_list_of_speeds_changes_nothing(tmp_path):
    folder = write_run(tmp_path / "run", latency=0.5)
    exported(folder, 0.2, size=99)
    assert read(folder).exported_speed is None, "another file lies there now"
    exported(folder, 0.2, name="student.int8.onnx")
    assert read(folder).exported_speed["file"] == "student.int8.onnx"
    exported(folder, 0.2)
    text = (folder / "export" / "bench.json").read_text()
    for damaged in (text[:50], "[]", "{}", text.replace('"passes"', '"p"'), text.replace("0.2", '"x"')):
        (folder / "export" / "bench.json").write_text(damaged)
        (c,) = aggregate_runs([read(folder)]).configurations
        assert c.speed_of is None and c.mean["latency_ms"] == 0.5
