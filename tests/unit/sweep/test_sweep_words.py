"""What is typed behind -m: where the flag stands, what reaches the jobs, what is refused before one begins, how it all ends."""

import json
from contextlib import nullcontext, suppress

import pytest

from distill.config import overrides
from distill.config.overrides import expand_sweep
from distill.sweep import __main__ as sweep_command
from distill.sweep import jobs as sweep_records
from distill.sweep import multirun as sweeps


def test_a_glob_over_a_groups_choices_is_spread_out():
    jobs, swept = expand_sweep(["student=glob(m*)", "seed=1,2"])
    assert swept == ["student", "seed"] and ["student=microexpnet", "seed=2"] in jobs and len(jobs) == 4


def test_a_launcher_that_is_not_installed_gets_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(overrides, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"launcher=slurm: is not installed\. Type pip install -e '.\[slurm\]'"):
        overrides.compose_jobs([[]], ["launcher=slurm"], [], tmp_path)


class Ended:
    """An executor whose jobs end at once, and that notes their words."""

    jobs, batch = 1, staticmethod(nullcontext)

    def __init__(self):
        self.started = []

    def start(self, words, job_dir):
        self.started.append(words)
        sweep_records.Record(job_dir).update(status="complete")
        return lambda: 0

    def close(self):
        pass


@pytest.fixture
def ended(monkeypatch):
    executor = Ended()
    monkeypatch.setattr(sweeps, "executor_of", lambda launcher, at_a_time: executor)
    return executor


@pytest.mark.parametrize("at", [0, 1, 3])
def test_the_flag_of_a_sweep_may_stand_anywhere_and_goes_with_smoke_and_ones_own_data(at, ended, tmp_path, capsys):
    words = ["debug=smoke", "data=folder", f"data.root={tmp_path / 'faces'}", "teacher=none", "seed=0,1"]
    words.append(f"paths.runs={tmp_path}")
    assert sweeps.run_grid([*words[:at], "-m", *words[at:]]) == 0
    assert [[word for word in job if "seed" in word] for job in ended.started] == [["seed=0"], ["seed=1"]]
    assert "2 jobs: 2 complete" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"--config-dir=x: does not go with -m"):
        sweeps.run_grid([*words, "-m", "--config-dir=x"])


def test_words_for_hydra_reach_the_jobs_and_those_for_the_launcher_do_not(ended, tmp_path):
    search = f"hydra.searchpath=[file://{tmp_path}]"
    sweeps.run_grid(["seed=0,1", "hydra.launcher.n_jobs=2", "launcher=joblib", search, f"paths.runs={tmp_path}"])
    assert ended.started[0] == ["seed=0", f"paths.runs={tmp_path}", search]


@pytest.mark.parametrize("flag", [["--config-dir=own yamls"], ["--config-dir", "own yamls"]])
def test_a_sweep_of_the_command_and_a_search_find_yamls_of_ones_own(ended, tmp_path, monkeypatch, flag):
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "own yamls" / "student"
    place.mkdir(parents=True)
    (place / "mine.yaml").write_text("_target_: students.microexpnet.MicroExpNet\nsize: 40\nwidth: XXS\n")
    (tmp_path / "own.yaml").write_text(
        "method: grid\nmetric: {name: valid/top1_accuracy, goal: maximize}\nparameters: {student.size: {values: [36]}}\n"
        "command: ['${args_no_hyphens}']\n"
    )
    searched = ["hydra.searchpath=['file://" + str(tmp_path / "own yamls") + "']"]
    for swept in (["student.size=36,40"], ["sweep=own.yaml"]):
        with suppress(SystemExit):  # a search reads what its jobs reached, and these end with nothing
            sweep_command.main([*swept, *flag, "student=mine", f"paths.runs={tmp_path}"])
    assert len(ended.started) == 3 and all(searched == job[-1:] for job in ended.started)
    with pytest.raises(SystemExit, match="--config-dir: expected the folder of your yamls, got 'nowhere'"):
        sweep_command.main(["seed=0,1", "--config-dir=nowhere"])


def test_a_loss_of_which_only_an_option_is_typed_is_refused_before_any_job(ended, tmp_path):
    for words in (["loss.kd.temperature=2,4"], ["loss=[ce,kd],[ce]", "loss.kd.temperature=2"]):
        with pytest.raises(ValueError, match=r"^loss\.kd\.temperature: .* Type loss=\[ce,kd\] with it\.$"):
            sweeps.run_grid(["-m", *words, f"paths.runs={tmp_path}"])
    assert not ended.started and not any(tmp_path.iterdir())


def test_a_sweep_whose_folder_is_typed_is_the_same_sweep_there_and_takes_no_other_ones(tmp_path, monkeypatch, ended):
    place = tmp_path / "it's mine"
    words = ("student.width=XS,XXS", "teacher=none")
    escaped = str(place).replace("'", r"\'")
    assert sweeps.run_grid(["-m", *words, f"hydra.sweep.dir='{escaped}'"]) == 0
    (manifest,) = tmp_path.glob("*/jobs.jsonl")
    assert [json.loads(line)["name"] for line in manifest.read_text().splitlines()] == ["width=XS", "width=XXS"]
    monkeypatch.chdir(place)
    for folder, sentence in ((".", "holds another sweep"), ("x/${now:%H}", r"^hydra\.sweep\.dir: cannot be read")):
        with pytest.raises(ValueError, match=sentence):
            sweeps.run_grid(["-m", "seed=0,1", f"hydra.sweep.dir={folder}"])


def test_a_sweep_ends_with_the_best_first_and_the_winner_is_the_best_mean_over_seeds(tmp_path, capsys):
    valid = {"width=M,seed=0": 0.9, "width=M,seed=1": 0.3, "width=S,seed=0": 0.7, "width=S,seed=1": 0.8}
    for number, (name, accuracy) in enumerate(valid.items()):
        record = sweep_records.Record(sweep_records.add(tmp_path, number, name, name.split(",")))
        record.update(status="complete", folder=f"runs/{number}", **{"valid/top1_accuracy": accuracy})
    sweep_records.finalize_sweep(tmp_path)
    said = capsys.readouterr().out.splitlines()
    ranks = [line.split()[:3] for line in said if line.split()[1:2] == ["complete"]]
    order = ["width=M,seed=0", "width=S,seed=1", "width=S,seed=0", "width=M,seed=1"]
    assert ranks == [[str(rank), "complete", name] for rank, name in enumerate(order, 1)]
    (best,) = (line for line in said if line.startswith("best: "))
    assert "width=S,seed=1" in best and "runs/3" in best and "2 seeds, mean valid top-1 75.00%" in best
    assert f"next: python -m distill.export best of {tmp_path}" in said
    sweep_records.finalize_sweep(tmp_path, "valid/top1_accuracy", maximize=False)
    assert "best: width=M,seed=1" in " ".join(capsys.readouterr().out.split()).replace("complete ", "")
