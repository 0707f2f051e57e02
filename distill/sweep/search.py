"""A search over settings: optuna chooses them, each trial is a job, and a journal in the sweep's folder outlives a kill."""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from distill.runs.layout import is_complete
from distill.sweep.executors import STOP
from distill.sweep.jobs import Record, add, read, valid_metrics
from distill.sweep.multirun import Job, run_jobs
from distill.sweep.space import SweepFile
from distill.system.console import console
from distill.system.files import write_json

DONE = ("COMPLETE", "PRUNED")
COSTS = ("num_parameters", "macs", "bytes", "latency_ms")  # of which less is better
EVERY = 1.0  # seconds between two looks at a job's epochs


@dataclass
class Trial(Job):
    """A job whose settings optuna chose."""

    trial: object
    reported: set[int] = field(default_factory=set)
    pruned: bool = False
    looked: float = 0.0  # when
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
        self,
        asked: SweepFile,
        words: Callable[[dict], list[str]],
        folder: Path,
        minimize: list[str],
        seed: int,
        several: bool = False,
    ):
        self.optuna = _optuna()
        if unknown := [name for name in minimize if name not in COSTS]:
            raise ValueError(f"sweep.minimize: {unknown[0]!r} was asked for. Choose among {', '.join(COSTS)}.")
        self.asked, self.words, self.folder, self.minimize = asked, words, folder, minimize
        self.space = {key: self._distribution(spec) for key, spec in asked.parameters.items()}
        self.study = self._study(seed)
        self.prunes = asked.early_terminate is not None and not minimize and not several
        if asked.early_terminate and not self.prunes:
            why = "one number: with sweep.minimize" if minimize else "single runs: with data.fold=all or generations=N"
            console.print(f"pruning compares {why} no trial is stopped early")
        if asked.method == "grid" and not self.study.user_attrs.get("queued"):
            for chosen in asked.grid():
                self.study.enqueue_trial(chosen, skip_if_exists=True)
            self.study.set_user_attr("queued", True)
        for trial in self._trials("RUNNING"):  # when an earlier start was killed
            self.study.tell(trial.number, state=self.optuna.trial.TrialState.FAIL)
        self._queue_failed()

    def _study(self, seed: int):
        optuna, journal = self.optuna, self.folder / "study.journal"
        if journal.exists():  # a kill may have cut its last line short, which optuna could not read
            os.truncate(journal, journal.read_bytes().rfind(b"\n") + 1)
        (self.folder / "study.journal.lock").unlink(missing_ok=True)  # of a start that was killed
        early, pruner = self.asked.early_terminate, optuna.pruners.NopPruner()
        if early:
            pruner = _halving(optuna)(min_resource=early["min_iter"], reduction_factor=early["eta"])
        study = optuna.create_study(
            storage=optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal))),
            study_name="sweep",
            load_if_exists=True,
            directions=["maximize" if self.asked.maximize else "minimize", *["minimize"] * len(self.minimize)],
            pruner=pruner,
        )
        seed += len(study.trials)  # a study that goes on does not draw its first trials again
        bayes = self.asked.method == "bayes"
        study.sampler = optuna.samplers.TPESampler(seed=seed) if bayes else optuna.samplers.RandomSampler(seed=seed)
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
        queued = {trial.user_attrs.get("retries") for trial in self.study.trials}
        for trial in self._trials("FAIL"):
            # a kill while a trial was asked for leaves some of what was queued for it unwritten
            chosen = trial.system_attrs.get("fixed_params", {}) | trial.params
            if trial.number not in queued and chosen.keys() == self.space.keys():
                self.study.enqueue_trial(chosen, user_attrs={"retries": trial.number})
            record = Record(self.folder / "jobs" / str(trial.number))
            record.update(status="retrying")
            (record.job_dir / "result.json").unlink(missing_ok=True)

    def run(self, executor, cap: int | None) -> int:
        """Run trials until so many are complete or pruned; return how many failed.

        Args:
            executor: starts jobs, so many at a time.
            cap: trials of all starts together; None is no limit but the grid's.
        """
        failed = 0

        def next_job(running: int) -> Trial | None:
            if cap is not None and len(self._trials(*DONE)) + running + failed >= cap:
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
        if not self.prunes or job.pruned or time.monotonic() - job.looked < EVERY:
            return
        job.looked = time.monotonic()
        folder = Path(read(job.job_dir).get("folder") or job.job_dir)
        path = folder / "metrics.jsonl"
        size = path.stat().st_size if path.exists() else 0
        if size == job.size or is_complete(folder):  # a complete run's epochs are spent
            return
        job.size = size
        for epoch, value in _epochs(path, self.asked.metric):
            if epoch not in job.reported:
                job.reported.add(epoch)
                job.trial.report(value, epoch)
                if job.trial.should_prune():
                    job.pruned = True
                    (job.job_dir / STOP).touch()
                    return

    def _tell(self, job: Trial, code: int) -> int:
        """Tell the study how a trial ended; return 1 where it failed."""
        record, states = Record(job.job_dir), self.optuna.trial.TrialState
        folder = Path(record.facts.get("folder") or job.job_dir)
        complete = is_complete(folder)
        if code == 0 or (code < 0 and complete):  # asked to end when it had ended
            self.study.tell(job.trial, self._values(folder))
            record.update(**valid_metrics(folder))
            record.close(0)
            return 0
        pruned = job.pruned and not complete
        self.study.tell(job.trial, state=states.PRUNED if pruned else states.FAIL)
        if pruned:
            why = f"was behind after {max(job.reported)} epochs; its command, typed by itself, finishes it"
            write_json(folder / "result.json", {"status": "pruned", "error": why})
            record.end("pruned", error=None)
        record.close(code)
        return int(not pruned)

    def _values(self, folder: Path) -> list[float]:
        student = json.loads((folder / "result.json").read_text())["student"]
        return [student["metrics"][self.asked.metric], *(student[name] for name in self.minimize)]

    def best(self) -> Iterator[tuple[int, list[float], dict]]:
        """Yield number, values and settings of the trials that no other beats in everything."""
        if self._trials("COMPLETE"):
            for trial in self.study.best_trials:
                yield trial.number, trial.values, trial.params


def _halving(optuna) -> type:
    """Return successive halving that does not count failed trials: what was killed is run again, and would count twice."""

    class Living:
        def __init__(self, study):
            self._study = study

        def __getattr__(self, name: str):
            return getattr(self._study, name)

        def get_trials(self, *words, **more) -> list:
            return [trial for trial in self._study.get_trials(*words, **more) if trial.state.name != "FAIL"]

    class Halving(optuna.pruners.SuccessiveHalvingPruner):
        def prune(self, study, trial) -> bool:
            return super().prune(Living(study), trial)

    return Halving


def _epochs(path: Path, metric: str) -> Iterator[tuple[int, float]]:
    """Yield (epoch from 1 on, value) of the lines that a run has written so far."""
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            said = json.loads(line)
        except ValueError:
            continue  # it is being written
        if said.get(metric) is not None:
            yield said["epoch"] + 1, said[metric]


def settings(chosen: dict) -> str:
    """Return chosen settings in a line."""
    return ", ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in chosen.items())


def _optuna():
    try:
        import optuna
    except ImportError as error:
        raise ValueError("sweep: optuna is not installed. Type pip install -e '.[sweep]'.") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
