"""A search over settings: optuna chooses them, each trial is a job, and a journal in the sweep's folder outlives a kill."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from distill.runs.folder import RunFolder
from distill.runs.result import RunResult
from distill.sweep.executors import STOP
from distill.sweep.jobs import Record, add, read, valid_metrics
from distill.sweep.multirun import Job, run_jobs
from distill.sweep.space import SweepFile
from distill.system.cli import not_installed
from distill.system.console import console

COSTS = ("num_parameters", "macs", "bytes", "latency_ms")  # of which less is better


@dataclass
class Trial(Job):
    """A job whose settings optuna chose."""

    trial: object
    epochs: int = 0  # that were compared
    behind: bool = False
    size: int = 0  # of its metrics.jsonl then


class Search:
    """One study, and the jobs of its trials.

    Args:
        asked: the sweep file.
        words: chosen settings -> a job's words.
        folder: of the sweep.
        minimize: costs besides the metric: macs, bytes, latency_ms, num_parameters.
        seed: of the sampler.
        several: whether a trial is made of several runs, folds or generations, whose epochs do not compare.

    Raises:
        ValueError: optuna is missing, or a cost is unknown.
    """

    def __init__(
        self, asked: SweepFile, words: Callable, folder: Path, minimize: list, seed: int, several: bool = False
    ):
        if unknown := [name for name in minimize if name not in COSTS]:
            raise ValueError(f"sweep.minimize: {unknown[0]!r} was asked for. Choose among {', '.join(COSTS)}.")
        try:
            import optuna
        except ImportError as error:
            raise ValueError(f"sweep: {not_installed('optuna', error, 'sweep')}") from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.asked, self.words, self.folder, self.minimize, self.optuna = asked, words, folder, minimize, optuna
        self.space = {key: self._distribution(spec) for key, spec in asked.parameters.items()}
        self.study = self._study(seed)
        self.prunes = bool(asked.early_terminate) and not minimize and not several
        if asked.early_terminate and not self.prunes:
            why = "one number: with sweep.minimize" if minimize else "single runs: with data.fold=all or generations=N"
            console.print(f"pruning compares {why} no trial is stopped early")
        if asked.method == "grid" and not self.study.user_attrs.get("queued"):
            for chosen in asked.grid():
                self.study.enqueue_trial(chosen, skip_if_exists=True)
            self.study.set_user_attr("queued", True)
        self._queue_failed()

    def _study(self, seed: int):
        optuna, journal = self.optuna, self.folder / "study.journal"
        if journal.exists():  # a kill may have cut its last line short, which optuna could not read
            os.truncate(journal, journal.read_bytes().rfind(b"\n") + 1)
        (self.folder / "study.journal.lock").unlink(missing_ok=True)  # of a start that was killed
        study = optuna.create_study(
            storage=optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal))),
            study_name="sweep",
            load_if_exists=True,
            directions=["maximize" if self.asked.maximize else "minimize", *["minimize"] * len(self.minimize)],
        )
        if early := self.asked.early_terminate:  # at min_iter, min_iter eta, ... epochs the best 1 / eta go on
            study.pruner = optuna.pruners.SuccessiveHalvingPruner(early["min_iter"], early["eta"])
        sampler = optuna.samplers.TPESampler if self.asked.method == "bayes" else optuna.samplers.RandomSampler
        study.sampler = sampler(seed=seed + len(study.trials))  # one that goes on does not draw its first trials again
        return study

    def _distribution(self, spec: dict):
        make = self.optuna.distributions
        if "values" in spec:
            return make.CategoricalDistribution(spec["values"])
        if spec["whole"]:
            return make.IntDistribution(spec["min"], spec["max"])
        return make.FloatDistribution(spec["min"], spec["max"], log=spec["log"], step=spec["step"])

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
            RunFolder(record.job_dir).result.unlink(missing_ok=True)

    def run(self, executor, cap: int | None) -> int:
        """Run trials until so many, of all starts together, are complete or pruned; return how many failed.

        Args:
            executor: starts jobs, so many at a time.
            cap: None is no limit but the grid's.
        """
        failed = 0

        def next_job(running: int) -> Trial | None:
            if cap is not None and len(self._trials("COMPLETE", "PRUNED")) + running + failed >= cap:
                return None
            if self.asked.method == "grid" and not self._trials("WAITING"):
                return None
            trial = self.study.ask(self.space)
            words = self.words(trial.params)
            job_dir = add(self.folder, trial.number, f"trial-{trial.number:04}", words)
            return Trial(job_dir, executor.start(words, job_dir), trial)

        def ended(job: Trial, code: int) -> None:
            nonlocal failed
            failed += self._tell(job, code)

        run_jobs(executor, next_job, ended, self._watch)
        return failed

    def _watch(self, job: Trial) -> None:
        """Report every epoch that is new, and stop a trial that does worse than others did."""
        folder = RunFolder(Path(read(job.job_dir).get("folder") or job.job_dir))
        path = folder.metrics
        size = path.stat().st_size if path.exists() else 0
        if not self.prunes or job.behind or size == job.size or folder.is_complete():
            return
        job.size = size
        for epoch, value in _epochs(path, self.asked.metric):
            if epoch > job.epochs:
                job.epochs = epoch
                job.trial.report(value, epoch)
                if job.trial.should_prune():
                    job.behind = True
                    (job.job_dir / STOP).touch()
                    return

    def _tell(self, job: Trial, code: int) -> int:
        """Tell the study how a trial ended; return 1 where it failed."""
        record, states = Record(job.job_dir), self.optuna.trial.TrialState
        folder = RunFolder(Path(record.facts.get("folder") or job.job_dir))
        complete = folder.is_complete()
        if code == 0 or (code < 0 and complete):  # asked to end when it had ended
            student = RunResult.read(folder.result).student
            values = [student["metrics"][self.asked.metric], *(student[name] for name in self.minimize)]
            self.study.tell(job.trial, values)
            record.update(**valid_metrics(folder.path))
            record.close(0)
            return 0
        pruned = job.behind and not complete
        self.study.tell(job.trial, state=states.PRUNED if pruned else states.FAIL)
        if pruned:
            why = f"was behind after {job.epochs} epochs; its command, typed by itself, finishes it"
            RunResult("pruned", error=why).write(folder.result)
            record.end("pruned", error=None)
        record.close(code)
        return int(not pruned)

    def best(self) -> Iterator[tuple[int, list[float], dict]]:
        """Yield number, values and settings of the trials that no other beats in everything."""
        if self._trials("COMPLETE"):
            for trial in self.study.best_trials:
                yield trial.number, trial.values, trial.params


def _epochs(path: Path, metric: str) -> Iterator[tuple[int, float]]:
    """Yield (epoch from 1 on, value) of the lines that a run has written so far."""
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            said = json.loads(line)
        except ValueError:
            continue  # it is being written
        if said.get(metric) is not None:
            yield said["epoch"] + 1, said[metric]


def settings(chosen: dict) -> str:
    """Return chosen settings in a line."""
    return ", ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in chosen.items())
