"""The jobs of a sweep, done: each is found complete or begun, and one that is killed takes no other along."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from pathlib import Path

from distill import build
from distill.config import overrides
from distill.pipeline.reuse import is_measured
from distill.sweep.jobs import collect, conclude, folder_of, plan, recorded, refuse_another, sweep_name
from distill.system.console import console
from distill.system.files import digest
from distill.system.processes import JobFailed, apart, die_with, import_early, only_here

LAUNCHERS = {"joblib": ("hydra_joblib_launcher", "sweep"), "slurm": ("hydra_submitit_launcher", "slurm")}
DIR = "hydra.sweep.dir="
SWEEP = "FER_DISTILL_SWEEP"  # in the environment of what joblib starts: the process of the sweep


def work(
    place: Path, launcher: str, settle: Callable[[], tuple[dict, Path]], do: Callable[[dict, Path], object]
) -> None:
    """Do one job of a sweep, or find it complete, and keep its record.

    Args:
        place: of the record.
        launcher: which of hydra's launchers started it; the basic one and joblib's get a process of its own for it.
        settle: returns config and run folder.
        do: does the job.

    Raises:
        JobFailed: it failed, or was killed.
    """
    sweep = int(os.environ.get(SWEEP, os.getpid()))
    if (
        "Joblib" in launcher and sweep != os.getpid()
    ):  # else what starts jobs outlives the sweep, and starts more of them
        die_with(sweep)
    with recorded(place) as record:
        cfg, folder = settle()
        record.begin(folder)
        if is_measured(folder, cfg) and not is_several(cfg) and _sees_the_same(cfg, folder):
            record.update(reused=True)
        elif "BasicLauncher" in launcher:
            console.print(f"job {record.facts['number']}: {record.facts['name']}")
            apart(lambda: do(cfg, folder), None)
        elif "Joblib" in launcher:
            import_early()
            apart(lambda: do(cfg, folder), place / "log.txt")
        else:
            do(cfg, folder)


def is_several(cfg: dict) -> bool:
    """Say whether a job is made of several runs."""
    return cfg["data"].get("fold") == "all" or cfg["generations"] > 1


def _sees_the_same(cfg: dict, folder: Path) -> bool:
    """Say whether a complete run saw the data that are there now; every data set is looked at once per process."""
    key = digest([cfg["data"], cfg["paths"]["store"], cfg["plugins"]])
    if key not in _fingerprints:
        _fingerprints[key] = build.fingerprint(build.dataset(cfg))
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))["data"]["fingerprint"] == _fingerprints[key]


_fingerprints: dict[str, str] = {}


def multirun(main: Callable[[], object]) -> None:
    """Let hydra run every job of the command line's sweep, in a folder named by what is asked for; tell how each ended.

    Raises:
        ValueError: joblib lost a process that starts jobs; a folder that holds another sweep, or that cannot be read.
    """
    words = sys.argv[1:]
    refuse_launcher(words)
    os.environ[SWEEP] = str(os.getpid())
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # asking for GPUs otherwise would keep forks from them
    spread = overrides.spread(words)
    if spread is None or any(word.startswith("hydra/sweeper") for word in words):
        main()
        return
    sweep = _asked_folder(words) or folder_of(words, spread[1])
    with only_here(sweep):
        refuse_another(sweep, sweep_name(words, spread[1]))
        plan(sweep, *spread)
        if not any(word.startswith("launcher=") for word in words):
            import_early()  # jobs are forked off here; those of other launchers elsewhere
        sys.argv[1:] = [word for word in words if not word.startswith(DIR)]
        sys.argv.append("{}'{}'".format(DIR, str(sweep).replace("'", r"\'")))
        try:
            main()
        except JobFailed:
            pass  # told with the others
        except BrokenProcessPool:
            raise ValueError(
                "launcher=joblib: a process that starts jobs was killed, and the others with it. The same command goes on."
            ) from None
        finally:
            begun = any(facts["status"] != "waiting" for facts in collect(sweep))
            code = conclude(sweep) if begun else 1
    if code:
        sys.exit(code)


def _asked_folder(words: Sequence[str]) -> Path | None:
    """Return the folder that a sweep is to have, or None where it is named by what is asked for."""
    if not any(word.startswith(DIR) for word in words):
        return None
    asked = overrides.value_of(words, DIR[:-1])
    if asked is None or any(word.startswith(DIR) and "${now" in word for word in words):  # another one at each start
        raise ValueError(
            f"{DIR[:-1]}: cannot be read. Give the path of a folder, or leave it out: a sweep is named then."
        )
    return Path(asked).expanduser().absolute()


def refuse_launcher(words: Sequence[str]) -> None:
    """Refuse a launcher that is not installed, or not hydra's, or that would run nothing.

    Raises:
        ValueError: with what to type.
    """
    if "hydra.launcher.n_jobs=0" in words:
        raise ValueError("hydra.launcher.n_jobs: 0 was asked for; give 1 or more, or -1 for one per core.")
    if "launcher=ray" in words:
        raise ValueError("launcher=ray: is for python -m distill.sweep, with the same words and without -m.")
    for name, (plugin, extra) in LAUNCHERS.items():
        there = find_spec("hydra_plugins") and find_spec(f"hydra_plugins.{plugin}")
        if f"launcher={name}" in words and not there:
            raise ValueError(f"launcher={name}: is not installed. Type pip install -e '.[{extra}]'.")
