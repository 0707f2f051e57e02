"""The documentation: pages that are made from other files are up to date, links resolve, examples run, and the site builds strictly."""

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from configparser import ConfigParser

import pytest
import yaml
from commandline import ROOT
from packaging.requirements import Requirement
from PIL import Image

from distill.runs.published import SHIPPED

DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md"), *(ROOT / "examples").rglob("*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
LOADED = re.compile(r"<(?:script|link|img)[^>]+(?:src|href)=\"?(https?://[^\s\">]+)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def generate():
    sys.path.insert(0, str(DOCS))  # as python docs/generate.py has it
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(DOCS))


def test_pages_that_are_made_from_other_files_are_up_to_date(generate):
    made = generate.pages()
    assert {path.name for path in made} >= {
        "README.md",
        "configuration.md",
        "benchmarks.md",
        "extending.md",
        "front.svg",
    }
    for path, text in made.items():
        assert path.read_text() == text, f"{path.name}: run python docs/generate.py"


def leaves(node, above=""):
    """The dotted names of all values of a yaml, those of hydra itself and what is chosen first left out."""
    for key, value in node.items():
        if key not in ("defaults", "hydra", "_target_"):
            yield from leaves(value, f"{above}{key}.") if isinstance(value, dict) and value else [f"{above}{key}"]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "conf").rglob("*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_every_key_of_every_yaml_is_on_the_configuration_page(path, generate):
    page, text = (DOCS / "configuration.md").read_text(), path.read_text()
    if path.parent.name in generate.RECIPES:
        assert "\n".join(generate.parts(path)[2]).strip() in page
        return
    package = re.search(r"@package (\S+)", text)
    package = package[1] if package else path.parent.name
    above = "" if package in ("_global_", "conf") else f"{package}."
    told = [key for key, _, _ in generate.rows(path)]
    for key in leaves(yaml.safe_load(text) or {}, above):
        assert any(key == name or key.startswith(f"{name}.") for name in told), f"{key} is missing"
    assert all(f"| `{name}` |" in page for name in told)


@pytest.mark.parametrize("group", ["data", "teacher", "student", "loss", "experiment", "optimizer", "schedule"])
def test_every_choice_of_a_group_is_in_the_table_of_choices(group):
    row = next(r for r in (DOCS / "getting-started.md").read_text().splitlines() if re.match(rf"\| [a-z, ]*{group}", r))
    assert {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")} - {"smoke"} <= {
        *re.findall(r"`([\w]+)`", row)
    }


def anchor(heading):
    """Return the anchor of a heading, as GitHub and mkdocs make it."""
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.strip().lower()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_docs_internal_links_resolve(page):
    for target in LINK.findall(CODE.sub("", page.read_text())):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, part = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        if part:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert part in map(anchor, headings), f"{page.name}: {target}"


NAMED = re.compile(r"`((?:\.ci|benchmarks|conf|distill|docs|examples|students|teachers|tests)/[\w./-]+|test_\w+\.py)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_that_a_page_names_exist(page):
    for name in NAMED.findall(page.read_text()):
        if not re.search(r"\b[A-Z]{3,}\b", name):
            assert (ROOT / name).exists() or any((ROOT / "tests").rglob(name)), f"{page.name}: {name}"


@pytest.mark.parametrize("page", ["python.md", "export.md"])
def test_docs_python_blocks_run(page, tmp_path, monkeypatch):
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    (tmp_path / "RUN").mkdir()
    (tmp_path / "RUN" / "export").symlink_to(SHIPPED / "microexpnet")
    Image.new("RGB", (60, 40), "gray").save(tmp_path / "face.jpg")
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        names = {}
        exec(block.replace("export/student.onnx", "export/model.onnx"), names)
        assert abs(float(names["probabilities"].sum()) - 1) < 1e-4


def test_every_page_with_blocks_of_python_is_one_whose_blocks_are_run():
    pages = {page.name for page in PAGES if re.search(r"^```python$", page.read_text(), re.MULTILINE)}
    assert pages == {"README.md", "python.md", "export.md", "extending.md"}, "test_api.py, here, test_examples.py"


def test_site_builds_without_a_warning_and_has_a_page_for_each_loss(tmp_path):
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr
    built = {path.parent.name for path in (tmp_path / "site" / "losses").glob("*/index.html")}
    assert built == {path.stem for path in (ROOT / "conf" / "loss").glob("*.yaml")}
    assert "distill.export.load" in (tmp_path / "site" / "python" / "index.html").read_text()
    loaded = {host for page in (tmp_path / "site").rglob("*.html") for host in LOADED.findall(page.read_text())}
    assert not loaded, "a page loads scripts, styles, fonts or pictures from elsewhere"


def test_every_name_that_the_python_page_asks_for_exists():
    asked = re.findall(
        r"^::: ([\w.]+)\n    options:\n      members:\s*(.*?)(?:\n\n|\Z)", (DOCS / "python.md").read_text(), re.M | re.S
    )
    assert len(asked) >= 4
    for module, names in asked:
        found = importlib.import_module(module)
        for name in re.findall(r"\w+", names):
            assert hasattr(found, name), f"{module}.{name}"


def test_every_page_is_in_the_navigation():
    listed = re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert {path.name for path in DOCS.glob("*.md")} | {"contributing.md", "changelog.md"} == set(listed)
    assert len(listed) == len(set(listed))


def test_constraints_name_direct_dependencies_within_their_bounds():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    texts = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    needed = [Requirement(line) for text in texts for line in text.split("\n") if line]
    bounds = {one.name.lower(): one.specifier for one in needed}
    pinned = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"]
    assert {"torch", "timm", "numpy", "pytest"} <= {one.name for one in pinned}
    for one in pinned:
        (version,) = (clause.version for clause in one.specifier)
        assert one.name.lower() not in bounds or bounds[one.name.lower()].contains(version), one
