"""What python -m distill.predict writes and where, which students it takes, and what it says of those that are none."""

import csv
import json
import pickle
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import ROOT, environment
from PIL import Image
from predicting import interrupt_after, noise, predict, rows, write_student

from distill.data.labels import EMOTIONS
from distill.predicting import detector, job, student


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


def test_a_drawing_never_replaces_a_picture(run, tmp_path, capsys):
    Image.fromarray(noise(48, 48)).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    said, _, _ = predict(capsys, tmp_path / "a.png", "--student", run, "--crops", "--draw", tmp_path)
    assert "would be overwritten. Give another folder." in said and (tmp_path / "a.png").read_bytes() == before
    said, out, _ = predict(capsys, tmp_path, "--student", run, "--crops", "--draw", tmp_path / "drawn")
    again, more, _ = predict(capsys, tmp_path, "--student", run, "--crops", "--draw", tmp_path / "drawn")
    assert said is again is None and "1 pictures" in out and "1 pictures" in more, "drawings are not looked at again"
    assert Image.open(tmp_path / "drawn" / "a.png").height == 384, "a small picture is enlarged for the words"


def test_a_drawing_replaces_no_original_whatever_the_folder_is_called(run, tmp_path, capsys, monkeypatch):
    photos = tmp_path / "photos"
    (photos / "2023").mkdir(parents=True)
    for name in ("a.png", "b.png", "2023/a.png", "2023/c.png"):
        Image.fromarray(noise(48, 48)).save(photos / name)
    (tmp_path / "lnk").symlink_to(photos)
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn" / "a.png").symlink_to(photos / "a.png")
    before = {path: path.read_bytes() for path in photos.rglob("*.png")}
    monkeypatch.chdir(photos)
    for words in (
        ("a.png", "--draw", "../photos"),
        (photos / "b.png", "--draw", "../lnk"),
        (photos / "a.png", "--draw", "../drawn"),
        ("../photos", "--draw", "2023"),
        ("../lnk", "--draw", "../photos/2023"),
    ):
        said, _, _ = predict(capsys, *words, "--student", run, "--crops")
        assert str(said).endswith("would be overwritten. Give another folder."), words
    assert {path: path.read_bytes() for path in photos.rglob("*.png")} == before and len(before) == 4


def test_pictures_in_the_folder_of_drawings_are_looked_at_and_its_drawings_are_not(run, tmp_path, capsys):
    (tmp_path / "2023").mkdir()
    for name in ("a.png", "b.jpg", "2023/c.png"):
        Image.fromarray(noise(48, 48)).save(tmp_path / name)
    for _ in range(2):
        said, out, _ = predict(capsys, tmp_path, "--student", run, "--crops", "--draw", tmp_path / "2023")
        assert said is None and "3 pictures" in out and "c.png" in out
    assert Image.open(tmp_path / "2023" / "c.png").size == (48, 48), "an original"
    drawn = {path.relative_to(tmp_path / "2023").as_posix() for path in (tmp_path / "2023").rglob("*.*")}
    assert drawn == {"a.png", "b.jpg", "c.png", "2023/c.png"}


def test_each_picture_has_a_drawing_of_its_own(run, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for k, name in enumerate(("x.webp", "x.webp.png", "x.webp.png.png")):
        Image.fromarray(noise(48, 48 + 16 * k)).save(tmp_path / "in" / name)
    said, _, _ = predict(capsys, tmp_path / "in", "--student", run, "--crops", "--draw", tmp_path / "drawn")
    widths = {path.name: Image.open(path).width for path in (tmp_path / "drawn").iterdir()}
    assert said is None and sorted(widths) == [f"x.webp{'.png' * k}" for k in (1, 2, 3)]
    assert widths["x.webp.png.png.png"] < widths["x.webp.png"] < widths["x.webp.png.png"], "names stay where they can"


def test_no_output_replaces_an_input_or_another_output(run, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    picture, boxes, inner = tmp_path / "a.png", tmp_path / "boxes.csv", tmp_path / "in" / "b.png"
    Image.fromarray(noise(48, 48)).save(picture)
    Image.fromarray(noise(48, 48)).save(inner)
    boxes.write_text("a.png,1,2,30,40\n")
    model, clip = run / "export" / "student.onnx", tmp_path / "clip.mp4"
    clip.write_bytes(b"a video")
    (tmp_path / "lnk.csv").symlink_to(model)
    before = [path.read_bytes() for path in (picture, boxes, inner, model, clip)]
    for words, sentence in (
        ((picture, "--csv", picture), "is named twice"),
        ((picture, "--boxes", boxes, "--csv", tmp_path / "in" / ".." / "boxes.csv"), "is named twice"),
        ((picture, "--csv", tmp_path / "o", "--json", tmp_path / "o"), "is named twice"),
        ((tmp_path / "in", "--json", inner), "b.png is there and no .json file, which --json does not overwrite."),
        ((picture, "--csv", model), "student.onnx is there and no .csv file, which --csv does not overwrite."),
        ((picture, "--csv", tmp_path / "lnk.csv"), "lnk.csv is there and no .csv file"),
        ((picture, "--json", tmp_path / "clip.mp4"), "clip.mp4 is there and no .json file"),
        ((tmp_path / "in", "--draw", tmp_path / "in"), "--draw: drawings in "),
        ((tmp_path / "in", "--draw", tmp_path), "Give another folder."),
    ):
        said, _, _ = predict(capsys, *words, "--student", run, *(() if "--boxes" in words else ("--crops",)))
        assert str(said).startswith("error: ") and sentence in said and "\n" not in said, words
    assert [path.read_bytes() for path in (picture, boxes, inner, model, clip)] == before
    assert not (tmp_path / "o").exists()
    words = (picture, "--student", run, "--crops", "--csv", tmp_path / "o.csv")
    assert [predict(capsys, *words)[0] for _ in range(2)] == [None, None], "an earlier answer is replaced"


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


def test_letters_that_standard_output_cannot_hold_are_question_marks(run, tmp_path):
    Image.fromarray(noise(48, 48)).save(tmp_path / "käse 写真.png")
    words = [sys.executable, "-m", "distill.predict", str(tmp_path), "--crops", "--student", str(run)]
    around = environment() | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(words, cwd=ROOT, env=around, capture_output=True)
    out = done.stdout.decode("latin-1")
    assert done.returncode == 0 and "käse ??.png" in out and "1 pictures" in out, done.stderr


def test_shipped_students_are_known_by_name_and_the_best_one_is_taken(run, tmp_path, monkeypatch):
    monkeypatch.setattr(student, "SHIPPED", tmp_path)
    with pytest.raises(ValueError, match="none comes with this installation"):
        student.find(None)
    for name in ("microexpnet", "cern", "another"):
        assert name not in student.shipped()
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.onnx").write_bytes((run / "export" / "student.onnx").read_bytes())
    assert student.shipped() == ["another", "cern", "microexpnet"]
    assert student.find(None) == student.find("cern") == tmp_path / "cern" / "model.onnx"
    assert student.open_student("microexpnet", 1).classes == EMOTIONS
    with pytest.raises(ValueError, match=r"there is no cerm\. Give one of another, cern, microexpnet, a run folder"):
        student.find("cerm")


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


def test_what_is_no_student_is_told_in_one_sentence(run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    Image.fromarray(noise(48, 48)).save(tmp_path / "a.png")
    for path, sentence in (
        (run / "export" / "bare" / "student.onnx", "the bare network"),
        (tmp_path / "empty", "has no export/student.onnx, student.onnx, model.onnx. Type python -m distill.export"),
        (tmp_path / "nowhere.onnx", "there is no "),
    ):
        said, _, _ = predict(capsys, tmp_path / "a.png", "--crops", "--student", path)
        assert said.startswith("error: ") and sentence in said and "\n" not in said


def test_what_is_to_be_typed_can_be_pasted_whatever_the_path_holds(tmp_path, capsys):
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
    assert predict(capsys, tmp_path / "a.png", "--student", run, "--crops")[0] is None


def test_it_starts_without_pytorch_and_opencv(run, tmp_path):
    Image.fromarray(noise(48, 48)).save(tmp_path / "a.png")
    code = "import sys; from distill import predict; predict.main(sys.argv[1:]); assert not {'torch', 'cv2'} & set(sys.modules)"
    words = [sys.executable, "-c", code, str(tmp_path), "--crops", "--student", str(run)]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0 and "pictures/s" in done.stdout, done.stderr
