"""The main job, python -m distill.run: compose, prepare the teacher, train the student, evaluate, write result.json."""

import importlib
import os
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from distill import build
from distill.config import overrides
from distill.config import schema as config
from distill.config.help import refuse_flags
from distill.config.hints import explained
from distill.data.extra import to_learn_from
from distill.evaluation.printed import summary
from distill.models.feature_hooks import untap
from distill.pipeline import completed as finished
from distill.pipeline import rules
from distill.pipeline.finish import conclude, mirror, open_logger, start_of, summary_of
from distill.pipeline.fit import fit_student, tell
from distill.pipeline.folds import run_folds
from distill.pipeline.generations import run_generations
from distill.pipeline.reuse import (
    is_measured,
    refuse_another,
    refuse_inside_data,
    refuse_other_teacher,
    result_of,
    write_down,
)
from distill.runs.layout import is_complete
from distill.runs.provenance import tell_changed
from distill.sweep import jobs as sweep_records
from distill.sweep import multirun as sweeps
from distill.system import distributed as parallel
from distill.system.cli import command_line
from distill.system.console import console, loud_warnings, track
from distill.system.files import digest, write_json
from distill.system.hardware import pick_device, set_threads, tune_allocator
from distill.system.processes import JOB_DIR, run_lock
from distill.training.loop import views_with_maps
from distill.types import Dataset
from teachers.store import find_or_train

NEXT = (
    "python -m distill.run data=ferplus data.root=DIR   (FER2013Train|Valid|Test with label.csv, or a tar.gz of it)",
    "the same command with -m and loss.kd.temperature=1,2,4,8: the teacher is not asked again",
    "python -m distill.export {folder}",
)


def run(
    cfg: dict,
    folder: Path,
    data: Dataset | None = None,
    job_type: str = "student",
    group: str | None = None,
    command: str | None = None,
) -> dict:
    """Do one job in its run folder: find it complete, go on with it, or start it.

    Args:
        cfg: plain, checked config.
        folder: the run folder.
        data: the packed data set where the caller has it already.
        job_type: student or teacher.
        group: name of the sweep.
        command: what was typed, for env.json.

    Returns:
        What result.json holds.
    """
    if parallel.broadcast_from_main(lambda: is_measured(folder, cfg)):
        return _again(cfg, folder, data, job_type, group)
    with parallel.only_main(run_lock(folder, wait=job_dir() is not None)):
        if parallel.broadcast_from_main(lambda: is_measured(folder, cfg)):  # by another process, while this one waited
            return _again(cfg, folder, data, job_type, group)
        write_down(cfg, folder, command)
        return _locked(cfg, folder, data, job_type, group)


def _again(cfg: dict, folder: Path, data: Dataset | None, job_type: str, group: str | None) -> dict:
    """Return the result of a complete run; `wandb agent`, which chooses by what its jobs say, is told it, too."""
    result = result_of(folder, data or build.dataset(cfg))
    if os.environ.get("WANDB_SWEEP_ID"):
        open_logger(cfg, folder, job_type, group, job_name()).finish(summary_of(result), exit_code=0)
    return result


def _locked(cfg: dict, folder: Path, data: Dataset | None, job_type: str, group: str | None) -> dict:
    logger = None
    if parallel.is_main() and not is_complete(folder):
        (folder / "result.json").unlink(missing_ok=True)  # that it failed before
    try:
        logger = open_logger(cfg, folder, job_type, group, job_name())
        if data is None:  # else this is a teacher's run, and the student's has said it
            tell(data := build.dataset(cfg))
        result = _job(cfg, folder, data, logger, group)
    except BaseException as error:
        if logger is not None:
            logger.finish({}, exit_code=1)
        # what a complete run says outlives a mistake in measuring it again; one that was stopped did not fail
        failed = isinstance(error, Exception) and not isinstance(error, parallel.PeerLost)
        if failed and not is_complete(folder) and parallel.is_first_failure():
            write_json(folder / "result.json", {"status": "failed", "error": f"{type(error).__name__}: {error}"})
        raise
    logger.finish(summary_of(result), exit_code=0)
    parallel.broadcast_from_main(lambda: write_json(folder / "result.json", result))
    return result


def _job(cfg: dict, folder: Path, data: Dataset, logger, group: str | None) -> dict:
    clock = {"start": time.perf_counter()}
    device = pick_device(cfg["train"]["device"])
    student = parallel.main_first(lambda: build.network(cfg, data)).to(device, memory_format=torch.channels_last)
    objective = build.objective(cfg, data)
    objective.check(student, len(data.classes))
    build.optimiser(cfg, [student, objective])  # a mistake in its numbers shows before a teacher is trained, not after
    taught_by: list[Path] = []

    def prepare(member: dict) -> Path:
        taught_by.append(prepare_teacher(cfg, member, data, group))
        return taught_by[-1]

    learnt = to_learn_from(data)
    teacher = build.teacher(cfg, learnt, prepare, device, track)
    torch.manual_seed(cfg["seed"])  # of learned parts of losses: the same whether the teacher was found or trained
    objective.bind(student, teacher)
    if size := getattr(teacher, "bytes_per_view", 0):
        views = views_with_maps(objective, build.phases(cfg), cfg["train"]["epochs"], cfg["views"]["cached"])
        console.print(
            f"teacher: the maps that losses ask for take {size / 1e9:.2f} GB per view, {len(views) * size / 1e9:.2f} GB for "
            f"the {len(views)} of this run, in {teacher.folder}"
        )
        teacher.refuse_too_large(views)
    torch.manual_seed(cfg["seed"])  # of dropout
    clock["teacher"] = time.perf_counter()
    fit = fit_student(cfg, folder, learnt, student, objective.to(device), teacher, logger, device)
    untap(student)  # what is measured now is what will be used
    clock["train"] = time.perf_counter()
    result = conclude(cfg, folder, data, student, teacher, device, fit, clock, taught_by)
    if parallel.is_main():
        mirror(logger, folder, data, result)
    return result


def prepare_teacher(cfg: dict, member: dict, data: Dataset, group: str | None) -> Path:
    """Return the weight file of a fine-tuned teacher, found in the store by its fingerprint or trained by the same job.

    Args:
        cfg: the run's config.
        member: the teacher's part of it, or that of a member of an ensemble.
        data: the packed data set.
        group: name that the logger gives all runs of a sweep, or None.

    Raises:
        ValueError: a weight file that is not there, or no finished run.
    """
    if "run" in member:
        return _finished_teacher(member, data)
    inner, data = config.teacher_run(cfg, member), replace(data, extra=None)
    if (file := member["weights"]) and not Path(file).expanduser().is_file():
        raise ValueError(f"teacher.weights: {file}: no such weight file. Give the path of a .safetensors file.")
    key = digest([config.learning(inner), build.fingerprint(data)])
    folder = Path(cfg["paths"]["store"]).expanduser() / "teachers" / f"{config.label(member)}-{key[:12]}"
    refuse_other_teacher(inner, folder)
    found = parallel.broadcast_from_main(lambda: is_complete(folder))
    new = "is fine-tuned once, then found again," if member["train"]["epochs"] else f"is {file}, kept"
    console.print(f"teacher {config.label(member)}: {'found' if found else new} in {folder}")
    tell_changed(inner, folder)
    weights = find_or_train(folder, lambda: run(inner, folder, data, job_type="teacher", group=group))
    if found and start_of(weights) == "scratch" and member.get("pretrained", False) is None:
        console.print(
            "*** It was trained FROM SCRATCH, because its pretrained weights were out of reach then. "
            "teacher.pretrained=true trains it from them.",
            style="bold",
        )
    return weights


def _finished_teacher(member: dict, data: Dataset) -> Path:
    """Return the weight file of a teacher that is a finished run, and say so if it saw other data than this run."""
    folder = Path(member["run"])
    console.print(f"teacher {config.label(member)}: the finished run {folder}")
    tell_changed(config.written(folder), folder)
    if finished.saw(folder) != build.fingerprint(data):
        console.print(
            "*** It learned from other pictures, labels or splits than this run: make sure that it saw no test face of this one.",
            style="bold",
        )
    return finished.weights(folder)


def job_dir() -> Path | None:
    """Return where the record of this job lies, SWEEP/jobs/N, where it is one of a sweep."""
    return Path(os.environ[JOB_DIR]).absolute() if os.environ.get(JOB_DIR) else None


def sweep_name() -> str | None:
    """Return the name that the jobs of one sweep share."""
    return (folder := job_dir()) and folder.parents[1].name


def job_name() -> str | None:
    """Return what the sweep calls this job."""
    return (folder := job_dir()) and sweep_records.read(folder)["name"]


def typed() -> str:
    """Return the command that this job is."""
    words = [word for word in HydraConfig.get().overrides.task if not word.startswith("launcher=")]
    return shlex.join(["python", "-m", "distill.run", *words])


@hydra.main(config_path="pkg://conf", config_name="run", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Do the job that a config asks for, alone or as one of a sweep."""
    with guard():  # already here: hydra would print all words before the error
        if folder := job_dir():
            sweeps.work(folder, lambda: settled(cfg), do)
        else:
            do(*settled(cfg))


def settled(cfg: DictConfig) -> tuple[dict, Path]:
    """Return a checked, plain config and the run folder of what it says."""
    rules.check_choices(HydraConfig.get().runtime.choices)
    cfg, left_out = rules.learned_by(config.plain(cfg))
    rules.check(cfg)
    if cfg["teacher"]["_target_"] is None and cfg["generations"] == 1 and parallel.is_main():
        need = "needs a teacher and is" if len(left_out) == 1 else "need a teacher and are"
        why = f" ({', '.join(left_out)} {need} left out)" if left_out else ""
        console.print(f"loss: {', '.join(cfg['loss'])}{why}{', with weight 1' if len(cfg['loss']) == 1 else ''}")
    typed_paths, cfg = cfg["paths"], finished.settle(config.absolute(cfg))
    folder = Path(typed_paths["run"] or Path(typed_paths["runs"]) / config.run_name(cfg)).expanduser()
    refuse_inside_data(cfg, folder)
    refuse_another(cfg, folder)
    return cfg, folder


def do(cfg: dict, folder: Path) -> None:
    """Do one job in its run folder, and print its table."""
    set_threads(cfg["train"]["threads"])
    done = parallel.broadcast_from_main(lambda: is_measured(folder, cfg))
    if not done:
        console.print(f"run folder: {folder}")
    tell_changed(cfg, folder)
    several = sweeps.is_several(cfg)

    def once(one: dict, where: Path) -> dict:
        refuse_another(one, where)
        return run(one, where, group=folder.name if several else sweep_name(), command=typed())

    def whole(one: dict, where: Path) -> Path:
        if not parallel.broadcast_from_main(lambda: is_measured(where, one)):
            write_down(one, where, typed())
        return where

    def job(one: dict, where: Path) -> dict:
        return run_generations(one, whole(one, where), once) if one["generations"] > 1 else once(one, where)

    folds = cfg["data"].get("fold") == "all"
    result = run_folds(cfg, whole(cfg, folder), job) if folds else job(cfg, folder)
    if done:
        console.print(f"{folder} is complete; nothing to do. For another run change a setting, e.g. seed=1.")
    step = 0 if result["data"]["name"] == "procedural" else 1 if "kd" in cfg["loss"] else 2
    summary(result, NEXT[step].format(folder=f"{'best of ' if several else ''}{shlex.quote(str(folder))}"))


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
