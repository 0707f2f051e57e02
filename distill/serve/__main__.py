"""A web page that answers pictures and the camera with a student: python -m distill.serve RUN

RUN is an exported run (python -m distill.export RUN), an exported .onnx file such as RUN/export/student.int8.onnx or the name of a
shipped student; without it the best shipped one. Everything is computed in the browser: no picture leaves the page, and it loads
nothing from elsewhere.
Faces are found as predict finds them: by CenterFace in pictures, by BlazeFace in small ones and before the camera.
  --port 8000           0 takes any that is free
  --host 127.0.0.1      0.0.0.0 for other machines, too; a browser lends them its camera only over https
  --write DIR           write the page's files into DIR, for any web server, and end; licenses.txt is to stay with them
  --detector FILE       CenterFace's .onnx file, which finds small faces, too; it comes with pip install -e '.[predict]'
  --crops               no detector: pictures are faces, from edge to edge
  --ort DIR             a folder that has the files of onnxruntime-web; else npm fetches them, once
  --store DIR           where they are kept: ~/.cache/fer-distill, or the environment's FER_DISTILL_STORE
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from distill.predict.detector import packaged
from distill.predict.student import find
from distill.serve.engine import engine
from distill.serve.site import OPTIONAL, POLICY, site
from distill.system.cli import command_line, parser, user_path

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
}
HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",  # with the next one, WebAssembly may have threads
    "Cross-Origin-Embedder-Policy": "require-corp",
}


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD from a mapping, name -> content: no path of this machine can be asked for."""

    site: Mapping[str, bytes] = MappingProxyType({})  # server() makes a class with its own
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        try:
            name = unquote(urlsplit(self.path).path).lstrip("/") or "index.html"
            content, status = self.site.get(name), HTTPStatus.OK
        except ValueError:  # as http://[x
            name, content, status = "400.txt", b"This is no address.\n", HTTPStatus.BAD_REQUEST
        if content is None:
            name, content, status = "404.txt", b"There is no such file here.\n", HTTPStatus.NOT_FOUND
        self.send_response(status)
        for header, value in HEADERS.items():
            self.send_header(header, value)
        self.send_header("Content-Type", TYPES[PurePosixPath(name).suffix])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, *words) -> None:
        """Keep silent."""


class Server(ThreadingHTTPServer):
    """A server that keeps silent when a browser goes away before it has its answer."""

    def handle_error(self, request, client_address) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def server(files: dict[str, bytes], host: str, port: int) -> ThreadingHTTPServer:
    """Return a server of the page, bound and not yet serving.

    Raises:
        ValueError: the address is taken, or not of this machine.
    """
    try:
        return Server((host, port), type("Page", (Handler,), {"site": files}))
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"--port {port} on {host} cannot be used ({error}). Give another, or --port 0 for any."
        ) from None


def write(files: dict[str, bytes], folder: Path) -> None:
    """Write the page's files into a folder, over those of an earlier page; others there are left alone.

    Raises:
        ValueError: it cannot be written, or has files of these names that are no earlier page's.
    """
    taken = [name for name in dict.fromkeys((*files, *OPTIONAL)) if (folder / name).exists()]
    if taken and not _is_page(folder):
        raise ValueError(f"--write: {folder} has {', '.join(taken[:3])} of its own. Give another folder.")
    try:
        for name in OPTIONAL:  # of an earlier page
            (folder / name).unlink(missing_ok=True)
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    except OSError as error:
        raise ValueError(
            f"--write: {error.filename} cannot be written ({error.strerror}). Give another folder."
        ) from None


def _is_page(folder: Path) -> bool:
    """Return whether a folder holds a page that was written before."""
    try:
        return json.loads((folder / "facts.json").read_text(encoding="utf-8"))["files"]["student"] == "student.onnx"
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _arguments(words: list[str]) -> argparse.Namespace:
    options = parser("python -m distill.serve", __doc__)
    options.add_argument("run", nargs="?", metavar="RUN")
    for name in ("--write", "--detector", "--ort", "--store"):
        options.add_argument(name, type=user_path, metavar="FILE" if name == "--detector" else "DIR")
    options.add_argument("--crops", action="store_true")
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, default=8000)
    return options.parse_args(words)


def serve(page: ThreadingHTTPServer) -> None:
    """Serve until Ctrl-C."""
    host, port = str(page.server_address[0]), page.server_address[1]
    print(f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}/   (Ctrl-C ends it)", flush=True)
    with page:
        try:
            page.serve_forever()
        except KeyboardInterrupt:
            print("\nended")


@command_line()
def main(words: list[str]) -> None:
    """Read the command line and do what it asks for; user errors are printed as one line, exit code 1."""
    args = _arguments(words)
    student, detector = find(args.run, "python -m distill.serve"), args.detector
    if not (args.crops or detector):
        try:
            detector = packaged()
        except ValueError as error:
            print(f"small faces in pictures will be missed: {error}")
    store = args.store or Path(os.environ.get("FER_DISTILL_STORE", "~/.cache/fer-distill")).expanduser()
    files = site(student, engine(store, args.ort), detector, args.crops)
    if args.write:
        write(files, args.write)
        print(f"{args.write}: {len(files)} files, {sum(map(len, files.values())) / 1e6:.1f} MB, for any web server")
        return
    serve(server(files, args.host, args.port))


if __name__ == "__main__":
    main(sys.argv[1:])
