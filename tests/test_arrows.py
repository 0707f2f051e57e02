"""Which module may import which, read from the syntax tree: components never know each other, nor who builds them."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("distill", "teachers", "students", "conf")
FAMILIES = ("teachers", "students", "distill.losses", "distill.data")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


@cache
def tree(module):
    return ast.parse(FILES[module].read_text(), str(FILES[module]))


@cache
def imports(module):
    """Every module that is named in an import statement, wherever in the file, relative ones resolved."""
    package = module.split(".") if FILES[module].name == "__init__.py" else module.split(".")[:-1]
    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            up = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*up, *([node.module] if node.module else [])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names if f"{base}.{alias.name}" in FILES}
    return found


def within(module, package):
    return module == package or module.startswith(f"{package}.")


def reached(module):
    """Every project module that an import of this one executes, and the outside packages they name."""
    seen, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += imports(name) if name in FILES else []
    return seen


def is_command_line(module):
    return any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in tree(module).body)


def users_of(*packages):
    return {module for module in FILES if any(within(name, p) for name in imports(module) for p in packages)}


def test_imports_are_seen_absolute_relative_and_inside_functions():
    assert {"hydra", "distill.build", "distill.types"} <= imports("distill.run")
    assert {"distill.types", "distill.data.packing.reader"} <= imports("distill.data.ferplus")
    assert "importlib.metadata" in imports("distill.system.hardware")
    assert "filelock" in reached("teachers.store")
    assert is_command_line("distill.run") and not is_command_line("distill.build")
    assert all(any(within(module, family) for module in FILES) for family in FAMILIES)


def test_types_import_no_other_module_of_the_project():
    assert not [name for name in imports("distill.types") if name.split(".")[0] in PACKAGES]


@pytest.mark.parametrize("family", FAMILIES)
def test_components_reach_neither_other_components_nor_whoever_builds_them(family):
    forbidden = [
        *(other for other in FAMILIES if other != family),
        "distill.run",
        "distill.build",
        "distill.config.schema",
    ]
    for module in (name for name in FILES if within(name, family)):
        wrong = [name for name in reached(module) if any(within(name, p) for p in (*forbidden, "hydra", "omegaconf"))]
        assert not wrong, f"{module} reaches {wrong}"


def test_only_config_build_and_command_lines_know_hydra():
    users = users_of("hydra", "omegaconf")
    assert "distill.config.schema" in users
    assert {name for name in users if not is_command_line(name)} <= {
        "distill.config.schema",
        "distill.config.hints",
        "distill.config.naming",
        "distill.build",
        "distill.config.overrides",
    }


def test_only_loggers_know_wandb():
    assert users_of("wandb") == {"distill.training.loggers"}


def test_nothing_but_a_command_line_imports_a_command_line():
    lines = {module for module in FILES if is_command_line(module)}
    assert not {(module, name) for module in FILES.keys() - lines for name in imports(module) & lines}


def test_no_import_goes_round_in_a_circle():
    for module in FILES:
        assert not any(module in reached(name) for name in imports(module) if name in FILES), module


def test_no_test_imports_from_another_ones_file():
    paths = list((ROOT / "tests").glob("*.py"))
    found = {(path.name, node.module) for path in paths for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.ImportFrom) and node.module}  # fmt: skip
    assert ("test_run.py", "commandline") in found
    assert not {(name, module) for name, module in found if module.startswith(("test_", "tests."))}


@pytest.mark.parametrize("folder", [*PACKAGES, "tests"])
def test_no_file_is_longer_than_300_lines(folder):
    lengths = {str(path): len(path.read_text().splitlines()) for path in (ROOT / folder).rglob("*.py")}
    assert lengths and not {name: length for name, length in lengths.items() if length > 300}


def calls(module):
    """(name as written, {keyword: source}) of every call of a module."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}


@pytest.mark.parametrize("module", FILES)
def test_nothing_that_is_read_can_run_code(module):
    assert not {"pickle", "dill", "joblib", "cloudpickle", "shelve"} & {name.split(".")[0] for name in imports(module)}
    for name, words in calls(module):
        assert name not in ("eval", "exec", "os.system", "torch.hub.load", "yaml.load"), f"{module} calls {name}"
        assert name != "torch.load" or words.get("weights_only") == "True", (
            f"{module}: torch.load without weights_only=True"
        )
        assert words.get("weights_only", "True") == "True" and words.get("allow_pickle", "False") == "False", module


def test_reads_of_pytorch_files_are_seen():
    assert ("torch.load", {"map_location": "'cpu'", "weights_only": "True"}) in list(calls("distill.system.files"))
