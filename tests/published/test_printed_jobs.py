"""Every job and measurement that README, the pages and the experiments print is done, to its end, in this process.

What is printed stays as it is but for its size: few faces, in the data set's own layout, and one epoch. Of several jobs or
folds the first is done, and jobs that differ in nothing but their size are one.
"""

import shlex

import affectnet_tree
import ckplus_tree
import ferplus_tree
import pytest
import timm
import torch
from face_trees import save, write_class_folders, write_lines
from omegaconf import OmegaConf
from printed import ON_PAGES
from safetensors.torch import save_file

from distill import measure
from distill.config import overrides
from distill.data.common.emotions import EMOTIONS, SEVEN
from distill.run import run_overrides

JOBS = [line for line in ON_PAGES if line.startswith("run ")]
MEASUREMENTS = [line for line in ON_PAGES if line.startswith("measure ")]
FACES = 16  # of each split
LISTS = {
    "occlusion_list.txt": "1_fer0032221.png 8 0",
    "pose_30_list.txt": "1/fer0032221.jpg",
    "pose_45_list.txt": "4/fer0032224.jpg",
}
CODES = ("NE", "HA", "SU", "SA", "AN", "DI", "FE")  # of JAFFE
WEIGHTS = (  # network, how its weights are written, and where
    ("resnet50", save_file, "FILE.safetensors"),
    ("resnet18", save_file, "resnet18.safetensors"),
    ("mobilenetv1_100", torch.save, "FILE"),
)
SMALLEST = {"scan_cci": 64}  # pixels; of any other teacher 32


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """What a reader has: faces, finished runs, RUN of two widths and STUDENT of one, and weights of teachers."""
    home = tmp_path_factory.mktemp("home")
    ferplus_tree.write_folders(home / "ferplus")
    for name, row in LISTS.items():
        write_lines(home / "ferplus" / name, [row])
    write_class_folders(home / "folder", EMOTIONS, 6)
    write_class_folders(home / "fedro" / "FED_RO_crop", SEVEN, 3)
    for k, code in enumerate(CODES):
        save(home / "jaffe" / f"KA.{code}1.{k + 1}.tiff", f"{k}.tiff", 32)
    (home / "muxspace48").symlink_to("folder")
    affectnet_tree.write_csv_release(home / "affectnet")
    ckplus_tree.write_faces48(home / "ckplus")
    for split in ("train", "test"):
        write_class_folders(home / "rafdb" / split, "1234567", 4)
    faces = [(f"{person}/{label}.png", f"{person}_{label}") for person in range(0, 80, 4) for label in range(7)]
    for name, _ in faces:
        save(home / "oulucasia" / "ourOluCasiatest" / name, name)
    write_lines(home / "oulucasia" / "ourOluCasia_labelstest.txt", [" ".join(face) for face in faces])
    for name, write, file in WEIGHTS:
        write(timm.create_model(name, num_classes=8).state_dict(), home / file)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        run = do("run data=ferplus data.root=DIR teacher=ferplus student=ferlite 'student.width=[1,0.5]'", home)
        for place in ("RUN", "DIR", "runs/NAME"):
            (home / place).symlink_to(run.folder)
        (home / "STUDENT").symlink_to(do("run experiment=ferplus_ferlite data.root=DIR", home).folder)
    return home


def do(line, home):
    """Do a command's job, of several the first, and return the run; what it is timed and drawn by has tests of its own."""
    jobs, swept = overrides.expand_sweep([word for word in shlex.split(line)[1:] if word != "-m"])
    assert bool(swept) == (" -m " in line)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.run.composed_job", lambda words: small(*overrides.composed_job(words)))
        patch.setattr("distill.pipeline.finish.speed", lambda network, spec: {})
        patch.setattr("distill.runs.provenance.git_state", lambda package: None)
        patch.setattr("distill.pipeline.run.log_artifacts", lambda *_: None)
        return run_overrides([*jobs[0], "logger=none", f"paths.store={home / 'store'}"])


def small(cfg, choices):
    """Return a composed job with few faces and one epoch; DIR is the tree of its data set."""
    if choices["data"] in ("procedural", "smoke"):
        changes = {f"data.{split}": FACES for split in ("train", "valid", "test")}
    else:
        changes = {"data.root": choices["data"], "data.limit": FACES}
        changes |= {"data.fold": 0} if cfg.data.get("fold") == "all" else {}
    changes |= {"train.threads": 1, "train.precision": "fp32", "train.min_steps": 0, "train.batch_size": 8}
    changes |= {"augment.num_views": min(cfg.augment.num_views, 1)} | ({} if cfg.phases else {"train.epochs": 1})
    changes |= {"student.width": 0.125} if choices["student"] == "cern" else {}
    changes |= {"student.size": 64} if (cfg.student.size or 0) > 100 else {}
    for key in ("teacher", *(f"teacher.members.{name}" for name in cfg.teacher.get("members", {}))):
        node = OmegaConf.select(cfg, key)
        if OmegaConf.select(node, "train.epochs"):
            size = SMALLEST.get(choices["teacher"], 32)
            changes |= {f"{key}.size": size, f"{key}.train.epochs": 1, f"{key}.train.batch_size": 8}
            changes |= {f"{key}.train.precision": "fp32"}
            changes |= {f"{key}.name": "resnet18"} if node.get("name") == "inception_v3" else {}
    if choices["teacher"] == "scan_cci":
        changes |= {"teacher.backbone": "resnet18"}
        changes |= {"teacher.weights": "resnet18.safetensors"} if cfg.teacher.weights else {}
    for key, value in changes.items():
        OmegaConf.update(cfg, key, value)
    return cfg, choices


def test_jobs_and_measurements_are_found_on_every_page():
    assert len(JOBS) > 70 and len(MEASUREMENTS) > 7
    assert {"run teacher=resnet50 student=cern", "measure RUN/width-0.5"} <= {*JOBS, *MEASUREMENTS}
    assert {"run experiment=microexpnet_ck data.root=DIR", "run debug=overfit student=cern"} <= {*JOBS}


@pytest.mark.parametrize("line", JOBS)
def test_a_printed_job_is_done(line, home, monkeypatch):
    monkeypatch.chdir(home)
    run = do(line, home)
    assert run.result["status"] == "complete" and any(run.folder.rglob("best.safetensors"))


@pytest.mark.parametrize("line", MEASUREMENTS)
def test_a_printed_measurement_is_done(line, home, monkeypatch):
    monkeypatch.chdir(home)
    folder, *words = ON_PAGES[line]
    name = next((word[5:] for word in words if word.startswith("data=")), "ferplus")
    kept = home / folder / "measured"
    before = {path: path.stat().st_mtime_ns for path in kept.glob("*.json")}
    measure.main([folder, *(f"data.root={name}" if word == "data.root=DIR" else word for word in words)])
    assert {path: path.stat().st_mtime_ns for path in kept.glob("*.json")} != before
