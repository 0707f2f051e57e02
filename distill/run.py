"""The main job: compose and check a config, do its run, print its table.

python -m distill.run is the command; distill.run([...]) does the same in Python, see make_callable.
"""

import importlib
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from distill import build
from distill.config import overrides
from distill.config import schema as config
from distill.config.help import refuse_flags
from distill.config.hints import with_suggestions
from distill.config.overrides import composed_job
from distill.evaluation.printed import summary
from distill.pipeline import completed, validation
from distill.pipeline.elastic import with_inplace_loss
from distill.pipeline.folds import run_folds
from distill.pipeline.generations import run_generations
from distill.pipeline.job import Job
from distill.pipeline.reuse import is_measured, refuse_another, refuse_inside_data
from distill.pipeline.run import run
from distill.runs.config import RunConfig
from distill.runs.folder import RunFolder
from distill.runs.provenance import warn_if_code_changed
from distill.runs.result import RunResult
from distill.sweep import multirun
from distill.sweep.jobs import Record
from distill.system import distributed as parallel
from distill.system.callable_module import make_callable
from distill.system.cli import command_line
from distill.system.console import console, loud_warnings
from distill.system.hardware import set_threads, tune_allocator
from distill.system.processes import JOB_DIR

NEXT = (
    "python -m distill.run data=ferplus data.root=DIR   (FER2013Train|Valid|Test with label.csv, or a tar.gz of it)",
    "the same command with -m and loss.kd.temperature=1,2,4,8: the teacher is not asked again",
    "python -m distill.export {folder}",
)


@hydra.main(config_path="pkg://conf", config_name="run", version_base="1.3")
def main(composed: DictConfig) -> None:
    """Do the job that a config asks for, alone or as one of a sweep, and print its table."""
    # the guard stands already here: hydra would print all words before the error
    with guard():
        job_dir = os.environ.get(JOB_DIR)  # of a job of a sweep
        record = Record(Path(job_dir).absolute()) if job_dir else None
        hydra_config = HydraConfig.get()
        cfg, folder = prepare_config(composed, hydra_config.runtime.choices)
        done = is_measured(folder, cfg.eval, cfg.data)
        if record:
            record.begin(folder.path)
        added = [
            f"--config-dir={part.path}"
            for part in hydra_config.runtime.config_sources
            if part.provider.endswith("command-line")
        ]
        job = begin(folder, done, cfg.is_several, [*added, *hydra_config.overrides.task], record)
        result = runner(cfg.data, cfg.generations)(cfg, folder, job)
        if record and done:
            record.update(reused=True)
        show(result, folder, done, cfg.loss, bool(cfg.debug))


@dataclass(frozen=True)
class Run:
    """A finished run, which is also a path: that of its folder.

    Args:
        folder: the run folder.
        metrics: name -> value of the student, such as valid/top1_accuracy, in [0, 1].
        result: what result.json holds.
    """

    folder: Path
    metrics: dict[str, float]
    result: dict

    def __fspath__(self) -> str:
        return str(self.folder)


def run_overrides(overrides: Sequence[str] = ()) -> Run:
    """Do one run in this process, as `python -m distill.run` does, or find it complete.

    Args:
        overrides: KEY=VALUE, as they are typed; relative paths begin at the current directory.

    Returns:
        The run; result.json, metrics.jsonl and the weights are in its folder.

    Raises:
        ValueError: a mistake in the words, with what to type; or data or weights that are not there.
    """
    cfg, folder = prepare_config(*composed_job(overrides))
    done = is_measured(folder, cfg.eval, cfg.data)
    job = begin(folder, done, cfg.is_several, overrides)
    result = runner(cfg.data, cfg.generations)(cfg, folder, job)
    show(result, folder, done, cfg.loss, bool(cfg.debug))
    return Run(folder.path.absolute(), result.student["metrics"], result.to_dict())


def prepare_config(composed: DictConfig, choices: Mapping[str, object]) -> tuple[RunConfig, RunFolder]:
    """Return a checked config and the run folder of what it says, choices being the yaml of each group."""
    validation.check_choices(choices)
    cfg = config.typed(composed)
    cfg = replace(cfg, **with_inplace_loss(cfg.student, cfg.loss, cfg.phases, cfg.plugins))
    cfg, left_out = validation.learned_by(cfg)
    validation.validate(cfg)
    typed_paths, labels = cfg.paths, cfg.data.get("labels") != "none"
    cfg = config.absolute(cfg)
    cfg = replace(cfg, **completed.resolve_weight_files(cfg.student, cfg.teacher, cfg.data))
    if parallel.is_main():
        names = ", ".join(left_out)
        if not labels:
            why = f" ({names} would need labels and is left out)" if left_out else ""
            console.print(
                f"data.labels=none: the teacher alone teaches, by {', '.join(cfg.loss)}{why}; best epoch by {cfg.train.monitor}"
            )
        comparing = build.losses_with("needs_teacher", cfg.loss, cfg.plugins)
        line = validation.loss_summary(cfg.loss, comparing, cfg.teacher, labels)
        why = f"; teacher=none leaves out {names}" if labels and left_out else ""
        console.print(f"{line}{', in phases' if cfg.phases else ''}{why}")
    folder = RunFolder(Path(typed_paths.run or Path(typed_paths.runs) / config.run_name(cfg)).expanduser())
    refuse_inside_data(cfg.data, folder, cfg.paths.store)
    refuse_another(cfg, folder)
    set_threads(cfg.train.threads)
    return cfg, folder


def begin(folder: RunFolder, done: bool, several: bool, words: Sequence[str], record: Record | None = None) -> Job:
    """Say what is about to be done; return what its runs are a part of.

    Args:
        folder: its run folder.
        done: its runs are complete already.
        several: there are several.
        words: what was typed.
        record: of the sweep's job that it is, or None.
    """
    if not done:
        console.print(f"run folder: {folder}")
    if (changed := warn_if_code_changed(folder)) and record:
        record.update(code_changed=changed)
    group = folder.name if several else record and record.sweep.name
    command = shlex.join(["python", "-m", "distill.run", *(word for word in words if not word.startswith("launcher="))])
    return Job(group=group, name=record and record.facts["name"], command=command)


def runner(data: dict, generations: int) -> Callable[[RunConfig, RunFolder, Job], RunResult]:
    """Return what does a job: run(), or a loop above it."""
    if data.get("fold") == "all":
        return run_folds
    return run_generations if generations > 1 else run


def show(result: RunResult, folder: RunFolder, done: bool, losses: dict, trial: bool) -> None:
    """Print the table of a job, and that it was done before where it was.

    Args:
        result: of the job, or of the last of its runs.
        folder: its run folder.
        done: it was done before.
        losses: name -> keys of what it learned by.
        trial: its numbers mean nothing.
    """
    if done:
        console.print(f"{folder} is complete; nothing to do. For another run change a setting, e.g. seed=1.")
    step = 0 if result.data["name"] == "procedural" else 1 if "kd" in losses else 2
    best = "best of " if result.folds or result.generations else ""
    summary(result, NEXT[step].format(folder=f"{best}{shlex.quote(str(folder))}"), trial=trial)


def guard():
    """Return the guard of this command, in which of several processes the first to fail says why."""
    return command_line(
        "stopped; the same command goes on from the last checkpoint, if there is one", parallel.is_first_failure
    )


@guard()
def cli() -> None:
    """Run main(); user errors are printed as one line, exit code 1."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else hydra speaks before the message
    loud_warnings()
    tune_allocator()
    refuse_flags(sys.argv[1:])
    sys.argv[1:] = map(overrides.quoted, overrides.options_first(sys.argv[1:]))
    is_sweep = not multirun.MULTIRUN.isdisjoint(sys.argv)
    if is_sweep and parallel.expected_world_size() > 1:
        raise ValueError(
            "-m: the jobs of a sweep are processes of their own, and torchrun makes several processes one job. Type the sweep "
            "without torchrun, or one job with it."
        )
    launcher = next((word for word in sys.argv[1:] if word.startswith("launcher=")), None)
    if launcher and not is_sweep and JOB_DIR not in os.environ:
        raise ValueError(
            f"{launcher}: starts the jobs of a sweep, and one job was typed. Type -m, too, or leave it out."
        )
    with with_suggestions(sys.argv[1:]):
        if is_sweep:
            sys.exit(multirun.run_grid(sys.argv[1:]))
        parallel.init_process_group()
        main()
        parallel.destroy_process_group()


make_callable(__name__, run_overrides)
if __name__ == "__main__":
    importlib.import_module("distill.run").cli()  # by its name: other processes of a sweep find main() under it
