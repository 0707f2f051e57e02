"""The commands that the project prints for copying, as words; the sentence around them is left out."""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from commandline import ROOT

TEXTS = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "conf").rglob("*.yaml")]
PRINTED = [*TEXTS, *(ROOT / "distill").rglob("*.py"), *(ROOT / "distill" / "shipped").glob("*/README.md")]
COMMAND = re.compile(r"python -m distill\.(\w+) ((?:(?!python -m)[^\n`)])+)")
EXAMPLES = {  # files that the reader of docs/extending.md writes, or a place for a name
    *("run student=tiny", "run 'loss=[ce,squares]'"),
    *("run -m launcher=NAME", "export best of", "export RUN --width W"),
}
ELSEWHERE = {"--help", "--config-dir"}  # typed in test_examples.py and test_command_line.py
OVERRIDE = re.compile(r"`([^`\n]*\{from[^`\n]*|[^`\n]*\[\{epochs[^`\n]*)`")
BEHIND = re.compile(r"\s\(.*|\s\s+#.*|\s\s\s.*|\s&&.*|[;|].*")  # a remark, or the next command
WORD = re.compile(r"-.+|[A-Z].*|\d+|best|of|runs|.*[=/].*|\w+\.\w+.*")  # anything else is the sentence around it


def commands(paths: Iterable[Path] = PRINTED) -> dict[str, list[str]]:
    """Return each command of some files once, module and words in one line -> its words; "..." stands for words of the reader's."""
    found = {}
    for path in paths:
        code = path.suffix == ".py"
        for module, line in COMMAND.findall(path.read_text()):
            line = BEHIND.sub("", line)
            words = shlex.split(re.sub(r'["{].*', "", line) if code else line)
            words = [word for word in words if word != "..."]
            end = next((k for k, word in enumerate(words) if not WORD.fullmatch(word)), len(words))
            words = [*words[: end - 1], words[end - 1].rstrip(".,:")] if end else []
            line = shlex.join([module, *words])
            if words and line not in EXAMPLES and not ELSEWHERE & {word.partition("=")[0] for word in words}:
                found[line] = words
    return found


ALL = commands()
JOBS = [line for line, words in ALL.items() if line.startswith("run ") and any("=" in word for word in words)]
OTHERS = [line for line in ALL if not line.startswith("run ")]
ON_PAGES = commands(TEXTS)
