"""What python -m distill.run --help prints: every key with its default and the comment of its yaml, without PyTorch or Hydra."""

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import yaml

from distill.system.typed import as_yaml

CONF = Path(str(files("conf")))
KEY = re.compile(r"(\s*)([\w.]+):(?:\s+(?:&\w+ )?([^#\s].*?))?(?:\s+#\s*(.*))?")
NO_KEYS = {"defaults", "hydra", "_target_"}
FLAGS = {
    "-m": "several jobs: values with commas, such as seed=0,1, are spread out",
    "--cfg": "--cfg job prints the whole config and ends",
    "--resolve": "with references filled in",
    "--help": "this page",
    "--version": "of this package",
}
OF_HYDRA = ("--multirun", "--run", "-r", "-c", "--info", "-i", "--hydra-help", "--package", "-p", "--config-dir", "-cd")
OF_HYDRA += ("--config-name", "-cn", "--config-path", "-cp", "--shell-completion", "-sc", "--experimental-rerun")


def refuse_flags(words: Sequence[str]) -> None:
    """Refuse an option that does not exist.

    Raises:
        ValueError: naming it.
    """
    for word in words:
        if word.startswith("-") and word.partition("=")[0] not in (*FLAGS, *OF_HYDRA):
            raise ValueError(f"{word}: no such option. Type KEY=VALUE; python -m distill.run --help lists the keys.")


def run_help(words: Sequence[str]) -> str:
    """Return the page.

    Args:
        words: the command line without the program; the chosen yaml of a group, such as student=microexpnet, is shown.
    """
    entries = yaml.safe_load(_text(CONF / "run.yaml"))["defaults"]
    chosen = {group: choice for entry in entries if isinstance(entry, dict) for group, choice in entry.items()}
    typed = dict(word.lstrip("+").split("=", 1) for word in words if "=" in word)
    parts = [
        "Distill a teacher into a student for facial expression recognition.\n"
        "  python -m distill.run teacher=resnet50 student=cern        GROUP=CHOICE and KEY=VALUE, in any order\n"
        "  python -m distill.run student=microexpnet --help           the keys of other choices",
        "\n".join(f"  {flag:<12}{text}" for flag, text in FLAGS.items()),
        _keys_of(CONF / "run.yaml", ""),
    ]
    for group, choice in chosen.items():
        there = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
        if not there:
            continue
        choice = as_yaml(group, typed.get(group, str(choice)))
        parts.append(f"{group}={choice}   choices: {', '.join(there)}".replace("'", "").replace("=None", "=null"))
        names = choice if isinstance(choice, list) else [choice]
        parts += [_keys_of(CONF / group / f"{name}.yaml", group) for name in names if str(name) in there]
    return "\n\n".join(parts)


def _keys_of(file: Path, group: str) -> str:
    """Return the keys of a yaml, one a line, under what its first comments say."""
    text = _text(file)
    head = [line for line in text.splitlines() if line.startswith("#") and "@package" not in line]
    package = re.search(r"(?m)^# @package (\S+)", text)
    before = package[1].replace("_global_", "") if package else group
    prefix = f"{before}." if before else ""
    lines = [f"  {prefix + key:<30} {value:<20} {comment}".rstrip() for key, (value, comment) in _keys(file).items()]
    return "\n".join([*head, *lines])


def _keys(file: Path) -> dict[str, tuple[str, str]]:
    """Return key -> (default, comment) of a yaml, after those of the yamls of its group that it begins with."""
    text, keys = _text(file), dict[str, tuple[str, str]]()
    for entry in (yaml.safe_load(text) or {}).get("defaults", []):
        if isinstance(entry, str) and (file.parent / f"{entry}.yaml").is_file():
            keys |= _keys(file.parent / f"{entry}.yaml")
    around: list[tuple[int, str]] = []  # the blocks that a line lies in
    for match in filter(None, map(KEY.fullmatch, text.splitlines())):
        depth, value, comment = len(match[1]), match[3] or "", match[4] or ""
        around = [*(block for block in around if block[0] < depth), (depth, match[2])]
        key = ".".join(name for _, name in around)
        if not {around[0][1], match[2]} & NO_KEYS and (value or comment):
            keys[key] = (value, comment or keys.get(key, ("", ""))[1])
    return keys


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")
