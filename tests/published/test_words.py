"""The words of the product are those of the field: private ones, and config keys that were renamed, do not come back."""

import ast
import re
from pathlib import Path

import pytest

ROOT = next(path for path in Path(__file__).resolve().parents if (path / "pyproject.toml").is_file())
SUFFIXES = {".py", ".yaml", ".md", ".j2", ".js", ".html", ".ipynb"}
WORDS = """
train.average train.clip train.balance train.select train.log_every eval.views views.cached views.rotate schedule.drop /views@
teacher.views conf/views
settle settled _settled taught taught_by spoilt Standing Ledger Course Learner Survey survey Taps untap awake AnswerStore
balanced_chances chances few_faces losses_that views_with_maps check_maps evaluation_rows teacher_answers LEAST_AGREEMENT
asked_subsets own_share said_of_chance losses_told tell_changed
MOST_LOST stays_float RoundedInput Deployed anothers drawn_by knobs cached_views ViewsConfig
colour colours grey greys normalise normalised normalisation initialise neighbour neighbours behaviour centre centred optimiser
labelled unlabelled learnt spelt
"""
PHRASES = [
    "inner maps",
    "in the place of",
    "was asked for; give",
    "cannot be meant",
    "for sentences",
    "FEW FACES",
    "drawn faces",
]
FOLDERS = ("distill", "students", "teachers", "conf", "docs", "examples", "benchmarks")
PAGES = {
    path: path.read_text(encoding="utf-8")
    for path in [
        ROOT / "README.md",
        *(p for d in FOLDERS for p in (ROOT / d).rglob("*")),
    ]
    if path.suffix in SUFFIXES
}


@pytest.mark.parametrize("word", [*WORDS.split(), *PHRASES])
def test_sources_and_pages_private_word_is_not_there(word):
    rule = re.compile(
        rf"(?<![\w./-]){re.escape(word)}(?![\w-])" if word[0].isalnum() or word[0] == "_" else re.escape(word)
    )
    found = [f"{path.relative_to(ROOT)}: {m[0]}" for path, text in PAGES.items() for m in [rule.search(text)] if m]
    assert len(PAGES) > 200 and not found, f"{word}: write the field's word instead"


def test_percent_signs_stand_at_their_numbers():
    """86.8%, as Python's own format writes it, in the console, cards, reports and pages alike."""
    rule = re.compile(r"[\d}] %(?!\}| \d)")  # not where a template's tag ends, nor a remainder in code
    assert rule.search("86.8 % of") and rule.search("{x:.1f} %") and not rule.search("{% if a == 1 %} a9 % 8, 86.8%")
    found = [f"{path.relative_to(ROOT)}: {m[0]}" for path, text in PAGES.items() for m in [rule.search(text)] if m]
    assert not found, "write 86.8%, without a space"


# Names in code that say little where a noun would say all.
VAGUE = {*["found", "own", "asked", "told", "said", "theirs", "taught", "spoilt", "whole", "apart"]}


def test_names_in_code_are_nouns_of_the_field():
    sources = [path for path in PAGES if path.suffix == ".py"]
    named = [
        (str(path.relative_to(ROOT)), name)
        for path in sources
        for node in ast.walk(ast.parse(PAGES[path]))
        for name in (getattr(node, "id", None), getattr(node, "arg", None), getattr(node, "attr", None))
        if name in VAGUE or (isinstance(node, ast.FunctionDef) and node.name in VAGUE)
    ]
    assert len(sources) > 200 and not named
