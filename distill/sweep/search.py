"""A search over settings: optuna chooses them, each trial is a job, and a journal in the sweep's folder outlives a kill."""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from distill.runs.layout import is_complete
from distill.sweep import jobs as sweep_records
from distill.sweep.executors import STOP
from distill.sweep.space import SweepFile
from distill.system.cli import not_installed
from distill.system.console import console
from distill.system.files import write_json
from distill.system.processes import killed_by

DONE = ("COMPLETE", "PRUNED")
COSTS = ("num_parameters", "macs", "bytes", "latency_ms")  # of which less is better
EVERY = 1.0  # seconds between two looks at a job's epochs


@dataclass
class Running:
    """A trial whose job is at work."""

    trial: object
    place: Path
    code: Callable[[], int | None]
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
        self._queue_grid()
        for trial in self._trials("RUNNING"):  # when an earlier start was killed
            self.study.tell(trial.number, state=self.optuna.trial.TrialState.FAIL)
        self._queue_failed()

    def _study(self, seed: int):
        optuna = self.optuna
        journal = self.folder / "study.journal"
        _cut_half_a_line(journal)
        (self.folder / "study.journal.lock").unlink(missing_ok=True)  # of a start that was killed
        backend = optuna.storages.journal.JournalFileBackend(str(journal))
        directions = ["maximize" if self.asked.maximize else "minimize", *["minimize"] * len(self.minimize)]
        early, pruner = self.asked.early_terminate, optuna.pruners.NopPruner()
        if early:
            pruner = _halving(optuna)(min_resource=early["min_iter"], reduction_factor=early["eta"])
        study = optuna.create_study(
            storage=optuna.storages.JournalStorage(backend),
            study_name="sweep",
            load_if_exists=True,
            directions=directions,
            pruner=pruner,
        )
        seed += len(study.trials)  # a study that goes on does not draw its first trials again
        samplers = optuna.samplers
        bayes = self.asked.method == "bayes"
        study.sampler = samplers.TPESampler(seed=seed) if bayes else samplers.RandomSampler(seed=seed)
        return study

    def _distribution(self, spec: dict):
        make = self.optuna.distributions
        if "values" in spec:
            return make.CategoricalDistribution(spec["values"])
        ends = (spec["min"], spec["max"])
        if spec["whole"]:
            return make.IntDistribution(*ends)
        return make.FloatDistribution(*ends, log=spec["log"], step=spec["step"])

    def _trials(self, *states: str) -> list:
        return [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.name in states]

    def _queue_grid(self) -> None:
        if self.asked.method == "grid" and not self.study.user_attrs.get("queued"):
            for chosen in self.asked.grid():
                self.study.enqueue_trial(chosen, skip_if_exists=True)
            self.study.set_user_attr("queued", True)

    def _queue_failed(self) -> None:
        """Ask again for what failed, or was killed, at an earlier start: the same settings are the same run folder."""
        again = {trial.user_attrs.get("again") for trial in self.study.trials}
        for trial in self._trials("FAIL"):
            # a kill while a trial was asked for leaves some of what was queued for it unwritten
            chosen = trial.system_attrs.get("fixed_params", {}) | trial.params
            if trial.number not in again and chosen.keys() == self.space.keys():
                self.study.enqueue_trial(chosen, user_attrs={"again": trial.number})
            record = sweep_records.Record(self.folder / "jobs" / str(trial.number))
            record.update(status="again")
            (record.place / "result.json").unlink(missing_ok=True)

    def run(self, pool, command: Callable[[list[str]], list[str]], cap: int | None) -> int:
        """Run trials until so many are complete or pruned; return how many failed.

        Args:
            pool: starts jobs, so many at a time.
            command: a job's words -> its command.
            cap: trials of all starts together; None is no limit but the grid's.
        """
        running: list[Running] = []
        failed = 0
        try:
            while True:
                while len(running) < pool.jobs and self._wants_more(cap, len(running) + failed):
                    running.append(self._start(pool, command))
                if not running:
                    return failed
                for one in list(running):
                    self._watch(one)
                    if (code := one.code()) is not None:
                        running.remove(one)
                        failed += self._tell(one, code)
                time.sleep(0.1)
        finally:
            for one in running:  # stopped from the keyboard: they go on at the next start
                (one.place / STOP).touch()

    def _wants_more(self, cap: int | None, under_way: int) -> bool:
        if cap is not None and len(self._trials(*DONE)) + under_way >= cap:
            return False
        return self.asked.method != "grid" or bool(self._trials("WAITING"))

    def _start(self, pool, command) -> Running:
        trial = self.study.ask(self.space)
        words = self.words(trial.params)
        place = sweep_records.add(self.folder, str(trial.number), f"trial-{trial.number:04}", words)
        console.print(f"job {trial.number}: {settings(trial.params)}")
        return Running(trial, place, pool.start(command(words), place))

    def _watch(self, one: Running) -> None:
        """Report every epoch that is new, and stop a trial that does worse than others did."""
        if not self.prunes or one.pruned or time.monotonic() - one.looked < EVERY:
            return
        one.looked = time.monotonic()
        folder = Path(sweep_records.read(one.place).get("folder") or one.place)
        if is_complete(folder):  # these epochs are spent
            return
        path = folder / "metrics.jsonl"
        size = path.stat().st_size if path.exists() else 0
        if size == one.size:
            return
        one.size = size
        for epoch, value in _epochs(path, self.asked.metric):
            if epoch not in one.reported:
                one.reported.add(epoch)
                one.trial.report(value, epoch)
                if one.trial.should_prune():
                    one.pruned = True
                    (one.place / STOP).touch()
                    return

    def _tell(self, one: Running, code: int) -> int:
        """Tell the study how a trial ended; return 1 where it failed."""
        record, states = sweep_records.Record(one.place), self.optuna.trial.TrialState
        folder = Path(record.facts.get("folder") or one.place)
        complete = is_complete(folder)
        if code == 0 or (code < 0 and complete):  # asked to end when it had ended
            self.study.tell(one.trial, self._values(folder))
            end_of(record, 0)
            return 0
        pruned = one.pruned and not complete
        self.study.tell(one.trial, state=states.PRUNED if pruned else states.FAIL)
        if not pruned:
            end_of(record, code)
            return 1
        record.end("pruned", error=None)
        told = f"was behind after {max(one.reported)} epochs; its command, typed by itself, finishes it"
        write_json(folder / "result.json", {"status": "pruned", "error": told})
        return 0

    def _values(self, folder: Path) -> list[float]:
        student = json.loads((folder / "result.json").read_text(encoding="utf-8"))["student"]
        return [student["metrics"][self.asked.metric], *(student[name] for name in self.minimize)]

    def best(self) -> Iterator[tuple[int, list[float], dict]]:
        """Yield number, values and settings of the trials that no other beats in everything."""
        if self._trials("COMPLETE"):
            for trial in self.study.best_trials:
                yield trial.number, trial.values, trial.params


def end_of(record: sweep_records.Record, code: int) -> None:
    """Say how a job ended that was a process of its own; what it could not write down itself is written now."""
    said = record.facts["status"]
    if said == "failed" or (code == 0 and said == "complete"):
        console.print(f"job {record.facts['number']}: {sweep_records.line(record.facts)}")
    elif code == 0:
        record.end("complete", error=None)
    elif code < 0:
        record.end("failed", error=killed_by(-code))
    else:
        record.end("failed", error=f"ended with exit code {code}; {record.place / 'log.txt'} says more")


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


def _cut_half_a_line(journal: Path) -> None:
    """Cut off what stands after the last newline: a write that was cut short, which optuna could not read."""
    if journal.exists():
        whole = journal.read_bytes()
        os.truncate(journal, whole.rfind(b"\n") + 1)


def _epochs(path: Path, metric: str) -> Iterator[tuple[int, float]]:
    """Yield (epoch from 1 on, value) of the lines that a run has written so far."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
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
        raise ValueError(f"sweep: {not_installed('optuna', error, 'sweep')}") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
