"""A search: optuna chooses, each trial is a job, a killed search goes on; and the same file is one for wandb."""

import json
from pathlib import Path

import pytest
import yaml
from commandline import ROOT
from hydra import compose, initialize_config_module
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from distill import config, rules, sweeps
from distill.pools import STOP
from distill.search import Search
from distill.sweep import parse
from distill.sweep_file import find, read

FILES = sorted((ROOT / "conf" / "sweep").glob("*.yaml"))
WANDB = {"program", "command", "method", "metric", "parameters", "run_cap", "early_terminate", "name", "description"}
SMALL = """
program: distill/run.py
command: ["${env}", "${interpreter}", -m, distill.run, student=microexpnet, "${args_no_hyphens}"]
method: random
metric: {name: valid/top1_accuracy, goal: maximize}
run_cap: 4
parameters:
  student.width: {values: [XS, XXS]}
  optimizer.lr: {distribution: log_uniform_values, min: 0.001, max: 0.01}
"""


def small(folder: Path, **changes):
    """The small file, with other keys."""
    (folder / "small.yaml").write_text(yaml.safe_dump(yaml.safe_load(SMALL) | changes, sort_keys=False))
    return read(folder / "small.yaml")


# The file


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_sweep_file_is_one_that_wandb_knows_and_says_its_commands(path):
    said = yaml.safe_load(path.read_text())
    assert said.keys() <= WANDB and {"program", "command", "method", "metric", "parameters"} <= said.keys()
    assert (ROOT / said["program"]).is_file() and said["metric"]["name"].startswith("valid/")
    first, second = path.read_text().splitlines()[:2]
    assert first.startswith("# ") and f"python -m distill.sweep sweep={path.stem}" in first
    assert f"wandb sweep conf/sweep/{path.name}" in second


def by_wandb(said: dict, chosen: dict) -> list[str]:
    """Return what wandb's agent would type, as its _command_run puts it together."""
    found = create_sweep_command_args({"args": {key: {"value": value} for key, value in chosen.items()}})
    found |= {"interpreter": ["python"], "program": [said["program"]], "env": ["/usr/bin/env"]}
    words = [str(word) for word in create_sweep_command(list(said["command"]))]
    return [typed for word in words for typed in (found[word[2:-1]] if word.startswith("${") else [word])]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("which", [0, -1])
def test_what_wandbs_agent_types_is_a_job_that_composes_and_what_is_typed_here(path, which):
    said, ours = yaml.safe_load(path.read_text()), read(path)
    ends = ("min", "max")
    chosen = {k: s["values"][which] if "values" in s else s[ends[which]] for k, s in said["parameters"].items()}
    typed = by_wandb(said, chosen)
    assert typed[:4] == ["/usr/bin/env", "python", "-m", "distill.run"]
    assert typed[4:] == ours.command(chosen)
    with initialize_config_module("conf", version_base="1.3"):
        cfg = config.plain(compose("run", overrides=typed[4:]))
    rules.check(cfg)
    for key, value in chosen.items():
        node = cfg
        for part in key.split("."):
            node = node[part]
        assert node == value


def test_parameters_become_what_optuna_draws_from(tmp_path):
    search = Search(
        small(
            tmp_path,
            parameters={
                "student.width": {"values": ["M", "XXS"]},
                "loss.kd.temperature": {"min": 1, "max": 8},
                "student.dropout": {"min": 0.0, "max": 0.5},
                "optimizer.lr": {"distribution": "log_uniform_values", "min": 0.001, "max": 0.1},
                "loss.kd.weight": {"distribution": "q_uniform", "min": 0.1, "max": 0.9, "q": 0.1},
                "loss": {"values": [["ce"], ["ce", "kd"]]},
                "train.epochs": {"value": 3},
            },
        ),
        list,
        tmp_path,
        [],
        0,
    )
    assert search.space == {
        "student.width": CategoricalDistribution(["M", "XXS"]),
        "loss.kd.temperature": IntDistribution(1, 8),
        "student.dropout": FloatDistribution(0.0, 0.5),
        "optimizer.lr": FloatDistribution(0.001, 0.1, log=True),
        "loss.kd.weight": FloatDistribution(0.1, 0.9, step=0.1),
        "loss": CategoricalDistribution(["[ce]", "[ce,kd]"]),
    }
    assert search.asked.command({})[-1] == "train.epochs=3"


WRONG = [
    ({"metric": {"name": "test/top1_accuracy", "goal": "maximize"}}, "choosing is done on validation alone"),
    ({"method": "annealing"}, r"method: 'annealing' was asked for\. Choose bayes, random, grid"),
    ({"paramters": {}}, "paramters: no such key"),
    ({"parameters": {"seed": {"distribution": "normal", "mu": 0}}}, r"parameters\.seed: .*Give value, values, or min"),
    ({"parameters": {}}, "parameters: needs at least one key"),
    ({"command": ["python", "run.py", "${args}"]}, r"command: must be a list with \$\{args_no_hyphens\}"),
    ({"early_terminate": {"type": "envelope"}}, "early_terminate: .*Give type: hyperband"),
]


@pytest.mark.parametrize("changes, sentence", WRONG, ids=[next(iter(w[0])) + str(k) for k, w in enumerate(WRONG)])
def test_a_file_that_asks_for_what_is_not_there_gets_a_sentence(tmp_path, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        small(tmp_path, **changes)


def test_mistakes_on_the_command_line_get_a_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"sweep: 'optna' was asked for\. Choose microexpnet, optuna"):
        find("optna")
    with pytest.raises(ValueError, match=r"sweep\.trials: no such option"):
        parse(["sweep.trials=3"])
    with pytest.raises(ValueError, match=r"sweep\.minimize: 'size' was asked for\. Choose among num_parameters, macs"):
        Search(small(tmp_path), list, tmp_path, ["size"], 0)
    with pytest.raises(ValueError, match=r"optimizer\.lr: is a range; method: grid needs values"):
        Search(small(tmp_path, method="grid"), list, tmp_path, [], 0)


# The search, with jobs that only pretend


class Pretended:
    """A pool whose jobs are a function: (settings, place, folder) -> exit code, or None while it goes on."""

    def __init__(self, root: Path, job, jobs: int = 1):
        self.root, self.job, self.jobs, self.started = root, job, jobs, []

    def start(self, words, place):
        folder = self.root / "_".join(words).replace("/", "_")
        self.started.append(list(words))
        (folder).mkdir(parents=True, exist_ok=True)
        (place / STOP).unlink(missing_ok=True)
        sweeps.Record(place).begin(folder)
        return lambda: self.job(dict(word.split("=") for word in words), place, folder)


def result(folder: Path, accuracy: float, macs: int = 1) -> int:
    """Leave a result whose test numbers say the opposite of its validation."""
    metrics = {"valid/top1_accuracy": accuracy, "test/top1_accuracy": 1 - accuracy}
    student = {"metrics": metrics, "macs": macs, "latency_ms": 1.0}
    (folder / "result.json").write_text(json.dumps({"status": "complete", "student": student}))
    return 0


def words(chosen: dict) -> list[str]:
    return [f"{key}={value}" for key, value in chosen.items()]


def search_of(tmp_path, minimize=(), **changes) -> Search:
    (tmp_path / "sweep").mkdir(exist_ok=True)
    return Search(small(tmp_path, **changes), words, tmp_path / "sweep", list(minimize), 0)


GRID = {"method": "grid", "parameters": {"student.width": {"values": ["M", "XS", "XXS"]}, "seed": {"values": [0, 1]}}}


def test_the_best_trial_is_the_best_on_validation(tmp_path):
    def job(said, place, folder):
        return result(folder, (0.8 if said["student.width"] == "XS" else 0.2) + 0.1 * int(said["seed"]))

    search = search_of(tmp_path, **GRID)
    pool = Pretended(tmp_path, job)
    assert search.run(pool, list, None) == 0
    assert pool.started == [[f"student.width={w}", f"seed={s}"] for w in ("M", "XS", "XXS") for s in (0, 1)]
    ((_, values, chosen),) = search.best()
    assert values == [pytest.approx(0.9)] and chosen == {"student.width": "XS", "seed": 1}


def test_with_costs_the_best_trials_are_those_that_no_other_beats_in_everything(tmp_path):
    macs = {"M": 30, "XS": 20, "XXS": 10}
    accuracy = {"M": 0.8, "XS": 0.6, "XXS": 0.7}

    def job(said, place, folder):
        width = said["student.width"]
        return result(folder, accuracy[width], macs[width])

    only = {"method": "grid", "parameters": {"student.width": {"values": ["M", "XS", "XXS"]}}}
    search = search_of(tmp_path, ["macs"], **only)
    search.run(Pretended(tmp_path, job, jobs=2), list, None)
    assert {chosen["student.width"]: values for _, values, chosen in search.best()} == {
        "M": [0.8, 30],
        "XXS": [0.7, 10],
    }


def test_a_failed_trial_does_not_stop_the_others_and_is_tried_again_at_the_next_start(tmp_path):
    broken = {"now": True}

    def job(said, place, folder):
        return -9 if said["student.width"] == "XS" and broken["now"] else result(folder, 0.5)

    assert search_of(tmp_path, **GRID).run(Pretended(tmp_path, job), list, None) == 2
    states = [sweeps.read(place) for place in sorted((tmp_path / "sweep" / "jobs").iterdir())]
    assert [facts["status"] for facts in states].count("failed") == 2
    assert "was killed by SIGKILL" in states[2]["error"]
    broken["now"] = False
    again = Pretended(tmp_path, job)
    assert search_of(tmp_path, **GRID).run(again, list, None) == 0
    assert again.started == [["student.width=XS", "seed=0"], ["student.width=XS", "seed=1"]]
    nothing = Pretended(tmp_path, job)
    assert search_of(tmp_path, **GRID).run(nothing, list, None) == 0 and not nothing.started


class Killed(BaseException):
    pass


def test_a_killed_search_goes_on_with_the_settings_that_were_at_work_and_ends_at_its_cap(tmp_path):
    def job(said, place, folder):
        if len(pool.started) == 3:
            raise Killed
        return result(folder, 0.5)

    pool = Pretended(tmp_path, job)
    with pytest.raises(Killed):
        search_of(tmp_path).run(pool, list, 5)
    after = Pretended(tmp_path, lambda said, place, folder: result(folder, 0.6))
    search = search_of(tmp_path)
    search.run(after, list, 5)
    assert after.started[0] == pool.started[2]  # the same words are the same run folder
    assert len(after.started) == 3 and len(search.study.trials) == 6  # 2 complete, 1 killed, 3 complete
    assert len({tuple(typed) for typed in pool.started + after.started}) == 5


def test_a_trial_that_is_behind_after_as_many_epochs_is_stopped(tmp_path):
    def job(said, place, folder):
        if (place / STOP).exists():
            return -15
        path, good = folder / "metrics.jsonl", said["student.width"] != "XXS"
        epoch = len(path.read_text().splitlines()) if path.exists() else 0
        if epoch == 6:
            return result(folder, 0.9)
        with open(path, "a") as file:
            value = 0.9 if good else 0.1
            file.write(
                json.dumps({"epoch": epoch, "valid/top1_accuracy": value, "test/top1_accuracy": 1 - value}) + "\n"
            )
        return None

    search = search_of(tmp_path, early_terminate={"type": "hyperband", "min_iter": 2, "eta": 3}, **GRID)
    assert search.run(Pretended(tmp_path, job), list, None) == 0
    states = [trial.state.name for trial in search.study.trials]
    assert states == ["COMPLETE"] * 4 + ["PRUNED"] * 2
    assert max(search.study.trials[-1].intermediate_values) <= 3
    assert sweeps.read(tmp_path / "sweep" / "jobs" / "5")["status"] == "pruned"


def test_with_costs_nothing_is_pruned_and_that_is_said(tmp_path, capsys):
    early = {"early_terminate": {"type": "hyperband", "min_iter": 2}}
    assert not search_of(tmp_path, ["macs"], **early).prunes
    assert "pruning compares one number" in capsys.readouterr().out
