"""A headless Chromium, spoken to over two pipes (--remote-debugging-pipe), for tests of the web page."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *(
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--remote-debugging-pipe",
        "--hide-scrollbars",
    ),
)


class Browser:
    """One page of a browser of its own.

    Args:
        profile: an empty folder.
        flags: more of the command line.
    """

    def __init__(self, profile: Path, *flags: str):
        (theirs, self.out), (self.back, ours) = os.pipe(), os.pipe()
        command = " ".join(["exec", '"$0"', '"$@"', f"3<&{theirs}", f"4>&{ours}"])
        words = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *flags, "about:blank"]
        self.process = subprocess.Popen(
            ["bash", "-c", command, *words],
            pass_fds=(theirs, ours),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs), os.close(ours)
        self.number, self.buffer, self.events, self.session = 0, b"", [], None
        (target,) = [t for t in self("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        self.session = self("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *error) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.out), os.close(self.back)

    def __call__(self, method: str, **parameters) -> dict:
        """Send one command and return its answer; events that come meanwhile are kept in self.events."""
        self.number += 1
        session = {"sessionId": self.session} if self.session else {}
        told = json.dumps({"id": self.number, "method": method, "params": parameters} | session)
        os.write(self.out, told.encode() + b"\0")
        while (message := self._next()).get("id") != self.number:
            self.events.append(message)
        assert "error" not in message, f"{method}: {message['error']}"
        return message["result"]

    def _next(self) -> dict:
        deadline = time.monotonic() + 60
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.back], [], [], max(0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self.back, 1 << 20)
            assert part, "the browser has ended"
            self.buffer += part
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def run(self, script: str):
        """Return what a script of the page comes to, promises waited for."""
        answer = self("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = 40):
        """Ask a script until it comes to something true, and return that."""
        deadline = time.monotonic() + seconds
        while not (found := self.run(script)):
            assert time.monotonic() < deadline, f"not within {seconds} s: {script}"
            time.sleep(0.05)
        return found

    def open(self, address: str) -> None:
        """Go to a page and wait until it is loaded."""
        self("Page.navigate", url=address)
        self.wait(f"document.readyState === 'complete' && location.href.startsWith({json.dumps(address)})")

    def choose(self, selector: str, *paths: Path) -> None:
        """Give files to a file input, as its dialogue would."""
        root = self("DOM.getDocument")["root"]["nodeId"]
        node = self("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])

    def drop(self, selector: str, *paths: Path) -> None:
        """Drag files over an element and let them go."""
        x, y = self.run(
            f"(r => [r.x + r.width / 2, r.y + r.height / 2])(document.querySelector('{selector}').getBoundingClientRect())"
        )
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def shoot(self, path: Path, width: int, height: int, dark: bool) -> None:
        """Take a picture of the whole page as a screen of some width shows it."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", features=[scheme])
        time.sleep(0.6)
        taken = self("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))
