"""A finished run teaches: alone, in a sweep, in an ensemble; it is known by its weights, not by where it lies."""

import errno
import json
import shutil
from dataclasses import replace
from functools import reduce
from types import SimpleNamespace

import numpy as np
import pytest
from commandline import command, distill
from filelock import FileLock
from hydra import compose, initialize_config_module
from inside import SMALL, folder_of, job, read, resolved
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from distill.config import schema as config
from distill.config.schema import WEIGHTS_SHA256
from distill.evaluation.inference import read_predictions
from distill.pipeline import teacher as prepared
from distill.pipeline import validation
from distill.pipeline.completed import header
from distill.runs.result import RunResult
from distill.system.files import digest, sha256

ALONE = ("teacher=none", "loss=[ce]", "train.epochs=1")
MANY = SimpleNamespace(splits={"train": range(30_000)})  # faces, of which a teacher's own epochs are enough
ANSWERS = RunResult(data={"classes": ["a", "b"], "rows": {"valid": 64}}, student={"metrics": {}})
ONCE = ("train.epochs=1", "teacher.precision=fp32")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def assistant(store, tmp_path_factory):
    """A finished run, moved to a folder whose name hydra would not read unquoted."""
    runs = tmp_path_factory.mktemp("runs")
    job(*ALONE, "student.pooling=none", store=store, runs=runs)
    return folder_of(runs).rename(runs / "the assistant's, seed=0 (one)")


@pytest.fixture(scope="module")
def taught(assistant, store, tmp_path_factory):
    runs = tmp_path_factory.mktemp("taught")
    return job("teacher=run", f"teacher.run={assistant}", *ONCE, store=store, runs=runs), folder_of(runs)


def test_a_finished_run_is_a_teacher_with_the_numbers_that_it_had_as_a_student(assistant, taught):
    printed, folder = taught
    ours, theirs = read(folder)["teacher"], read(assistant)["student"]
    assert ours["name"] == "microexpnet" and ours["num_parameters"] == theirs["num_parameters"]
    shared = [name for name in theirs["metrics"] if name.endswith(("accuracy", "nll"))]
    assert len(shared) == 6
    assert all(ours["metrics"][name] == pytest.approx(theirs["metrics"][name], abs=1e-5) for name in shared)
    assert str(assistant) in printed and "It learned from other pictures" not in printed
    assert ours["saw_same_data"] is True


def test_a_copy_of_the_run_is_the_same_teacher_and_other_weights_are_another(assistant, taught, store, tmp_path):
    before = taught[1]
    copy = shutil.copytree(assistant, tmp_path / "copy")
    again = job("teacher=run", f"teacher.run={copy}", *ONCE, store=store, runs=before.parent)
    assert "is complete; nothing to do" in again and folder_of(before.parent) == before
    file = copy / "checkpoints" / "best.safetensors"
    tensors = load_file(file)
    other = {"network": json.dumps(header(assistant))}
    save_file({name: tensor + 0.01 for name, tensor in tensors.items()}, file, other)
    job("teacher=run", f"teacher.run={copy}", *ONCE, store=store, runs=tmp_path / "runs")
    second = folder_of(tmp_path / "runs")
    assert second.name != before.name and read(second)["teacher_forward_images"] > 0
    with pytest.raises(SystemExit, match=r"teacher\.sha256: got [0-9a-f]{64}, but the weights in .*copy are"):
        sha = OmegaConf.load(before / "config.yaml").teacher.sha256
        job("teacher=run", f"teacher.run={copy}", f"teacher.sha256={sha}", store=store, runs=tmp_path / "runs")


def test_sweep_over_two_runs_as_teachers_makes_two_jobs(assistant, taught, store, tmp_path):
    both = ",".join("'" + str(folder).replace("'", r"\'") + "'" for folder in (assistant, taught[1]))
    words = ("-m", "teacher=run", f"teacher.run={both}", "train.epochs=1")
    done = distill(*SMALL, *words, store=store, runs=tmp_path)
    assert done.returncode == 0, done.stderr
    results = [json.loads(path.read_text()) for path in tmp_path.glob("*/result.json")]
    assert len({result["teacher"]["weights"][0] for result in results}) == 2
    assert {result["status"] for result in results} == {"complete"}


def test_a_run_and_a_timm_network_answer_as_one_by_their_weights(assistant, store, tmp_path):
    tiny = ("name=test_resnet", "pretrained=false", "size=32", "train.epochs=1", "train.batch_size=32")
    words = [
        "teacher=ensemble",
        "teacher@teacher.members.first=run",
        f"teacher.members.first.run={assistant}",
        "teacher@teacher.members.second=timm",
    ]
    words += [*(f"teacher.members.second.{key}" for key in tiny), *ONCE]
    found = {}
    for k, shares in enumerate(("[0.7,0.3]", "[1,0]", "[0,1]")):
        runs = tmp_path / str(k)
        job(*words, f"teacher.weights={shares}", store=store, runs=runs)
        result = read(folder_of(runs))
        found[shares] = result["teacher"]["metrics"]["test/nll"]
    assert found["[1,0]"] == pytest.approx(read(assistant)["student"]["metrics"]["test/nll"], abs=1e-5)
    assert result["teacher"]["num_parameters"] == read(assistant)["student"]["num_parameters"] + 373_464
    assert len(set(found.values())) == 3
    # the logarithm is concave: a mixture's mean loss is at most the mean of the members' losses
    assert found["[0.7,0.3]"] <= 0.7 * found["[1,0]"] + 0.3 * found["[0,1]"] + 1e-6


def test_a_run_that_answers_by_its_teachers_classifier_teaches_with_it(store, tmp_path):
    job(
        "loss=[simkd]", "teacher.cache=false", "teacher.size=64", "train.epochs=1", store=store, runs=tmp_path / "first"
    )
    first = folder_of(tmp_path / "first")
    job("teacher=run", f"teacher.run={first}", *ONCE, store=store, runs=tmp_path / "second")
    ours, theirs = read(folder_of(tmp_path / "second"))["teacher"]["metrics"], read(first)["student"]["metrics"]
    assert ours["test/nll"] == pytest.approx(theirs["test/nll"], abs=1e-5)


def test_a_folder_without_a_finished_run_gets_a_sentence(assistant, store, tmp_path):
    unfinished = shutil.copytree(assistant, tmp_path / "whole" / "unfinished")
    (unfinished / "result.json").write_text('{"status": "failed", "error": "ValueError: no such loss"}')
    for folder, words in (
        (tmp_path / "nowhere", "nowhere: no such folder. Give the run folder"),
        (
            unfinished,
            r"unfinished: this run is not finished \(ValueError: no such loss\)\. Its own command, typed again",
        ),
        (tmp_path / "whole", "whole: holds several runs. Give one of them, such as .*unfinished"),
    ):
        with pytest.raises(SystemExit, match=words):
            job("teacher=run", f"teacher.run={folder}", store=store, runs=tmp_path / "runs")


def test_a_run_that_saw_other_data_says_so_aloud(assistant, store, tmp_path):
    printed = job(
        "teacher=run", f"teacher.run={assistant}", "data.seed=1", "train.epochs=1", store=store, runs=tmp_path
    )
    assert "make sure that it saw no test face of this one" in printed
    assert read(folder_of(tmp_path))["teacher"]["saw_same_data"] is False


@pytest.mark.parametrize("where", ["teacher", "teacher.members.second"])
def test_all_folds_are_not_taught_by_one_run_which_learned_from_their_test_faces(where):
    words = ["data=ckplus", "data.root=faces", "teacher=resnet50" if where == "teacher" else "teacher=ensemble"]
    words += [f"{'teacher' if where == 'teacher' else f'teacher@{where}'}=run", f"{where}.run=an/assistant"]
    sentence = r"^data\.fold: got all, but the teacher an/assistant is one finished run.* or type data\.fold=K"
    with pytest.raises(ValueError, match=sentence):
        validation.validate(composed(*words, "data.fold=all"))
    validation.validate(composed(*words, "data.fold=1"))
    validation.validate(composed(*words[:2], "data.fold=all", "teacher=resnet50"))


def test_predictions_name_the_teachers_choice(taught, assistant):
    classes = read(assistant)["data"]["classes"]
    probabilities, _, _ = read_predictions(assistant / "predictions" / "test.csv", classes)
    rows = (taught[1] / "predictions" / "test.csv").read_text().splitlines()[1:]
    assert [row.split(",")[3] for row in rows] == [classes[k] for k in np.argmax(probabilities, 1)]


@pytest.mark.parametrize(
    "typed, meant",
    [
        ("teacher=run:runs/a", r"Type teacher=run teacher\.run=runs/a$"),
        (
            "+teacher@teacher.members.third=run:a b",
            r"Type \+teacher@teacher\.members\.third=run teacher\.members\.third\.run=a b$",
        ),
    ],
)
def test_a_run_named_in_the_choice_of_the_teacher_is_told_its_two_words(typed, meant, store, tmp_path):
    with pytest.raises(SystemExit, match=meant):
        job(typed, store=store, runs=tmp_path)


# Weight files


def composed(*words):
    with initialize_config_module("conf", version_base="1.3"):
        return config.typed(compose("run", overrides=list(words)))


@pytest.mark.parametrize("key", ["student", "teacher", "teacher.members.second", "teacher.student"])
def test_a_run_is_named_by_what_its_weight_files_hold(tmp_path, monkeypatch, key):
    monkeypatch.chdir(tmp_path)
    chosen = {"teacher.student": "teacher=peer", "teacher.members.second": "teacher=ensemble"}.get(
        key, "teacher=resnet50"
    )
    (tmp_path / "a").write_bytes(b"one")

    def of(file):
        cfg = composed("data=procedural", chosen, f"+student@{key}=cern") if key == "teacher.student" else None
        cfg = cfg or composed("data=procedural", chosen)
        reduce(dict.__getitem__, key.split("."), vars(cfg))["weights"] = file
        return cfg

    def named(file):
        cfg = of(file)
        return config.run_name(cfg), resolved(cfg)

    (first, settled), (absolute, _), (none, bare) = named("./a"), named(str(tmp_path / "a")), named(None)
    shutil.copy("a", "b")
    assert first == absolute == named("b")[0] == config.run_name(settled) != none
    (tmp_path / "a").write_bytes(b"two")
    assert named("./a")[0] != first == config.run_name(settled), "it is known by what it held when it began"
    assert config.run_name(of("nowhere")) not in (first, none) and bare == resolved(bare)
    assert WEIGHTS_SHA256 not in str(bare) and str(settled).count(WEIGHTS_SHA256) == 1


def test_a_folder_whose_run_began_with_other_weights_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "start.safetensors"
    file.write_bytes(b"one")
    words = command(*SMALL, *ALONE, f"student.weights={file}", store=tmp_path, runs=tmp_path)[3:]
    resolved(composed(*words)).write(tmp_path / "config.yaml")
    file.write_bytes(b"two")
    with pytest.raises(SystemExit, match=r"holds another run; its student\.weights is "):
        job(*ALONE, f"student.weights={file}", f"paths.run={tmp_path}", store=tmp_path, runs=tmp_path)


def test_a_stored_teacher_that_starts_from_a_file_is_found_by_the_key_that_it_always_had(tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(prepared, "find_or_train", lambda folder, train: found.append(folder.name) or folder)
    monkeypatch.setattr("distill.build.fingerprint", lambda data: "faces")
    monkeypatch.setattr(prepared, "_intact_result", lambda folder: ANSWERS)
    file = tmp_path / "start.safetensors"
    file.write_bytes(b"one")
    cfg = composed("data=procedural", "teacher=resnet50", f"paths.store={tmp_path}")
    inner = config.teacher_run(cfg, cfg.teacher)
    recipe = config.learning(inner)
    del cfg.teacher["weights"]  # as a yaml of one's own may have it
    prepared.teacher_weights(cfg, MANY, None)
    for weights in (None, str(file)):
        cfg.teacher["weights"] = weights
        recipe["student"] = recipe["student"] | ({"weights": sha256(file)} if weights else {})
        for one in (cfg, resolved(cfg)):
            prepared.teacher_weights(one, MANY, None)
        assert found[-2:] == [f"resnet50-{digest([recipe, 'faces'])[:12]}"] * 2
    assert len(set(found)) == 2


def test_prepare_teacher_trained_under_another_default_is_refused(tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(prepared, "find_or_train", lambda folder, train: found.append(folder) or folder)
    monkeypatch.setattr("distill.build.fingerprint", lambda data: "faces")
    monkeypatch.setattr(prepared, "_intact_result", lambda folder: ANSWERS)
    cfg = composed("data=procedural", "teacher=resnet50", f"paths.store={tmp_path}")
    prepared.teacher_weights(cfg, MANY, None)
    found[0].path.mkdir(parents=True)
    inner = config.teacher_run(cfg, cfg.teacher)
    inner.write(found[0].config)
    prepared.teacher_weights(cfg, MANY, None)
    replace(inner, train=replace(inner.train, log_every_n_steps=60)).write(
        found[0].config
    )  # a default, when it was written
    with pytest.raises(ValueError, match=r"holds a teacher of another recipe: a default has changed"):
        prepared.teacher_weights(cfg, MANY, None)


def test_a_student_starts_from_a_weight_file_and_its_file_names_no_such_start(assistant, store, tmp_path):
    file = assistant / "checkpoints" / "best.safetensors"
    job(
        *ALONE,
        "student.pooling=none",
        f"student.weights='{str(file).replace(chr(39), chr(92) + chr(39))}'",
        store=store,
        runs=tmp_path,
    )
    folder = folder_of(tmp_path)
    assert OmegaConf.load(folder / "config.yaml").student[WEIGHTS_SHA256] == sha256(file)
    assert header(folder).keys() == header(assistant).keys()


def test_a_store_that_cannot_be_written_serves_what_is_in_it_and_says_what_to_type_for_more(
    store, tmp_path, monkeypatch
):
    real = FileLock.acquire

    def acquire(lock, *arguments, **more):
        if lock.lock_file.startswith(str(store)):
            raise OSError(errno.EROFS, "Read-only file system", lock.lock_file)
        return real(lock, *arguments, **more)

    job(*ONCE, store=store, runs=tmp_path)
    monkeypatch.setattr(FileLock, "acquire", acquire)
    assert "teacher forward passes in this run: 0 faces" in job(*ONCE, "seed=1", store=store, runs=tmp_path)
    for missing, word in (("logits", "train.epochs=2"), ("teachers", "teacher.seed=1"), ("packed", "data.train=65")):
        with pytest.raises(SystemExit, match=rf"{store}/{missing}.*: Read-only file system, .* Type paths\.store=DIR"):
            job(*ONCE, word, store=store, runs=tmp_path)
