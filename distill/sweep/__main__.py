"""A sweep that chooses its settings, or that runs on a cluster: python -m distill.sweep sweep=optuna student=microexpnet

Every job is the process `python -m distill.run WORDS`; what it prints is in SWEEP/jobs/N/log.txt. The same command again goes on.

  sweep=NAME|FILE.yaml   settings to choose among, conf/sweep/NAME.yaml; also a file for `wandb sweep`. Without it every word with
                         commas is spread out, as in python -m distill.run -m
  sweep.method=bayes     bayes (optuna's TPE) | random | grid, instead of the file's
  sweep.run_cap=32       trials of all starts together, instead of the file's
  sweep.minimize=[macs,bytes,latency_ms]   costs to bring down, too: the result is a front. latency_ms is measured while other
                         jobs run: take sweep.jobs=1 for it
  sweep.jobs=1           jobs at a time on this machine; its cores are shared out
  sweep.seed=0           of the choices
  sweep.folder=DIR       instead of PATHS.RUNS/sweeps/NAME-DIGEST
  launcher=ray           jobs on a Ray cluster: conf/launcher/ray.yaml has launcher.address, launcher.num_cpus, launcher.num_gpus;
                         joblib and slurm as in python -m distill.run -m

All other words are for python -m distill.run. Nothing here looks at test faces.
"""

import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from distill.config import overrides
from distill.config.hints import with_suggestions
from distill.sweep.jobs import ELSEWHERE, folder_of, refuse_idle
from distill.sweep.multirun import check, job_runner, run_grid
from distill.sweep.search import Search, settings
from distill.sweep.space import SweepFile, find, read
from distill.system.cli import command_line
from distill.system.console import console, loud_warnings
from distill.system.errors import ConfigError
from distill.system.files import digest
from distill.system.typed import as_typed, as_yaml

SEVERAL = ("data.fold", "generations")  # settings that may make several runs of one job
OPTIONS = {"method": None, "run_cap": None, "minimize": [], "jobs": 1, "seed": 0, "folder": None}
TRIALS = 32  # of a search whose file does not say it


def parse(words: Sequence[str]) -> tuple[dict, list[str]]:
    """Return the options of the sweep, and the words of the job and its launcher.

    Raises:
        ConfigError: an option of sweep that does not exist.
        ValueError: another word that is no option, or one that is set to what it cannot be.
    """
    asked, rest = dict(OPTIONS), []
    for word in words:
        key, _, text = word.partition("=")
        name = key.removeprefix("sweep.")
        if word.startswith("-"):
            raise ValueError(f"{word}: is no option. Type sweep.jobs=N for N jobs at a time, or see --help.")
        if key == "sweep" or (name != key and name in OPTIONS):
            asked[name] = _value(name, text)
        elif name != key:
            raise ConfigError(key, f"no such option. There are sweep, {', '.join(f'sweep.{o}' for o in OPTIONS)}.")
        else:
            rest.append(overrides.quoted(word))
    if type(asked["seed"]) is not int or asked["seed"] < 0:
        raise ValueError(f"sweep.seed: expected a whole number from 0 on, got {as_typed(asked['seed'])}.")
    return asked, rest


def _value(name: str, text: str) -> object:
    """Return the value of a word: a path as it is typed, a list also where it is one word."""
    if name in ("sweep", "folder"):
        path = None if text == "null" else text.strip("'\"") or None
        if name == "sweep" and path is None:
            raise ConfigError(
                "sweep", f"expected a name or a path that ends in .yaml, got {text!r}. Type sweep=optuna."
            )
        return path
    value = as_yaml(f"sweep.{name}", text)
    if name == "minimize":
        return value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [text]
    return value


def choose(file: SweepFile, asked: dict, rest: list[str]) -> int:
    """Search, or go on with the search, and print its best trials.

    Args:
        file: what is searched.
        asked: the options of the sweep, see parse.
        rest: the words of every job.

    Returns:
        The exit code: 1 where a trial failed.

    Raises:
        ValueError: words of which no job can be made, or that the search chooses itself.
    """
    refuse_idle(list(file.parameters))
    given = {word.partition("=")[0] for word in rest}
    if fixed := given & file.parameters.keys():
        raise ValueError(
            f"{min(fixed)}: is chosen by {file.name}. Leave it out, or take it from the file's parameters."
        )
    own = [word for word in rest if not overrides.HYDRA.match(word)]

    def words(chosen: dict) -> list[str]:
        return [*(word for word in file.command(chosen) if word.partition("=")[0] not in given), *own]

    kept = sorted(word for word in rest if not word.startswith(ELSEWHERE))
    said = digest([file.command({}), file.parameters, file.method, file.metric, asked["minimize"], asked["seed"], kept])
    folder = folder_of(rest, f"{Path(file.name).stem[:60]}-{said[:8]}", asked["folder"])
    first = {key: spec["values"][0] if "values" in spec else spec["min"] for key, spec in file.parameters.items()}
    try:
        cfg, launcher = check([words(first)], rest, folder)
    except ValueError as error:
        raise ValueError(f"{error} {file.name} searches {', '.join(file.parameters)}.") from error
    cap = TRIALS if file.run_cap is None and file.method != "grid" else file.run_cap
    with job_runner(folder, said, launcher, asked["jobs"], file.metric, file.maximize) as executor:
        search = Search(file, words, folder, asked["minimize"], asked["seed"], has_several_runs(cfg, file.parameters))
        failed = search.run(executor, cap)
    for number, values, chosen in search.best():
        told = zip([file.metric, *asked["minimize"]], values, strict=True)
        console.print(f"best: job {number}  {'  '.join(f'{n} {v:.6g}' for n, v in told)}  {settings(chosen)}")
    return int(failed > 0)


def has_several_runs(cfg: dict, searched: Iterable[str]) -> bool:
    """Say whether a trial may be made of several runs, folds or generations.

    Args:
        cfg: the config of the first trial, as composed.
        searched: the keys that the trials differ in.
    """
    return cfg["data"].get("fold") == "all" or cfg["generations"] > 1 or not set(SEVERAL).isdisjoint(searched)


def spread(asked: dict, rest: list[str]) -> int:
    """Run every combination of the words' values, and return the exit code: 1 where a job is not complete.

    Raises:
        ValueError: an option of a search, or words without several values of a key.
    """
    if of_a_search := [name for name in ("method", "run_cap", "minimize", "seed") if asked[name] != OPTIONS[name]]:
        raise ValueError(
            f"sweep.{of_a_search[0]}: is for a search, and here every combination is run. Give sweep=NAME, too, or leave it out."
        )
    if not overrides.spread(rest)[1]:
        raise ValueError("sweep: nothing is swept over. Give sweep=NAME, or several values of a key, such as seed=0,1.")
    return run_grid(rest, asked["jobs"], asked["folder"])


@command_line(stopped="stopped; the same command goes on")
def main(words: list[str]) -> None:
    """Read the command line and do what it asks for; user errors are printed as one line, exit code 1."""
    if not words:
        print(__doc__)
        return
    loud_warnings()
    asked, rest = parse(words)
    with with_suggestions(rest):
        if "sweep" in asked:
            code = choose(read(find(asked["sweep"]), method=asked["method"], run_cap=asked["run_cap"]), asked, rest)
        else:
            code = spread(asked, rest)
    if code:
        sys.exit(code)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # jobs are stopped as from the keyboard
    main(sys.argv[1:])
