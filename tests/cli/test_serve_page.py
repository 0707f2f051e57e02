"""The web page of python -m distill.serve in a real headless Chromium: its answers are Python's, and no picture leaves it."""

import base64
import json
import re
import socket
from inspect import signature
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from PIL import Image, ImageDraw
from predicting import astronaut
from served_page import served

from distill.data.common.emotions import EMOTIONS
from distill.predict.blazeface import BlazeFace, Tracker
from distill.predict.boxes import cut, squares, whole_picture
from distill.predict.detector import SMALL, CenterFace
from distill.predict.student import open_student
from distill.serve.site import FINDING

pytest_plugins = "served_page"  # home, files, address
STATE = 'import("/page.js").then(({ state }) => %s)'


def spotted():
    """A picture larger than what is searched, with two bright spots, one of them near the edge."""
    picture = np.random.default_rng(0).integers(0, 120, (500, 900, 3), dtype=np.uint8)
    for top, left in ((200, 300), (440, 860)):
        picture[top : top + 14, left : left + 14] = 255
    return picture


def faces():
    """name -> picture file's image: colors, grays, transparency, and shapes of all kinds."""
    draw = np.random.default_rng(1)
    soft = Image.fromarray(draw.integers(0, 256, (9, 7, 3), dtype=np.uint8)).resize(
        (301, 203), Image.Resampling.BICUBIC
    )
    clear = soft.copy()
    clear.putalpha(Image.linear_gradient("L").resize(soft.size).point(lambda value: 255 * (value > 99)))
    small = Image.fromarray(draw.integers(0, 256, (48, 48), dtype=np.uint8))
    return {"soft.png": soft, "clear.png": clear, "small.png": small, "wide.webp": soft.resize((200, 30))}


@pytest.fixture(scope="module")
def filmed():
    """What the fake camera sees."""
    picture = Image.new("RGB", (320, 240), (40, 90, 60))
    ImageDraw.Draw(picture).ellipse((90, 40, 230, 220), fill=(200, 160, 140), outline=(20, 20, 20), width=6)
    return picture


@pytest.fixture(scope="module")
def browser(address, filmed, tmp_path_factory):
    """A browser with a fake camera, on the page."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    folder = tmp_path_factory.mktemp("browser")
    luma, *color = filmed.convert("YCbCr").split()
    planes = luma.point(lambda value: 16 + round(value * 219 / 255)).tobytes()
    planes += b"".join(
        part.resize((160, 120)).point(lambda v: 128 + round((v - 128) * 224 / 255)).tobytes() for part in color
    )
    (folder / "camera.y4m").write_bytes(b"YUV4MPEG2 W320 H240 F30:1 Ip A1:1 C420mpeg2\n" + b"FRAME\n" + planes)
    fake = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with Browser(folder / "profile", *fake, f"--use-file-for-fake-video-capture={folder}/camera.y4m") as browser:
        browser.open(address)
        browser.wait(STATE % "Boolean(state.facts)")
        yield browser


def answer(home, picture, boxes):
    """What Python answers for boxes in a picture, [N, K]."""
    student = open_student(str(home / "student.onnx"), 1)
    return student.answer(np.stack([cut(picture, box, student.picture) for box in boxes]))[1]


def shown(browser):
    """The page's probabilities [N, K] and areas [N, 4]."""
    found = browser.run(STATE % "state.faces.map(face => [face.probabilities, face.area])")
    return np.array([face[0] for face in found]), np.array([face[1] for face in found])


def give(browser, path, find, drop=False):
    """Drop or choose a picture, and wait for the answer."""
    before = browser.run(STATE % "state.looks")
    browser.run(f"document.getElementById('find').checked = {str(find).lower()}")
    browser.drop("#stage", path) if drop else browser.choose("#file", path)
    browser.wait(STATE % f"state.looks > {before}")


@pytest.mark.parametrize("name", faces())
def test_a_picture_that_is_dropped_or_chosen_gets_pythons_probabilities(browser, home, tmp_path, name):
    path, image = tmp_path / name, faces()[name]
    image.save(path, lossless=True)
    white = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    picture = np.asarray(white.convert("RGB"))
    give(browser, path, find=False, drop=name == "soft.png")
    wanted, (found, _) = answer(home, picture, whole_picture(picture)), shown(browser)
    assert wanted.max() > 0.3 and np.abs(found - wanted).max() < 1e-3
    words = browser.run("document.getElementById('bars').innerText").replace("\n", " ")
    assert re.findall(r"(\w+) ([\d.]+)%", words) == [
        (emotion, f"{100 * share:.1f}") for emotion, share in zip(EMOTIONS, found[0], strict=True)
    ]
    spoken = browser.run("document.getElementById('live').textContent")
    assert spoken.startswith(f"{EMOTIONS[wanted[0].argmax()]}, ")


def test_faces_that_are_found_are_pythons_and_one_can_be_chosen_with_the_keyboard(browser, home, tmp_path):
    picture, path = spotted(), tmp_path / "two.png"
    Image.fromarray(picture).save(path)
    detector = CenterFace(home / "detector.onnx", 1)
    boxes = squares(detector(picture)[0], FINDING["margin"])
    give(browser, path, find=True)
    found, areas = shown(browser)
    assert len(boxes) == 2 and np.abs(areas - boxes).max() < 1
    assert np.abs(found - answer(home, picture, boxes)).max() < 1e-3
    browser.run("document.querySelector('#faces button:last-child').focus()")
    for kind in ("keyDown", "keyUp"):
        browser("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    assert browser.run("document.getElementById('live').textContent").startswith("Face 2 of 2: ")
    assert browser.run(STATE % "state.chosen") == 1
    defaults = {name: word.default for name, word in signature(CenterFace).parameters.items()}
    assert (FINDING["longest"], FINDING["threshold"]) == (defaults["size"], defaults["threshold"])
    assert FINDING["smallest"] == defaults["smallest"]


def test_a_small_picture_is_searched_by_blazeface_as_python_does(browser, home, tmp_path):
    image, path = astronaut().resize((SMALL, SMALL)), tmp_path / "small.png"
    image.save(path)
    picture = np.asarray(image)
    boxes = squares(BlazeFace(1, FINDING["threshold"], FINDING["smallest"])(picture)[0], FINDING["margin"])
    give(browser, path, find=True)
    found, areas = shown(browser)
    assert len(boxes) == 1 and np.abs(areas - boxes).max() < 1
    assert np.abs(found - answer(home, picture, boxes)).max() < 1e-3


FILM = """(async () => {
  const worker = new Worker("/worker.js", { type: "module" }), pictures = %s;
  const ask = (kind, given) => new Promise((done, failed) => {
    worker.onmessage = ({ data }) => data.error ? failed(new Error(data.error)) : done(data.answer);
    worker.postMessage({ kind, given });
  });
  await ask("open", await (await fetch("/facts.json")).json());
  const found = [];
  for (const [film, letters] of pictures) {
    const bitmap = await createImageBitmap(new Blob([Uint8Array.from(atob(letters), letter => letter.charCodeAt())]));
    const pen = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
    pen.drawImage(bitmap, 0, 0);
    const image = pen.getImageData(0, 0, bitmap.width, bitmap.height), area = [0, 0, image.width, image.height];
    found.push((await ask("look", { image, area, find: true, film })).faces.map(face => [face.box, face.score]));
  }
  worker.terminate();
  return found;
})()"""


def test_faces_are_tracked_from_frame_to_frame_as_python_does_and_forgotten_with_the_film(browser):
    """A face goes away until BlazeFace finds it no more at first sight; another film begins with that frame."""
    head, frames = astronaut().crop((100, 13, 352, 265)), []
    for k, side in enumerate((180, 150, 120, 100, 86, 76)):
        frames.append(Image.new("RGB", (640, 480), (90, 110, 120)))
        frames[k].paste(head.resize((side, side), Image.Resampling.LANCZOS), (250 + 9 * k, 190))
    files = []
    for frame in frames:
        frame.save(stream := BytesIO(), "PNG")
        files.append(base64.b64encode(stream.getvalue()).decode())
    found = browser.run(FILM % json.dumps([*((1, file) for file in files), (2, files[-1])]))
    track = Tracker(BlazeFace(1, FINDING["threshold"], FINDING["smallest"]))
    for frame, faces in zip(frames, found, strict=False):
        boxes, scores = track(np.asarray(frame))
        assert len(boxes) == 1
        np.testing.assert_allclose([box for box, _ in faces], boxes, atol=0.05)
        np.testing.assert_allclose([score for _, score in faces], scores, atol=1e-3)
    assert found[-1] == []


def test_the_server_allows_threads_and_the_page_works_where_they_are_not_allowed(browser, plain_address, tmp_path):
    assert browser.run("self.crossOriginIsolated") is True
    with Browser(tmp_path / "profile") as other:
        other.open(plain_address)
        other.wait(STATE % "Boolean(state.facts)")
        assert other.run("self.crossOriginIsolated") is False
        spot = tmp_path / "two.png"
        Image.fromarray(spotted()).save(spot)
        give(other, spot, find=True)
        assert len(shown(other)[0]) == 2


def test_several_threads_answer_as_one(browser, files, tmp_path):
    by_cores = b"Math.min(4, Math.ceil(navigator.hardwareConcurrency / 2))"
    assert files["worker.js"].count(by_cores) == 1
    Image.fromarray(spotted()).save(spot := tmp_path / "two.png")
    threads = files | {"worker.js": files["worker.js"].replace(by_cores, b"3")}
    with served(threads) as address, Browser(tmp_path / "profile") as other:
        other.open(address)
        other.wait(STATE % "Boolean(state.facts)")
        give(other, spot, find=True)
        ours = [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path).encode() in path.read_bytes()]
        names = [name.read_text() for path in ours for name in path.parent.glob("task/*/comm")]
        assert sum(name.startswith("DedicatedWorker") for name in names) == 3
        give(browser, spot, find=True)
        for several, one in zip(shown(other), shown(browser), strict=True):
            np.testing.assert_allclose(several, one, atol=1e-5)


def test_the_camera_is_answered_live_as_python_does_and_is_given_back(browser, home, filmed):
    browser.run("document.getElementById('find').checked = true; document.getElementById('camera').click()")
    browser.wait(STATE % "state.kind === 'camera' && state.looks > 1 && parseFloat(finding.textContent) > 0")
    browser.run("document.getElementById('find').checked = false")
    looks = browser.run(STATE % "state.looks")
    browser.wait(STATE % f"state.looks > {looks + 3} && parseFloat(rate.textContent) > 0")
    script = "[state.image.width, state.image.height, btoa(String.fromCharCode(...state.image.data.slice(%s)))]"
    width, height, _ = browser.run(STATE % script % "0, 4")
    browser.run("document.getElementById('camera').click()")
    looks = browser.run(STATE % "state.looks")
    rows = [browser.run(STATE % script % f"{4 * width * y}, {4 * width * (y + 1)}")[2] for y in range(height)]
    pixels = np.frombuffer(b"".join(map(base64.b64decode, rows)), np.uint8).reshape(height, width, 4)[:, :, :3]
    side = min(width, height)
    box = np.array([[(width - side) // 2, (height - side) // 2, side, side]], float)
    found, areas = shown(browser)
    assert (areas == box).all() and np.abs(found - answer(home, pixels, box)).max() < 1e-3
    seen = np.asarray(filmed.resize((width, height)), float)
    assert np.abs(pixels - seen).mean() < 4, "these are the camera's pixels"
    assert browser.run(STATE % "state.looks") == looks
    assert browser.run("document.getElementById('camera').textContent") == "Use the camera"


@pytest.mark.parametrize(
    "size, to",
    [
        ((91, 57), (48, 48)),
        ((48, 48), (48, 48)),
        ((126, 127), (48, 48)),
        ((640, 480), (224, 168)),
        ((20, 30), (48, 48)),
        ((640, 3), (1, 1)),
    ],
)
def test_pictures_are_resized_byte_for_byte_as_pillow_does(browser, size, to):
    picture = np.random.default_rng(2).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    bytes_of = f"Uint8Array.from(atob('{base64.b64encode(picture).decode()}'), letter => letter.charCodeAt())"
    sides = ", ".join(map(str, (*size, *to)))
    found = browser.run(f'import("/faces.js").then(({{ resize }}) => [...resize({bytes_of}, {sides})])')
    wanted = np.asarray(Image.fromarray(picture).resize(to, Image.Resampling.BILINEAR))
    assert (np.array(found, np.uint8).reshape(wanted.shape) == wanted).all()


def test_page_asks_nothing_of_another_place_and_could_not(browser, address, tmp_path):
    path = tmp_path / "small.png"
    faces()["small.png"].save(path)
    browser.events.clear()
    give(browser, path, find=False)
    asked = [event["params"]["request"] for event in browser.events if event["method"] == "Network.requestWillBeSent"]
    assert not [request["url"] for request in asked if not request["url"].startswith("blob:")]
    with socket.create_server(("127.0.0.1", 0)) as other:
        elsewhere = f"http://127.0.0.1:{other.getsockname()[1]}/"
        tried = (
            f"fetch({elsewhere!r}, {{method: 'POST', body: 'x', mode: 'no-cors'}}).then(() => 'sent', () => 'refused')"
        )
        assert browser.run(tried) == "refused"
        ends = "onload: () => done('sent'), onerror: () => done('refused')"
        assert (
            browser.run(f"new Promise(done => Object.assign(new Image(), {{{ends}, src: {elsewhere!r}}}))") == "refused"
        )
        other.settimeout(0.2)
        with pytest.raises(TimeoutError):
            other.accept()
    assert browser.run(f"fetch({address!r}, {{method: 'POST', body: 'x'}}).then(answer => answer.status)") == 501


@pytest.mark.parametrize(
    "name, words", [("NotAllowedError", "was not allowed"), ("NotFoundError", "No camera was found")]
)
def test_a_camera_that_is_not_to_be_had_and_a_file_that_is_no_picture_get_a_sentence(browser, tmp_path, name, words):
    browser.run(f"navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', '{name}'))")
    browser.run("document.getElementById('camera').click()")
    alert = "document.getElementById('alert').hidden ? '' : document.getElementById('alert').textContent"
    browser.wait(f"({alert}).includes('{words}')")
    (tmp_path / "käse.png").write_text("no picture")
    browser.choose("#file", tmp_path / "käse.png")
    browser.wait(f"({alert}).startsWith('käse.png is no picture')")
    browser.run("delete navigator.mediaDevices.getUserMedia")


def test_the_page_says_which_student_it_is_and_links_its_card(browser, files):
    said = browser.run("document.body.innerText")
    size = len(files["student.onnx"])
    assert (
        f"tiny · 1,234 parameters · {size / 1e3:.0f} kB" in said and "An expression on a face is not an emotion" in said
    )
    assert files[browser.run("document.querySelector('#more a').getAttribute('href')")] == b"# A card"
    errors = [event["params"] for event in browser.events if event["method"] == "Runtime.exceptionThrown"]
    assert not errors
