"""Every job and measurement that the guides print is done, to its end, in this process.

What is printed stays as it is but for its size: few faces, in the data set's own layout, and one epoch.
"""

import shlex

import ferplus_tree
import pytest
import timm
from exported import export_whatever
from face_trees import save, write_class_folders, write_lines
from omegaconf import OmegaConf
from printed import GUIDES
from safetensors.torch import save_file

from distill import measure, publish
from distill.config import overrides
from distill.data.common.emotions import EMOTIONS, SEVEN
from distill.run import run_overrides

JOBS = [line for line in GUIDES if line.startswith("run ")]
MEASUREMENTS = [line for line in GUIDES if line.startswith("measure ")]
FACES = 16  # of each split
LISTS = {
    "occlusion_list.txt": "1_fer0032221.png 8 0",
    "pose_30_list.txt": "1/fer0032221.jpg",
    "pose_45_list.txt": "4/fer0032224.jpg",
}
CODES = ("NE", "HA", "SU", "SA", "AN", "DI", "FE")  # of JAFFE


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """What a reader has: faces, a finished run of two widths, RUN, and weights of a ResNet-50."""
    home = tmp_path_factory.mktemp("home")
    ferplus_tree.write_folders(home / "ferplus")
    for name, row in LISTS.items():
        write_lines(home / "ferplus" / name, [row])
    write_class_folders(home / "folder", EMOTIONS, 6)
    write_class_folders(home / "fedro" / "FED_RO_crop", SEVEN, 3)
    for k, code in enumerate(CODES):
        save(home / "jaffe" / f"KA.{code}1.{k + 1}.tiff", f"{k}.tiff", 32)
    (home / "muxspace48").symlink_to("folder")
    save_file(timm.create_model("resnet50", num_classes=8).state_dict(), home / "FILE.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        run = do("run data=ferplus data.root=DIR teacher=ferplus student=ferlite 'student.width=[1,0.5]'", home)
        for place in ("RUN", "DIR", "runs/NAME"):
            (home / place).symlink_to(run.folder)
    return home


def do(line, home):
    """Do a command's job, of several the first, and return the run; what it is timed and drawn by has tests of its own."""
    jobs, swept = overrides.expand_sweep([word for word in shlex.split(line)[1:] if word != "-m"])
    assert bool(swept) == (" -m " in line)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.run.composed_job", lambda words: small(*overrides.composed_job(words)))
        patch.setattr("distill.pipeline.finish.speed", lambda network, spec: {})
        patch.setattr("distill.pipeline.run.log_artifacts", lambda *_: None)
        return run_overrides([*jobs[0], "logger=none", f"paths.store={home / 'store'}"])


def small(cfg, choices):
    """Return a composed job with few faces and one epoch; DIR is the tree of its data set."""
    if choices["data"] in ("procedural", "smoke"):
        changes = {f"data.{split}": FACES for split in ("train", "valid", "test")}
    else:
        changes = {"data.root": choices["data"], "data.limit": FACES}
    changes |= {"train.threads": 1, "train.precision": "fp32", "train.min_steps": 0, "train.batch_size": 8}
    changes |= {"augment.num_views": min(cfg.augment.num_views, 1)} | ({} if cfg.phases else {"train.epochs": 1})
    changes |= {"student.width": 0.125} if choices["student"] == "cern" and cfg.student.width == 1 else {}
    for key in ("teacher", *(f"teacher.members.{name}" for name in cfg.teacher.get("members", {}))):
        node = OmegaConf.select(cfg, key)
        if OmegaConf.select(node, "train.epochs"):
            changes |= {f"{key}.size": 32, f"{key}.train.epochs": 1, f"{key}.train.batch_size": 8}
            changes |= {f"{key}.train.precision": "fp32"}
    for key, value in changes.items():
        OmegaConf.update(cfg, key, value)
    return cfg, choices


def test_jobs_and_measurements_are_found_in_the_guides():
    assert len(JOBS) > 30 and len(MEASUREMENTS) > 6
    assert {"run teacher=resnet50 student=cern", "measure RUN/width-0.5"} <= {*JOBS, *MEASUREMENTS}


@pytest.mark.parametrize("line", JOBS)
def test_a_printed_job_is_done(line, home, monkeypatch):
    monkeypatch.chdir(home)
    run = do(line, home)
    assert run.result["status"] == "complete" and any(run.folder.rglob("best.safetensors"))


@pytest.mark.parametrize("line", MEASUREMENTS)
def test_a_printed_measurement_is_done(line, home, monkeypatch):
    monkeypatch.chdir(home)
    folder, *words = GUIDES[line]
    name = next((word[5:] for word in words if word.startswith("data=")), "ferplus")
    before = {*(home / folder / "measured").glob("*.json")}
    measure.main([folder, *(f"data.root={name}" if word == "data.root=DIR" else word for word in words)])
    assert {*(home / folder / "measured").glob("*.json")} - before


def test_the_printed_export_and_publication_are_done(home, monkeypatch):
    """Other words of export take seconds each, and have tests of their own: test_export.py, test_elastic_run.py."""
    assert {"export RUN", "publish RUN DIR"} <= {*GUIDES}
    monkeypatch.chdir(home)
    export_whatever(home / "RUN", "RUN")
    assert {"student.onnx", "student.int8.onnx", "model-card.md"} <= {
        path.name for path in (home / "RUN/export").iterdir()
    }
    publish.main(["RUN", "published"])
    assert {"README.md", "model.onnx"} <= {path.name for path in (home / "published").iterdir()}
