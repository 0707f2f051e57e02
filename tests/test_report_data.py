"""A report of runs on several data sets: nothing on the page ranks them together, and each hint works as it is typed."""

import html
import re
from hashlib import sha256

import pytest
from run_folders import write_run

from distill.data.common.emotions import EMOTIONS
from distill.report import __main__ as report
from distill.report.aggregate import sweep
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
    """Two students on drawn faces, two on own ones, one on other own ones, the latter two with as many faces each."""
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


def test_a_page_of_several_data_sets_names_the_best_of_each_and_how_it_is_chosen(mixed):
    report.main([str(mixed), "--no-faces"])
    page = html.unescape((mixed / "report.html").read_text())
    lines = re.findall(r"<li><b>(.*?)</b>: .*?validation top-1 (\S+) %, (.*?)\. <code>--best \"(.*?)\"</code>", page)
    assert [line[:3] for line in lines] == [
        ("folder (own)", "75.00", "best of 2 configurations"),
        ("folder (own2)", "95.00", "the only configuration"),
        ("procedural", "90.00", "best of 2 configurations"),
    ]
    found = sweep(find([mixed]))
    assert [best(found, line[3]).name for line in lines] == ["ownxs", "own2", "drawn"]


def test_a_page_of_several_data_sets_draws_nothing_across_them_and_says_what_to_type(mixed):
    report.main([str(mixed)])
    page = (mixed / "report.html").read_text()
    assert "<svg" not in page and "configurations on validation" not in page and "<h2>Faces" not in page
    assert "type python -m distill.report with the run folders of one data set" in page
    report.main([str(mixed / "own"), str(mixed / "ownxs"), "--no-faces"])
    page = (mixed / "own" / "report.html").read_text()
    assert "Best of 2 configurations on validation" in page and "<h2>Accuracy against cost" in page


def test_the_rows_of_a_data_set_follow_one_another_best_first_and_the_page_marks_the_best_of_each(mixed):
    report.main([str(mixed), "--no-faces"])
    page = (mixed / "report.html").read_text()
    assert re.findall(r'<tbody data-c="(\d)"><tr class="row best">', page) == ["1", "3", "4"]
    assert "ranks only within one" in page
    rows = markdown(sweep(find([mixed]))).splitlines()[2:]
    assert [re.search(r"\| (\d\d\.\d\d) \|", row)[1] for row in rows] == ["75.00", "70.00", "95.00", "90.00", "80.00"]


def test_the_hint_of_a_refused_choice_works_as_it_is_typed(mixed):
    found = sweep(find([mixed]))
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
    found = sweep(find([tmp_path]))
    rule = hinted(found)
    assert re.fullmatch(f"max valid/top1_accuracy where data.root=={named}", rule)
    assert best(found, rule) == found.configurations[0].runs[0].folder


def test_sets_that_no_condition_tells_apart_are_to_be_given_alone(tmp_path):
    for k in range(2):
        own(tmp_path / str(k), f"/{k}/cats and dogs <{k}>", valid=0.7)
    assert refusal(sweep(find([tmp_path])), "min bytes").endswith("Give the folders of one kind alone.")


def test_a_condition_on_data_and_one_on_the_seed_go_together_where_one_data_set_has_that_seed(tmp_path):
    for k, root in enumerate(("/faces/own", "/faces/own2")):
        own(tmp_path / str(k), root, valid=0.7, seed=k)
    found = sweep(find([tmp_path]))
    assert best(found, "max valid/top1_accuracy where seed==1 and data.root==own2").name == "1"
    assert "Here data.root is own2." in refusal(found, "min bytes where seed==1 and data.root==own")
