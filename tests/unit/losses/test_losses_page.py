"""docs/losses.md is what the yamls and docstrings say now, a row and a section for every loss."""

import re

import pytest
from commandline import benchmark

made = benchmark("losses_page", "docs")
CONF, PAGE, entries, page, paper = made.CONF, made.PAGE, made.entries, made.page, made.paper
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))


def test_the_page_is_what_the_generator_gives_now():
    assert PAGE.read_text() == page(), "run python docs/losses_page.py --write"


def test_every_loss_has_a_row_and_a_section_with_its_options():
    text = page()
    assert sorted(re.findall(r"^\| \[(\w+)\]\(#", text, re.M)) == sorted(re.findall(r"^## (\w+)$", text, re.M)) == NAMES
    assert "| `temperature` | `2.0` | both logits are divided by it |" in text
    assert len({line.count(" | ") for line in text.splitlines() if line.startswith("| [")}) == 1, (
        "a table of equal rows"
    )


def test_a_row_has_the_formula_in_one_line():
    found = {entry.name: entry.formula for entry in entries()}
    assert found["kd"] == "c * sum or mean over heads h of sum_k t_k (log t_k - log s_hk)"
    assert found["simkd"] == "mean over c, h, w of (P(F_s) - F_t)^2"
    assert found["crd"].endswith("log sigmoid(-x_k), plus the same of g_t and m_s")
    assert all(formula.count("(") == formula.count(")") and len(formula) < 160 for formula in found.values())
    assert "| `c * sum or mean over heads h of KL(t \\|\\| s_h)` |" in page()


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_a_loss_says_its_formula_its_paper_and_what_each_option_is(entry):
    formula = next(part for part in entry.paragraphs[1:])
    assert "=" in formula or ":" in formula
    assert entry.paragraphs[0].endswith(".") and "\n" not in entry.paragraphs[0]
    assert entry.reference and entry.usage and float(entry.weight) > 0
    assert all(comment for _, _, comment in entry.options), "a comment for each key"


def test_losses_page_tells_what_each_loss_needs():
    needs = {entry.name: entry.needs for entry in entries()}
    assert needs["crd"] == "feature maps, memory" and all(
        "one linear layer" in needs[name] for name in ("catkd", "simkd")
    )
    assert needs["ce"] == "labels" and needs["kd"] == "teacher logits" and needs["hint"] == "feature maps"


def test_losses_page_links_papers():
    assert paper("Hinton et al., arXiv 1503.02531, section 2") == "[1503.02531](https://arxiv.org/abs/1503.02531)"
    assert paper("Jin et al., CVPR 2023 (no arXiv number); Sun et al., arXiv 2403.01427") == "CVPR 2023"


def test_the_command_prints_the_page(capsys):
    made.main([])
    assert capsys.readouterr().out == page()
