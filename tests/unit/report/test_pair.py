"""Two runs face by face: McNemar's test against known numbers, and the table that python -m distill.report A B --pair prints."""

import csv

import numpy as np
import pytest
from run_folders import write_run

from distill.report import __main__ as report
from distill.report.pair import mcnemar


def outcomes(only_a, only_b, both=5, neither=3):
    a = np.repeat([True, False, True, False], [only_a, only_b, both, neither])
    b = np.repeat([False, True, True, False], [only_a, only_b, both, neither])
    return a, b


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 0.0625),
        (10, 2, 0.03857421875),  # 2 (1 + 12 + 66) / 2^12
        (9, 3, 0.14599609375),  # 2 (1 + 12 + 66 + 220) / 2^12
        (121, 59, 4.434e-06),  # as scipy.stats.binomtest(59, 180) has it
        (150, 150, 1.0),
    ],
)
def test_p_is_the_two_sided_binomial_one(only_a, only_b, p):
    a, b = outcomes(only_a, only_b)
    assert mcnemar(a, b) == (only_a, only_b, pytest.approx(p, rel=1e-3))
    assert mcnemar(b, a) == (only_b, only_a, pytest.approx(p, rel=1e-3))


def test_answers_about_other_numbers_of_faces_are_refused():
    with pytest.raises(ValueError, match="5 faces were compared with 4"):
        mcnemar(np.ones(5, bool), np.ones(4, bool))


def cells(printed):
    return {
        row[0]: row[1:]
        for row in ([cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines())
        if row
    }


def test_two_runs_are_compared_on_the_same_faces(tmp_path, capsys):
    a, b = write_run(tmp_path / "a", valid=0.9, test=0.9), write_run(tmp_path / "b", valid=0.4, test=0.9)
    report.main([str(a), str(b), "--pair"])
    found = cells(capsys.readouterr().out)
    right = []
    for folder in (a, b):
        with open(folder / "predictions" / "valid.csv", newline="") as file:
            right.append(np.array([row["label"] == row["prediction"] for row in csv.DictReader(file)]))
    only_a, only_b, p = mcnemar(*right)
    shares = [f"{100 * own.mean():.2f}%" for own in right]
    assert found["valid"] == ["64", *shares, str(only_a), str(only_b), f"{p:.2g}"] and p < 0.01
    assert found["test"][-3:] == ["0", "0", "1"]


def test_one_folder_an_unfinished_run_and_other_faces_are_refused(tmp_path):
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    for words, sentence in (
        ((a,), "--pair: compares two run folders, got 1"),
        ((a, tmp_path), "no finished run is there"),
    ):
        with pytest.raises(SystemExit, match=sentence):
            report.main([*map(str, words), "--pair"])
    file = b / "predictions" / "test.csv"
    file.write_text(file.read_text().replace("face3,", "another,"))
    with pytest.raises(SystemExit, match=r"the test faces or labels of .* differ"):
        report.main([str(a), str(b), "--pair"])
