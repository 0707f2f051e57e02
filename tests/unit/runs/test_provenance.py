"""Of which code a run was made is written down, and told where that code was changed since."""

import json
import shutil
import subprocess
import sys

import pytest
from inside import folder_of, job

from distill import build
from distill.evaluation.inference import PROBE
from distill.measure import measure
from distill.runs import provenance
from distill.runs.folder import RunFolder

WORDS = ("loss=[ce]", "train.epochs=1", "plugins=[ours]", "student._target_=ours.net.Net")
NET = """\
import json
import theirs
from students.microexpnet import MicroExpNet
from . import parts
from ours.more.deep import depth


class Net(MicroExpNet):
    pass
"""


def write_code(home):
    """Write a package with a student, of which other modules are a part, in it and beside it, and some are not."""
    (home / "ours" / "more").mkdir(parents=True, exist_ok=True)
    contents = {
        "__init__": "",
        "net": NET,
        "parts": "WIDTH = 1\n",
        "other": "",
        "more/__init__": "",
        "more/deep": "depth = 2\n",
    }
    for name, content in contents.items():
        (home / "ours" / f"{name}.py").write_text(content)
    for name, content in {"theirs": "import theirs_too\n", "theirs_too": "HEIGHT = 1\n", "nobodys": ""}.items():
        (home / f"{name}.py").write_text(content)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(home)
        patch.setattr(sys, "dont_write_bytecode", True)
        write_code(home)
        yield home


@pytest.fixture(scope="module")
def complete(home):
    """A finished run of a student of one's own, with a teacher."""
    job(*WORDS, store=home / "store", runs=home / "runs")
    return folder_of(home / "runs")


@pytest.fixture()
def copy(home, complete):
    yield complete
    write_code(home)


def changed_lines(printed):
    return [line for line in printed.splitlines() if "CODE CHANGED" in line]


def test_env_json_names_git_commit_and_the_source_of_every_class_and_of_what_a_plugin_imports(complete):
    env = json.loads((complete / "env.json").read_text())
    own = {"ours", "ours.net", "ours.parts", "ours.more", "ours.more.deep", "theirs", "theirs_too"}
    known = {"distill.data.procedural", "distill.data.procedural.faces", "distill.losses.ce", "teachers.timm_teacher"}
    assert own | known <= env["sources"].keys()
    assert not {"ours.other", "nobodys", "json", "torch", "distill.training.loggers"} & env["sources"].keys()
    assert all(len(value) == 64 for value in env["sources"].values())
    assert env["git"]["ours"] is None and (env["git"]["distill"] is None or len(env["git"]["distill"]["commit"]) == 40)
    (teacher,) = complete.parents[1].glob("store/teachers/*/env.json")
    assert "teachers.timm_teacher" in json.loads(teacher.read_text())["sources"]


def test_a_complete_run_is_found_and_the_module_that_was_changed_is_told_in_one_line(home, copy):
    words = {"store": home / "store", "runs": home / "runs"}
    assert changed_lines(job(*WORDS, **words)) == []
    (home / "ours" / "parts.py").write_text("WIDTH = 1  # a comment\n")
    (line,) = changed_lines(job(*WORDS, **words))
    assert line.startswith(
        f"*** CODE CHANGED since {copy} was made: ours.parts. What lies there is of the code as it was"
    )
    assert "paths.run=ANOTHER_FOLDER" in line and folder_of(home / "runs") == copy, "the name stays"
    (home / "ours" / "other.py").write_text("ANY = 1\n")
    (home / "ours" / "parts.py").write_text("WIDTH = 1\n")
    assert changed_lines(job(*WORDS, **words)) == []
    (home / "theirs_too.py").write_text("HEIGHT = 2\n")
    (line,) = changed_lines(job(*WORDS, **words))
    assert "was made: theirs_too." in line


def test_it_is_told_when_a_run_is_measured_and_when_it_is_measured_again_its_sources_stay(home, copy, capsys):
    (home / "ours" / "net.py").write_text(f"{NET}\n# more\n")
    measure(copy, ["plugins=[ours]", "train.device=cpu", "train.threads=1"])
    assert "was made: ours.net." in capsys.readouterr().out
    before = json.loads((copy / "env.json").read_text())["sources"]
    job(*WORDS, "eval.tta=mirror", store=home / "store", runs=home / "runs")
    assert json.loads((copy / "env.json").read_text())["sources"] == before
    job(*WORDS, store=home / "store", runs=home / "runs")


def test_a_run_that_goes_on_with_other_code_says_so_and_keeps_both(home, complete, tmp_path):
    folder = shutil.copytree(complete, tmp_path / complete.name)
    (folder / "result.json").unlink()
    before = json.loads((folder / "env.json").read_text())["sources"]
    (home / "ours" / "net.py").write_text(f"{NET}\n# more\n")
    printed = job(*WORDS, store=home / "store", runs=tmp_path)
    write_code(home)
    assert len(changed_lines(printed)) == 1
    env = json.loads((folder / "env.json").read_text())
    assert env["earlier_sources"] == before and env["sources"]["ours.net"] != before["ours.net"]


def test_a_stored_teacher_whose_code_was_changed_is_told(home, complete, monkeypatch):
    (folder,) = complete.parents[1].glob("store/teachers/*/")
    env = json.loads((folder / "env.json").read_text())
    spoilt = env | {"sources": env["sources"] | {"teachers.timm_teacher": "0" * 64}}
    (folder / "env.json").write_text(json.dumps(spoilt))
    printed = job(*WORDS, "seed=5", store=home / "store", runs=home / "more")
    (folder / "env.json").write_text(json.dumps(env))
    (line,) = (line for line in printed.splitlines() if f"CODE CHANGED since {folder} was made" in line)
    assert "made: teachers.timm_teacher." in line and "type paths.store=ANOTHER_FOLDER, or delete that" in line


def test_a_stored_teacher_that_answers_otherwise_is_told_the_key_of_the_store(home, complete, tmp_path, monkeypatch):
    loaded = build.load_weights
    other = {PROBE: [[9.0] * 8] * 4}
    monkeypatch.setattr(build, "load_weights", lambda *given: loaded(*given) | other)
    with pytest.raises(SystemExit, match=r"answers otherwise today .* as it is: paths\.store=ANOTHER_FOLDER\."):
        job(*WORDS, "loss=[kd]", "augment.seed=9", store=home / "store", runs=tmp_path)


def test_a_damaged_record_of_the_code_is_told_and_of_a_run_without_one_nothing_is(complete, tmp_path, capsys):
    folder = RunFolder(shutil.copytree(complete, tmp_path / "run"))
    folder.env.write_bytes(bytes(400))
    provenance.warn_if_code_changed(folder)
    assert capsys.readouterr().out == f"*** {folder.env}: damaged: nothing tells whether the code was changed since.\n"
    folder.env.unlink()
    provenance.warn_if_code_changed(folder)
    assert capsys.readouterr().out == ""


def test_a_run_folder_that_knows_nothing_of_its_code_is_not_told_of(tmp_path, capsys):
    provenance.warn_if_code_changed(RunFolder(tmp_path))
    for content in ("{", "[]", '{"python": "3"}', '{"sources": null}'):
        (tmp_path / "env.json").write_text(content)
        provenance.warn_if_code_changed(RunFolder(tmp_path))
    assert capsys.readouterr().out == ""


def test_a_class_that_is_not_there_or_not_allowed_has_no_source_and_nothing_of_it_is_imported(home):
    nodes = ["students.cern.CERN", "students.nowhere.Net", "torch.hub.load", "elsewhere.Net", "ours.net.Net"]
    found = provenance.sources({"loss": {str(k): {"_target_": name} for k, name in enumerate(nodes)}}, [])
    assert found.keys() == {"students.cern", "students.layers", "students"} and "elsewhere" not in sys.modules


def test_a_plugin_with_a_mistake_in_it_is_hashed_all_the_same(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "odd.py").write_text("def (:\n")
    assert provenance.sources({"student": {"_target_": "odd.Net"}}, ["odd"]).keys() == {"odd"}


def test_git_tells_commit_and_dirty_of_a_package_that_is_tracked(tmp_path, monkeypatch):
    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", *who, "-C", str(tmp_path), *words], check=True, capture_output=True)

    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "__init__.py").write_text("")
    git("init")
    assert provenance.git_state("kept") is None, "no commit holds it"
    git("add", "."), git("commit", "-m", "one")
    clean = provenance.git_state("kept")
    assert len(clean["commit"]) == 40 and clean["dirty"] is False
    (tmp_path / "runs").mkdir()
    assert provenance.git_state("kept") == clean, "what is untracked is no change of the code"
    (tmp_path / "kept" / "__init__.py").write_text("A = 1\n")
    assert provenance.git_state("kept") == clean | {"dirty": True}
    assert provenance.git_state("nowhere_at_all") is None
