"""Loggers, read back from what they leave on disk."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from offline_run import items, of_kind, records, summary
from PIL import Image

from distill.training import loggers
from distill.training.loggers import JsonLines, Silent, Wandb

KEY = "0" * 40


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("NETRC", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):  # not the ones of whoever tests
        monkeypatch.setenv(name, str(tmp_path / "home" / name))
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


def picture(path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    return path


# JsonLines


def test_json_lines_are_on_disk_when_log_returns(tmp_path):
    lines = JsonLines(tmp_path / "metrics.jsonl")
    lines.log({"train/loss": np.float32(0.5), "epoch": 3}, step=7)
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 7, "train/loss": 0.5, "epoch": 3}
    assert lines.position() == (tmp_path / "metrics.jsonl").stat().st_size


def test_json_lines_write_what_is_no_number_as_null(tmp_path):
    JsonLines(tmp_path / "m").log({"a": float("nan"), "b": float("inf")}, step=1)
    assert (tmp_path / "m").read_text() == '{"step": 1, "a": null, "b": null}\n'


def test_a_file_that_is_killed_and_resumed_equals_one_that_is_not(tmp_path):
    whole, cut = JsonLines(tmp_path / "whole"), JsonLines(tmp_path / "cut")
    for step in range(6):
        whole.log({"loss": step / 7}, step)
    for step in range(5):
        if step == 3:
            checkpoint = cut.position()
        cut.log({"loss": step / 7}, step)
    with open(tmp_path / "cut", "ab") as file:
        file.write(b'{"step": 5, "lo')  # the kill comes in the middle of a line
    again = JsonLines(tmp_path / "cut")
    again.truncate(checkpoint)
    for step in range(3, 6):
        again.log({"loss": step / 7}, step)
    assert (tmp_path / "cut").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_file_shorter_than_the_checkpoint_says_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has 0 bytes, but the checkpoint was made at 10"):
        JsonLines(tmp_path / "m").truncate(10)


# wandb, offline


def test_an_offline_run_holds_config_numbers_summary_artifact_and_pictures(tmp_path):
    weights = tmp_path / "best.safetensors"
    weights.write_bytes(b"weights")
    run = Wandb(tmp_path, {"seed": 3, "student": {"width": 0.5}}, "cern-1", "sweep-7", "student", ["a"], ["a", "b"])
    assert run.mode == "offline"
    for step in range(300):
        run.log({"train/loss": 1 / (step + 1)}, step)
    run.log({"valid/top1_accuracy": 0.9}, 300)
    run.log({"valid/top1_accuracy": 0.1}, 301)
    run.images({"sample_predictions": picture(tmp_path / "c.png")})
    run.confusion_matrix(np.array([0, 1, 1]), np.array([0, 1, 0]), ("sad", "happy"), tmp_path / "c.png")
    run.artifact(weights, "student")
    run.finish({"valid/top1_accuracy": 0.9, "student": {"macs": 12}, "status": "complete"})

    found = records(tmp_path)
    header = of_kind(found, "run")[0]
    assert (header.project, header.display_name, header.run_group) == ("fer-distill", "cern-1", "sweep-7")
    assert (header.job_type, list(header.tags)) == ("student", ["a", "b"])
    config = items(header.config.update)
    assert config["seed"] == 3 and config["student"] == {"width": 0.5}
    history = [items(row.item) for row in of_kind(found, "history")]
    assert [row["train/loss"] for row in history if "train/loss" in row] == [1 / (s + 1) for s in range(300)]
    assert [row["_step"] for row in history if "valid/top1_accuracy" in row] == [300, 301]
    assert history[-1]["sample_predictions/_type"] == "image-file" and history[-1]["valid/top1_accuracy"] == 0.1
    assert history[-1]["confusion_matrix_table/_type"] == "table-file"
    (table,) = tmp_path.glob("wandb/offline-run-*/files/media/table/*.json")
    counts = {(actual, taken): n for actual, taken, n in json.loads(table.read_text())["data"]}
    assert counts == {("sad", "sad"): 1, ("sad", "happy"): 0, ("happy", "sad"): 1, ("happy", "happy"): 1}
    assert "wandb/confusion_matrix/v1" in str(of_kind(found, "config")), "its own plot"
    assert len(list(tmp_path.glob("wandb/offline-run-*/files/media/images/*.png"))) == 1
    (artifact,) = (item for item in of_kind(found, "artifact") if item.type == "model")
    assert artifact.name == "student" and "best" in artifact.aliases
    assert [entry.local_path for entry in artifact.manifest.contents] == [str(weights)]
    assert summary(found)["valid/top1_accuracy"] == 0.9
    assert summary(found)["student/macs"] == 12
    assert of_kind(found, "exit")[0].exit_code == 0


def test_the_summary_is_the_chosen_epochs_even_though_a_later_one_was_logged_last(tmp_path):
    run = Wandb(tmp_path)
    run.log({"valid/top1_accuracy": 0.9}, 1)
    run.log({"valid/top1_accuracy": 0.1}, 2)
    run.finish({"valid/top1_accuracy": 0.9})
    assert summary(records(tmp_path))["valid/top1_accuracy"] == 0.9


def test_a_failed_job_is_marked_failed(tmp_path):
    run = Wandb(tmp_path)
    run.log({"loss": 1.0}, 1)
    run.finish({}, exit_code=1)
    assert of_kind(records(tmp_path), "exit")[0].exit_code == 1


def test_jobs_of_one_process_are_different_runs_also_when_one_runs_inside_the_other(tmp_path):
    student, teacher, next_job = (tmp_path / name for name in ("student", "teacher", "next"))
    for folder in (student, teacher, next_job):
        folder.mkdir()
    outer = Wandb(student, {"who": "student"})
    outer.log({"x": 1.0}, 1)
    inner = Wandb(teacher, {"who": "teacher"}, job_type="teacher")
    inner.log({"x": 2.0}, 1)
    inner.finish({})
    outer.log({"x": 3.0}, 2)
    outer.finish({})
    third = Wandb(next_job, {"who": "next"})
    third.log({"x": 4.0}, 1)
    third.finish({})
    ids = set()
    for folder, rows in ((student, [1, 3]), (teacher, [2]), (next_job, [4])):
        found = records(folder)
        assert items(of_kind(found, "run")[0].config.update)["who"] == folder.name
        assert [items(row.item).get("x") for row in of_kind(found, "history")] == rows
        ids.add(of_kind(found, "run")[0].run_id)
    assert len(ids) == 3


def test_a_run_that_was_killed_goes_on_under_the_same_id(tmp_path):
    code = (
        "import os, sys; from distill.training.loggers import Wandb; run = Wandb(sys.argv[1]); run.log({'x': 1.0}, 1);"
        "os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    kept = (tmp_path / "wandb_id").read_text().strip()
    Wandb(tmp_path).finish({})
    assert len(list(tmp_path.glob(f"wandb/offline-run-*-{kept}*"))) == 2


# wandb, when something is wrong


def test_a_broken_wandb_warns_once_and_training_goes_on(tmp_path):
    run = Wandb(tmp_path)
    with pytest.warns(UserWarning, match="wandb: .* is not mirrored") as told:
        run.artifact(tmp_path / "missing", "student")
        run.images({"picture": tmp_path / "missing.png"})
        run.log({"loss": object()}, 1)
        run.log({"loss": 1.0}, 2)
        run.finish({})
    assert len(told) == 1
    assert {"loss": 1.0}.items() <= items(of_kind(records(tmp_path), "history")[-1].item).items()


def test_online_without_a_key_is_refused_at_once_with_what_to_type(tmp_path):
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"logger.mode: got online, .* WANDB_API_KEY; or use logger.mode=offline"):
        Wandb(tmp_path, mode="online")
    assert time.monotonic() - start < 10


def test_online_without_a_key_asks_no_question_on_a_terminal_either(tmp_path):
    pty = pytest.importorskip("pty")
    code = "import sys; from distill.training.loggers import Wandb; Wandb(sys.argv[1], mode='online')"
    ours, theirs = pty.openpty()
    done = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    watchdog = threading.Timer(60, done.kill)
    watchdog.start()
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # Linux's way to say that the other side is closed
        pass
    watchdog.cancel()
    assert done.wait() == 1
    assert b"use logger.mode=offline" in shown and b"Enter your choice" not in shown


def test_online_without_a_network_falls_back_to_offline_within_the_timeout(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(loggers, "TIMEOUT", 2)
    start = time.monotonic()
    with pytest.warns(UserWarning, match="the server does not answer, the run is logged offline") as told:
        run = Wandb(tmp_path, mode="online")
    run.log({"x": 1.0}, 1)
    run.finish({"x": 1.0})
    assert time.monotonic() - start < 12
    assert len(told) == 1 and run.mode == "offline"
    assert [items(row.item)["x"] for row in of_kind(records(tmp_path), "history")] == [1]


@pytest.mark.parametrize(("asked", "mode"), [(None, "offline"), ("disabled", "disabled"), ("offline", "offline")])
def test_auto_does_what_the_environment_says_and_is_offline_otherwise(tmp_path, monkeypatch, asked, mode):
    if asked:
        monkeypatch.setenv("WANDB_MODE", asked)
    monkeypatch.setenv("WANDB_API_KEY", KEY)  # a key alone does not send anything
    run = Wandb(tmp_path, mode="auto")
    run.finish({})
    assert run.mode == mode and (tmp_path / "wandb").exists() == (mode == "offline")


def test_auto_goes_online_when_the_environment_asks(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(ValueError, match="got online"):
        Wandb(tmp_path)


def test_an_explicit_mode_wins_over_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(ValueError, match="got online"):
        Wandb(tmp_path, mode="online")


def test_wandb_of_an_unknown_mode_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"logger\.mode: expected auto, offline, .*, got 'on'"):
        Wandb(tmp_path, mode="on")
    monkeypatch.setenv("WANDB_MODE", "later")
    with pytest.raises(ValueError, match="WANDB_MODE: 'later' is in the environment"):
        Wandb(tmp_path)


@pytest.mark.parametrize("make", [Silent, lambda folder: Wandb(folder, mode="disabled")])
def test_a_silent_logger_takes_every_call_and_leaves_nothing(tmp_path, make):
    (tmp_path / "run").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = make(tmp_path / "run")
        run.log({"x": 1.0}, 1)
        run.images({"picture": tmp_path / "missing.png"})
        run.confusion_matrix([0], [0], ["a"], tmp_path / "missing.png")
        run.artifact(tmp_path / "missing", "student")
        run.finish({"x": 1.0}, exit_code=0)
    assert not list((tmp_path / "run").iterdir())


def test_wandb_is_imported_only_by_a_run_that_uses_it():
    code = "import sys, distill.training.loggers as l; l.Wandb('.', mode='disabled'); assert 'wandb' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
