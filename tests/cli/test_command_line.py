"""How a command line ends: one line where a user can mend it, the file of a traceback where it is a bug, no traceback."""

import csv
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import ROOT

from distill.system.cli import command_line, format_error, not_installed, parser, to_export, user_path

PRINTS = "from distill.system.cli import command_line; command_line()(lambda words: print({!r} * {}))([])"
QUICK = ("run", "sweep", "measure", "export", "bench", "predict", "publish", "serve", "report")


def ended(error):
    @command_line()
    def main(words):
        raise error

    with pytest.raises(SystemExit) as stopped:
        main([])
    return stopped.value.code


def typed(*words, shell="", **env):
    """What a command ends with, printed in bytes; shell is what stands behind it."""
    command = " ".join([sys.executable, "-m", *words, shell])
    return subprocess.run(command, shell=True, cwd=ROOT, env={**os.environ, **env}, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    "error, sentence",
    [
        (ValueError("epochs: expected 1 or more, got 0."), "error: epochs: expected 1 or more, got 0."),
        (ValueError("several\n  lines"), "error: several lines"),
        (
            PermissionError(13, "Permission denied", "/a/file"),
            "error: /a/file: Permission denied. Give another path, or allow it to this user with chmod.",
        ),
        (OSError(5, "Input/output error", "/a/file"), "error: /a/file: Input/output error"),
        (OSError(28, "No space left on device"), "error: No space left on device"),
        (OSError("the disk is full"), "error: the disk is full"),
        (csv.Error("field larger than field limit (131072)"), "error: field larger than field limit (131072)"),
        (ImportError("libcudart.so: cannot open"), "error: libcudart.so: cannot open"),
        (
            MemoryError(),
            "error: out of memory. Give a smaller train.batch_size, a smaller network or smaller pictures.",
        ),
    ],
)
def test_user_error_becomes_one_line(error, sentence):
    assert ended(error) == sentence


def test_interrupt_ends_with_a_word_and_130(capsys):
    assert ended(KeyboardInterrupt()) == 130
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a second one would end the process at once
    assert capsys.readouterr().err == "stopped\n"


def test_bug_is_one_line_that_names_the_file_of_its_traceback(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sentence = ended(KeyError("x"))
    (file,) = tmp_path.iterdir()
    assert sentence.startswith("error: this is a bug") and "KeyError: 'x'" in sentence and str(file) in sentence
    assert file.read_text(encoding="utf-8").startswith("Traceback") and capsys.readouterr().err == ""
    monkeypatch.setenv("FER_DISTILL_TRACEBACK", "1")
    ended(ValueError("x"))
    assert "Traceback" in capsys.readouterr().err


def test_bug_where_nothing_can_be_written_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    assert ended(KeyError("x")).endswith("FER_DISTILL_TRACEBACK=1 prints the traceback.")


def test_error_inside_a_sentence_is_its_first_line_without_full_stop():
    assert format_error(ValueError("cannot be read.\nmore"), inside=True) == "cannot be read"
    assert format_error(RuntimeError("sizes differ.\nmore"), inside=True) == "RuntimeError: sizes differ"
    assert format_error(OSError(2, "No such file", "x"), inside=True) == "No such file"
    assert format_error(KeyError()) == "KeyError"


def test_package_that_is_not_there_is_named_with_what_to_type():
    def command():
        import no_such_package.of_this_name  # noqa: F401

    with pytest.raises(ModuleNotFoundError) as error:
        command()
    sentence = ended(error.value)
    assert "package no_such_package is not installed" in sentence and "pip install -e ." in sentence


def test_broken_package_is_not_called_missing():
    assert not_installed("onnxruntime", ModuleNotFoundError("", name="onnx"), "export").startswith(
        "onnx is not installed"
    )
    broken = not_installed("onnxruntime", ImportError("libonnx.so: cannot open"), "export")
    assert broken.startswith("onnxruntime is installed, but cannot be imported (libonnx.so: cannot open)")


def test_path_in_the_home_of_nobody_is_a_usage_error(capsys):
    options = parser("x", None)
    options.add_argument("file", type=user_path)
    with pytest.raises(SystemExit, match="2"):
        options.parse_args(["~nobody-of-this-name/x"])
    assert "Type the path in full" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["", "x"], ["x", ""], ["x", "x", "--out", ""]])
def test_an_unset_variable_is_no_current_directory(words, capsys):
    options = parser("x", None)
    options.add_argument("folder", type=user_path)
    options.add_argument("words", nargs="+")
    options.add_argument("--out")
    with pytest.raises(SystemExit, match="2"):
        options.parse_args(words)
    assert "expected a value, got an empty one (an unset variable?)" in capsys.readouterr().err


def test_a_current_directory_that_is_gone_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    with pytest.raises(OSError) as gone:
        os.getcwd()
    assert format_error(gone.value).startswith("the current directory is not there any more. Type")


def test_export_of_a_run_names_the_run(tmp_path):
    (tmp_path / "width-0.5").mkdir()
    (tmp_path / "width-0.5" / "config.yaml").touch()  # of a run of several widths
    assert to_export(tmp_path / "export") == f"Type python -m distill.export {tmp_path}"


def test_reader_that_goes_away_ends_it_without_a_word():
    code = PRINTS.format("row\n", 99999)
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert writer.stdout.readline() == b"row\n"
    writer.stdout.close()
    assert writer.stderr.read() == b"" and writer.wait() == 1


@pytest.mark.parametrize("command", QUICK)
def test_help_and_version_need_no_pytorch(command):
    code = f"-X importtime -m distill.{command}"
    told = subprocess.run([sys.executable, *code.split(), "--help"], cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 0 and " torch\n" not in told.stderr and f"distill.{command}" in told.stdout
    told = subprocess.run([sys.executable, *code.split(), "--version"], cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 0 and told.stdout.startswith("fer-distill 0.")


def test_commands_begin_without_the_libraries_that_most_of_their_work_does_without():
    code = "import sys, distill.run, distill.export.__main__, distill.measure, distill.report.__main__; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    late = {"timm", "torchvision", "wandb", "torch._dynamo", "matplotlib", "onnx", "onnxruntime"}
    assert late.isdisjoint(found.stdout.split())


def test_help_of_a_package_that_is_no_command_is_what_python_says():
    told = typed("distill.data.procedural", "--help")
    assert told.returncode == 1 and b"cannot be directly executed" in told.stderr and b"a bug" not in told.stderr


def test_closed_output_does_no_harm_and_full_output_is_said(tmp_path):
    file = tmp_path / "o"
    assert (closed := typed("distill.run", "--help", shell=">&-")).returncode == 0 and closed.stderr == b""
    assert typed("distill.run", "--help", shell=f"2>&- > {file}").returncode == 0 and file.stat().st_size
    full = typed("distill.run", "--help", shell="> /dev/full")
    assert full.returncode == 1 and full.stderr == b"error: No space left on device\n"


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_letters_that_a_terminal_does_not_have_are_escaped(encoding):
    done = typed("distill.predict", "日本", "--crops", PYTHONIOENCODING=encoding)
    assert done.returncode == 1 and done.stderr.decode(encoding).startswith("error: \\u65e5\\u672c: no such file")


def test_number_1_is_never_a_file_of_ours(tmp_path):
    code = f"import distill.system.cli as c; c.open_streams(); print(open({str(tmp_path / 'f')!r}, 'w').fileno())"
    done = subprocess.run(
        f'{sys.executable} -c "{code}" <&- 2>&- > {tmp_path / "out"}', shell=True, cwd=ROOT, timeout=60
    )
    assert done.returncode == 0 and int((tmp_path / "out").read_text()) > 2


def test_folders_of_our_names_in_the_current_directory_do_no_harm(tmp_path):
    for name in ("conf", "students", "teachers"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('shadowed')")
    code = "import distill, conf, students, teachers.output_store; print(conf.__file__)"
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert Path(found.stdout.strip()) == ROOT / "conf" / "__init__.py"


def test_modules_in_the_current_directory_are_found_and_hide_none_of_others(tmp_path):
    for name in ("csv", "random", "signal", "types", "yaml"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('shadowed')")
    (tmp_path / "mine.py").write_text("")
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "distill.run", "--help"], cwd=tmp_path, env=env, capture_output=True)
    assert done.returncode == 0 and b"shadowed" not in done.stdout + done.stderr
    code = "import sys; sys.argv[0] = '-m'; import distill, mine, yaml"  # as `python -m distill.COMMAND` begins
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env).returncode == 0


def test_interrupt_while_pytorch_is_imported_is_a_word(tmp_path):
    (tmp_path / "torch.py").write_text("import time; print('at work', flush=True); time.sleep(60)")
    env = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    words = [sys.executable, "-m", "distill.measure", "no-run"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(words, cwd=tmp_path, env=env, **pipes)
    assert process.stdout.readline() == "at work\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1] == "stopped\n" and process.returncode == 130


def test_process_without_home_folder_gets_one(tmp_path, monkeypatch):
    code = (
        "import getpass, os, pwd, sys; pwd.getpwuid = lambda number: {}[number]\n"
        "import distill.system.cli as c; c._make_home(); print(os.path.expanduser('~'), getpass.getuser())"
    )
    env = {key: value for key, value in os.environ.items() if key not in ("HOME", "LOGNAME", "USER", "USERNAME")}
    for home in ({}, {"HOME": str(tmp_path / "gone")}):
        made = env | home | {"TMPDIR": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=made, capture_output=True, text=True)
        assert done.stdout == f"{tmp_path}/fer-distill-home-{os.getuid()} nobody\n" and "Set HOME" in done.stderr
    assert len(list(tmp_path.iterdir())) == 1


def test_streams_of_a_program_are_left_as_they_are(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    command_line()(lambda: print("x"))()
    assert sys.stdout.getvalue() == "x\n"
