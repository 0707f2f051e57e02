"""One run, from a checked config to its result, in running order."""

import time
from dataclasses import replace
from functools import partial

import torch

from distill import build
from distill.config import schema as config
from distill.data.common.test_subsets import requested_subsets
from distill.data.extra import to_learn_from
from distill.models.feature_hooks import detach_hooks
from distill.pipeline.elastic import cut_widths
from distill.pipeline.finish import evaluate_run, log_artifacts, summary_of, teacher_facts
from distill.pipeline.job import Job, recording, result_again
from distill.pipeline.prepare import (
    keep_start,
    share_batch_norm,
    state_id,
    tell,
    tell_start,
    training_output,
    weights_header,
    with_enough_epochs,
)
from distill.pipeline.reuse import is_measured, write_config_and_env
from distill.pipeline.teacher import check_classes, teacher_weights
from distill.runs.config import RunConfig
from distill.runs.folder import RunFolder
from distill.runs.result import RunResult
from distill.system import distributed as parallel
from distill.system.console import track
from distill.system.hardware import compiles, pick_device, pick_precision
from distill.training.loop import Settings, train, views_with_features
from distill.training.optim import ModelEma
from distill.training.state import TrainState
from distill.types import Dataset


def run(cfg: RunConfig, folder: RunFolder, job: Job, data: Dataset | None = None) -> RunResult:
    """Find a run complete, go on with it, or start it: data, student, objective, teacher, training, evaluation.

    Args:
        cfg: checked config.
        folder: its run folder.
        job: what the run is a part of.
        data: the packed data set where the caller has it already, as for a teacher's fine-tuning, which is a run of its own.

    Returns:
        What result.json holds.

    Raises:
        ValueError: what cannot go on as asked; result.json then says so, too.
    """
    open_data = partial(build.dataset, cfg.data, cfg.paths.store, cfg.plugins)
    open_logger = partial(build.logger, cfg, folder=folder.path, **job.names(folder))
    if is_measured(folder, cfg.eval, cfg.data):
        return result_again(folder, data or open_data(), open_logger)
    # what cannot be made of the words is said before there is a run folder, or a run of a logger
    device = pick_device(cfg.train.device)
    if data is None:
        tell(data := open_data())
    check_classes(cfg, data)
    start, name = time.perf_counter(), config.label(cfg.student)
    student = parallel.main_first(lambda: build.network(cfg.student, cfg.plugins, data, cfg.seed))
    student = student.to(device).to(memory_format=torch.channels_last)
    objective = build.objective(cfg.loss, cfg.plugins, data)
    objective.check(student, len(data.classes))
    optimizer_of = partial(build.optimizer, cfg.optimizer, cfg.student.get("lr_scale"))
    optimizer_of([student, objective])
    with parallel.only_main(folder.lock(wait=job.name is not None)):
        if is_measured(folder, cfg.eval, cfg.data):  # by another process, while this one waited
            return result_again(folder, data, open_logger)
        write_config_and_env(cfg, folder, job.command)
        with recording(folder, open_logger) as logger:
            labeled, learned = replace(data, extra=None), to_learn_from(data)
            faces, views = len(learned.splits["train"]), cfg.augment.num_views
            train_cfg = with_enough_epochs(
                cfg.train, name, faces, bool(cfg.phases), views, cfg.schedule.get("warmup", 0)
            )
            given_cfg, cfg = cfg, replace(cfg, train=train_cfg)
            weights = teacher_weights(cfg, data, lambda inner, where: run(inner, where, job.of_teacher(), labeled))
            teacher = build.teacher(cfg, learned, weights, device, track)
            torch.manual_seed(cfg.seed)  # of losses' learned parts: the same whether the teacher was found or trained
            objective.bind(student, teacher)
            objective.to(device)
            phases, precision = build.phases(cfg.phases), pick_precision(cfg.train.precision, device)
            if teacher:
                teacher.reserve(views_with_features(objective, phases, cfg.train.epochs, views))
            torch.manual_seed(cfg.seed)  # of dropout
            seconds = {"teacher": time.perf_counter() - start}
            header = weights_header(cfg.student, data)
            if epochs := cfg.train.epochs:
                tell_start(student, cfg.student, data.classes)
                share_batch_norm(student, teacher)
                ema = ModelEma(student, cfg.train.ema_decay) if cfg.train.ema_decay else None
                schedule, who = build.make(cfg.schedule, cfg.plugins), state_id(name, student, learned)
                compiled, optimizer = compiles(cfg.train.compile, device), optimizer_of([student, objective])
                state = TrainState(student, objective, optimizer, schedule, ema, who, compiled)
                with training_output(name, epochs, folder, logger) as output:
                    settings = Settings(cfg.train, cfg.augment, cfg.seed, precision, cfg.checkpoint.every_steps, phases)
                    recipe = build.augmentation(cfg.augment)
                    fit = train(state, teacher, learned, recipe, settings, folder, output, header)
            else:
                fit = keep_start(student, cfg.student.get("weights"), folder, header)
            detach_hooks(student)  # what is measured now is what will be used
            seconds |= {"train": fit["seconds"]}

            def evaluated(node: dict, where: RunFolder, network: torch.nn.Module) -> RunResult:
                began = time.perf_counter()
                result = evaluate_run(cfg.eval, where, data, network, teacher, precision)
                if teacher:
                    result.teacher |= teacher_facts(cfg.teacher, cfg.plugins, teacher, data, weights)
                return replace(
                    result,
                    student={"name": config.label(node)} | result.student,
                    test_subset=requested_subsets(cfg.data),
                    monitor=cfg.train.monitor,
                    epochs=epochs,
                    best_epoch=fit["best_epoch"],
                    steps=fit["steps"],
                    resumed_at_step=fit["resumed_at"],
                    seed=cfg.seed,
                    seconds=seconds | {"total": sum(seconds.values()) + time.perf_counter() - began},
                )

            result = evaluated(cfg.student, folder, student)
            result.widths = cut_widths(given_cfg, folder, labeled, student, result, job.command, evaluated)
            if parallel.is_main():
                log_artifacts(logger, folder, data, result)
        logger.finish(summary_of(result), exit_code=0)
        parallel.broadcast_from_main(lambda: result.write(folder.result))
    return result
