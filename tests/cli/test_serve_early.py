"""The web page before its network has come, and without it: a picture is shown, and the page says what it waits for."""

import threading

import pytest
from browser import CHROMIUM, Browser
from PIL import Image

pytest_plugins = "served_page"  # home, files
STATE = 'import("/page.js").then(({ state }) => %s)'
ANSWER, ALERT = (f"document.getElementById('{name}').textContent" for name in ("answer", "alert"))


class Held(dict):
    """The page's files, of which the network is handed out when it is allowed."""

    def __init__(self, files):
        super().__init__(files)
        self.allowed = threading.Event()

    def get(self, name):
        assert name != "student.onnx" or self.allowed.wait(60)
        return super().get(name)


@pytest.fixture
def picture(tmp_path):
    Image.linear_gradient("L").save(tmp_path / "early.png")
    return tmp_path / "early.png"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_picture_that_comes_before_the_network_is_shown_and_answered_when_it_is_there(files, picture, tmp_path):
    from served_page import served

    slow = Held(files)
    with served(slow) as address, Browser(tmp_path / "profile") as browser:
        browser.open(address)
        browser.drop("#stage", picture)
        browser.wait(f"{ANSWER} === 'The network is loading …'")
        assert browser.run(STATE % "[state.kind, state.facts]") == ["picture", None]
        slow.allowed.set()
        browser.wait(STATE % "state.looks === 1")
        assert "loading" not in browser.run(ANSWER)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_picture_that_comes_to_a_page_without_its_network_does_not_hide_why_there_is_no_answer(
    files, picture, tmp_path
):
    from served_page import served

    without = {name: content for name, content in files.items() if name != "student.onnx"}
    with served(without) as address, Browser(tmp_path / "profile") as browser:
        browser.open(address)
        browser.wait(f"{ALERT}.startsWith('The page could not load its networks: student.onnx is not there')")
        browser.drop("#stage", picture)
        browser.wait(STATE % "state.kind === 'picture'")
        browser.wait(f"{ALERT}.startsWith('The page could not load its networks')")
