"""A sample of the hostile inputs of fuzz_inputs.py, whose thousand is tried by hand: no traceback, no bug, no silence."""

import subprocess
import sys

import pytest
from commandline import ROOT, environment


@pytest.mark.slow
def test_hostile_inputs_end_in_a_sentence():
    words = [sys.executable, str(ROOT / "tests" / "helpers" / "fuzz_inputs.py"), "40", "7000"]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, encoding="utf-8", timeout=600)
    assert done.returncode == 0 and "40 inputs, 0 of them" in done.stdout, done.stdout + done.stderr
