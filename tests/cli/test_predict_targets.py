"""What python -m distill.predict writes never takes the place of what it reads, nor of what it wrote beside."""

import pytest
from PIL import Image
from predicting import noise, predict, rows, write_linear


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_linear(tmp_path_factory.mktemp("targets") / "a run")


def test_a_drawing_never_replaces_a_picture(run, tmp_path, capsys):
    Image.fromarray(noise(48, 48)).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    said, _, _ = predict(capsys, tmp_path / "a.png", "--student", run, "--crops", "--draw", tmp_path)
    assert "would be overwritten. Give another folder." in said and (tmp_path / "a.png").read_bytes() == before
    said, out, _ = predict(capsys, tmp_path, "--student", run, "--crops", "--draw", tmp_path / "drawn")
    again, more, _ = predict(capsys, tmp_path, "--student", run, "--crops", "--draw", tmp_path / "drawn")
    assert said is again is None and "1 picture," in out and "1 picture," in more, "drawings are not looked at again"
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


def test_a_drawing_replaces_no_file_that_is_no_drawing_and_nothing_is_drawn_then(run, tmp_path, capsys):
    for name in ("in/a.png", "in/b.png", "other/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(noise(48, 48)).save(tmp_path / name)
    before = (tmp_path / "other" / "b.png").read_bytes()
    words = (tmp_path / "in", "--student", run, "--crops", "--draw", tmp_path / "other")
    said, _, _ = predict(capsys, *words)
    assert said == f"error: --draw: {tmp_path / 'other' / 'b.png'} would be overwritten. Give another folder."
    assert (tmp_path / "other" / "b.png").read_bytes() == before and not (tmp_path / "other" / "a.png").exists()
    (tmp_path / "other" / "b.png").write_bytes(b"")  # of a full disk
    assert predict(capsys, *words)[0] is predict(capsys, *words)[0] is None, "the second time over drawings"


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


def test_draw_of_pictures_of_one_name_gives_each_a_drawing(run, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for k, name in enumerate(("x.webp", "x.webp.png", "x.webp.png.png")):
        Image.fromarray(noise(48, 48 + 16 * k)).save(tmp_path / "in" / name)
    said, _, _ = predict(capsys, tmp_path / "in", "--student", run, "--crops", "--draw", tmp_path / "drawn")
    widths = {path.name: Image.open(path).width for path in (tmp_path / "drawn").iterdir()}
    assert said is None and sorted(widths) == [f"x.webp{'.png' * k}" for k in (1, 2, 3)]
    assert widths["x.webp.png.png.png"] < widths["x.webp.png"] < widths["x.webp.png.png"], "names stay where they can"


def test_output_that_would_replace_an_input_or_another_output_is_refused(run, tmp_path, capsys):
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


def test_several_pictures_are_drawn_in_the_folder_alone_under_names_of_their_own(run, tmp_path, capsys, monkeypatch):
    for name in ("a/1.png", "b/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(noise(48, 48)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path / "b")
    words = ("1.png", "2.png", "../a/1.png", "1.png", "--student", run, "--crops", "--draw", "in/drawn")
    said, out, _ = predict(capsys, *words, "--csv", "o.csv")
    assert said is None and "3 pictures, 0 without a face" in out
    assert [row["file"] for row in rows(tmp_path / "b" / "o.csv")] == ["1.png", "2.png", "../a/1.png"]
    drawn = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")} - {"a/1.png", "b/1.png", "b/2.png"}
    assert drawn == {f"b/in/drawn/{name}" for name in ("1.png", "1.png.png", "2.png")}
    assert predict(capsys, "1.png", "2.png", "--student", run, "--crops", "--csv", "2.png")[0].endswith("read from.")
    for other, what in (("../a", "is no picture"), ("3.png", "no such file"), ("camera", "no such file")):
        said = predict(capsys, "1.png", other, "--student", run, "--crops")[0]
        assert said == f"error: {other}: {what}. Give pictures alone, or one folder, one video or one camera."
