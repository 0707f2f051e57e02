"""How a command line ends: a sentence where a user can mend it, no traceback."""

import subprocess
import sys

import pytest

from distill.system.cli import command_line

PRINTS = "from distill.system.cli import command_line; command_line(lambda words: print('row\\n' * 99999))([])"


def ended(error):
    @command_line
    def main(words):
        raise error

    with pytest.raises(SystemExit) as stopped:
        main([])
    return stopped.value.code


@pytest.mark.parametrize(
    "error, sentence",
    [
        (ValueError("epochs: 0 was asked for"), "error: epochs: 0 was asked for"),
        (PermissionError(13, "Permission denied", "/a/file"), "error: /a/file: Permission denied"),
        (OSError(28, "No space left on device"), "error: No space left on device"),
        (OSError("the disk is full"), "error: the disk is full"),
    ],
)
def test_what_a_user_can_mend_becomes_a_sentence(error, sentence):
    assert ended(error) == sentence


def test_an_interrupt_is_told_in_a_word(capsys):
    assert ended(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_a_mistake_of_the_program_keeps_its_traceback():
    @command_line
    def main(words):
        return words[0]

    with pytest.raises(IndexError):
        main([])


def test_a_reader_that_goes_away_ends_it_without_a_word():
    writer = subprocess.Popen([sys.executable, "-c", PRINTS], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert writer.stdout.readline() == b"row\n"
    writer.stdout.close()
    assert writer.stderr.read() == b"" and writer.wait() == 1
