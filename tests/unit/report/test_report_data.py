"""A report of runs on several data sets: nothing on the page ranks them together, and each hint works as it is typed."""

import html
import re
from hashlib import sha256

import pytest
from run_folders import write_run

from distill.data.common.emotions import EMOTIONS
from distill.report import __main__ as report
from distill.report.aggregate import aggregate_runs
from distill.report.markdown_csv import markdown
from distill.report.select import best
from distill.runs.reading import find


def own(folder, root, *settings, valid, seed=0, **more):
    """Write a run on the faces of a folder of one's own; each root holds other faces."""
    data = {"name": "folder", "protocol": "held out", "classes": list(EMOTIONS), "rows": {"valid": 64, "test": 64}}
    words = (f"data.root='{root}'", f"seed={seed}", *settings)
    return write_run(
        folder, *words, valid=valid, data=data | {"fingerprint": sha256(root.encode()).hexdigest()}, **more
    )


@pytest.fixture
def mixed(tmp_path):
    """Two students on synthetic faces, two on own ones, one on other own ones, the latter two with as many faces each."""
    runs = tmp_path / "runs"
    write_run(runs / "drawn", "student.width=S", valid=0.9)
    write_run(runs / "drawn2", valid=0.8, parameters=30_000)
    own(runs / "own", "/faces/own", "student.width=S", valid=0.7)
    own(runs / "ownxs", "/faces/own", "student.width=XS", valid=0.75, parameters=30_000)
    own(runs / "own2", "/faces/own2", "student.width=S", valid=0.95)
    return runs


def refusal(found, rule):
    with pytest.raises(ValueError) as refused:
        best(found, rule)
    return str(refused.value)


def hinted(found, rule="max valid/top1_accuracy"):
    """Return the rule that a refusal says to type."""
    return re.search(r'Type for example --best "(.*)"\.$', refusal(found, rule))[1]


def test_a_page_of_several_data_sets_has_a_section_for_each_and_names_its_best_and_how_it_is_chosen(mixed):
    report.main([str(mixed), "--no-faces"])
    page = (mixed / "report.html").read_text()
    rules = [html.unescape(rule) for rule in re.findall('<code>--best "(.*?)"</code>', page)]
    found = aggregate_runs(find([mixed]))
    assert [best(found, rule).name for rule in rules] == ["ownxs", "own2", "drawn"]
    sections = page.split('<div class="set" id="data-')[1:]
    assert [re.findall(r'<tbody data-c="(\d)"><tr class="row( best)?"', section) for section in sections] == [
        [("1", " best"), ("2", "")],
        [("3", " best")],
        [("4", " best"), ("5", "")],
    ]
    names = ["folder (own)", "folder (own2)", "procedural"]
    for section, name in zip(sections, names, strict=True):
        assert f">{name}</h1>" in section and section.count("<h2>Runs</h2>") == section.count("<h2>Learning") == 1
    heads = re.findall(r"^## (.*)\n\n(.*)$", (mixed / "report.md").read_text(), re.MULTILINE)
    assert [name for name, _ in heads] == names
    assert all(facts.startswith(f"{name}, ") and "faces; " in facts for name, facts in heads)


def test_only_settings_that_differ_within_a_data_set_are_its_columns_and_nothing_is_drawn_across_two(mixed):
    found = aggregate_runs(find([mixed]))
    assert {"data", "data.root", "student.width"} <= set(found.keys)
    assert [own.keys for own in found.sections] == [("student.width",), (), ("student.width",)]
    assert [[c.number for c in own.configurations] for own in found.sections] == [[1, 2], [3], [4, 5]]
    report.main([str(mixed), "--no-faces"])
    for section in (mixed / "report.html").read_text().split('<div class="set" id="data-')[1:]:
        numbers = set(re.findall(r'<tbody data-c="(\d)"', section))
        assert set(re.findall(r'<(?:circle|path)[^>]* data-c="(\d)"', section)) == numbers


def test_the_rows_of_a_data_set_follow_one_another_best_first_in_a_table_of_their_own(mixed):
    text = markdown(aggregate_runs(find([mixed])))
    assert re.findall("^## (.*)$", text, re.MULTILINE) == ["folder (own)", "folder (own2)", "procedural"]
    accuracies = re.findall(r"^\| \d .*?\| (\d\d\.\d\d) \|", text, re.MULTILINE)
    assert accuracies == ["75.00", "70.00", "95.00", "90.00", "80.00"]


def test_the_hint_of_a_refused_choice_works_as_it_is_typed(mixed):
    found = aggregate_runs(find([mixed]))
    words = "max valid/top1_accuracy where student.width==S and data!=procedural"
    assert best(found, hinted(found)).name == "ownxs"
    assert hinted(found, words) == f"{words} and data.root==own" and best(found, hinted(found, words)).name == "own"
    assert best(found, "max valid/top1_accuracy where data.root==own2").name == "own2"


@pytest.mark.parametrize(
    ("roots", "named"),
    [
        (("/a/own", "/b/own"), "own [0-9a-f]{6}"),
        (("/a/my faces", "/b/zoo"), "my faces"),
        (("/a/2024", "/b/2025"), "2024"),
    ],
)
def test_a_folder_whose_name_has_a_namesake_a_blank_or_is_a_number_is_chosen_as_the_hint_says(tmp_path, roots, named):
    for k, root in enumerate(roots):
        own(tmp_path / str(k), root, valid=0.7 + 0.1 * k)
    found = aggregate_runs(find([tmp_path]))
    rule = hinted(found)
    assert re.fullmatch(f"max valid/top1_accuracy where data.root=={named}", rule)
    assert best(found, rule) == found.configurations[0].runs[0].folder


def test_sets_that_no_condition_tells_apart_are_to_be_given_alone(tmp_path):
    for k in range(2):
        own(tmp_path / str(k), f"/{k}/cats and dogs <{k}>", valid=0.7)
    assert refusal(aggregate_runs(find([tmp_path])), "min bytes").endswith("Give the folders of one kind alone.")


def test_a_condition_on_data_and_one_on_the_seed_go_together_where_one_data_set_has_that_seed(tmp_path):
    for k, root in enumerate(("/faces/own", "/faces/own2")):
        own(tmp_path / str(k), root, valid=0.7, seed=k)
    found = aggregate_runs(find([tmp_path]))
    assert best(found, "max valid/top1_accuracy where seed==1 and data.root==own2").name == "1"
    assert "Here data.root is own2." in refusal(found, "min bytes where seed==1 and data.root==own")
