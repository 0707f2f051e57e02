"""The main command, as a person types it."""

import csv
import json
import re

import pytest
import torch
from commandline import ROOT, distill, files, result_of
from offline_run import of_kind, records, summary
from safetensors.torch import load_file, save_file


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def first(store, tmp_path_factory):
    runs = tmp_path_factory.mktemp("first")
    return distill(store=store, runs=runs), runs


def test_one_command_trains_a_teacher_and_a_student_and_leaves_a_run_folder(first):
    done, runs = first
    assert done.returncode == 0, done.stderr
    (folder,) = runs.iterdir()
    for name in ("config.yaml", "env.json", "metrics.jsonl", "predictions/test.csv", "predictions/valid.csv"):
        assert (folder / name).stat().st_size > 0
    result = json.loads((folder / "result.json").read_text())
    assert result["status"] == "complete"
    assert 0 <= result["student"]["metrics"]["test/top1_accuracy"] <= 1
    assert result["student"]["num_parameters"] == 65_000
    assert result["teacher"]["metrics"]["test/top1_accuracy"] > 0
    assert result["teacher_forward_images"] == 2 * 192 + 64 + 64
    assert (folder / "checkpoints" / "best.safetensors").exists()


def test_the_command_ends_with_a_table_and_says_where_the_run_is_and_what_to_type_next(first):
    done, runs = first
    for words in (
        "teacher test_resnet",
        "student microexpnet",
        "mean-class",
        "agreement",
        "65,000",
        "MACs",
        "images/s, one thread",
        "data=ferplus",
    ):
        assert words in done.stdout, done.stdout
    shown = (ROOT / "docs" / "first-run.txt").read_text()  # as README has it
    for label in re.findall(r"^│ (.*?) +│|^([a-z -]+:)", shown, re.MULTILINE):
        assert max(label) in done.stdout, f"{max(label)} is not printed any more: run README's first job"
    assert str(next(runs.iterdir())) in done.stdout


def test_predictions_name_every_face_once_with_probabilities_that_sum_to_one(first):
    with open(next(first[1].iterdir()) / "predictions" / "test.csv") as file:
        rows = list(csv.DictReader(file))
    assert len({row["id"] for row in rows}) == 64
    assert all(abs(sum(float(v) for k, v in row.items() if k.startswith("p_")) - 1) < 1e-4 for row in rows)


def test_the_best_weights_hold_the_student_alone_and_say_what_they_are(first):
    weights = load_file(next(first[1].glob("*/checkpoints/best.safetensors")))
    assert sum(tensor.numel() for tensor in weights.values()) == 65_000


def test_the_same_command_again_does_nothing_and_shows_the_table(first, store):
    before = files(first[1])
    again = distill(store=store, runs=first[1])
    assert again.returncode == 0 and "is complete; nothing to do" in again.stdout and "65,000" in again.stdout
    assert files(first[1]) == before


@pytest.mark.parametrize(
    "change",
    [
        ("loss=[ce,kd]", "loss.kd.temperature=8"),
        ("student.width=M", "student.pooling=none"),
        ("loss.ce.weight=0.5", "seed=7"),
    ],
)
def test_a_run_that_changes_only_the_student_does_no_teacher_forward(first, store, tmp_path, change):
    done = distill(*change, store=store, runs=tmp_path)
    assert done.returncode == 0, done.stderr
    assert result_of(tmp_path)["teacher_forward_images"] == 0
    assert "found in" in done.stdout


def test_a_live_teacher_gives_the_same_numbers_as_the_cache(first, store, tmp_path):
    precision = ("teacher.precision=fp32", "train.precision=fp32", "train.epochs=1")
    for cache in ("true", "false"):
        done = distill(f"teacher.cache={cache}", *precision, store=store, runs=tmp_path / cache)
        assert done.returncode == 0, done.stderr
    cached, live = (result_of(tmp_path / cache) for cache in ("true", "false"))
    ours, theirs = live["student"]["metrics"], cached["student"]["metrics"]
    assert ours.keys() == theirs.keys()
    assert all(ours[name] == pytest.approx(theirs[name], abs=1e-3) for name in theirs)
    assert live["teacher_forward_images"] >= 192


def test_labels_alone_need_no_teacher(first, store, tmp_path):
    done = distill("teacher=none", "loss=[ce]", store=store, runs=tmp_path)
    assert done.returncode == 0, done.stderr
    result = result_of(tmp_path)
    assert result["teacher"] is None and result["teacher_forward_images"] == 0


def test_losses_of_a_teacher_without_any_teacher_are_refused_before_training(store, tmp_path):
    done = distill("teacher=none", "loss=[kd,dist]", store=store, runs=tmp_path)
    assert done.returncode == 1 and "kd, dist need a teacher. Type loss=[ce]" in done.stderr


BAD = [
    (("student.poolling=both",), "Did you mean student.pooling"),
    (("train.monitor=test/top1_accuracy",), "chosen on validation alone"),
    (("train.monitor=valid/f1",), "valid/top1_accuracy"),
    (("student.pooling=third",), "student.pooling: expected none, first, second or both, got 'third'"),
    (("student.size=large",), "student.size: expected a whole number, got 'large'"),
    (("optimizer.lr=fast",), "optimizer.lr: expected a finite number, got 'fast'"),
    (("teacher.name=resnet5O",), "resnet50"),
    (("teacher.weights=nowhere.safetensors",), f"teacher.weights: {ROOT / 'nowhere.safetensors'}: no such weight file"),
    (("loss=[ce,kd]", "loss.kd.temperature=0"), "loss.kd.temperature"),
    (("student._target_=os.system",), "os.system is not from"),
    (("optimizer.name=adagrad",), "Choose one of adamw"),
    (("data=ferplus", "data.root=nowhere"), "nowhere"),
]


@pytest.mark.parametrize("overrides, words", BAD, ids=[b[0][-1] for b in BAD])
def test_bad_input_ends_in_one_sentence_before_a_teacher_is_trained(tmp_path, overrides, words):
    done = distill(*overrides, store=tmp_path / "store", runs=tmp_path / "runs")
    assert done.returncode == 1
    assert words in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("store/teachers/*/checkpoints/*")), done.stdout


def test_a_loss_that_is_not_finite_stops_the_run_with_the_terms_name(first, store, tmp_path):
    done = distill("optimizer.lr=1e30", "train.ema_decay=0", "loss.ce.apply_to=logits", store=store, runs=tmp_path)
    assert done.returncode == 1 and "loss term" in done.stderr and "at step" in done.stderr
    assert result_of(tmp_path)["status"] == "failed"


def test_an_ensemble_fine_tunes_its_members_and_answers_as_one(store, tmp_path):
    members = ("first", "second")
    words = ["teacher=ensemble", "train.epochs=1", *(f"teacher@teacher.members.{name}=timm" for name in members)]
    for name in members:
        tiny = ("name=test_resnet", "pretrained=false", "size=32", "train.epochs=1")
        words += [f"teacher.members.{name}.{key}" for key in tiny]
    done = distill(*words, "teacher.members.second.seed=1", store=store, runs=tmp_path)
    assert done.returncode == 0, done.stderr
    result = result_of(tmp_path)
    assert result["teacher"]["num_parameters"] == 2 * 373_464 and result["teacher_forward_images"] == 2 * (
        192 + 64 + 64
    )


def test_a_teacher_of_other_classes_is_refused_unless_it_is_fine_tuned(first, store, tmp_path):
    weights = next((store / "teachers").glob("*/checkpoints/best.safetensors"))
    tensors = {name.removeprefix("net."): tensor for name, tensor in load_file(weights).items()}
    classes = ["happiness", "neutral", "surprise", "sadness", "anger", "disgust", "fear", "bored"]
    save_file(tensors, tmp_path / "other.safetensors", {"classes": json.dumps(classes)})
    weights = f"teacher.weights={tmp_path / 'other.safetensors'}"
    done = distill(weights, "teacher.train.epochs=0", store=store, runs=tmp_path / "runs")
    assert done.returncode == 1 and "it teaches no contempt. Choose teacher.train.epochs=10" in done.stderr
    assert "starts anew" not in done.stdout


def test_a_finished_teacher_is_used_as_it_is_when_no_epoch_is_asked_for(first, store, tmp_path):
    (weights,) = result_of(first[1])["teacher"]["weights"]
    done = distill(f"teacher.weights={weights}", "teacher.train.epochs=0", store=store, runs=tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    ours, theirs = (result_of(runs)["teacher"]["metrics"] for runs in (tmp_path / "runs", first[1]))
    assert ours.keys() == theirs.keys()
    assert all(ours[name] == pytest.approx(theirs[name], abs=1e-6) for name in theirs)


@pytest.mark.parametrize("weights", [None, "headless.safetensors"])
def test_a_teacher_that_is_not_finished_cannot_skip_its_fine_tuning(first, store, tmp_path, weights):
    words = ["teacher.train.epochs=0"]
    if weights:
        (whole,) = result_of(first[1])["teacher"]["weights"]
        save_file({n: t for n, t in load_file(whole).items() if ".fc." not in n}, tmp_path / weights)
        words.append(f"teacher.weights={tmp_path / weights}")
    done = distill(*words, store=store, runs=tmp_path / "runs")
    assert done.returncode == 1 and "with its classifier" in done.stderr


def test_a_cache_of_another_teacher_is_refused_and_the_differing_field_named(first, store, tmp_path):
    own = (f"teacher.cache={tmp_path / 'cache'}", "train.epochs=1")
    assert distill(*own, store=store, runs=tmp_path / "runs").returncode == 0
    done = distill(*own, "augment.seed=3", store=store, runs=tmp_path / "runs")
    assert done.returncode == 1 and "its 'view_seed' is 0, this run needs 3" in done.stderr


def test_a_run_folder_of_another_student_is_refused(first, store, tmp_path):
    folder = next(first[1].iterdir())
    done = distill(f"paths.run={folder}", "student.width=M", store=store, runs=tmp_path)
    assert done.returncode == 1 and "holds another run; its student.width is" in done.stderr


def test_a_damaged_checkpoint_is_named(first, store, tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "last.pt").write_bytes(b"not a checkpoint")
    done = distill(f"paths.run={tmp_path / 'run'}", "seed=5", store=store, runs=tmp_path)
    assert done.returncode == 1 and "last.pt: not a readable checkpoint" in done.stderr


def test_a_checkpoint_that_hides_code_is_not_executed(first, store, tmp_path):
    class Malice:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    torch.save({"at": Malice()}, tmp_path / "run" / "checkpoints" / "last.pt")
    done = distill(f"paths.run={tmp_path / 'run'}", "seed=5", store=store, runs=tmp_path)
    assert done.returncode == 1 and not (tmp_path / "harm").exists()


def test_pretrained_weights_out_of_reach_are_an_error_when_insisted_on(store, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    done = distill("teacher.pretrained=true", store=store, runs=tmp_path / "runs")
    assert done.returncode == 1 and "out of reach" in done.stderr


def test_pretrained_weights_out_of_reach_are_said_once_and_the_teacher_starts_from_scratch(
    store, tmp_path, monkeypatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    done = distill("teacher.pretrained=null", "train.epochs=1", store=store, runs=tmp_path / "runs")
    assert done.returncode == 0 and done.stderr.count("FROM SCRATCH") == 1, done.stderr


def test_each_job_of_a_sweep_is_a_wandb_run_of_one_group_and_ends_there_as_it_does_here(first, store, tmp_path):
    distill("-m", "logger=wandb", "train.epochs=1", "optimizer.lr=1e30,2e-3", store=store, runs=tmp_path)
    folders = [path.parent for path in tmp_path.glob("*/result.json")]
    states = {folder: json.loads((folder / "result.json").read_text())["status"] for folder in folders}
    mirrors = {folder: records(folder) for folder in folders}
    headers = [of_kind(found, "run")[0] for found in mirrors.values()]
    assert len({header.run_id for header in headers}) == 2 and len({header.run_group for header in headers}) == 1
    assert headers[0].run_group
    assert {header.display_name for header in headers} == {"lr=1e+30", "lr=0.002"}, "as the sweep's links are called"
    tags = {"data=procedural", "teacher=test_resnet", "student=microexpnet", "loss=ce"}
    assert all(tags <= set(header.tags) for header in headers)
    for folder, found in mirrors.items():
        assert of_kind(found, "exit")[0].exit_code == (states[folder] == "failed")
    whole = next(folder for folder in folders if states[folder] == "complete")
    best = json.loads((whole / "result.json").read_text())["student"]["metrics"]["valid/top1_accuracy"]
    numbers = summary(mirrors[whole])
    assert numbers["valid/top1_accuracy"] == pytest.approx(best)
    assert "student/num_parameters" in numbers and not [name for name in numbers if name.startswith("student/metrics/")]
