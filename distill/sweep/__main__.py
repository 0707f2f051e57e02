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
  --config-dir=DIR       yamls of one's own, as in python -m distill.run
  launcher=ray           jobs on a Ray cluster: conf/launcher/ray.yaml has launcher.address, launcher.num_cpus, launcher.num_gpus;
                         joblib and slurm as in python -m distill.run -m

All other words are for python -m distill.run. Nothing here looks at test faces.
"""

import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.config import overrides
from distill.config.hints import with_suggestions
from distill.sweep.jobs import sweep_folder
from distill.sweep.multirun import job_runner, run_grid
from distill.sweep.search import Search
from distill.sweep.space import SweepFile, find, read
from distill.system.cli import command_line
from distill.system.console import console, loud_warnings
from distill.system.errors import ConfigError
from distill.system.typed import as_typed, as_yaml

OPTIONS: dict[str, Any] = {"method": None, "run_cap": None, "minimize": [], "jobs": 1, "seed": 0, "folder": None}


def parse(words: Sequence[str]) -> tuple[dict, list[str]]:
    """Return the options of the sweep, and the words of the job and its launcher.

    Raises:
        ConfigError: an option of sweep that does not exist, or one that is set to what it cannot be.
        ValueError: a flag.
    """
    options, rest = dict(OPTIONS), []
    for word in words:
        key, _, text = word.partition("=")
        name = key.removeprefix("sweep.")
        if word.startswith("-"):
            raise ValueError(f"{word}: is no option. Type sweep.jobs=N for N jobs at a time, or see --help.")
        if key != "sweep" and name == key:
            rest.append(overrides.quoted(word))
        elif key != "sweep" and name not in OPTIONS:
            raise ConfigError(key, f"no such option. There are sweep, {', '.join(f'sweep.{o}' for o in OPTIONS)}.")
        elif name in ("sweep", "folder"):
            options[name] = None if text == "null" else text.strip("'\"") or None
        else:
            options[name] = re.findall(r"\w+", text) if name == "minimize" else as_yaml(key, text)
        if key == "sweep" and options["sweep"] is None:
            raise ConfigError(key, f"expected a name or a path that ends in .yaml, got {text!r}. Type sweep=optuna.")
    if type(options["seed"]) is not int or options["seed"] < 0:
        raise ConfigError("sweep.seed", f"expected a whole number from 0 on, got {as_typed(options['seed'])}.")
    return options, rest


def choose(file: SweepFile, options: dict, rest: list[str]) -> int:
    """Search, or go on with the search, print its best trials, and return the exit code: 1 where a trial failed.

    Args:
        file: what is searched.
        options: of the sweep, see parse.
        rest: the words of every job.

    Raises:
        ConfigError: a word that the search chooses itself.
        ValueError: words of which no job can be made.
    """
    given = {word.partition("=")[0] for word in rest}
    if fixed := given & file.parameters.keys():
        raise ConfigError(min(fixed), f"is chosen by {file.name}. Leave it out, or take it from the file's parameters.")

    def words(chosen: dict) -> list[str]:
        kept = [word for word in file.command(chosen) if word.partition("=")[0] not in given]
        return kept + [word for word in rest if not overrides.SWEEP.match(word)]

    identity = (file.command({}), file.parameters, file.method, file.metric, options["minimize"], options["seed"])
    folder, what = sweep_folder(rest, Path(file.name).stem, identity, options["folder"])
    first = {key: spec["values"][0] if "values" in spec else spec["min"] for key, spec in file.parameters.items()}
    try:
        cfg, launcher = overrides.compose_jobs([words(first)], rest, file.parameters, folder)
    except ValueError as error:
        raise ValueError(f"{error} {file.name} searches {', '.join(file.parameters)}.") from error
    with job_runner(folder, what, launcher, options["jobs"], file.metric, file.maximize) as executor:
        search = Search(file, words, folder, options["minimize"], options["seed"], cfg.is_several)
        failed = search.run(executor, file.run_cap)
    for number, values, chosen in search.best():
        names = [file.metric, *options["minimize"]]
        reached = "  ".join(f"{name} {value:.6g}" for name, value in zip(names, values, strict=True))
        settings = ", ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in chosen.items())
        console.print(f"best: job {number}  {reached}  {settings}")
    return int(failed > 0)


def run_combinations(options: dict, rest: list[str]) -> int:
    """Run every combination of the words' values, and return the exit code: 1 where a job is not complete.

    Raises:
        ConfigError: an option of a search.
        ValueError: words without several values of a key.
    """
    why = "is for a search, and here every combination is run. Give sweep=NAME, too, or leave it out."
    for name in ("method", "run_cap", "minimize", "seed"):
        if options[name] != OPTIONS[name]:
            raise ConfigError(f"sweep.{name}", why)
    if not overrides.expand_sweep(rest)[1]:
        raise ValueError("sweep: nothing is swept over. Give sweep=NAME, or several values of a key, such as seed=0,1.")
    return run_grid(rest, options["jobs"], options["folder"])


@command_line(stopped="stopped; the same command goes on")
def main(words: list[str]) -> None:
    """Read the command line and do what it asks for; user errors are printed as one line, exit code 1."""
    if not words:
        print(__doc__)
        return
    loud_warnings()
    options, rest = parse(overrides.options_first(words))
    with with_suggestions(rest):
        if "sweep" in options:
            file = read(find(options["sweep"]), method=options["method"], run_cap=options["run_cap"])
            code = choose(file, options, rest)
        else:
            code = run_combinations(options, rest)
    if code:
        sys.exit(code)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # jobs are stopped as from the keyboard
    main(sys.argv[1:])
