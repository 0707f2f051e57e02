"""A search over settings: optuna chooses them, each trial is a job, and a journal in the sweep's folder outlives a kill."""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from distill.runs.reading import numbered_lines
from distill.runs.result import RunResult
from distill.sweep.jobs import Record, add
from distill.sweep.multirun import Job, run_jobs
from distill.sweep.space import SweepFile
from distill.system.cli import not_installed
from distill.system.console import console
from distill.system.processes import STOP

COSTS = ("num_parameters", "macs", "bytes", "latency_ms")  # of which less is better
SEVERAL = {"data.fold", "generations"}  # settings that may make several runs of one job


class Search:
    """One study, and the jobs of its trials.

    Args:
        file: what is searched.
        words: chosen settings -> a job's words.
        folder: of the sweep.
        minimize: costs besides the metric: macs, bytes, latency_ms, num_parameters.
        seed: of the sampler.
        several: whether the first trial is made of several runs, folds or generations, whose epochs do not compare.

    Raises:
        ValueError: optuna is missing, or a cost is unknown.
    """

    def __init__(
        self, file: SweepFile, words: Callable, folder: Path, minimize: list, seed: int, several: bool = False
    ):
        if unknown := [name for name in minimize if name not in COSTS]:
            raise ValueError(f"sweep.minimize: expected one of {', '.join(COSTS)}, got {unknown[0]!r}.")
        try:
            import optuna
        except ImportError as error:
            raise ValueError(f"sweep: {not_installed('optuna', error, 'sweep')}") from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.file, self.words, self.folder, self.minimize, self.optuna = file, words, folder, minimize, optuna
        self.space = {key: self._distribution(spec) for key, spec in file.parameters.items()}
        self.study = self._study(seed)
        self.prunes = bool(file.early_terminate) and not (minimize or several or SEVERAL & file.parameters.keys())
        if file.early_terminate and not self.prunes:
            why = "one number: with sweep.minimize" if minimize else "single runs: with data.fold=all or generations=N"
            console.print(f"pruning compares {why} no trial is stopped early")
        if file.method == "grid" and not self.study.user_attrs.get("queued"):
            for values in itertools.product(*(spec["values"] for spec in file.parameters.values())):
                self.study.enqueue_trial(dict(zip(file.parameters, values, strict=True)), skip_if_exists=True)
            self.study.set_user_attr("queued", True)
        self._queue_failed()

    def _study(self, seed: int):
        optuna, journal = self.optuna, self.folder / "study.journal"
        if journal.exists():  # a kill may have cut its last line short, which optuna could not read
            os.truncate(journal, journal.read_bytes().rfind(b"\n") + 1)
        (self.folder / "study.journal.lock").unlink(missing_ok=True)  # of a start that was killed
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
        goals = ["maximize" if self.file.maximize else "minimize", *["minimize"] * len(self.minimize)]
        study = optuna.create_study(storage=storage, study_name="sweep", load_if_exists=True, directions=goals)
        if early := self.file.early_terminate:  # at min_iter, min_iter eta, ... epochs the best 1 / eta go on
            study.pruner = optuna.pruners.SuccessiveHalvingPruner(early["min_iter"], early["eta"])
        sampler = optuna.samplers.TPESampler if self.file.method == "bayes" else optuna.samplers.RandomSampler
        study.sampler = sampler(seed=seed + len(study.trials))  # one that goes on does not draw its first trials again
        return study

    def _distribution(self, spec: dict):
        make = self.optuna.distributions
        if "values" in spec:
            return make.CategoricalDistribution(spec["values"])
        low, high = spec["min"], spec["max"]
        kind = spec.get("distribution", "int_uniform" if type(low) is type(high) is int else "uniform")
        if kind == "int_uniform":
            return make.IntDistribution(low, high)
        step = spec.get("q", 1) if kind == "q_uniform" else None
        return make.FloatDistribution(low, high, log=kind == "log_uniform_values", step=step)

    def _trials(self, *states: str) -> list:
        return [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.name in states]

    def _queue_failed(self) -> None:
        """Ask again for what failed, or was killed, at an earlier start: the same settings are the same run folder."""
        for trial in self._trials("RUNNING"):
            self.study.tell(trial.number, state=self.optuna.trial.TrialState.FAIL)
        queued = {trial.user_attrs.get("retries") for trial in self.study.trials}
        for trial in self._trials("FAIL"):
            # a kill while a trial was asked for leaves some of what was queued for it unwritten
            chosen = trial.system_attrs.get("fixed_params", {}) | trial.params
            if trial.number not in queued and chosen.keys() == self.space.keys():
                self.study.enqueue_trial(chosen, user_attrs={"retries": trial.number})
            record = Record(self.folder / "jobs" / str(trial.number))
            record.update(status="retrying")
            record.refusal.unlink(missing_ok=True)

    def run(self, executor, cap: int | None) -> int:
        """Run trials until so many, of all starts together, are complete or pruned; return how many failed.

        Args:
            executor: starts jobs, so many at a time.
            cap: None is no limit but the grid's.
        """

        def next_job(busy: int) -> Job | None:
            if cap is not None and len(self._trials("COMPLETE", "PRUNED")) + busy >= cap:
                return None
            if self.file.method == "grid" and not self._trials("WAITING"):
                return None
            trial = self.study.ask(self.space)
            words = self.words(trial.params)
            job_dir = add(self.folder, trial.number, f"trial-{trial.number:04}", words)
            return Job(job_dir, executor.start(words, job_dir), trial)

        def ended(job: Job, record: Record) -> None:
            status, values = record.facts["status"], None
            if status == "complete":
                student = RunResult.read(record.folder.result).student
                values = [student["metrics"][self.file.metric], *(student[name] for name in self.minimize)]
            state = "FAIL" if status == "failed" else status.upper()
            self.study.tell(job.trial, values, self.optuna.trial.TrialState[state])

        return run_jobs(executor, next_job, self._watch, ended)

    def _watch(self, job: Job) -> None:
        """Report every epoch that is new, and stop a trial that does worse than others did."""
        if not self.prunes or job.behind:
            return
        folder = Record(job.job_dir).folder
        size = folder.metrics.stat().st_size if folder.metrics.exists() else 0
        if size == job.size or folder.is_complete():
            return
        job.size = size
        for epoch, value in _epochs(folder.metrics, self.file.metric):
            if epoch > job.epochs:
                job.epochs = epoch
                job.trial.report(value, epoch)
                if job.trial.should_prune():
                    job.behind = f"was behind after {epoch} epochs; its command, typed by itself, finishes it"
                    (job.job_dir / STOP).touch()
                    return

    def best(self) -> list[tuple[int, list[float], dict]]:
        """Return number, values and settings of the trials that no other beats in everything."""
        best = self.study.best_trials if self._trials("COMPLETE") else []
        return [(trial.number, trial.values, trial.params) for trial in best]


def _epochs(file: Path, metric: str) -> Iterator[tuple[int, float]]:
    """Yield (epoch from 1 on, value) of the lines that a run has written so far."""
    for _, line in numbered_lines(file):
        if line and line.get(metric) is not None:
            yield line["epoch"] + 1, line[metric]
