"""Expressions of faces in videos and before a camera: a row per face and frame, an annotated video, steady memory."""

import json
import subprocess
import sys
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from commandline import ROOT, environment
from PIL import Image
from predicting import astronaut, interrupt_after, needs_detector, noise, predict, rows, write_linear, write_video
from rich.console import Console

from distill.data.common.image_reader import MOST_PIXELS
from distill.predict import blazeface, detector, output, pipeline, video

av = pytest.importorskip("av")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_linear(tmp_path_factory.mktemp("video") / "run")


def walking(number):
    """Frames in which the astronaut's face moves to the right, and the last of which shows none."""
    face = astronaut().crop((120, 10, 340, 210))
    for k in range(number - 1):
        sheet = Image.fromarray(noise(240, 420))
        sheet.paste(face, (int(180 * k / number), 20))
        yield np.asarray(sheet)
    yield noise(240, 420)


def read_back(path):
    with av.open(str(path)) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("film") / "a film, käse.mkv", walking(12), rate=10)


@needs_detector
def test_a_video_gives_a_row_per_face_and_frame_and_an_annotated_video(run, film, tmp_path, capsys):
    words = ("--csv", tmp_path / "o.csv", "--json", tmp_path / "o.json", "--draw", tmp_path / "drawn")
    said, out, err = predict(capsys, film, "--student", run, *words)
    assert said is None and err == "" and "12 frames, 1 without a face" in out and "frames/s" in out
    found = rows(tmp_path / "o.csv")
    assert [row["frame"] for row in found] == [str(k) for k in range(12)] and found[-1]["face"] == ""
    np.testing.assert_allclose([float(row["seconds"]) for row in found], np.arange(12) / 10, atol=1e-3)
    np.testing.assert_allclose([float(row["x"]) for row in found[:11]], 43 + 15 * np.arange(11), atol=6)
    assert [len(frame["faces"]) for frame in json.loads((tmp_path / "o.json").read_text())] == [1] * 11 + [0]
    drawn = read_back(tmp_path / "drawn" / "a film, käse.mkv.mp4")
    np.testing.assert_allclose([time for time, _ in drawn], np.arange(12) / 10, atol=1e-3)
    assert len({picture.shape for _, picture in drawn}) == 1 and drawn[0][1].shape[0] == 480, "small ones are enlarged"
    first, last = (drawn[k][1][:, 850:].std((0, 1)).max() for k in (0, -1))
    assert first > 15 and last < 2, "bars beside a face alone"


@needs_detector
@pytest.mark.parametrize("name, number", [("auto", 1), ("blazeface", 0), ("centerface", 12)])
def test_a_detector_is_chosen_by_name_and_the_slow_one_looks_at_few_frames(
    run, film, tmp_path, capsys, monkeypatch, name, number
):
    look, search, looks, near = detector.CenterFace.__call__, blazeface.BlazeFace.search, [], []
    monkeypatch.setattr(detector.CenterFace, "__call__", lambda *words: looks.append(1) or look(*words))
    monkeypatch.setattr(blazeface.BlazeFace, "search", lambda *words: near.append(1) or search(*words))
    said, _, _ = predict(capsys, film, "--student", run, "--csv", tmp_path / "o.csv", "--detector", name)
    found = rows(tmp_path / "o.csv")
    assert said is None and [row["face"] for row in found] == ["1"] * 11 + [""]
    assert len(looks) == number and len(near) == (0 if name == "centerface" else 4), (
        "0, 5, 10 and the one without a face"
    )


def test_a_video_is_never_replaced_by_its_drawing(run, tmp_path, capsys, monkeypatch):
    (tmp_path / "w" / "in").mkdir(parents=True)
    before = write_video(tmp_path / "w" / "v.mp4", [noise(48, 64)] * 3).read_bytes()
    monkeypatch.chdir(tmp_path / "w" / "in")
    said, _, _ = predict(capsys, "../v.mp4", "--student", run, "--size", 32, "--draw", "../../w")
    assert said == "error: --draw: ../v.mp4 would be overwritten. Give another folder."
    assert (tmp_path / "w" / "v.mp4").read_bytes() == before


def test_a_drawn_video_replaces_an_earlier_one_and_no_other_video(run, film, tmp_path, capsys, monkeypatch):
    place = tmp_path / f"{film.name}.mp4"
    words = (film, "--student", run, "--size", 32, "--draw", tmp_path)
    before = write_video(place, [noise(48, 64)] * 3).read_bytes()
    assert predict(capsys, *words)[0] == f"error: --draw: {place} would be overwritten. Give another folder."
    assert place.read_bytes() == before
    place.unlink()
    for _ in range(2):
        assert predict(capsys, *words)[0] is None and [path.name for path in tmp_path.iterdir()] == [place.name]
    write_video(tmp_path / "camera.mp4", [noise(48, 64)] * 3)
    monkeypatch.setattr(video, "camera", lambda index: video.Source(str(film), None, "camera"))
    said, _, err = predict(capsys, "camera", *words[1:], "--frames", 2)
    assert said == 1 and f"error: camera: not drawn: {tmp_path / 'camera.mp4'} is there, and no drawing." in err
    assert len(read_back(tmp_path / "camera.mp4")) == 3


def test_frames_of_a_turned_phone_are_upright(tmp_path):
    upright = noise(64, 96)
    for rotation in (90, 180, 270):
        stored = np.ascontiguousarray(np.rot90(upright, -rotation // 90))
        file = write_video(tmp_path / f"{rotation}.mp4", [stored] * 3, rotation=rotation)
        frames = [frame for frame, _ in video.open_source(video.Source(str(file), None, "")).frames]
        assert len(frames) == 3 and frames[0].shape == upright.shape
        assert np.abs(frames[0].astype(int) - upright).mean() < 6


def test_frames_keep_their_own_times(tmp_path):
    times = [0, 0.04, 0.5, 0.52, 2.0]
    file = write_video(tmp_path / "a.mp4", [noise(48, 64, k) for k in range(5)], seconds=times)
    opened = video.open_source(video.Source(str(file), None, ""))
    with closing(video.Recording(tmp_path / "b.mp4", opened.rate)) as recording:
        for picture, seconds in opened.frames:
            recording.add(np.pad(picture, ((0, 1), (0, 1), (0, 0))), seconds)
    back = read_back(tmp_path / "b.mp4")
    np.testing.assert_allclose([time for time, _ in back], times, atol=2e-3)
    assert back[0][1].shape == (48, 64, 3), "an odd row and column are cut off"


def test_frames_whose_time_is_that_of_the_one_before_or_earlier_are_written_too(tmp_path):
    with closing(video.Recording(tmp_path / "a.mp4", Fraction(10))) as recording:
        for seconds in (0.5, 0.5, 0.4, 0.6):
            recording.add(noise(48, 64), seconds)
    times = [time for time, _ in read_back(tmp_path / "a.mp4")]
    assert len(times) == 4 and times == sorted(times)


def test_the_end_of_a_damaged_video_is_one_sentence_and_its_beginning_is_kept(run, tmp_path, capsys):
    file = write_video(tmp_path / "a.mkv", [noise(120, 160, k) for k in range(60)])
    content = bytearray(file.read_bytes())
    (tmp_path / "no_index.mp4").write_bytes(write_video(tmp_path / "b.mp4", [noise(48, 64)] * 9).read_bytes()[:900])
    content[len(content) // 2 :] = b"\xff" * (len(content) - len(content) // 2)
    file.write_bytes(content)
    heard = video._av().logging.get_last_error()
    said, _, err = predict(capsys, file, "--student", run, "--size", 32, "--csv", tmp_path / "o.csv")
    assert video._av().logging.get_last_error() == heard, "no thread of FFmpeg waits for Python, which may wait for it"
    assert 5 < len(rows(tmp_path / "o.csv")) < 60 and "Traceback" not in err
    assert said in (None, 1) and err.count("\n") == (1 if said else 0)
    said, _, _ = predict(capsys, tmp_path / "no_index.mp4", "--student", run)
    assert said.startswith("error: ") and "no picture and no video that can be read" in said and "\n" not in said


@pytest.mark.parametrize(
    "text", ["words\n", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n", ""]
)
def test_text_under_a_videos_name_is_refused_and_reaches_no_network(run, tmp_path, capsys, text):
    (tmp_path / "a.mp4").write_text(text)
    said, _, _ = predict(capsys, tmp_path / "a.mp4", "--student", run)
    assert said.startswith("error: ") and "no picture and no video" in said and "\n" not in said


@pytest.mark.parametrize("name", ["notes.txt", "a.nfo", "a.ans"])
def test_text_is_not_taken_for_a_video_of_letters(run, tmp_path, capsys, name):
    (tmp_path / name).write_text("words\n" * 99)
    said, _, _ = predict(capsys, tmp_path / name, "--student", run, "--size", 32)
    assert said == f"error: {tmp_path / name}: no picture and no video that can be read (it is text)."


@pytest.mark.parametrize(
    "name, content, why",
    [
        ("a.svg", b"<svg/>", "FFmpeg has no decoder for it"),
        (
            "a.wav",
            b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x40\x1f\0\0\1\0\x08\0data" + bytes(99),
            "no pictures are in it",
        ),
    ],
)
def test_a_stream_that_cannot_be_decoded_is_told_as_that(run, tmp_path, capsys, name, content, why):
    (tmp_path / name).write_bytes(content)
    said, _, _ = predict(capsys, tmp_path / name, "--student", run, "--size", 32)
    assert said == f"error: {tmp_path / name}: no picture and no video that can be read ({why})."


def test_frames_too_large_are_refused_before_they_are_decoded(run, tmp_path, capsys, monkeypatch):
    file = write_video(tmp_path / "a.mp4", [noise(48, 64)])
    monkeypatch.setattr(video, "MOST_PIXELS", 48 * 64 - 1)
    said, _, _ = predict(capsys, file, "--student", run)
    assert "its frames have 64 x 48 pixels; make it smaller" in said and MOST_PIXELS > 10_000 * 8_000


@needs_detector
def test_a_camera_is_read_as_a_video_is_until_it_is_told_to_stop(run, film, tmp_path, capsys, monkeypatch):
    asked = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(video, "camera", lambda index: asked.append(index) or video.Source(str(film), None, "camera:1"))
    words = ("--frames", 5, "--csv", tmp_path / "o.csv", "--draw", tmp_path / "drawn")
    said, out, err = predict(capsys, "camera:1", "--student", run, *words)
    assert said is None and asked == [1] and "5 frames, 0 without a face" in out and err == ""
    assert [row["file"] for row in rows(tmp_path / "o.csv")] == ["camera:1"] * 5
    assert len(read_back(tmp_path / "drawn" / "camera-1.mp4")) == 5


def test_a_camera_that_is_not_there_is_one_sentence(run, capsys):
    said, _, _ = predict(capsys, "camera:99", "--student", run)
    assert said.startswith("error: camera:99: this camera cannot be opened (") and "\n" not in said


def test_live_bars_show_every_expression_of_the_largest_faces():
    classes = ("neutral", "happiness")
    boxes = np.array([[0, 0, 9, 9], [0, 0, 50, 50]], float)
    frame = pipeline.Frame("camera", None, (90, 90), boxes, np.ones(2), 0, 0.0)
    seen = pipeline.FrameResult(frame, np.array([[0.75, 0.25], [0.0, 1.0]]))
    console = Console(record=True, width=80, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(output.live(seen, classes, 12.3))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert lines[0] == "12.3 frames/s, 2 faces; Ctrl-C ends" and lines[1] == "face 2" and lines[4] == "face 1"
    assert lines[3] == f"> happiness  {'█' * 24} 100%" and lines[5] == f"> neutral    {'█' * 18}{' ' * 6}  75%"
    assert output.bar(0.5, 5) == "██▌    50%" and output.bar(0.0, 3) == "      0%"


def test_crops_and_boxes_are_refused_for_a_video(run, film, capsys):
    said, _, _ = predict(capsys, film, "--student", run, "--crops")
    assert said == "error: --crops and --boxes are for pictures. Leave them out for a video or a camera."


def test_ctrl_c_keeps_what_was_seen_and_ends_a_video_with_130(run, film, tmp_path, capsys, monkeypatch):
    interrupt_after(monkeypatch, 3)
    words = ("--json", tmp_path / "o.json", "--draw", tmp_path, "--size", 32)
    said, out, err = predict(capsys, film, "--student", run, *words)
    assert said == 130 and "stopped; what was seen until here is kept" in err and "3 frames" in out
    assert len(json.loads((tmp_path / "o.json").read_text())) == len(read_back(tmp_path / f"{film.name}.mp4")) == 3


def test_ctrl_c_is_how_a_camera_ends_and_no_error(run, film, tmp_path, capsys, monkeypatch):
    interrupt_after(monkeypatch, 3)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(video, "camera", lambda index: video.Source(str(film), None, "camera"))
    said, out, err = predict(capsys, "camera", "--student", run, "--csv", tmp_path / "o.csv", "--size", 32)
    assert said is None and "stopped; what was seen until here is kept" in err and "3 frames" in out
    assert len(rows(tmp_path / "o.csv")) == 3


WATCH = """
import sys
from statistics import median
from distill.predict import __main__ as predict
from distill.predict import output

def held():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) / 1024

seen, add = [], output.Csv.add

def watched(self, one):
    seen.append(held())
    add(self, one)

output.Csv.add = watched
predict.main(sys.argv[1:])
print("GREW", len(seen), median(seen[-50:]) - median(seen[275:325]))
"""


@needs_detector
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_stays_where_it_is_over_hundreds_of_frames(run, tmp_path):
    face = np.asarray(astronaut().crop((120, 10, 340, 210)).resize((110, 100)))
    file = write_video(tmp_path / "long.mp4", (np.roll(face, k % 40 - 20, 1) for k in range(800)))
    words = [str(file), "--student", str(run), "--csv", str(tmp_path / "o.csv"), "--json", str(tmp_path / "o.json")]
    command = [
        sys.executable,
        "-c",
        WATCH,
        *words,
        "--draw",
        str(tmp_path / "drawn"),
        "--threads",
        "1",
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    _, number, grown = done.stdout.splitlines()[-1].split()
    assert int(number) == 800 and float(grown) < 1.9, "MB over 475 frames with faces, drawings, csv and JSON"
    assert sum(row["face"] == "1" for row in rows(tmp_path / "o.csv")) > 600
