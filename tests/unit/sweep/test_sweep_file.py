"""A sweep's file is one for wandb, too; and what is wrong in it, or on the command line, gets a sentence."""

from dataclasses import asdict

import pytest
import yaml
from commandline import ROOT
from hydra import compose, initialize_config_module
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from small_sweep import small
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from distill.config import schema as config
from distill.pipeline import validation
from distill.sweep.__main__ import main, parse, run_combinations
from distill.sweep.search import Search
from distill.sweep.space import find, read

FILES = sorted((ROOT / "conf" / "sweep").glob("*.yaml"))
WANDB = {"program", "command", "method", "metric", "parameters", "run_cap", "early_terminate", "name", "description"}


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
        cfg = config.typed(compose("run", overrides=typed[4:]))
    validation.validate(cfg)
    for key, value in chosen.items():
        node = asdict(cfg)
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
    assert search.file.command({})[-1] == "train.epochs=3"


WRONG = [
    (
        {"metric": {"name": "test/top1_accuracy", "goal": "maximize"}},
        "metric: expected a goal, and a name of validation.*, got .*test/top1_accuracy",
    ),
    ({"metric": "valid/top1_accuracy"}, "metric: expected .*, got 'valid/top1_accuracy'"),
    ({"metric": {"name": "valid/top1_accuracy"}}, r"metric\.goal: expected goal: maximize.*, got null"),
    (
        {"metric": {"name": "valid/top1_accuracy", "goal": "minimize"}},
        r"metric\.goal: expected goal: maximize .*, got 'minimize'",
    ),
    (
        {"metric": {"name": "valid/nll", "goal": "maximize"}},
        r"metric\.goal: expected goal: minimize .*, got 'maximize'",
    ),
    ({"run_cap": "abc"}, "run_cap: expected 1 or more.*, got 'abc'"),
    ({"run_cap": 0}, "run_cap: expected .*, got 0"),
    ({"parameters": {"seed": 3}}, r"parameters\.seed: expected \{value: .*, got 3"),
    ({"parameters": {"seed": {"values": []}}}, r"parameters\.seed: expected .*, got \{values: \[\]\}"),
    ({"parameters": {"seed": {"min": "1e-3", "max": 1.0}}}, r"parameters\.seed: .*min and max, two numbers"),
    (
        {"parameters": {"a": {"distribution": "q_log_uniform_values", "min": 1, "max": 8}}},
        r"parameters\.a: expected \{value: .*, got \{distribution: 'q_log_uniform_values'",
    ),
    ({"early_terminate": "hyperband"}, "early_terminate: expected .*, got 'hyperband'"),
    ({"early_terminate": {"type": "hyperband", "min_iter": "x"}}, "whole numbers min_iter and eta"),
    ({"method": "annealing"}, r"method: expected bayes, random, grid.*, got 'annealing'"),
    ({"paramters": {}}, "paramters: no such key"),
    (
        {"parameters": {"seed": {"distribution": "normal", "mu": 0}}},
        r"parameters\.seed: expected \{value: .*min and max, .*, got \{distribution: 'normal', mu: 0\}",
    ),
    ({"parameters": {}}, r"parameters: expected keys of .*, got \{\}"),
    (
        {"command": ["python", "run.py", "${args}"]},
        r"command: expected a list with \$\{args_no_hyphens\}.*, got \['python', 'run\.py'",
    ),
    (
        {"early_terminate": {"type": "envelope"}},
        r"early_terminate: expected type: hyperband.*, got \{type: 'envelope'\}",
    ),
]


@pytest.mark.parametrize("changes, sentence", WRONG, ids=[next(iter(w[0])) + str(k) for k, w in enumerate(WRONG)])
def test_a_file_that_asks_for_what_is_not_there_gets_a_sentence(tmp_path, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        small(tmp_path, **changes)


def test_mistakes_on_the_command_line_get_a_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"sweep: optna: no such file\. Choose microexpnet, optuna"):
        find("optna")
    with pytest.raises(ValueError, match=r"sweep\.trials: no such option"):
        parse(["sweep.trials=3"])
    for cost in ("size", "images_per_second"):
        refused = rf"sweep\.minimize: expected one of num_parameters, macs, bytes, latency_ms, got '{cost}'\."
        with pytest.raises(ValueError, match=refused):
            Search(small(tmp_path), list, tmp_path, [cost], 0)
    with pytest.raises(ValueError, match=r"optimizer\.lr: is a range; method: grid needs values"):
        Search(small(tmp_path, method="grid"), list, tmp_path, [], 0)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [b\n", "", "words"])
def test_a_file_that_holds_no_keys_gets_a_sentence(tmp_path, text):
    (tmp_path / "small.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"small\.yaml: (holds no keys|is no YAML)") as caught:
        read(tmp_path / "small.yaml")
    assert "\n" not in str(caught.value)


def test_options_are_read_as_they_are_meant_or_refused():
    assert parse(["sweep.minimize=macs"])[0]["minimize"] == ["macs"]
    assert parse(["sweep.minimize=[macs,bytes]"])[0]["minimize"] == ["macs", "bytes"]
    assert parse(["sweep.minimize=null"])[0]["minimize"] == ["null"]  # which is no cost
    assert parse(["sweep.run_cap=4"])[0]["run_cap"] == 4
    assert parse(["sweep.folder=2026_01"])[0]["folder"] == "2026_01"  # and not the number 202601
    for seed in ("x", "-1", "null", "0.5"):
        with pytest.raises(ValueError, match=r"sweep\.seed: expected a whole number.*, got .*"):
            parse([f"sweep.seed={seed}"])


@pytest.mark.parametrize(
    "word", ["sweep.run_cap=abc", "sweep.minimize=null", "sweep.jobs=many", "launcher.address=auto"]
)
def test_a_wrong_word_ends_the_command_with_one_sentence_about_it(tmp_path, capsys, word):
    small(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main([f"sweep={tmp_path / 'small.yaml'}", f"sweep.folder={tmp_path / 'sweep'}", word])
    said = str(caught.value)
    assert said.startswith("error: ") and word.partition("=")[0].removeprefix("sweep.") in said and "\n" not in said
    assert "jobs:" not in capsys.readouterr().out


def test_sweep_of_one_job_alone_is_refused():
    with pytest.raises(ValueError, match=r"nothing is swept over\. Give sweep=NAME, or several values of a key"):
        run_combinations(*parse(["student=microexpnet"]))


@pytest.mark.parametrize("word", ["sweep.method=bayes", "sweep.run_cap=3", "sweep.minimize=macs", "sweep.seed=1"])
def test_options_of_a_search_are_refused_where_every_combination_is_run(word):
    with pytest.raises(ValueError, match=rf"{word.split('=')[0]}: is for a search, and here every combination is run"):
        run_combinations(*parse([word, "seed=0,1"]))
