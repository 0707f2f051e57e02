"""What is typed is read as it is meant: paths of any letters, and the folder that a sweep's jobs are in."""

from dataclasses import asdict

import pytest
from commandline import distill
from hydra import compose, initialize_config_module

from distill.config import overrides
from distill.config import schema as config
from distill.config.naming import job_name

PATHS = ["/home/josé/faces", "/faces of us (2)", "/it's here", "faces/{a}", "~/plain", "/with,comma é"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("key", ["data.root", "paths.runs", "paths.store", "teacher.run"])
def test_a_path_of_any_letters_arrives_as_it_was_typed(key, path):
    with initialize_config_module("conf", version_base="1.3"):
        cfg = compose(
            "run",
            overrides=["data=folder", "data.root=x", "teacher=run", "teacher.run=x", overrides.quoted(f"{key}={path}")],
        )
    group, name = key.split(".")
    assert asdict(config.typed(cfg))[group][name] == path


def test_quoted_of_what_hydra_reads_or_is_no_path_stays_as_it_was_typed():
    words = ["data.root=/a,/b", "data.root='/a b'", "paths.store=${oc.env:HOME}", "student.width=XS,", "-m"]
    assert [overrides.quoted(word) for word in words] == words


def test_the_last_value_of_a_key_is_told_without_its_quotes(monkeypatch):
    monkeypatch.setenv("PLACE", "/place")
    said = {
        "paths.runs=a": "a",
        "++paths.runs='a b'": "a b",
        r"paths.runs='it\'s'": "it's",
        "paths.runs=${oc.env:PLACE}/r": "/place/r",
    }
    for word, value in said.items():
        assert overrides.value_of(["paths.runs=first", word, "paths.store=c"], "paths.runs") == value
    assert overrides.value_of(["paths.run=a"], "paths.runs") is None


def test_a_sweep_in_a_folder_with_an_apostrophe_is_one_folder_and_ends_well(tmp_path):
    runs = tmp_path / "it's josé's"
    words = ("-m", "teacher=none", "train.epochs=1", "seed=0,1")
    done = distill(*words, store=tmp_path / "store", runs=runs)
    assert done.returncode == 0 and "2 jobs: 2 complete" in done.stdout, done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name != "store"] == [runs.name]
    (sweep,) = (runs / "sweeps").iterdir()
    assert {path.name for path in sweep.iterdir() if path.is_symlink()} == {"seed=0", "seed=1"}


def test_a_name_of_many_letters_of_three_bytes_each_fits_a_file_system():
    names = [job_name([f"data.root={'顔' * 80}{k}"], ["data.root"]) for k in range(2)]
    assert len(set(names)) == 2 and all(len(name.encode()) <= 120 for name in names)


def test_a_run_of_a_very_long_component_name_has_a_name_that_fits_a_file_system():
    node = {"_target_": "a", "name": f"local-dir:/{'x' * 300}"}
    assert len(config.label(node)) == 60


def test_options_stand_anywhere_and_own_yamls_are_found_in_a_sweep_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own yamls" / "student"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("_target_: students.ferlite.FerLite\nsize: 40\n")
    typed = ["student=mine", "--cfg", "job", "-m", "--config-dir", "own yamls", "seed=1"]
    found = overrides.options_first(typed)
    assert found[:5] == ["--cfg", "job", "-m", "student=mine", "seed=1"]
    assert found == overrides.options_first(["--config-dir=own yamls", "--cfg", "job", "-m", "student=mine", "seed=1"])
    cfg, _ = overrides.compose_jobs([["student=mine"]], found[3:], [], tmp_path)
    assert cfg.student["size"] == 40


@pytest.mark.parametrize("typed", [["--config-dir=none"], ["seed=1", "--config-dir"], ["--config-dir="]])
def test_folder_of_yamls_that_is_none_is_refused(typed):
    with pytest.raises(
        ValueError, match=r"--config-dir: expected the folder of your yamls, got .*Type --config-dir=DIR"
    ):
        overrides.options_first(typed)
