"""One run, from a checked config to its result, in running order."""

import time
from dataclasses import replace

import torch

from distill import build
from distill.config import schema as config
from distill.data.extra import to_learn_from
from distill.models.feature_hooks import untap
from distill.pipeline.finish import evaluate_run, log_artifacts, summary_of
from distill.pipeline.fit import (
    keep_start,
    tell,
    train_state,
    training_output,
    training_settings,
    weights_header,
    with_enough_epochs,
)
from distill.pipeline.job import Job, recording, result_again
from distill.pipeline.reuse import is_measured, write_down
from distill.pipeline.teacher import teacher_weights
from distill.runs.folder import RunFolder
from distill.runs.result import RunResult
from distill.system import distributed as parallel
from distill.system.console import track
from distill.system.hardware import pick_device
from distill.training.loop import train, views_with_maps
from distill.types import Dataset


def run(cfg: dict, folder: RunFolder, job: Job, data: Dataset | None = None) -> RunResult:
    """Find a run complete, go on with it, or start it: data, student, objective, teacher, training, evaluation.

    Args:
        cfg: plain, checked config.
        folder: its run folder.
        job: what the run is a part of.
        data: the packed data set where the caller has it already, as for a teacher's fine-tuning, which is a run of its own.

    Returns:
        What result.json holds.

    Raises:
        ValueError: what cannot go on as asked; result.json then says so, too.
    """
    if is_measured(folder, cfg):
        return result_again(cfg, folder, job, data)
    with parallel.only_main(folder.lock(wait=job.name is not None)):
        if is_measured(folder, cfg):  # by another process, while this one waited
            return result_again(cfg, folder, job, data)
        write_down(cfg, folder, job.command)
        with recording(cfg, folder, job) as logger:
            if data is None:
                tell(data := build.dataset(cfg))
            clock = {"start": time.perf_counter()}
            device = pick_device(cfg["train"]["device"])
            student = parallel.main_first(lambda: build.network(cfg, data))
            student = student.to(device, memory_format=torch.channels_last)
            objective = build.objective(cfg, data)
            objective.check(student, len(data.classes))
            build.optimiser(cfg, [student, objective])  # a mistake in its numbers shows before a teacher is trained
            labelled, learnt = replace(data, extra=None), to_learn_from(data)
            cfg = with_enough_epochs(cfg, learnt)
            weights = teacher_weights(cfg, data, lambda inner, where: run(inner, where, job.of_teacher(), labelled))
            teacher = build.teacher(cfg, learnt, weights, device, track)
            torch.manual_seed(
                cfg["seed"]
            )  # of losses' learned parts: the same whether the teacher was found or trained
            objective.bind(student, teacher)
            objective.to(device)
            if teacher:
                phases, cached = build.phases(cfg), cfg["views"]["cached"]
                teacher.reserve(views_with_maps(objective, phases, cfg["train"]["epochs"], cached))
            torch.manual_seed(cfg["seed"])  # of dropout
            clock["teacher"] = time.perf_counter()
            header = weights_header(cfg["student"], data)
            if epochs := cfg["train"]["epochs"]:
                state = train_state(cfg, student, objective, teacher, learnt)
                recipe, settings = training_settings(cfg, device)
                with training_output(config.label(cfg["student"]), epochs, folder, logger) as (lines, log, progress):
                    fit = train(state, teacher, learnt, recipe, settings, folder, lines, log, progress, header)
            else:
                fit = keep_start(student, folder, header)
            untap(student)  # what is measured now is what will be used
            clock["train"] = time.perf_counter()
            result = evaluate_run(cfg, folder, data, student, teacher, device, fit, clock, weights)
            if parallel.is_main():
                log_artifacts(logger, folder, data, result)
        logger.finish(summary_of(result), exit_code=0)
        parallel.broadcast_from_main(lambda: result.write(folder.result))
    return result
