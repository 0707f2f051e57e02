"""What the pages have from other files: python docs/generate.py writes docs/configuration.md, README.md's table, figures and listings.

As a hook of mkdocs it also makes the pages that exist on the site alone: one per loss out of losses.md, and CONTRIBUTING.md and
CHANGELOG.md under their own titles.
"""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS, CONF = ROOT / "docs", ROOT / "conf"
INTRODUCTION = """# Configuration

Every key can be set on the command line as it stands here:
`python -m distill.run student=microexpnet student.width=S train.epochs=4`. The command `python -m distill.run --help`
prints the choices of each group. A group is chosen by its name, `student=microexpnet`; its keys then are
those of that file. `???` must be given. `null` means that nothing is set.

This page is made from the files in `conf/` by `python docs/generate.py`.
"""
RECIPES = ("experiment", "debug", "sweep")  # they set keys of other groups, which are explained there
LINE = re.compile(r"(?P<indent> *)(?P<key>[\w.]+):(?P<value>.*?)(?: +# (?P<comment>.*))?")
CHOICE = re.compile(r" +- (?P<key>\w+): (?P<value>.*?)(?: +# (?P<comment>.*))?")
COMMAND = re.compile(r"(^|.*[:.]) +(python -m .*)")
BAR = "\\|"  # in a table's cell
BASE = re.compile(r" +- (\w+)")  # of defaults: a file whose keys come first


def parts(path: Path) -> tuple[str, str, list[str]]:
    """Return a yaml's head of comments, its package (the keys that its own stand under) and its other lines."""
    lines = path.read_text().splitlines()
    end = next((k for k, line in enumerate(lines) if line and not line.startswith("#")), len(lines))
    head = [line.lstrip("#") for line in lines[:end]]
    given = next((line.split()[1] for line in head if "@package" in line), path.parent.name)
    return "\n".join(line for line in head if "@package" not in line), given, lines[end:]


def rows(path: Path) -> Iterator[tuple[str, str, str]]:
    """Return each key of a yaml as it is typed, with its default and its comment; those of hydra itself are left out.

    Args:
        path: conf/run.yaml, or a file of a group.

    Raises:
        ValueError: a line that is neither a key nor a choice, so that none is lost from the page.
    """
    _, package, lines = parts(path)
    above = [] if package in ("_global_", CONF.name) else [(-1, package)]
    for line in filter(str.strip, lines):
        if line.strip().startswith(("- override", "- /", "#")) or BASE.fullmatch(line):
            continue
        if match := CHOICE.fullmatch(line):
            yield match["key"], match["value"], match["comment"] or ""
            continue
        if not (match := LINE.fullmatch(line)):
            raise ValueError(f"{path}: {line!r} is no key with a value. Write KEY: VALUE  # COMMENT")
        above = [(indent, key) for indent, key in above if indent < len(match["indent"])]
        above.append((len(match["indent"]), match["key"]))
        typed = ".".join(key for _, key in above)
        if (
            (value := match["value"].strip())
            and "_target_" not in typed
            and not (path.name == "run.yaml" and above[0][1] == "hydra")
        ):
            yield typed, value, match["comment"] or ""


def cell(text: str) -> str:
    """Return text that a table's cell can hold."""
    return re.sub(r"([|*_])", r"\\\1", text).replace("<", "&lt;")


def file_section(path: Path) -> str:
    """Return what a yaml says of itself, what it takes over, and a table of its keys."""
    head, _, lines = parts(path)
    blocks = [f"### {path.stem}", prose(head)] if path.parent != CONF else ["## Run"]
    bases = [match[1] for line in lines if (match := BASE.fullmatch(line)) and match[1] not in ("schema", "_self_")]
    blocks += [f"It takes the keys of `{base}`, and sets:" for base in bases]
    table = [
        f"| `{key}` | `{value.replace('|', BAR)}` | {'; '.join(filter(None, [group_link(path, key), cell(comment)]))} |"
        for key, value, comment in rows(path)
    ]
    return "\n\n".join(
        [*blocks, "\n".join(["| key | default | what it is |", "|---|---|---|", *table]) if table else ""]
    )


def group_link(path: Path, key: str) -> str:
    """Return where the choices of a group are that conf/run.yaml names."""
    return f"[choices](#{key})" if path.parent == CONF and (CONF / key).is_dir() else ""


def prose(head: str) -> str:
    """Return a head of comments as Markdown: its commands as code, the other lines as they are."""
    lines = [COMMAND.sub(r"\1\n\n```\n\2\n```\n", line.removeprefix(" ")) for line in head.splitlines()]
    return "\n".join(lines).strip()


def recipe_section(path: Path) -> str:
    """Return a yaml that sets keys of other groups as it is."""
    head, _, lines = parts(path)
    body = "\n".join(lines).strip()
    return f"### {path.stem}\n\n{prose(head)}\n\n```yaml\n{body}\n```"


def configuration() -> str:
    """Return docs/configuration.md."""
    sections = [INTRODUCTION.strip(), file_section(CONF / "run.yaml")]
    groups = sorted({path.parent.name for path in CONF.glob("*/*.yaml")} - set(RECIPES))
    for group in (*groups, *RECIPES):
        section = recipe_section if group in RECIPES else file_section
        sections += [f"## {group}", *map(section, sorted((CONF / group).glob("*.yaml")))]
    return "\n\n".join(part.strip() for part in sections) + "\n"


def filled(page: str) -> str:
    """Return a page with what stands between <!-- table: NAME --> or <!-- file: PATH --> and <!-- end --> as it is now."""

    from tables import TABLES

    def content(match: re.Match) -> str:
        kind, name = match[2], match[3]
        code = (
            ""
            if kind == "table"
            else f"```{Path(name).suffix[1:].replace('py', 'python')}\n{(ROOT / name).read_text()}```"
        )
        return f"{match[1]}\n\n{code or TABLES[name]()}\n\n<!-- end -->"

    return re.sub(r"(<!-- (table|file): (\S+) -->).*?<!-- end -->", content, page, flags=re.DOTALL)


def pages() -> dict[Path, str]:
    """Return README.md, pages and figures of docs/ that are made from other files or have parts that are, as they should be now."""
    from curves import picture  # beside this file, as figure and tables are
    from figure import figure
    from tables import front_rows

    made = DOCS / "configuration.md"
    texts = [*sorted(DOCS.glob("*.md")), ROOT / "README.md"]
    written = [path for path in texts if path != made and "<!-- end -->" in path.read_text()]
    figures = {
        DOCS / name: figure(front_rows(), dark) for name, dark in (("front.svg", False), ("front-dark.svg", True))
    }
    return (
        {made: configuration()}
        | {path: filled(path.read_text()) for path in written}
        | figures
        | {DOCS / "patience.svg": picture()}
    )


def loss_pages(page: str) -> tuple[str, dict[str, str]]:
    """Take docs/losses.md apart: its index, without formulas and with links to the pages, and a page for each loss."""
    index, *sections = re.split(r"^## (?=\w+$)", page, flags=re.M)
    linked = re.sub(r"\]\(#(\w+)\)", r"](losses/\1.md)", index)
    rows = [re.split(r"(?<!\\)\|", line) if line.startswith("|") else [line] for line in linked.splitlines()]
    return "\n".join("|".join(row[:3] + row[4:]) for row in rows), {
        section.split("\n", 1)[0]: f"# {section.rstrip()}\n\n[All losses](../losses.md)\n" for section in sections
    }


def on_files(files, config):
    """Add the pages that exist on the site alone: a hook of mkdocs."""
    from mkdocs.structure.files import File

    index, losses = loss_pages((DOCS / "losses.md").read_text())
    made = {"losses.md": index} | {f"losses/{name}.md": text for name, text in losses.items()}
    for name in ("CONTRIBUTING.md", "CHANGELOG.md"):
        made[name.lower()] = (ROOT / name).read_text().replace("](docs/", "](")
    for path, text in made.items():
        if (old := files.get_file_from_path(path)) is not None:
            files.remove(old)
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, **_):
    """Take the backslash from bars in the code of tables, which mkdocs would show, and let links stay on the site."""
    markdown = markdown.replace("](../CONTRIBUTING.md)", "](contributing.md)")
    table = re.compile(r"^\|.*$", re.MULTILINE)
    return table.sub(lambda row: re.sub(r"`[^`]*`", lambda code: code[0].replace("\\|", "|"), row[0]), markdown)


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
