"""The main command in the forms that the documentation shows: other students, debug runs, archives, sweeps, a student of one's own."""

import json
import os
import re
import shutil
import subprocess

import ferplus_tree as tree
import pytest
from commandline import ROOT, command, distill, environment, result_of


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.mark.parametrize(
    "student",
    [
        ("student=cern", "student.width=0.25", "student.pooling=none"),
        ("student=cern", "student.variant=base_only", "student.width=0.25"),
        ("student=timm", "student.name=test_resnet", "student.size=32"),
    ],
)
def test_other_students_learn_from_the_same_teacher(store, tmp_path, student):
    done = distill(*student, "train.epochs=1", store=store, runs=tmp_path)
    assert done.returncode == 0, done.stderr
    result = result_of(tmp_path)
    assert result["status"] == "complete" and result["teacher"]["name"] == "test_resnet"


def test_debug_smoke_goes_from_end_to_end(store, tmp_path):
    done = distill("debug=smoke", store=store, runs=tmp_path)
    assert done.returncode == 0 and result_of(tmp_path)["student"]["name"] == "microexpnet", done.stderr
    assert "a trial of the tools" in done.stdout and "***" not in done.stdout


def test_debug_overfit_learns_64_faces_by_heart(store, tmp_path):
    words = command(store=store, runs=tmp_path)[:3]
    done = subprocess.run(
        [
            *words,
            "debug=overfit",
            "student=microexpnet",
            f"paths.store={store}",
            f"paths.runs={tmp_path}",
            "logger=none",
        ],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in next(tmp_path.glob("*/metrics.jsonl")).read_text().splitlines()]
    losses = [line["train/ce"] for line in lines if "train/ce" in line]
    assert losses[-1] < 0.5 * losses[0]


@pytest.fixture(scope="module")
def archived(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ferplus")
    root = tree.archive(tree.write_folders(folder / "tree"), folder / "ferplus.tar.gz")
    done = distill("data=ferplus", f"data.root={root}", "train.batch_size=8", store=store, runs=folder / "runs")
    return done, folder


def test_ferplus_is_read_from_an_archive_by_the_command(archived):
    done, folder = archived
    assert done.returncode == 0, done.stderr
    data = result_of(folder / "runs")["data"]
    assert data["rows"] == tree.SIZES and data["protocol"] == "majority (label.csv), targets votes"


def test_a_complete_run_says_that_its_data_have_changed_and_a_root_may_be_typed_in_any_way(archived, store):
    _, folder = archived
    root = folder / "ferplus.tar.gz"
    other_words = f"data.root={os.path.relpath(root, ROOT)}"
    again = distill("data=ferplus", other_words, "train.batch_size=8", store=store, runs=folder / "runs")
    assert again.returncode == 0 and "is complete; nothing to do" in again.stdout, again.stderr
    tree.edit(folder / "tree", lambda rows: rows.pop())
    tree.archive(folder / "tree", root)
    changed = distill("data=ferplus", other_words, "train.batch_size=8", store=store, runs=folder / "runs")
    assert changed.returncode == 1 and "is complete, but the ferplus pictures or labels it saw" in changed.stderr


def test_a_training_split_may_keep_faces_too_ambiguous_to_be_measured_on(store, tmp_path):
    root = tree.write_folders(tmp_path / "tree")
    tree.edit(root, lambda rows: rows[0].__setitem__(slice(2, 12), [4, 4, 2, 0, 0, 0, 0, 0, 0, 0]))
    wide = ("data=ferplus", f"data.root={root}", "data.train_protocol=votes", "teacher=none", "loss=[ce]")
    done = distill(*wide, "train.epochs=1", "train.batch_size=8", store=store, runs=tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    data = result_of(tmp_path / "runs")["data"]
    assert data["rows"] == tree.SIZES and data["notes"]["counts"]["majority"][0] == tree.SIZES["train"] - 1
    assert data["protocol"] == "majority (label.csv), targets votes, trained on the rows of votes"


def test_every_job_of_a_sweep_over_the_student_leaves_the_teacher_alone(store, tmp_path):
    distill("train.epochs=1", store=store, runs=tmp_path / "first")
    sweep = ("-m", "train.epochs=1", "loss=[ce,kd]", "loss.kd.temperature=1,8", "student.width=S")
    done = distill(*sweep, store=store, runs=tmp_path / "sweep")
    assert done.returncode == 0, done.stderr
    results = [json.loads(path.read_text()) for path in (tmp_path / "sweep").glob("*/result.json")]
    assert [result["teacher_forward_images"] for result in results] == [0, 0]


def test_student_and_loss_that_the_documentation_writes_train_with_a_file_and_a_yaml_each(store, tmp_path):
    for folder in ("conf", "distill", "teachers", "students"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    blocks = re.findall(r"```(?:python|yaml)\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), re.DOTALL)
    code, yaml = (
        next(b for b in blocks if b.startswith(start)) for start in ("# students/tiny.py", "# A tiny example:")
    )
    (tmp_path / "students" / "tiny.py").write_text(code)
    (tmp_path / "conf" / "student" / "tiny.yaml").write_text(yaml)
    loss, entry = (next(b for b in blocks if b.startswith(start)) for start in ("# distill/losses", "# @package loss"))
    (tmp_path / "distill" / "losses" / "squares.py").write_text(loss)
    (tmp_path / "conf" / "loss" / "squares.yaml").write_text(entry)
    words = command("student=tiny", "loss=[ce,squares]", "train.epochs=1", store=store, runs=tmp_path / "runs")
    done = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert result_of(tmp_path / "runs")["student"]["name"] == "tiny"
    assert "train/squares" in next((tmp_path / "runs").glob("*/metrics.jsonl")).read_text()
