"""python -m distill.serve as a person types it: what is served, what is written, what is refused."""

import http.client
import json
import re
import signal
import socket
import struct
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
from commandline import ROOT, environment

from distill.predict import detector
from distill.predict.detector import detector_graph
from distill.predict.student import find
from distill.serve import __main__ as serve
from distill.serve.engine import SHA256, VERSION
from distill.serve.site import site

pytest_plugins = "served_page"  # home, files, address


def ask(address, path, method="GET"):
    host = address.split("/")[2]
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, answer.getheader("Content-Type"), answer.getheader("Content-Security-Policy"), answer.read()


def test_the_server_gives_its_own_files_with_their_types_and_nothing_else(address, files):
    kinds = {"": "text/html", "page.js": "text/javascript", "ort/ort.wasm.min.mjs": "text/javascript"}
    kinds |= {"ort/ort-wasm-simd-threaded.wasm": "application/wasm", "facts.json?x=1": "application/json"}
    for path, kind in kinds.items():
        status, found, policy, content = ask(address, f"/{path}")
        assert status == 200 and found.startswith(kind) and "connect-src 'self'" in policy
        assert content == files[path.split("?")[0] or "index.html"]
        assert ask(address, f"/{path}", "HEAD")[3] == b""
    for path in ("/ort/", "/../setup.cfg", "/%2e%2e/setup.cfg", "//etc/passwd", "/site.py", "/ort"):
        assert ask(address, path)[0] == 404, path


def refused(*words):
    with pytest.raises(SystemExit) as end:
        serve.main([*map(str, words)])
    assert "\n" not in end.value.code and end.value.code.startswith("error: ")
    return end.value.code


def test_serve_with_a_mistake_says_what_to_type(home, tmp_path, monkeypatch):
    student = home / "student.onnx"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Install Node.js" in refused(student, "--store", tmp_path / "store")
    assert "cannot be read" in refused(student, "--ort", tmp_path) and "npm pack" in refused(student, "--ort", tmp_path)
    for name in SHA256:
        (tmp_path / name).write_text("another version")
    assert "is not that of onnxruntime-web" in refused(student, "--ort", tmp_path)
    assert "python -m distill.export" in refused(tmp_path)
    assert refused("absent").startswith("error: python -m distill.serve: there is no absent. Give one of ")
    monkeypatch.setattr(serve, "engine", lambda *words: {})
    assert "without export.preprocess=false" in refused(home / "bare.onnx", "--crops")
    assert "is not the ONNX file of CenterFace" in refused(student, "--detector", student)
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert "--port 0" in refused(student, "--crops", "--port", other.getsockname()[1])
    assert "cannot be written" in refused(student, "--crops", "--write", student / "x")


def test_the_page_is_written_for_any_host_without_what_an_earlier_one_had(home, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(serve, "engine", lambda *words: {"ort.wasm.min.mjs": b"x"})
    for words in (("--detector", home / "detector.onnx"), ("--crops",)):
        serve.main([str(word) for word in (home / "student.onnx", "--write", tmp_path / "new" / "page", *words)])
        facts = json.loads((tmp_path / "new" / "page" / "facts.json").read_text())
        for role in ("detector", "blazeface"):
            assert (facts["files"][role] is None) == (words[0] == "--crops")
            assert (tmp_path / "new" / "page" / f"{role}.onnx").exists() == (words[0] != "--crops")
    assert "for any web server" in capsys.readouterr().out
    assert (tmp_path / "new" / "page" / "ort" / "ort.wasm.min.mjs").read_bytes() == b"x"
    assert b"connect-src 'self'" in (tmp_path / "new" / "page" / "index.html").read_bytes()


@pytest.mark.parametrize("name", ["index.html", "student.onnx", "detector.onnx", "card.txt", "facts.json"])
def test_a_page_is_never_written_over_files_that_are_no_page_s(home, tmp_path, monkeypatch, name):
    monkeypatch.setattr(serve, "engine", lambda *words: {})
    for other, content in ((name, b"{}"), ("notes.md", b"mine"), ("student.int8.onnx", b"int8")):
        (tmp_path / other).write_bytes(content)
    words = (home / "student.onnx", "--crops", "--write", tmp_path)
    assert refused(*words) == f"error: --write: {tmp_path} has {name} of its own. Give another folder."
    assert (tmp_path / name).read_bytes() == b"{}" and len([*tmp_path.iterdir()]) == 3
    (tmp_path / name).unlink()
    for _ in range(2):
        serve.main([str(word) for word in words])
    assert (tmp_path / "notes.md").read_bytes() == b"mine" and (tmp_path / "facts.json").is_file()


def test_page_hands_out_what_others_made_with_its_license(address, files, home, tmp_path, monkeypatch):
    text = ask(address, "/licenses.txt")[3].decode()
    for name in ("ort/ort-wasm-simd-threaded.wasm", "detector.onnx"):
        (part,) = (part for part in text.split("\n\n") if name in part)
        assert re.search(r"Origin: https://.*\nLicense: MIT, below. Copyright \(c\) .*(Microsoft|StarClouds)", part)
    (part,) = (part for part in text.split("\n\n") if "blazeface.onnx" in part)
    assert re.search(r"Origin: https://.*\nLicense: Apache-2.0, at the end. Copyright", part)
    assert "Apache License" in text.partition("SOFTWARE.\n")[2]
    assert f"onnxruntime-web {VERSION}\n" in text and b'href="licenses.txt"' in files["index.html"]
    monkeypatch.setattr(serve, "engine", lambda *words: {})
    serve.main([str(home / "student.onnx"), "--write", str(tmp_path), "--crops"])
    written, mit = ((folder / name).read_text() for folder, name in ((tmp_path, "licenses.txt"), (ROOT, "LICENSE")))
    assert "CenterFace" not in written and "Apache" not in written
    assert written.partition("Permission")[2].split() == mit.partition("Permission")[2].split()


def test_page_without_centerface_lets_blazeface_look_at_every_picture(home, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(serve, "engine", lambda *words: {})
    monkeypatch.setattr(detector, "find_spec", lambda name: None)
    serve.main([str(home / "student.onnx"), "--write", str(tmp_path)])
    assert "small faces in pictures will be missed" in capsys.readouterr().out
    known = json.loads((tmp_path / "facts.json").read_text())["files"]
    assert (
        known["detector"] is None and known["blazeface"] == "blazeface.onnx" and (tmp_path / "blazeface.onnx").is_file()
    )


def test_a_published_folder_is_served_with_its_card(home, tmp_path):
    (tmp_path / "model.onnx").write_bytes((home / "student.onnx").read_bytes())
    (tmp_path / "README.md").write_text("# Published")
    found = site(find(str(tmp_path)), {}, None)
    assert found["student.onnx"] == (home / "student.onnx").read_bytes() and found["card.txt"] == b"# Published"


def test_site_refuses_metadata_that_are_not_those_of_an_export(tmp_path):
    model = onnx.load(find("ferlite_s"))
    facts = {entry.key: entry.value for entry in model.metadata_props}
    for key, value in (("num_parameters", "many"), ("valid_rows", None)):
        changed = {name: text for name, text in (facts | {key: value}).items() if text is not None}
        onnx.helper.set_model_props(model, changed)
        onnx.save(model, tmp_path / "student.onnx")
        with pytest.raises(ValueError, match=r"student\.onnx: its metadata are not those of an exported student"):
            site(tmp_path / "student.onnx", {}, None)


def test_a_browser_that_goes_away_leaves_no_traceback(address, capfd):
    host, port = address.split("/")[2].split(":")
    for _ in range(3):
        with socket.create_connection((host, int(port))) as gone:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets
            gone.sendall(b"GET /ort/ort-wasm-simd-threaded.wasm HTTP/1.1\r\n\r\n")
            gone.recv(9)
    assert ask(address, "/")[0] == 200
    time.sleep(0.5)
    assert capfd.readouterr().err == ""


def test_an_address_that_is_none_gets_an_answer_and_leaves_no_traceback(address, capfd):
    host, port = address.split("/")[2].split(":")
    for method in ("GET", "HEAD"):
        with socket.create_connection((host, int(port)), timeout=10) as asker:
            asker.sendall(f"{method} http://[x HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
            answer = asker.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 400 ") and answer.endswith(b"no address.\n") == (method == "GET")
    assert capfd.readouterr().err == ""


def test_detector_graph_takes_any_size_and_answers_as_the_file(home):
    import onnxruntime

    session = onnxruntime.InferenceSession(detector_graph(home / "detector.onnx"), providers=["CPUExecutionProvider"])
    heat, sizes, _ = session.run(None, {"input.1": np.full((1, 3, 64, 96), 255, np.float32)})
    assert heat.shape == (1, 1, 16, 24) and sizes.shape == (1, 2, 16, 24) and len(session.get_inputs()) == 1


def test_the_command_serves_until_ctrl_c(home, files, tmp_path):
    for name in SHA256:
        (tmp_path / name).write_bytes(files[f"ort/{name}"])
    words = [home / "student.onnx", "--port", 0, "--ort", tmp_path, "--crops"]
    command = [sys.executable, "-m", "distill.serve", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    heard = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # what runs in the background may ignore it, and hand that on
    job = subprocess.Popen(command, env=environment(), **pipes)
    signal.signal(signal.SIGINT, heard)
    try:
        address = re.search(r"http://\S+", job.stdout.readline())[0]
        assert ask(address, "/student.onnx")[3] == (home / "student.onnx").read_bytes()
    finally:
        job.send_signal(signal.SIGINT)
        out, error = job.communicate(timeout=120)
    assert job.returncode == 0 and "ended" in out and not error
