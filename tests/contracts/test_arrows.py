"""Which module may import which, read from the syntax tree: wings in one order, components that never know each other."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("distill", "teachers", "students", "conf")
FAMILIES = ("teachers", "students", "distill.losses", "distill.data")
WINGS = """
types | augment models system | data losses runs | config evaluation teachers students | training | build | pipeline
| report sweep measure | export run | predict publish bench | serve
"""  # each imports only what stands before it; bench, which knows exports, but no run, stands with the commands
RANK = {wing: number for number, wings in enumerate(WINGS.split("|")) for wing in wings.split()}
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
            names = {f"{base}.{alias.name}" for alias in node.names}
            found |= names & FILES.keys() | ({base} if names - FILES.keys() else set())
    return found


def wing(module):
    first, *rest = module.split(".")
    return rest[0] if first == "distill" and rest else first


def arrows():
    """(module, module of the project that it imports)."""
    return [(module, name) for module in FILES for name in imports(module) & FILES.keys()]


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
    assert {"hydra", "distill.build", "distill.types"} <= imports("distill.measure")
    assert {"distill.types", "distill.data.packing.reader"} <= imports("distill.data.ferplus")
    assert "distill.data.procedural.faces" in imports("distill.data.procedural.camera")
    assert "distill.data.procedural" not in imports("distill.data.procedural.camera")
    assert "importlib.metadata" in imports("distill.system.hardware")
    assert "filelock" in reached("teachers.output_store")
    assert is_command_line("distill.run") and not is_command_line("distill.build")
    assert all(any(within(module, family) for module in FILES) for family in FAMILIES)


def test_every_module_has_a_wing():
    assert {wing(module) for module in FILES} - {"distill", "conf"} == set(RANK)


def test_a_wing_imports_only_what_stands_before_it():
    up = [(a, b) for a, b in arrows() if a != "distill" and wing(a) != wing(b) and RANK[wing(b)] >= RANK[wing(a)]]
    assert len(arrows()) > 300 and not up


def test_no_folder_is_in_a_circle_with_another():
    """A command that is a package, __main__.py, stands above its own folders as every command does."""
    folder = {module: str(path.parent) for module, path in FILES.items() if path.name != "__main__.py"}
    edges = {(folder[a], folder[b]) for a, b in arrows() if a in folder and b in folder and folder[a] != folder[b]}
    edges = {
        (a, b) for a, b in edges if str(ROOT / "distill") not in (a, b)
    }  # files at the root are rooms of their own

    def above(start):
        seen, todo = set(), [start]
        while todo:
            here = todo.pop()
            new = {b for a, b in edges if a == here} - seen
            seen |= new
            todo += new
        return seen

    assert len(edges) > 40 and not [(a, b) for a, b in edges if a in above(b)]


def test_run_folders_are_read_without_torch():
    outside = {name.split(".")[0] for module in FILES if within(module, "distill.runs") for name in reached(module)}
    assert "json" in outside and not outside & {"torch", "hydra", "omegaconf", "timm"}


@pytest.mark.parametrize("family", FAMILIES)
def test_components_reach_neither_other_components_nor_whoever_builds_them(family):
    shared = {"distill.data.loader"}  # batches of a split
    forbidden = (*(other for other in FAMILIES if other != family), "distill.run", "distill.build", "distill.config")
    for module in (name for name in FILES if within(name, family)):
        names = reached(module) - shared
        wrong = [name for name in names if any(within(name, p) for p in (*forbidden, "hydra", "omegaconf"))]
        assert not wrong, f"{module} reaches {wrong}"


def test_only_config_build_and_command_lines_know_hydra():
    users = users_of("hydra", "omegaconf")
    assert "distill.config.schema" in users
    assert {name for name in users if not is_command_line(name) and wing(name) != "config"} <= {"distill.build"}


def test_only_loggers_know_wandb():
    assert users_of("wandb") == {"distill.training.loggers"}


def test_nothing_but_a_command_line_imports_a_command_line():
    lines = {module for module in FILES if is_command_line(module)}
    assert not {(module, name) for module in FILES.keys() - lines for name in imports(module) & lines}


def test_no_import_goes_round_in_a_circle():
    for module in FILES:
        assert not any(module in reached(name) for name in imports(module) if name in FILES), module


def test_no_test_imports_from_another_ones_file():
    paths = list((ROOT / "tests").rglob("*.py"))
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
    assert ("torch.load", {"map_location": "'cpu'", "weights_only": "True"}) in list(calls("distill.system.weights"))
