"""Files of other people, or damaged ones: what would run code, or has other weights than it says, is refused."""

import io
import json
import sys
import zipfile

import pytest
import torch
from exported import vouch

from distill import bench
from distill.data.common.emotions import EMOTIONS
from distill.export import load
from distill.export import onnx_graph as graph
from distill.export import weights_and_config as package
from distill.export.runtimes import open_file
from distill.pipeline.completed import rebuild
from distill.predict.student import open_student
from distill.serve.site import site
from distill.system.errors import ConfigError
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
        with pytest.raises(ConfigError) as refused:
            rebuild(asked, EMOTIONS, [], {})
        assert refused.value.key == "_target_"
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


@pytest.fixture()
def program(student, tmp_path):
    path = tmp_path / "student.pt2"
    graph.save_program(graph.deployed(student, True), path, {"classes": json.dumps(EMOTIONS)})
    return path


def test_a_program_is_read_only_where_parity_json_beside_it_vouches_for_it(program, tmp_path):
    with pytest.raises(SystemExit, match=r"student\.pt2: not opened: .* can hold code .* no parity\.json beside it"):
        bench.main([str(program), "--threads", "1", "--seconds", "0.01", "--rounds", "1"])
    vouch(program)
    assert open_file(program, 1).facts == {"classes": json.dumps(EMOTIONS)}
    other = program.rename(tmp_path / "other.pt2")
    with pytest.raises(ValueError, match=r"other\.pt2: not opened"):
        open_file(other, 1)


def test_a_program_with_code_in_it_is_not_run(program, tmp_path):
    ran = tmp_path / "ran"
    torch.save(Runs(ran), stream := io.BytesIO())
    vouch(program)
    with zipfile.ZipFile(program) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(program, "w") as new:
        for name, content in parts.items():
            new.writestr(name, stream.getvalue() if name.endswith("sample_inputs/model.pt") else content)
    with pytest.raises(ValueError, match=r"student\.pt2: damaged or changed: it is not the file that passed the gate"):
        open_file(program, 1)
    assert not ran.exists()


def test_an_exported_file_that_was_changed_is_opened_by_nobody(tmp_path, student):
    whole = graph.deployable(graph.bare_onnx(student), graph.prepare_onnx(student), student, 8)
    facts = {name: json.dumps(value) for name, value in {"classes": EMOTIONS, "picture": [48, 48]}.items()}
    graph.save_onnx(whole, tmp_path / "student.onnx", facts)
    package.save(tmp_path, student, NODE, EMOTIONS, [], {})
    vouch(*(tmp_path / name for name in ("student.onnx", "student.safetensors", "config.json")))
    assert open_student(str(tmp_path), 1).classes == EMOTIONS and load(tmp_path).classes == EMOTIONS
    content = bytearray((tmp_path / "student.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "student.onnx").write_bytes(content)
    changed = r"student\.onnx: damaged or changed: it is not the file that passed the gate\. Type python -m distill\.export RUN"
    with pytest.raises(ValueError, match=changed):
        open_student(str(tmp_path), 1)
    with pytest.raises(ValueError, match=changed):
        site(tmp_path / "student.onnx", {}, None)
    (tmp_path / "config.json").write_text((tmp_path / "config.json").read_text().replace('"both"', '"third"'))
    with pytest.raises(ValueError, match=r"config\.json: damaged or changed"):
        load(tmp_path)
    (tmp_path / "parity.json").write_text("{")
    with pytest.raises(ValueError, match=r"parity\.json: damaged"):
        open_student(str(tmp_path), 1)


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
    weights.write_bytes(content)
    recorded = json.loads(config.read_text())
    assert len(recorded["fer_distill"].pop("sha256")) == 64
    config.write_text(json.dumps(recorded))
    with pytest.raises(ValueError, match=r"its SHA-256 is not the one in config"):
        load(tmp_path)


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
    whole = graph.deployable(graph.bare_onnx(student), graph.prepare_onnx(student), student, 8)
    graph.save_onnx(whole, tmp_path / "odd.onnx", {name: json.dumps(value) for name, value in facts.items()})
    with pytest.raises(ValueError, match=rf"odd\.onnx: its metadata {sentence}.*Export it again"):
        open_student(str(tmp_path / "odd.onnx"), 1)
