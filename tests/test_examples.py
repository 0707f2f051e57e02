"""examples/ works as it stands: a package of one's own does a whole run, and the notebook goes from folders to a student."""

import csv
import json
import re
import sys

import pytest
import warm
from commandline import ROOT, environment, result_of
from PIL import Image

from distill.data.common.emotions import EMOTIONS
from distill.data.procedural import draw

PACKAGE = ROOT / "examples" / "own_package"
SMALL = ("teacher.width=4", "teacher.train.epochs=1", "student.width=4", "train.epochs=1", "train.threads=1")


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """A folder with faces.csv: 196 synthetic faces of 28 persons, seven emotions."""
    root = tmp_path_factory.mktemp("listed")
    pictures, votes = draw(0, 0, 224, 48, intensity=1, mixture=0, occlusion=0, pose=0, light=0)
    with open(root / "faces.csv", "w", newline="") as file:
        for k, (picture, vote) in enumerate(zip(pictures, votes, strict=True)):
            if (emotion := EMOTIONS[vote.argmax()]) != "contempt":
                Image.fromarray(picture).save(root / f"{k}.png")
                csv.writer(file).writerow([f"{k}.png", emotion, f"person{k // 8}"])
    return root


@pytest.fixture(scope="module")
def words():
    """The command of the package's README, as words."""
    command = re.search(r"python -m distill\.run (.*?)```", (PACKAGE / "README.md").read_text(), re.DOTALL)[1]
    return command.replace("\\\n", " ").replace("examples/own_package/", "").split()


def run(words, tmp_path, *more):
    where = (f"paths.store={tmp_path / 'store'}", f"paths.runs={tmp_path / 'runs'}", "logger=none")
    return warm.run([sys.executable, "-m", "distill.run", *words, *more, *where], PACKAGE, environment())


def test_own_package_student_loss_teacher_and_data_set_do_one_run(words, listed, tmp_path):
    done = run([word.replace("DIR", str(listed)) for word in words], tmp_path, *SMALL)
    assert done.returncode == 0, done.stderr
    result = result_of(tmp_path / "runs")
    assert (result["data"]["name"], result["student"]["name"]) == ("listed_faces", "separable")
    assert result["data"]["rows"] == {"train": 140, "valid": 14, "test": 42}, "whole persons of seven faces"
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("listed_faces-plain-separable-")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert any(0 < line.get("train/cosine", 0) < 2 for line in lines)
    assert result["teacher_forward_images"] == 196, "its answers are stored: each face is asked for once"


def test_own_package_that_is_not_named_as_plugin_is_refused(words, listed, tmp_path):
    done = run([w.replace("DIR", str(listed)) for w in words if not w.startswith("plugins")], tmp_path)
    assert done.returncode == 1 and "plugins=[NAME]" in done.stderr
