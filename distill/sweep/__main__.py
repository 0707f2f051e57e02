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
  launcher=ray           jobs on a Ray cluster: conf/launcher/ray.yaml has launcher.address, launcher.num_cpus, launcher.num_gpus

All other words are for python -m distill.run. Nothing here looks at test faces.
"""

import signal
import sys
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import yaml
from hydra import compose, initialize_config_module

from distill.config import overrides
from distill.config.hints import explained
from distill.pipeline import completed as finished
from distill.sweep import jobs as sweep_records
from distill.sweep.executors import STOP, Here, Ray
from distill.sweep.multirun import is_several
from distill.sweep.search import Search, end_of, settings
from distill.sweep.space import SweepFile, find, read
from distill.system.cli import command_line
from distill.system.console import console, loud_warnings
from distill.system.files import digest
from distill.system.processes import only_here

SEVERAL = ("data.fold", "generations")  # settings that may make several runs of one job
OPTIONS = {"method": None, "run_cap": None, "minimize": [], "jobs": 1, "seed": 0, "folder": None}


def parse(words: Sequence[str]) -> tuple[dict, dict, list[str]]:
    """Return the options of the sweep, those of the launcher, and the words of the job.

    Raises:
        ValueError: an option that does not exist, or that is set to what it cannot be.
    """
    asked, launcher, rest = dict(OPTIONS), {}, []
    for word in words:
        key, _, value = word.partition("=")
        group, _, name = key.partition(".")
        if group == "sweep" and (name in OPTIONS or not name):
            asked[name or "sweep"] = _value(key, value)
        elif group == "launcher":
            launcher[name or "launcher"] = _value(key, value)
        elif group == "sweep":
            raise ValueError(f"{key}: no such option. There are sweep, {', '.join(f'sweep.{o}' for o in OPTIONS)}.")
        elif word in ("-m", "--multirun") or word.startswith(("hydra.", "hydra/")):
            raise ValueError(
                f"{word}: belongs to distill.run. Type sweep.jobs=N here for N jobs at a time, or leave it out."
            )
        elif word.startswith("-") or "=" not in word.lstrip("~"):
            raise ValueError(
                f"{word}: no such option. Type KEY=VALUE; python -m distill.sweep --help lists what there is."
            )
        else:
            rest.append(word)
    if type(asked["seed"]) is not int or asked["seed"] < 0:
        raise ValueError(f"sweep.seed: {asked['seed']!r} was asked for; give a whole number from 0 on.")
    return asked, launcher, finished.spell_out(rest)


def _value(key: str, text: str) -> object:
    """Return the value of a word: a path as it is typed, a list also where it is one word."""
    if key in ("sweep", "sweep.folder"):
        return None if text == "null" else text.strip("'\"")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{key}: {text!r} cannot be read. Are brackets and quotes closed?") from error
    if key == "sweep.minimize":
        return value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [text]
    return value


def pool_of(launcher: dict, jobs: int):
    """Return where the jobs run.

    Raises:
        ValueError: no such launcher, or an option that it does not have.
    """
    if launcher.get("launcher") is None:
        if options := launcher.keys() - {"launcher"}:
            raise ValueError(f"launcher.{min(options)}: is for a Ray cluster. Type launcher=ray, too, or leave it out.")
        if type(jobs) is not int or jobs < 1:
            raise ValueError(f"sweep.jobs: {jobs} was asked for; give 1 or more.")
        return Here(jobs)
    if launcher.get("launcher") != "ray":
        raise ValueError(
            f"launcher: {launcher.get('launcher')!r} was asked for. Here it is ray, or left out; joblib and slurm are for "
            "python -m distill.run -m launcher=NAME."
        )
    known = yaml.safe_load((files("conf") / "launcher" / "ray.yaml").read_text(encoding="utf-8"))
    given = {key: value for key, value in launcher.items() if key != "launcher"}
    if unknown := given.keys() - known.keys():
        raise ValueError(f"launcher.{min(unknown)}: no such option. There are {', '.join(known)}.")
    return Ray(**(known | given))


def command(words: Sequence[str]) -> list[str]:
    """Return the command of the process that does a job."""
    return [sys.executable, "-m", "distill.run", *words]


def check(words: list[str]) -> bool:
    """Refuse words that no job could be made of, before the first one is started; say whether it is one of several runs.

    Raises:
        ValueError: with the nearest keys that exist.
    """
    with explained(words), initialize_config_module("conf", version_base="1.3"):
        return is_several(compose("run", overrides=overrides.with_losses(finished.spell_out(words))))  # as the job does


def choose(file: SweepFile, asked: dict, launcher: dict, rest: list[str]) -> int:
    """Search, or go on with the search, and print its best trials.

    Args:
        file: what is searched.
        asked: the options of the sweep, see parse.
        launcher: those of the launcher.
        rest: the words of every job.

    Returns:
        The exit code: 1 where a trial failed.

    Raises:
        ValueError: words of which no job can be made, or that the search chooses itself.
    """
    first = {key: spec["values"][0] if "values" in spec else spec["min"] for key, spec in file.parameters.items()}
    given = {word.partition("=")[0] for word in rest}
    if fixed := given & file.parameters.keys():
        raise ValueError(
            f"{min(fixed)}: is chosen by {file.name}. Leave it out, or take it from the file's parameters."
        )

    def words(chosen: dict) -> list[str]:
        return [*(word for word in file.command(chosen) if word.partition("=")[0] not in given), *rest]

    sweep_records.refuse_idle(list(file.parameters))
    try:
        several = check(words(first)) or not file.parameters.keys().isdisjoint(SEVERAL)
    except ValueError as error:
        raise ValueError(f"{error} {file.name} searches {', '.join(file.parameters)}.") from error
    said = [file.command({}), file.parameters, file.method, file.metric, asked["minimize"], asked["seed"]]
    said.append(sorted(word for word in rest if not word.startswith(sweep_records.ELSEWHERE)))
    named = sweep_records.folder_of(rest, []).parent / f"{Path(file.name).stem[:60]}-{digest(said)[:8]}"
    folder = Path(asked["folder"]).expanduser().absolute() if asked["folder"] else named
    with only_here(folder):
        sweep_records.refuse_another(folder, digest(said))
        search = Search(file, words, folder, asked["minimize"], asked["seed"], several)
        console.print(f"sweep folder: {folder}")
        pool = pool_of(launcher, asked["jobs"])
        cap = 32 if file.run_cap is None and file.method != "grid" else file.run_cap
        try:
            failed = search.run(pool, command, cap)
        finally:
            pool.close()
            sweep_records.conclude(folder)
        for number, values, chosen in search.best():
            told = zip([file.metric, *asked["minimize"]], values, strict=True)
            console.print(f"best: job {number}  {'  '.join(f'{n} {v:.6g}' for n, v in told)}  {settings(chosen)}")
    return int(failed > 0)


def spread(asked: dict, launcher: dict, rest: list[str]) -> int:
    """Run every combination of the words' values.

    Args:
        asked: the options of the sweep, see parse.
        launcher: those of the launcher.
        rest: the words, several values of a key with commas between them.

    Returns:
        The exit code: 1 where a job is not complete.

    Raises:
        ValueError: an option of a search, or words that cannot be spread out or of which no job can be made.
    """
    if of_a_search := [name for name in ("method", "run_cap", "minimize", "seed") if asked[name] != OPTIONS[name]]:
        raise ValueError(
            f"sweep.{of_a_search[0]}: is for a search, and here every combination is run. Give sweep=NAME, too, or leave it out."
        )
    found = overrides.spread(rest := overrides.with_losses(rest))
    if found is None:
        raise ValueError(
            "sweep: these words cannot be spread out into jobs. Write values with commas, such as seed=0,1."
        )
    jobs, swept = found
    if len(jobs) == 1:
        raise ValueError("sweep: nothing is swept over. Give sweep=NAME, or several values of a key, such as seed=0,1.")
    check(jobs[0])
    folder = Path(asked["folder"]).expanduser().absolute() if asked["folder"] else sweep_records.folder_of(rest, swept)
    with only_here(folder):
        sweep_records.refuse_another(folder, sweep_records.sweep_name(rest, swept))
        sweep_records.plan(folder, jobs, swept)
        pool = pool_of(launcher, asked["jobs"])
        places = [folder / "jobs" / str(number) for number in range(len(jobs))]
        waiting = {}
        try:
            for place, words in zip(places, jobs, strict=True):
                waiting[place] = pool.start(command(words), place)
            while waiting:
                for place, code in [(place, code()) for place, code in waiting.items()]:
                    if code is not None:
                        del waiting[place]
                        end_of(sweep_records.Record(place), code)
                time.sleep(0.1)
        finally:
            for place in waiting:
                (place / STOP).touch()
            pool.close()
            code = sweep_records.conclude(folder)
    return code


@command_line(stopped="stopped; the same command goes on")
def main(words: list[str]) -> None:
    """Read the command line and do what it asks for; user errors are printed as one line, exit code 1."""
    if not words:
        print(__doc__)
        return
    loud_warnings()
    asked, launcher, rest = parse(words)
    if "sweep" in asked:
        file = read(find(str(asked["sweep"])), method=asked["method"], run_cap=asked["run_cap"])
        code = choose(file, asked, launcher, rest)
    else:
        code = spread(asked, launcher, rest)
    if code:
        sys.exit(code)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # jobs are stopped as from the keyboard
    main(sys.argv[1:])
