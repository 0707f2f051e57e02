"""A finished run measured on other faces, as a person types it: nothing is trained, result.json stays as it is."""

import csv
import json
import shutil
import sys

import ferplus_tree as tree
import pytest
import warm
from commandline import ROOT, distill, environment, result_of
from face_trees import save, write_class_folders, write_lines

from distill import measure as command_line
from distill.data.common.emotions import EMOTIONS, SEVEN

FEDRO = ("neural", "happy", "sad", "surprise", "fear", "disgust", "anger")  # spelled as distributed


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A finished run on a tiny FER+, and other faces."""
    home = tmp_path_factory.mktemp("home")
    root = tree.write_folders(home / "fer")
    write_lines(root / "pose_45_list.txt", ["4/fer0032224.jpg"])
    for name in FEDRO:
        for i in range(4):
            save(home / "fedro" / "FED_RO_crop" / name / f"{name} {i:02d}.jpg")
    (home / "fedro" / "FED_RO_crop" / "happy" / "words.txt").write_text("no picture")
    job = ("data=ferplus", f"data.root={root}", "teacher=none", "loss=[ce]", "train.epochs=1", "train.batch_size=8")
    done = distill(*job, store=home / "store", runs=home / "runs")
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture(scope="module")
def folder(home):
    return next((home / "runs").iterdir())


def measure(*words):
    command = [sys.executable, "-m", "distill.measure", *map(str, words)]
    return warm.run(command, ROOT, environment())


def written(done, folder):
    """What the one new file of a measurement holds, and its rows."""
    assert done.returncode == 0, done.stderr
    path = next(path for path in (folder / "measured").glob("*.json") if f"written: {path}" in done.stdout)
    with open(path.with_suffix(".csv"), newline="") as file:
        return json.loads(path.read_text()), list(csv.DictReader(file))


def test_a_student_of_eight_classes_is_measured_on_a_test_set_of_seven(home, folder):
    before = (folder / "result.json").read_bytes()
    words = (
        "data=fedro",
        f"data.root={home / 'fedro'}",
        "data.test=1",
        "eval.robustness=[dark]",
        "eval.severities=[2]",
    )
    done = measure(folder, *words)
    found, rows = written(done, folder)
    assert found["classes"] == {"compared": list(SEVEN), "only_run": ["contempt"], "only_data": []}
    assert "the run's logits of contempt are left out" in done.stdout and "FED-RO; test: all pictures" in done.stdout
    assert "data: 1 file left out: 1 no picture (happy/words.txt)" in done.stdout
    assert found["test"]["rows"] == len(rows) == 28 and found["data"]["name"] == "fedro"
    assert sum(row["label"] == row["prediction"] for row in rows) / 28 == found["test"]["top1_accuracy"]
    for name, share in found["recall"].items():
        answers = [row["prediction"] for row in rows if row["label"] == name]
        assert share == pytest.approx(answers.count(name) / len(answers))
    low, high = found["test"]["top1_accuracy_ci"]
    assert 0 <= low <= found["test"]["top1_accuracy"] <= high <= 1
    names = dict(zip(FEDRO, ("neutral", "happiness", "sadness", "surprise", *FEDRO[4:]), strict=True))
    assert [row["label"] for row in rows] == [names[row["id"].partition("/")[0]] for row in rows]
    assert all(abs(sum(float(row[f"p_{name}"]) for name in SEVEN) - 1) < 1e-4 for row in rows), "of the seven logits"
    assert set(found["robustness"]["corruptions"]) == {"dark"} and found["command"].endswith("'eval.severities=[2]'")
    assert len(found["data"]["fingerprint"]) == 64 and found["dropped"] == {} and found["seen_in_training"] == 0
    done = measure(folder, *words, "data.size=100")  # of another size than the run's own
    assert written(done, folder)[0]["seen_in_training"] is None
    assert (
        "is not known: its own data are not there as it saw them, or their pictures are of another size" in done.stdout
    )
    assert (folder / "result.json").read_bytes() == before


def test_measure_without_other_data_finds_the_run_s_own_numbers(home, folder):
    found, rows = written(measure(folder, "data.test_subset=pose45"), folder)
    result = result_of(home / "runs")
    ours = {f"test/{key}": value for key, value in found["test"].items() if key != "rows"}
    assert ours == {key: value for key, value in result["student"]["metrics"].items() if key.startswith("test/")}
    assert (
        found["data"]["fingerprint"] == result["data"]["fingerprint"]
        and found["extra_test_splits"]["pose45"]["rows"] == 1
    )
    assert result["extra_test_splits"].items() <= found["extra_test_splits"].items()
    with open(folder / "predictions" / "test.csv", newline="") as file:
        assert rows == list(csv.DictReader(file))


def test_faces_of_a_class_that_the_student_never_learned_are_left_out_loudly(home, folder):
    write_class_folders(home / "mine", names=("sad", "happy", "bored"), number=5)
    done = measure(folder, "data=folder", f"data.root={home / 'mine'}", "data.test=1", "eval.tta=mirror")
    found, rows = written(done, folder)
    assert found["classes"]["compared"] == ["happiness", "sadness"] and found["classes"]["only_data"] == ["bored"]
    assert found["dropped"] == {"bored": 5} and found["test"]["rows"] == 10 and found["eval"]["tta"] == "mirror"
    assert {row["label"] for row in rows} == {"happiness", "sadness"} >= {row["prediction"] for row in rows}
    assert "*** LEFT OUT of the test faces, because the run does not know them: 5 of bored" in done.stdout


def test_test_faces_that_the_run_learned_from_are_counted_aloud(home, tmp_path):
    root = write_class_folders(home / "learned", names=("sad", "happy"), number=20)
    job = ("data=folder", f"data.root={root}", "teacher=none", "loss=[ce]", "train.epochs=1", "train.batch_size=8")
    job += ("data.size=40", "data.channels=1")  # measure knows them by itself
    assert distill(*job, store=home / "store", runs=tmp_path).returncode == 0
    (own,) = tmp_path.iterdir()
    learned = sum(result_of(tmp_path)["data"]["rows"][name] for name in ("train", "valid"))
    done = measure(own, "data.test=1")
    assert written(done, own)[0]["seen_in_training"] == learned > 0 and f"*** {learned} of the test" in done.stdout
    plain = written(measure(own), own)[0]
    assert plain["seen_in_training"] == 0 and plain["unseen"] == {}
    some = shutil.copytree(root, tmp_path.parent / "some")
    next(some.rglob("*.png")).unlink()
    found = written(measure(own, "data=folder", f"data.root={some}", "data.test=1"), own)[0]
    assert learned - 1 <= found["seen_in_training"] <= learned and found["test"]["rows"] == 39, (
        "another pack of these faces"
    )
    assert found["unseen"]["rows"] == 39 - found["seen_in_training"]
    shutil.rmtree(root)
    done = measure(own, "data=folder", f"data.root={some}", "data.test=1")
    assert written(done, own)[0]["seen_in_training"] is None and "is not known" in done.stdout


def test_a_run_refuses_data_without_train_and_names_the_command_that_does_not(home, tmp_path):
    words = ("data=fedro", f"data.root={home / 'fedro'}", "data.test=1", "teacher=none", "loss=[ce]")
    done = distill(*words, store=home / "store", runs=tmp_path)
    assert done.returncode == 1 and "has no train and no valid split" in done.stderr
    assert "python -m distill.measure RUN" in done.stderr


BAD = [
    ("paths.store=null", "paths.store: expected a word"),
    ("paths.store=", "paths.store: is empty. Type a path"),
    ("plugins=[5]", "plugins: expected a list of names, such as plugins=[mypackage], got ['5']"),
    ("student.width=2", "student.width=2: cannot be asked of a finished run. Type KEY=VALUE with data, data.KEY"),
    ("sede=1", "sede=1: cannot be asked of a finished run"),
    ("data.rooot=x", "data.rooot: no such key of the run's own data, which has _target_, root, protocol"),
    ("eval.tat=plain", "eval.tat: no such key. Did you mean eval.tta"),
    ("eval.tta=plane", "eval.tta: expected plain, mirror, crops8, got 'plane'"),
    ("eval.cka=true", "eval.cka: compares with the teacher, which only the run's own command has"),
    (
        "eval.robustness=[masc]",
        "eval.robustness: expected one of mask, sunglasses, hand, patch, blur, noise, dark, rotate, got 'masc'",
    ),
    ("data=fedro", "data.root: must be given"),
]


@pytest.mark.parametrize("word, sentence", BAD)
def test_measure_of_what_cannot_be_measured_is_refused_in_one_sentence(folder, word, sentence, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(command_line, "loud_warnings", lambda: None)
    with pytest.raises(SystemExit) as stopped:
        command_line.main([str(folder), word])
    assert stopped.value.code.startswith(f"error: {sentence}") and "\n" not in stopped.value.code


def test_an_unset_variable_is_no_run(monkeypatch):
    with pytest.raises(SystemExit, match="error: which run"):
        command_line.main([""])


def test_a_path_is_typed_as_for_a_run_whatever_its_letters(folder, monkeypatch):
    monkeypatch.setattr(command_line, "loud_warnings", lambda: None)
    with pytest.raises(SystemExit, match=r"data\.root: .*/日本 [(]x[)] does not exist"):
        command_line.main([str(folder), "data=fedro", "data.root=日本 (x)"])


def test_a_config_that_was_damaged_since_is_said_in_one_sentence(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(command_line, "loud_warnings", lambda: None)
    copy = shutil.copytree(folder, tmp_path / "run")
    for text in ("data: {", "data: 1", "5", "a: ${", ""):
        (copy / "config.yaml").write_text(text)
        with pytest.raises(SystemExit) as stopped:
            command_line.main([str(copy)])
        assert stopped.value.code.startswith(f"error: {copy / 'config.yaml'}: damaged, or no config of a run (")


def test_a_list_that_is_not_there_is_said_in_one_sentence(folder):
    done = measure(folder, "data.test_subset=pose30")
    assert done.returncode == 1 and done.stderr.startswith("error: data.test_subset: pose30 needs pose_30_list.txt")
    assert done.stderr.count("\n") == 1


def test_data_of_other_classes_are_refused(home, folder):
    write_class_folders(home / "animals", names=("cat", "dog", "happy"), number=4)
    done = measure(folder, "data=folder", f"data.root={home / 'animals'}", "data.test=1")
    assert done.returncode == 1 and "less than two are the same" in done.stderr and EMOTIONS[7] in done.stderr


def test_a_folder_that_is_no_finished_run_is_refused(home, folder, tmp_path):
    for where, sentence in (
        (tmp_path, "no finished run is there. Give the run folder"),
        ("data=fedro", "which run? Its folder"),
    ):
        done = measure(where)
        assert done.returncode == 1 and sentence in done.stderr and "Traceback" not in done.stderr
    for name, text in (("config.yaml", (folder / "config.yaml").read_text()), ("result.json", '{"status": "failed"}')):
        (tmp_path / name).write_text(text)
    done = measure(tmp_path)
    assert done.returncode == 1 and "this run is not finished (status 'failed'). Its own command" in done.stderr


def test_a_folder_of_several_runs_names_one_of_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(command_line, "loud_warnings", lambda: None)
    places = {
        "folds": ["fold-0", "fold-1"],
        "generations": ["generation-1"],
        "both": ["fold-0/generation-1", "fold-0/generation-2"],
    }
    for name, inner in places.items():
        for part in [".", *inner]:
            (tmp_path / name / part).mkdir(parents=True, exist_ok=True)
            (tmp_path / name / part / "config.yaml").write_text("seed: 0\n")
        (tmp_path / name / "result.json").write_text('{"status": "complete"}')
        with pytest.raises(SystemExit) as stopped:
            command_line.main([str(tmp_path / name)])
        said = f"error: {tmp_path / name}: holds several runs. Give one of them, such as {tmp_path / name / inner[-1]}."
        assert stopped.value.code == said
