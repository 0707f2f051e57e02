"""The parts of a report: fronts, effects, intervals, ticks, Grad-CAM, and the page's script in a real browser."""

import csv
import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from math import hypot

import numpy as np
import pytest
import torch
from inside import folder_of, job
from run_folders import write_run
from torch import nn

from distill.evaluation.tables import compact, per_class
from distill.report import __main__ as report
from distill.report.aggregate import Configuration, RunTable, aggregate_runs
from distill.report.example_faces import example_faces
from distill.report.gradcam import grad_cam
from distill.report.html import effects, pareto
from distill.report.html.curves import thin
from distill.report.html.svg_plot import place_labels, scale
from distill.report.number_format import plain, tick
from distill.runs.reading import find, read
from distill.types import InputSpec, Outputs

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Width against temperature, all combinations, two seeds where the width is S."""
    runs = tmp_path_factory.mktemp("runs")
    accuracies = {("S", 2): 0.80, ("S", 8): 0.78, ("XXS", 2): 0.70, ("XXS", 8): 0.74}
    for (width, temperature), valid in accuracies.items():
        words = (f"student.width={width}", f"loss.kd.temperature={temperature}")
        size = {"parameters": 250_000 if width == "S" else 65_000}
        for seed in (0, 1) if width == "S" else (0,):
            write_run(runs / f"{width}{temperature}-{seed}", *words, f"seed={seed}", valid=valid + 0.02 * seed, **size)
    return aggregate_runs(find([runs]))


class Corner(nn.Module):
    """Class 0 is how bright the upper left quarter of a picture is, class 1 the lower right one."""

    def __init__(self):
        super().__init__()
        self.input = InputSpec(32)
        self.conv = nn.Conv2d(1, 2, 4, 4, bias=False)
        nn.init.constant_(self.conv.weight, 1 / 16)
        self.register_buffer("where", torch.zeros(2, 8, 8))
        self.where[0, :4, :4] = self.where[1, 4:, 4:] = 1
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images):
        logits = self.relu(self.conv(images) * self.where).mean((2, 3))
        return Outputs(logits, logits[:, None], {})


def test_the_front_holds_what_nothing_beats_at_its_cost_cheapest_first(found):
    best = pareto.pareto_front(found.configurations, "num_parameters")
    assert [(c.values["student.width"], c.values["loss.kd.temperature"]) for c in best] == [("XXS", 8.0), ("S", 2.0)]
    assert not pareto.pareto_front(found.configurations, "no such cost")


def test_of_two_as_accurate_the_cheaper_one_and_of_two_as_cheap_the_more_accurate_one_is_on_the_front():
    points = [(1, 0.5), (1, 0.6), (2, 0.6), (3, 0.7), (0, 0.9)]
    made = [Configuration((), {}, {"macs": macs, "valid/top1_accuracy": accuracy}, {}) for macs, accuracy in points]
    assert pareto.pareto_front(made, "macs") == [made[1], made[3]], "a cost of 0 was not measured"


def test_each_name_on_a_front_is_that_of_its_own_student_also_where_two_are_cut_alike(tmp_path):
    words = ("student.pooling=both", "loss.kd.temperature=2", "optimizer.lr=0.0002")
    for k, (valid, parameters) in enumerate(((0.7, 20_000), (0.8, 900_000))):
        write_run(tmp_path / str(k), *words, f"train.batch_size={16 * 2**k}", valid=valid, parameters=parameters)
    configurations = [
        replace(c, short=f"a student of a very long name, batch {c.number}")
        for c in aggregate_runs(find([tmp_path])).configurations
    ]
    page = dict(pareto.charts(RunTable((), tuple(configurations))))["parameters"]
    assert page.count("a student of a very long name") == 2
    assert re.findall(r'class="label[^>]*data-c="(\d)"', page) == ["1", "2"]


def test_a_setting_s_effect_is_the_mean_over_all_that_share_its_value_and_seeds_are_pooled_apart(found):
    widths = {level.value: level for level in effects.levels(found, "student.width")}
    assert widths["S"].mean == pytest.approx((0.81 + 0.79) / 2) and widths["XXS"].mean == pytest.approx(0.72)
    assert widths["S"].among == pytest.approx(np.std([0.81, 0.79], ddof=1))
    assert effects.seed_spread(widths["S"].members) == pytest.approx(np.std([0, 0.02], ddof=1))
    assert effects.seed_spread(widths["XXS"].members) is None
    assert [level.value for level in effects.levels(found, "loss.kd.temperature")] == [2, 8]
    assert effects.is_crossed(found) and not effects.is_crossed(found._replace(configurations=found.configurations[1:]))


def test_seeds_of_unequal_number_are_pooled_by_their_degrees_of_freedom():
    members = [
        Configuration((0,) * n, {}, {"valid/top1_accuracy": 0.5}, {"valid/top1_accuracy": s})
        for n, s in ((2, 0.1), (4, 0.2), (1, 0.9))
    ]
    assert effects.seed_spread(members) == pytest.approx(((1 * 0.1**2 + 3 * 0.2**2) / 4) ** 0.5)


def test_born_again_students_are_another_configuration_than_the_first(tmp_path):
    for number, words in enumerate([(), ("generations=2",)]):
        write_run(tmp_path / str(number), *words)
    found = aggregate_runs(find([tmp_path]))
    assert [c.values["generations"] for c in found.configurations] == [1, 2] and not found.left_out


def test_what_a_network_was_taught_by_does_not_make_it_faster(tmp_path):
    for number, (width, latency) in enumerate([("S", 0.3), ("S", 0.5), ("S", 0.4), ("XXS", 0.2)]):
        folder = tmp_path / str(number)
        write_run(folder, f"student.width={width}", f"loss.kd.temperature={2 + number}")
        said = json.loads((folder / "result.json").read_text())
        said["student"]["latency_ms"] = latency
        (folder / "result.json").write_text(json.dumps(said))
    timed = [(c.values["student.width"], c.mean["latency_ms"]) for c in aggregate_runs(find([tmp_path])).configurations]
    assert sorted(timed) == [("S", 0.4)] * 3 + [("XXS", 0.2)]


def test_grad_cam_lights_the_places_that_a_class_is_read_from_and_leaves_the_network_as_it_was():
    network = Corner().train()
    images = torch.ones(2, 1, 32, 32)
    images[1] *= 0.5
    for answer, lit, dark in ((0, slice(0, 12), slice(20, 32)), (1, slice(20, 32), slice(0, 12))):
        maps, probabilities, _ = grad_cam(network, images, torch.tensor([answer, answer]))
        assert maps.shape == (2, 32, 32) and probabilities.shape == (2, 2)
        assert maps[:, lit, lit].min() > 0.9 and maps[:, dark, dark].max() < 0.1
        assert torch.allclose(maps[0], maps[1], atol=1e-5), "each picture's map is scaled by itself"
    assert network.training and not network.conv._forward_hooks and network.conv.weight.grad is None


def test_places_that_speak_against_a_class_stay_dark():
    class Against(Corner):
        def forward(self, images):
            z = super().forward(images).logits
            return Outputs(torch.stack([z[:, 0] - z[:, 1], z[:, 1]], 1), z[:, None], {})

    network = Against()
    maps, _, _ = grad_cam(network, torch.ones(1, 1, 32, 32), torch.tensor([0]))
    assert maps[0, :12, :12].min() > 0.9 and maps[0, 20:, 20:].max() < 0.1


def test_a_student_that_answers_by_its_teachers_classifier_shows_its_faces(tmp_path):
    words = ("loss=[simkd]", "teacher.cache=false", "teacher.size=64", "train.epochs=1")
    job(*words, store=tmp_path / "store", runs=tmp_path / "runs")
    found = example_faces(read(folder_of(tmp_path / "runs")), 3)
    assert len(found.wrong) == 3 and found.right and found.notes[0].startswith("Student: ")
    assert all([whose for whose, _ in face.looks] == ["student", "teacher"] for face in found.wrong + found.right)


def test_a_network_without_a_map_is_refused_with_a_sentence():
    flat = Corner()
    flat.forward = lambda images: Outputs(images.flatten(1)[:, :2] + 0 * flat.conv(images).mean(), None, {})
    with pytest.raises(ValueError, match="no map that its answer depends on"):
        grad_cam(flat, torch.rand(2, 1, 32, 32))


def test_each_class_has_its_recall_inside_its_interval_and_a_class_without_faces_none():
    labels = np.repeat([0, 1], [90, 10])
    guess = np.where(np.arange(100) % 5 == 0, 1 - labels, labels)
    many, few, none = per_class(np.eye(3)[guess], labels, ["a", "b", "c"])
    assert (many.faces, few.faces, none.faces) == (90, 10, 0) and none[2:] == (0, None, None, None, None)
    (share, low, high), narrow = few.recall, many.recall
    assert narrow.low < narrow.value == 0.8 < narrow.high and low < share == 0.8 < high
    assert high - low > 2 * (narrow.high - narrow.low), "few faces, a wide interval"
    assert many.precision.value == pytest.approx(72 / 74) and many.mistaken == ("b", 0.2)
    assert many.f1 == pytest.approx(2 / (1 / 0.8 + 74 / 72))


def test_a_class_that_is_never_found_still_has_an_interval():
    lost, found = per_class(np.eye(2)[np.ones(40, int)], np.repeat([0, 1], 20), ["a", "b"])
    assert lost.recall == (0, 0, pytest.approx(1.96**2 / (20 + 1.96**2))) and lost.precision is None
    assert found.recall == (1, pytest.approx(1 - lost.recall.high), 1)


def test_numbers_are_written_short_and_ticks_are_round():
    assert [compact(v) for v in (0, 7, 999, 65_000, 2_853_248, 1e9)] == ["0", "7", "999", "65.0k", "2.85M", "1.00G"]
    assert [tick(v) for v in (300_000, 1_000_000, 1_500_000)] == ["300k", "1M", "1.5M"]
    assert [plain(v) for v in (None, True, 0.002, "a/b.tar.gz", [1, 2])] == [
        "\N{EN DASH}",
        "true",
        "0.002",
        "b.tar.gz",
        "[1, 2]",
    ]
    assert scale([0.661, 0.778]).ticks() == [0.66, 0.68, 0.7, 0.72, 0.74, 0.76, 0.78]
    assert scale([65_000, 3_000_000], log=True).ticks() == [100_000, 300_000, 1_000_000, 3_000_000]


def test_words_beside_points_never_lie_on_each_other_and_long_curves_keep_their_ends():
    places = [(200.0 + k, 150.0 + 3 * k) for k in range(12)]
    labels = place_labels([(x, y, "a configuration") for x, y in places], places)
    found = [label for label in labels if label]
    assert 0 < len(found) < len(labels) == 12
    assert all(abs(a[1] - b[1]) >= 14 or a[2] != b[2] for k, a in enumerate(found) for b in found[:k])
    line = [(epoch, epoch / 1000) for epoch in range(1, 1001)]
    assert len(thin(line)) == 120 and thin(line)[0] == line[0] and thin(line)[-1] == line[-1]


@pytest.mark.parametrize("near", [[(200.0, 150.0), (188.0, 138.0)], [(200.0, 150.0), (190.0, 136.0), (214.0, 160.0)]])
def test_words_stand_nearer_to_their_own_point_than_to_any_other(near):
    labels = place_labels([(x, y, "student M") for x, y in near], near)
    assert all(labels)
    for own, (x, y, anchor) in zip(near, labels, strict=True):
        left = x - {"start": 0, "middle": 31.5, "end": 63}[anchor]
        far = {(px, py): hypot(max(left - px, 0, px - left - 63), max(y - 11 - py, 0, py - y - 3)) for px, py in near}
        assert far[own] == min(far.values())


def in_browser(page, script, folder):
    """Return what a page's document says after a script has run in it."""
    path = folder / "page.html"
    path.write_text(page.replace("</body>", f"<script>{{{script}}}</script></body>"))
    flags = (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--virtual-time-budget=2000",
    )
    command = [BROWSER, *flags, f"--user-data-dir={folder / 'profile'}", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return html.unescape(re.search(r"<title>(.*?)</title>", done.stdout)[1])


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_a_click_on_a_heading_sorts_on_a_row_unfolds_and_the_filter_hides_everywhere(found, tmp_path):
    report.main([str(found.runs[0].folder.parent), "--out", str(tmp_path), "--no-faces"])
    script = """
    const order = () => [...document.querySelectorAll(".runs tbody")].map(body => body.dataset.c).join("");
    const head = name => document.querySelector(`th[data-name="${name}"] button`);
    const said = [order()];
    head("valid/top1_accuracy").click(); said.push(order());
    head("valid/top1_accuracy").click(); said.push(order());
    head("valid/top1_accuracy").click(); head("num_parameters").click(); said.push(order());
    const more = () => getComputedStyle(document.querySelector('tbody[data-c="2"] .more')).display;
    said.push(more()); document.querySelector('tbody[data-c="2"] .row').click(); said.push(more());
    const filter = document.querySelector(".filter");
    filter.value = "XXS temperature=8"; filter.dispatchEvent(new Event("input"));
    said.push([...document.querySelectorAll("svg circle[data-c]:not(.off)")].map(dot => dot.dataset.c).join(""));
    said.push(document.querySelector(".swatches").children.length);
    document.title = said.join(" ");
    """
    said = in_browser((tmp_path / "report.html").read_text(), script, tmp_path).split()
    assert said[:4] == ["1234", "1234", "4321", "3412"]
    assert said[4:6] == ["none", "table-row"] and set(said[6]) == {"3"} and said[7] == "4"


def test_tables_of_page_and_markdown_agree(found, tmp_path):
    report.main([str(found.runs[0].folder.parent), "--out", str(tmp_path), "--no-faces"])
    rows = list(csv.DictReader((tmp_path / "report.csv").read_text().splitlines()))
    assert len(rows) == 6 and (tmp_path / "report.md").read_text().count("\n") == 4 + 2
    cells = re.findall(r'<tr class="row.*?</tr>', (tmp_path / "report.html").read_text())
    assert len(cells) == 4 and all(
        f'data-v="{c.mean["valid/top1_accuracy"]:.9g}"' in cell
        for c, cell in zip(found.configurations, cells, strict=True)
    )
