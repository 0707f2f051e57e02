"""The main job, python -m distill.run: compose and check a config, do its run, print its table."""

import importlib
import os
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from distill.config import overrides
from distill.config import schema as config
from distill.config.help import refuse_flags
from distill.config.hints import explained
from distill.evaluation.printed import summary
from distill.pipeline import completed as finished
from distill.pipeline import rules
from distill.pipeline.folds import run_folds
from distill.pipeline.generations import run_generations
from distill.pipeline.job import Job
from distill.pipeline.reuse import is_measured, refuse_another, refuse_inside_data
from distill.pipeline.run import run
from distill.runs.folder import RunFolder
from distill.runs.provenance import tell_changed
from distill.sweep import jobs as sweep_records
from distill.sweep import multirun as sweeps
from distill.system import distributed as parallel
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
def main(cfg: DictConfig) -> None:
    """Do the job that a config asks for, alone or as one of a sweep, and print its table."""
    # the guard stands already here: hydra would print all words before the error
    with guard(), sweep_records.recorded(job_dir()) if job_dir() else nullcontext() as record:
        cfg, folder = prepare_config(cfg)
        several = sweeps.is_several(cfg)
        if record:
            record.begin(folder.path)
            if sweeps.is_reused(record, cfg, folder):
                return
        set_threads(cfg["train"]["threads"])
        if not (done := is_measured(folder, cfg)):
            console.print(f"run folder: {folder}")
        tell_changed(cfg, folder)
        sweep = record and record.sweep.name
        job = Job(group=folder.name if several else sweep, name=record and record.facts["name"], command=typed())
        if cfg["data"].get("fold") == "all":
            result = run_folds(cfg, folder, job)
        elif cfg["generations"] > 1:
            result = run_generations(cfg, folder, job)
        else:
            result = run(cfg, folder, job)
        if done:
            console.print(f"{folder} is complete; nothing to do. For another run change a setting, e.g. seed=1.")
        step = 0 if result.data["name"] == "procedural" else 1 if "kd" in cfg["loss"] else 2
        summary(result, NEXT[step].format(folder=f"{'best of ' if several else ''}{shlex.quote(str(folder))}"))


def prepare_config(cfg: DictConfig) -> tuple[dict, RunFolder]:
    """Return a checked, plain config and the run folder of what it says."""
    rules.check_choices(HydraConfig.get().runtime.choices)
    cfg, left_out = rules.learned_by(config.plain(cfg))
    rules.check(cfg)
    if cfg["teacher"]["_target_"] is None and cfg["generations"] == 1 and parallel.is_main():
        need = "needs a teacher and is" if len(left_out) == 1 else "need a teacher and are"
        why = f" ({', '.join(left_out)} {need} left out)" if left_out else ""
        console.print(f"loss: {', '.join(cfg['loss'])}{why}{', with weight 1' if len(cfg['loss']) == 1 else ''}")
    typed_paths, cfg = cfg["paths"], finished.settle(config.absolute(cfg))
    folder = RunFolder(Path(typed_paths["run"] or Path(typed_paths["runs"]) / config.run_name(cfg)).expanduser())
    refuse_inside_data(cfg, folder)
    refuse_another(cfg, folder)
    return cfg, folder


def job_dir() -> Path | None:
    """Return where the record of this job lies, SWEEP/jobs/N, where it is one of a sweep."""
    return Path(os.environ[JOB_DIR]).absolute() if os.environ.get(JOB_DIR) else None


def typed() -> str:
    """Return the command that this job is."""
    words = [word for word in HydraConfig.get().overrides.task if not word.startswith("launcher=")]
    return shlex.join(["python", "-m", "distill.run", *words])


def guard():
    """Return the guard of this command, in which of several processes the first to fail says why."""
    return command_line("stopped; the same command goes on from the last checkpoint", parallel.is_first_failure)


@guard()
def cli() -> None:
    """Run main(); user errors are printed as one line, exit code 1."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    loud_warnings()
    tune_allocator()
    refuse_flags(sys.argv[1:])
    sys.argv[1:] = map(overrides.quoted, sys.argv[1:])
    multirun = not {"-m", "--multirun", "hydra.mode=MULTIRUN"}.isdisjoint(sys.argv)
    if multirun and parallel.expected_world_size() > 1:
        raise ValueError(
            "-m: the jobs of a sweep are processes of their own, and torchrun makes several processes one job. Type the sweep "
            "without torchrun, or one job with it."
        )
    with explained(sys.argv[1:]):
        if multirun:
            sys.exit(sweeps.multirun(sys.argv[1:]))
        parallel.init_process_group()
        main()
        parallel.destroy_process_group()


if __name__ == "__main__":
    importlib.import_module("distill.run").cli()  # by its name: other processes of a sweep find main() under it
