"""Files of our own are UTF-8 whatever the locale: nothing opens text without saying so."""

import ast
import os
import subprocess
import sys

import pytest
from commandline import ROOT
from text_files import unencoded

FILES = [path for folder in ("distill", "teachers", "students", "benchmarks") for path in (ROOT / folder).rglob("*.py")]


def test_text_without_an_encoding_is_found():
    found = [
        "open(x)", "open(x, 'w')", "open(x, mode='r')", "p.read_text()", "p.write_text(t)", "p.open('w')", "os.fdopen(f, 'w')",
        "TemporaryFile('w+')", "subprocess.run(w, text=True)",
    ]  # fmt: skip
    sound = [
        "open(x, 'rb')", "open(x, encoding='utf-8')", "p.read_text('utf-8')", "p.write_text(t, 'utf-8')", "p.open('wb')",
        "TemporaryFile()", "Image.open(x)", "os.open(x, 0)", "store.open('train', 0)", "subprocess.run(w)", "open(x, 'w', **more)",
    ]  # fmt: skip
    for code in (*found, *sound):
        assert bool(unencoded(ast.parse(code))) == (code in found), code


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_text_file_is_opened_in_an_encoding(path):
    assert not [f"line {node.lineno}" for node in unencoded(ast.parse(path.read_text(encoding="utf-8")))]


def test_files_are_utf8_where_the_locale_is_ascii(tmp_path):
    """A page, a config and yamls with letters of all kinds, under a C locale that Python may not change."""
    code = (
        "import locale, sys; assert locale.getpreferredencoding(False) not in ('utf-8', 'UTF-8')\n"
        "from pathlib import Path; from distill.system.files import write_json; from distill.config.help import run_help\n"
        "write_json(Path(sys.argv[1]), {'x': 'gr\\u00f6\\u00dfe'}); run_help([])\n"
        "from distill.runs.config import COMPONENTS, RunConfig; from dataclasses import replace; file = Path(sys.argv[2])\n"
        "nodes = {key: {'_target_': None} for key in (*COMPONENTS, 'logger')} | {'loss': {}}; cfg = RunConfig.from_dict(nodes)\n"
        "cfg = replace(cfg, data={'_target_': None, 'root': 'gr\\u00f6\\u00dfe'}); cfg.write(file / 'config.yaml')\n"
        "assert RunConfig.read(file / 'config.yaml') == cfg"
    )
    env = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = [sys.executable, "-c", code, str(tmp_path / "x.json"), str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, encoding="utf-8", timeout=100)
    assert done.returncode == 0, done.stderr
