"""Python: the words of distill.run are read and refused as those of the command are."""

import pytest
from hydra import compose, initialize_config_module

import distill


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("student=cern", r"give a list of KEY=VALUE, such as \['student=cern'\]"),
        ({"student": "cern"}, r"give a list of KEY=VALUE, such as \['student=cern', 'seed=1'\]"),
        ([3], r"^\[3\] was given; give a list of KEY=VALUE"),
        (["-m", "seed=0,1"], "-m: is for the command line"),
        (
            ["seed=0,1"],
            r"seed=0,1: several values are several runs\. Type python -m distill\.run -m seed=0,1 for a sweep",
        ),
        (["student.widht=S"], "no such key. Did you mean student.width"),
        (["student=nosuch"], "there is no student/nosuch"),
        (["train.epochs=0"], "train.epochs: expected .*, got 0"),
    ],
)
def test_words_that_cannot_be_meant_are_refused(words, said):
    with pytest.raises(ValueError, match=said):
        distill.run(words)


def test_words_are_read_in_a_program_that_uses_hydra_itself(tmp_path):
    with initialize_config_module("conf", version_base="1.3"):
        with pytest.raises(ValueError, match=r"train\.epochs: expected .*, got 0"):
            distill.run(["train.epochs=0"])
        assert compose("run", overrides=["seed=7"]).seed == 7


def test_yamls_of_ones_own_are_found_beside_those_of_the_package(tmp_path):
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "own.yaml").write_text("_target_: own.Net\n")
    with pytest.raises(ValueError, match=r"own\.Net is not from"):
        distill.run(["teacher=none", "student=own", f"hydra.searchpath=[file://{tmp_path}]", f"paths.runs={tmp_path}"])
