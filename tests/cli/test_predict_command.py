"""What python -m distill.predict writes and where, which students it takes, and what it says of those that are none."""

import csv
import json
import pickle
import re
import shlex
import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from commandline import ROOT, environment
from PIL import Image
from predicting import interrupt_after, noise, predict, rows, write_student

from distill.data.common.emotions import EMOTIONS
from distill.predict import detector, job, output, student
from distill.predict.pipeline import Frame, FrameResult
from distill.runs import published


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_student(tmp_path_factory.mktemp("predict") / "a run")


def test_standard_output_holds_nothing_but_what_was_asked_for(run, tmp_path, capsys):
    Image.fromarray(noise(48, 48)).save(tmp_path / "a.png")
    _, out, err = predict(capsys, tmp_path, "--student", run, "--crops", "--csv", "-")
    assert len(list(csv.DictReader(out.splitlines()))) == 1 and "pictures/s" in err
    _, out, err = predict(capsys, tmp_path, "--student", run, "--crops", "--json", "-")
    assert len(json.loads(out)) == 1 and "a.png" in err
    assert predict(capsys, tmp_path, "--student", run, "--csv", "-", "--json", "-")[0] == 2


def test_boxes_with_absolute_paths_are_those_of_a_relative_folder(run, tmp_path, capsys, monkeypatch):
    (tmp_path / "in").mkdir()
    Image.fromarray(noise(48, 48)).save(tmp_path / "in" / "a.png")
    (tmp_path / "boxes.csv").write_text(f"{tmp_path}/in/a.png,1,2,30,40\n")
    monkeypatch.chdir(tmp_path)
    said, out, _ = predict(capsys, "in", "--student", run, "--boxes", "boxes.csv")
    assert said is None and "1 face: " in out


def test_a_drawing_that_cannot_be_written_is_a_sentence_and_the_rest_goes_on(run, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (66_000, 20)).save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "a.png").rename(
        tmp_path / "in" / "a.jpg"
    )  # its drawing is a JPEG, which has 65,500 pixels at most
    Image.fromarray(noise(48, 48)).save(tmp_path / "in" / "b.png")
    words = ("--student", run, "--crops", "--draw", tmp_path / "drawn", "--csv", tmp_path / "o.csv")
    said, out, err = predict(capsys, tmp_path / "in", *words)
    assert said == 1 and len(rows(tmp_path / "o.csv")) == 2 and "2 pictures" in out
    assert err.count("\n") == 1 and "a.jpg: not drawn: " in err and (tmp_path / "drawn" / "b.png").is_file()


def test_csv_cell_that_begins_as_a_formula_is_written_as_text(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ('=HYPERLINK("http:x").png', "+1.png", "-1.png", "@SUM(A1).png", "a=1.png")
    for name in names[1:]:
        Image.fromarray(noise(48, 48)).save(name)
    Path(names[0]).write_text("no picture")
    assert predict(capsys, ".", "--student", run, "--crops", "--csv", "o.csv")[0] == 1
    found = rows(tmp_path / "o.csv")
    assert sorted(row["file"] for row in found) == sorted([*(f"./{name}" for name in names[:4]), "a=1.png"])
    assert all(Path(row["file"]).is_file() for row in found)
    frame = Frame("a.png", None, (9, 9), np.ones((1, 4)), None)
    sink = output.Csv(text := StringIO(), ("=cmd", "sad"))
    sink.add(FrameResult(frame, np.array([[0.75, 0.25]])))
    header, row = text.getvalue().splitlines()
    assert ",'=cmd,sad,error" in header and ",'=cmd,0.75," in row


def test_brackets_in_names_are_printed_as_they_are(run, tmp_path, capsys):
    home = tmp_path / "[" / "x]" / "loss=[ce]"
    home.mkdir(parents=True)
    (home / "student.onnx").write_bytes((run / "export" / "student.onnx").read_bytes())
    Image.fromarray(noise(48, 48)).save(home / "[red]a.png")
    (home / "b.png").write_text("")
    said, out, err = predict(capsys, home, "--student", home, "--crops")
    assert said == 1 and f"by {home}: " in out and "[red]a.png" in out and f"error: {home}/b.png: " in err


def test_output_that_cannot_be_written_is_one_sentence(run, tmp_path):
    Image.fromarray(noise(48, 48)).save(tmp_path / "a.png")
    (tmp_path / "file").write_text("")
    words = [sys.executable, "-m", "distill.predict", str(tmp_path), "--crops", "--student", str(run)]
    full = Path("/dev/full")
    cases = [(["--csv", str(tmp_path / "file" / "o.csv")], subprocess.PIPE)]
    cases += [([], full.open("w")), (["--csv", "-"], full.open("w"))] if full.exists() else []
    for more, out in cases:
        done = subprocess.run(
            [*words, *more], cwd=ROOT, env=environment(), stdout=out, stderr=subprocess.PIPE, text=True
        )
        lines = [line for line in done.stderr.splitlines() if "pictures" not in line and "faces" not in line]
        assert done.returncode == 1 and [line[:7] for line in lines if line.startswith("error")] == ["error: "]
        assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux alone has a file that is always full")
def test_opened_full_disk_names_the_file():
    with pytest.raises(OSError) as told, output.opened("/dev/full") as file:
        file.write("a row")
    assert told.value.filename == "/dev/full"


def test_ctrl_c_before_anything_is_seen_is_one_word(run, tmp_path, capsys, monkeypatch):
    def interrupted(*words):
        raise KeyboardInterrupt

    Image.fromarray(noise(48, 48)).save(tmp_path / "a.png")
    monkeypatch.setattr(job, "open_student", interrupted)
    assert predict(capsys, tmp_path, "--student", run, "--crops")[::2] == (130, "stopped\n")


def test_ctrl_c_in_a_folder_keeps_what_was_seen_and_ends_with_130(run, tmp_path, capsys, monkeypatch):
    (tmp_path / "in").mkdir()
    for k in range(5):
        Image.fromarray(noise(48, 48, k)).save(tmp_path / "in" / f"{k}.png")
    interrupt_after(monkeypatch, 2)
    words = ("--student", run, "--crops", "--csv", tmp_path / "o.csv", "--json", tmp_path / "o.json")
    said, out, err = predict(capsys, tmp_path / "in", *words)
    assert said == 130 and err == "stopped; what was seen until here is kept\n" and "2 pictures" in out
    assert len(rows(tmp_path / "o.csv")) == len(json.loads((tmp_path / "o.json").read_text())) == 2


def test_a_file_that_cannot_be_read_keeps_its_place_among_the_answers(run, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in "aceg":
        Image.fromarray(noise(48, 48)).save(tmp_path / "in" / f"{name}.png")
    for name in "bf":
        (tmp_path / "in" / f"{name}.png").write_text("")
    words = ("--student", run, "--crops", "--csv", tmp_path / "o.csv", "--json", tmp_path / "o.json")
    assert predict(capsys, tmp_path / "in", *words, "--draw", tmp_path / "drawn")[0] == 1
    records, found = json.loads((tmp_path / "o.json").read_text()), rows(tmp_path / "o.csv")
    for answers in (records, found):
        assert [Path(one["file"]).name for one in answers] == [f"{name}.png" for name in "abcefg"]
        assert [one.get("error") or "" for one in answers] == [
            "",
            sentence := "the file is empty.",
            "",
            "",
            sentence,
            "",
        ]
    assert list(found[0])[-1] == "error" and "faces" not in records[1] and "error" not in records[0]
    assert {key for key, value in found[1].items() if value} == {"file", "error"}


def test_letters_that_standard_output_cannot_hold_are_escaped(run, tmp_path):
    Image.fromarray(noise(48, 48)).save(tmp_path / "käse 写真.png")
    words = [sys.executable, "-m", "distill.predict", str(tmp_path), "--crops", "--student", str(run)]
    around = environment() | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(words, cwd=ROOT, env=around, capture_output=True)
    out = done.stdout.decode("latin-1")
    assert done.returncode == 0 and "käse \\u5199\\u771f.png" in out and "1 picture," in out, done.stderr


def test_shipped_students_are_known_by_name_and_the_best_one_is_taken(run, tmp_path, monkeypatch):
    monkeypatch.setattr(published, "SHIPPED", tmp_path)
    with pytest.raises(ValueError, match="none comes with this installation"):
        student.find(None)
    for name in ("microexpnet", "ferlite_s", "another"):
        assert name not in published.shipped()
        (tmp_path / name).mkdir()
        file = "model.onnx" if name == "ferlite_s" else "model.int8.onnx"  # of a compact publication
        (tmp_path / name / file).write_bytes((run / "export" / "student.onnx").read_bytes())
    (tmp_path / "ferlite_s" / "model.int8.onnx").touch()
    assert list(published.shipped()) == ["another", "ferlite_s", "microexpnet"]
    assert student.find(None) == student.find("ferlite_s") == tmp_path / "ferlite_s" / "model.onnx"
    assert student.find("another") == student.find(tmp_path / "another") == tmp_path / "another" / "model.int8.onnx"
    assert student.open_student("microexpnet", 1).classes == EMOTIONS
    with pytest.raises(
        ValueError, match=r"there is no ferlite_t\. Give one of another, ferlite_s, microexpnet, a run folder"
    ):
        student.find("ferlite_t")


def test_a_name_that_is_a_shipped_student_s_and_a_folder_s_is_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr(published, "SHIPPED", tmp_path / "shipped käse")
    for folder in (tmp_path / "shipped käse" / "ferlite_s", tmp_path / "ferlite_s"):
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes((run / "export" / "student.onnx").read_bytes())
    assert student.find("ferlite_s") == tmp_path / "shipped käse" / "ferlite_s" / "model.onnx"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="ferlite_s is a student of this package, and here is") as refused:
        student.find("ferlite_s")
    one, other = re.search(r"Type (.*) for the one here, (.*) for the package's\.$", str(refused.value)).groups()
    assert student.find(*shlex.split(one)) == Path("ferlite_s/model.onnx")
    assert student.find(*shlex.split(other)) == student.find(None) == published.SHIPPED / "ferlite_s" / "model.onnx"


def test_a_published_folder_is_a_student(run, tmp_path):
    (tmp_path / "model.onnx").write_bytes((run / "export" / "student.onnx").read_bytes())
    assert student.find(str(tmp_path)) == tmp_path / "model.onnx"
    assert student.open_student(str(tmp_path), 1).classes == EMOTIONS


def test_a_run_folder_its_export_and_a_file_are_the_same_student(run):
    file = run / "export" / "student.onnx"
    assert student.find(str(run)) == student.find(str(run / "export")) == student.find(str(file)) == file


class Bomb:
    def __reduce__(self):
        return Path.write_text, (Path("exploded"), "")


@pytest.mark.parametrize("name", ["student.safetensors", "student.onnx", "student.pt2"])
def test_a_pickle_under_another_name_is_never_unpickled(tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    Image.fromarray(noise(48, 48)).save(tmp_path / "a.png")
    said, _, _ = predict(capsys, tmp_path / "a.png", "--crops", "--student", tmp_path / name)
    assert said.startswith("error: ") and "\n" not in said
    assert "python -m distill.export" in said or "Export it again" in said
    assert not Path("exploded").exists()
    pickle.loads((tmp_path / name).read_bytes())
    assert Path("exploded").exists(), "the pickle would have done it"


def test_student_option_of_no_student_is_refused_in_one_sentence(run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    Image.fromarray(noise(48, 48)).save(tmp_path / "a.png")
    for path, sentence in (
        (run / "export" / "bare" / "student.onnx", "the bare network"),
        (
            tmp_path / "empty",
            "has no export/student.onnx, student.onnx, model.onnx, model.int8.onnx. Type python -m distill.export",
        ),
        (tmp_path / "nowhere.onnx", "there is no "),
    ):
        said, _, _ = predict(capsys, tmp_path / "a.png", "--crops", "--student", path)
        assert said.startswith("error: ") and sentence in said and "\n" not in said


def test_message_with_an_odd_path_can_be_pasted_into_a_shell(tmp_path, capsys):
    folder = tmp_path / "my runs; $(x)" / "it's"
    folder.mkdir(parents=True)
    Image.fromarray(noise(48, 48)).save(tmp_path / "a.png")
    said, _, _ = predict(capsys, tmp_path / "a.png", "--crops", "--student", folder)
    typed = said.split("Type ")[1]
    assert shlex.split(typed) == ["python", "-m", "distill.export", str(folder)]


def test_a_missing_detector_is_told_in_one_sentence_and_crops_do_without(run, tmp_path, capsys, monkeypatch):
    Image.fromarray(noise(48, 48)).save(tmp_path / "a.png")
    (tmp_path / "other.onnx").write_bytes((run / "export" / "student.onnx").read_bytes())
    monkeypatch.setattr(detector, "find_spec", lambda name: None)
    said, _, _ = predict(capsys, tmp_path / "a.png", "--student", run)
    assert "Type pip install -e '.[predict]'" in said and "\n" not in said
    said, _, _ = predict(capsys, tmp_path / "a.png", "--student", run, "--detector", tmp_path / "other.onnx")
    assert "is not the ONNX file of CenterFace" in said and "\n" not in said
    assert (
        "--detector blazeface, --crops and --boxes do without"
        in predict(capsys, tmp_path / "a.png", "--student", run)[0]
    )
    for words in (("--crops",), ("--detector", "blazeface")):
        assert predict(capsys, tmp_path / "a.png", "--student", run, *words)[0] is None


def test_predict_starts_without_pytorch_and_opencv(run, tmp_path):
    Image.fromarray(noise(48, 48)).save(tmp_path / "a.png")
    code = "import sys; from distill.predict.__main__ import main; main(sys.argv[1:]); assert not {'torch', 'cv2'} & set(sys.modules)"
    words = [sys.executable, "-c", code, str(tmp_path), "--crops", "--student", str(run)]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0 and "pictures/s" in done.stdout, done.stderr
