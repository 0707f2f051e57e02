"""Files of other people, or damaged ones: what would run code, or has other weights than it says, is refused."""

import json
import sys
import zipfile

import pytest
import torch

from distill import bench
from distill.data.common.emotions import EMOTIONS
from distill.export import load
from distill.export import onnx_graph as graph
from distill.export import weights_and_config as package
from distill.export.runtimes import open_file
from distill.pipeline.completed import rebuild
from distill.predict.student import open_student
from students.microexpnet import MicroExpNet

NODE = {
    **{"_target_": "students.microexpnet.MicroExpNet", "size": 36, "width": "XXS", "pooling": "both", "dropout": 0.0},
    **{"init": "xavier", "mean": 0.5, "std": 0.25, "weights": None},
}


class Runs:
    """What a pickle of it runs when it is read."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


@pytest.fixture(scope="module")
def student():
    return MicroExpNet(8, 36, "XXS", "both", 0.0, "xavier", 0.5, 0.25).eval()


@pytest.fixture()
def attack(tmp_path):
    """A node that runs code where it is made, and the file that is there when it ran."""
    (tmp_path / "evil").mkdir()
    text = f"def net(**more):\n    open({str(tmp_path / 'ran')!r}, 'w')\n"
    (tmp_path / "evil" / "hubconf.py").write_text(text)
    more = {"source": "local", "model": "net", "trust_repo": True}
    return {"_target_": "torch.hub.load", "repo_or_dir": str(tmp_path / "evil"), **more}, tmp_path / "ran"


def folder_with(tmp_path, student, node):
    """An export folder whose config names this network."""
    package.save(tmp_path / "export", student, NODE, EMOTIONS, [], {})
    config = json.loads((tmp_path / "export" / "config.json").read_text())
    config["fer_distill"] |= {"network": node}
    (tmp_path / "export" / "config.json").write_text(json.dumps(config))
    return tmp_path / "export"


@pytest.mark.parametrize(
    "target", ["distill.build.make", "distill.pipeline.completed.rebuild", "distill.pipeline.completed.network"]
)
def test_a_function_of_ours_that_makes_objects_is_no_network(target, tmp_path, student, attack):
    node, ran = attack
    outer = {
        "_target_": target,
        "node": node,
        "plugins": ["torch"],
        "tensors": {},
        "run": str(tmp_path),
        "weights": None,
    }
    for asked in (outer, NODE | {"inside": [outer]}):
        with pytest.raises(ValueError, match=r"_target_: .*(is no class of networks|is not from)"):
            load(folder_with(tmp_path, student, asked))
        with pytest.raises(ValueError, match=r"^_target_: "):
            rebuild(asked, EMOTIONS, [], {})
    assert not ran.exists()


def test_an_allowed_package_makes_networks_by_its_classes_alone(tmp_path, student, attack, monkeypatch):
    node, ran = attack
    (tmp_path / "mine.py").write_text(
        "from students.microexpnet import MicroExpNet\n\nclass Mine(MicroExpNet):\n    pass\n\ndef make(**more):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"torch\.hub\.load is no class of networks"):
        load(folder_with(tmp_path, student, node), plugins=["torch"])
    with pytest.raises(ValueError, match=r"mine\.make is no class of networks"):
        load(folder_with(tmp_path, student, NODE | {"_target_": "mine.make"}), plugins=["mine"])
    folder = folder_with(tmp_path, student, NODE | {"_target_": "mine.Mine"})
    assert type(load(folder, plugins=["mine"])).__name__ == "Mine" and not ran.exists()
    sys.modules.pop("mine")


def rewritten(source, target, end, change):
    """A copy of a zip in which the part with this end is another one."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        parts = {name: old.read(name) for name in old.namelist()}
        assert sum(name.endswith(end) for name in parts) == 1
        for name, content in parts.items():
            new.writestr(name, change(content) if name.endswith(end) else content)
    return target


@pytest.fixture(scope="module")
def program(student, tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "student.pt2"
    graph.save_program(graph.deployed(student, True), path, {"classes": json.dumps(EMOTIONS)})
    return path


def pickled(what):
    """The bytes of a pickle."""
    import io

    torch.save(what, stream := io.BytesIO())
    return stream.getvalue()


def test_a_program_whose_sample_inputs_are_a_pickle_of_code_is_not_read(program, tmp_path, capsys):
    ran = tmp_path / "ran"
    evil = rewritten(program, tmp_path / "evil.pt2", "sample_inputs/model.pt", lambda _: pickled(Runs(ran)))
    with pytest.raises(SystemExit, match=r"evil\.pt2: .*model\.pt is a pickle of more than tensors"):
        bench.main([str(evil), "--threads", "1", "--seconds", "0.01", "--rounds", "1"])
    assert not ran.exists()
    assert open_file(program, 1).facts == {"classes": json.dumps(EMOTIONS)}, "and ours is"


def first(found, key):
    """The first dictionary with a key, anywhere inside."""
    inner = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
    return (
        found if isinstance(found, dict) and key in found else next(filter(None, (first(v, key) for v in inner)), None)
    )


@pytest.mark.parametrize(
    "key, value",
    [
        ("expr_str", "__import__('os').system('touch {ran}')"),
        ("target", "torch.hub.load"),
        ("target", "torch.ops.aten.save.default"),
        ("target", "_operator.methodcaller"),
        ("guards_code", ["open('{ran}', 'w')"]),
        ("in_spec", '[1, {{"type": "collections.defaultdict", "context": "{ran}"}}]'),
        ("name", "x=open('{ran}','w')"),
        ("metadata", {"expr_str": ["open('{ran}', 'w')"]}),
        ("use_pickle", True),
    ],
)
def test_a_program_with_a_string_that_would_be_run_is_not_read(program, tmp_path, key, value):
    ran = tmp_path / "ran"

    def change(content):
        found = json.loads(content)
        given = json.loads(json.dumps(value).replace("{ran}", str(ran)).replace("{{", "{").replace("}}", "}"))
        first(found, key)[key] = given
        return json.dumps(found)

    end = "model_weights_config.json" if key == "use_pickle" else "models/model.json"
    evil = rewritten(program, tmp_path / "evil.pt2", end, change)
    with pytest.raises(ValueError, match=r"evil\.pt2: damaged, or no \.pt2 file of a student \(.*which is not opened"):
        open_file(evil, 1)
    assert not ran.exists()


@pytest.mark.parametrize(
    "part, sentence",
    [
        ("data/aotinductor/model/a.so", "it holds .*a.so, which no student has"),
        ("data/SAMPLE_inputs/model.pt", "it holds two parts of one name"),
        ("data/constants/opaque_obj_0", "which no student has"),
    ],
)
def test_a_program_with_a_part_that_no_student_has_is_not_read(program, tmp_path, part, sentence):
    evil = rewritten(program, tmp_path / "evil.pt2", "byteorder", lambda content: content)
    with zipfile.ZipFile(evil, "a") as file:
        file.writestr(f"{file.namelist()[0].partition('/')[0]}/{part}", b"")
    with pytest.raises(ValueError, match=sentence):
        open_file(evil, 1)


def test_weights_that_changed_since_the_export_are_not_loaded(tmp_path, student):
    package.save(tmp_path, student, NODE, EMOTIONS, [], {})
    weights, config = tmp_path / "student.safetensors", tmp_path / "config.json"
    content = weights.read_bytes()
    assert load(tmp_path).classes == EMOTIONS
    weights.write_bytes(content[:-4000] + bytes(4000))
    with pytest.raises(
        ValueError, match=r"student\.safetensors: damaged or changed: its SHA-256 is not the one in config"
    ):
        load(tmp_path)
    recorded = json.loads(config.read_text())
    assert len(recorded["fer_distill"].pop("sha256")) == 64
    config.write_text(json.dumps(recorded))
    assert load(tmp_path).classes == EMOTIONS, "a folder of an earlier export has no hash"


@pytest.mark.parametrize(
    "facts, sentence",
    [
        ({"classes": EMOTIONS[:2], "picture": [48, 48]}, "name 2 classes, but it answers 8 numbers"),
        ({"classes": EMOTIONS, "picture": [0, 0]}, r"name pictures of \[0, 0\], which cannot be"),
        ({"classes": EMOTIONS, "picture": [48]}, r"name pictures of \[48\], which cannot be"),
        ({"classes": EMOTIONS, "picture": [48, 10**9]}, "name pictures of .*, which cannot be"),
        ({"classes": 8, "picture": [48, 48]}, "do not name classes and picture size"),
    ],
)
def test_metadata_that_do_not_fit_the_answers_are_told_with_the_files_name(tmp_path, student, facts, sentence):
    whole = graph.whole(graph.bare_onnx(student), graph.prepare_onnx(student), student, 8)
    graph.save_onnx(whole, tmp_path / "odd.onnx", {name: json.dumps(value) for name, value in facts.items()})
    with pytest.raises(ValueError, match=rf"odd\.onnx: its metadata {sentence}.*Export it again"):
        open_student(str(tmp_path / "odd.onnx"), 1)
