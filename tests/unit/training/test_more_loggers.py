"""The loggers besides wandb, chosen by their yaml, read back from what they leave in a run folder."""

import csv
import json
import sys

import numpy as np
import pytest
from inside import folder_of, job
from PIL import Image

from distill.training.csv_logger import Csv
from distill.training.loggers import JsonLines
from distill.training.tensorboard_logger import TensorBoard


def table(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


# CSV


def test_a_run_with_logger_csv_has_a_row_for_each_line_of_its_record(tmp_path):
    words = ("teacher=none", "loss=[ce]", "train.epochs=2", "logger=csv")
    job(*words, store=tmp_path / "store", runs=tmp_path / "runs")
    folder = folder_of(tmp_path / "runs")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows = table(folder)
    assert len(rows) == len(lines) > 4
    for row, line in zip(rows, lines, strict=True):
        assert {name: float(cell) for name, cell in row.items() if cell} == line


def test_the_table_is_written_after_every_epoch_and_has_no_row_twice_after_a_resume(tmp_path):
    lines = JsonLines(tmp_path / "metrics.jsonl")
    for logger in (Csv(tmp_path), Csv(tmp_path)):
        for step, name in ((1, "train/loss"), (2, "valid/top1_accuracy")):
            lines.log({name: step / 4}, step)
            logger.log({name: step / 4}, step)
        assert [row["step"] for row in table(tmp_path)] == ["1", "2"]
        lines.truncate(0)
    lines.log({"train/loss": float("nan")}, 1)
    logger.finish({}, exit_code=1)
    assert table(tmp_path) == [{"step": "1", "train/loss": ""}]


# TensorBoard


def read_events(folder):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return found


def scalars(folder, name):
    return [(event.step, event.value) for event in read_events(folder).Scalars(name)]


def test_a_run_with_logger_tensorboard_shows_its_numbers_config_and_pictures(tmp_path):
    pytest.importorskip("tensorboard")
    words = ("teacher=none", "loss=[ce]", "train.epochs=2", "logger=tensorboard")
    job(*words, store=tmp_path / "store", runs=tmp_path / "runs")
    folder = folder_of(tmp_path / "runs")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for name in ("train/ce", "valid/top1_accuracy"):
        wanted = [(line["step"], line[name]) for line in lines if name in line]
        assert scalars(folder, name) == [(step, pytest.approx(value)) for step, value in wanted]
    tags = read_events(folder).Tags()
    assert {"confusion_matrix", "sample_predictions"} <= set(tags["images"]) and "config/text_summary" in tags[
        "tensors"
    ]


def test_tensorboard_hides_what_was_logged_after_the_checkpoint_when_a_run_goes_on(tmp_path):
    pytest.importorskip("tensorboard")
    for steps in (range(1, 6), range(3, 7)):
        logger = TensorBoard(tmp_path)
        for step in steps:
            logger.log({"train/loss": step + len(steps) / 10}, step)
        logger.finish({})
    assert [step for step, _ in scalars(tmp_path, "train/loss")] == [1, 2, 3, 4, 5, 6]
    assert dict(scalars(tmp_path, "train/loss"))[3] == pytest.approx(3.4)


def test_a_picture_is_shown_at_the_last_step(tmp_path):
    pytest.importorskip("tensorboard")
    Image.fromarray(np.full((4, 6), 90, np.uint8)).save(tmp_path / "c.png")
    logger = TensorBoard(tmp_path)
    logger.log({"x": 1.0}, 9)
    logger.confusion_matrix([0], [0], ["a"], tmp_path / "c.png")
    logger.artifact(tmp_path / "missing", "student")
    logger.finish({})
    (picture,) = read_events(tmp_path).Images("confusion_matrix")
    assert (picture.step, picture.width, picture.height) == (9, 6, 4)


def test_tensorboard_that_is_not_installed_is_refused_before_a_run_begins(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=r"tensorboard is not installed\. Type pip install -e '\.\[tensorboard\]', or"):
        TensorBoard(tmp_path)
    assert not list(tmp_path.iterdir())


def test_loggers_of_which_several_are_chosen_are_refused(tmp_path):
    for words in ("logger=[wandb,csv]", "logger=[csv,wandb]"):
        with pytest.raises(
            SystemExit, match=r"logger: one goes with metrics\.jsonl, not several\. Type logger=wandb, tens"
        ):
            job("teacher=none", "loss=[ce]", words, store=tmp_path / "store", runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
