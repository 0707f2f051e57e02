"""The study of what a teacher is worth: one file a question, one budget a file, and the words of its header make runs of it."""

import re
import shlex

import pytest
from commandline import ROOT
from hydra import compose, initialize_config_module

from distill.config import schema as config
from distill.pipeline import validation

QUESTIONS = ("ferlite_temperature", "ferlite_weight", "ferlite_losses", "microexpnet_poolings")
FIXED = ("experiment", "data.root", "teacher.members.second.run")
GROUPED = re.compile(r",(?![^\[]*\])")


def jobs(name):
    """Return the words of each job of the commands in a file's header, values of a sweep one after the other."""
    text = (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text()
    for line in re.findall(r"python -m distill\.run (.*)", text):
        words = [word for word in shlex.split(line) if word != "-m"]
        yield from ([w if i != k else f"{w.split('=')[0]}={value}" for i, w in enumerate(words)] for k, word in enumerate(words)
                    for value in GROUPED.split(word.partition("=")[2]))  # fmt: skip


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_jobs_of_a_question_differ_in_nothing_but_what_it_asks(name):
    made, taught, swept = [], [], set()
    for words in jobs(name):
        one = [
            word if not (many := GROUPED.split(word.partition("=")[2]))[1:] else f"{word.split('=')[0]}={many[0]}"
            for word in words
        ]
        with initialize_config_module("conf", version_base="1.3"):
            cfg, _ = validation.learned_by(config.typed(compose("run", overrides=one)))
        validation.validate(cfg)
        made.append(cfg)
        taught += [cfg.teacher] if f"experiment={name}" in words else []
        swept |= {word.split("=")[0] for word in words if word.split("=")[0] not in FIXED}
    assert len(made) > 2 and swept
    for group in ("train", "augment", "optimizer", "schedule", "data"):
        assert all(getattr(cfg, group) == getattr(made[0], group) for cfg in made), group
    students = [{key: value for key, value in cfg.student.items() if key != "pooling"} for cfg in made]
    assert all(student == students[0] for student in students)
    teachers = [{key: value for key, value in teacher.items() if key != "cache"} for teacher in taught]
    assert all(teacher == teachers[0] for teacher in teachers)


def test_their_headers_claim_no_number_that_nobody_measured():
    for name in QUESTIONS:
        head = re.findall(r"^#.*$", (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text(), re.MULTILINE)
        assert not re.search(r"\d\s*%|valid \d|test \d", "\n".join(head)), name
