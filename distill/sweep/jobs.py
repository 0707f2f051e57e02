"""What is written down of a sweep: its name and folder, what each of its jobs is, where its run lies, how it ended.

SWEEP/jobs/N/job.json   job N: its words, its run folder, its state
SWEEP/jobs/N/log.txt    what it prints
SWEEP/pooling=both,...  a link to each run folder, named by what the sweep changes
SWEEP/jobs.jsonl        all of them together, one line per job
"""

import json
import os
import re
import shlex
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import Signals
from statistics import fmean

from distill.config import overrides
from distill.runs.folder import RunFolder
from distill.runs.result import RunResult
from distill.sweep.executors import LOG
from distill.system.cli import format_error
from distill.system.console import console
from distill.system.errors import ConfigError
from distill.system.files import atomic, digest, write_json

ELSEWHERE = ("-", "paths.", "logger", "launcher", "hydra", "+hydra", "~hydra")  # words that do not say what a sweep is
METRIC = "valid/top1_accuracy"
UNCHANGED = ("checkpoint.", "logger", "train.threads", "train.device", "data.verify")
MEASURED = ("eval.", "data.test_subset", "data.subset_dir")


class Record:
    """What is known of one job; every change is on the disk at once.

    Args:
        job_dir: its folder, SWEEP/jobs/N.
    """

    def __init__(self, job_dir: Path):
        self.job_dir, self.sweep = job_dir, job_dir.parents[1]
        self.facts = read(job_dir)

    def update(self, **facts) -> None:
        """Note facts."""
        self.facts |= facts
        write_json(self.job_dir / "job.json", self.facts)

    def begin(self, folder: Path) -> None:
        """Note the run folder and link to it from the sweep's, where the file system has links."""
        self.update(folder=str(folder))
        link = self.sweep / self.facts["name"]
        with suppress(OSError):
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(folder.absolute(), self.sweep.absolute()))

    def end(self, status: str, **facts) -> None:
        """Note how it ended; where there is no run folder to say that it failed, result.json in its own folder does."""
        if status == "failed" and not self.facts.get("folder"):
            RunResult("failed", error=facts["error"]).write(RunFolder(self.job_dir).result)
        self.update(status=status, **facts)

    def close(self, code: int) -> None:
        """Note by its exit code what a job could not write down itself, and say in a line how it ended."""
        status, log = self.facts["status"], self.job_dir / LOG
        if code == 0 and status != "complete":
            self.end("complete", error=None)
        elif code < 0 and status not in ("complete", "pruned"):
            name = Signals(-code).name
            self.end("failed", error=f"was killed by {name}; the same command again goes on from its last checkpoint")
        elif code > 0 and status in ("pending", "running"):
            said = log.read_text(errors="replace", encoding="utf-8") if log.exists() else ""
            errors = re.findall(r"^error: (.*)", said, re.MULTILINE)
            self.end("failed", error=errors[-1] if errors else f"ended with exit code {code}; {log} says more")
        console.print(f"job {self.facts['number']}: {line(self.facts)}")


def read(job_dir: Path) -> dict:
    """Return what a job's record says; of a job that nobody planned, its number."""
    try:
        return json.loads((job_dir / "job.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"number": job_dir.name, "name": f"job-{job_dir.name}", "overrides": [], "status": "pending"}


def plan(sweep: Path, jobs: Sequence[Sequence[str]], swept: Sequence[str]) -> list[Path]:
    """Write the record of every job before the first one begins; return their folders."""
    places: dict[str, Path] = {}
    for number, words in enumerate(jobs):
        name = name_of(words, swept) or "job"
        name = f"{name}-{number}" if name in places else name
        places[name] = add(sweep, number, name, words)
    collect(sweep)
    return list(places.values())


def refuse_idle(swept: Sequence[str]) -> None:
    """Refuse to sweep over what does not change a student: all values would be one run folder.

    Raises:
        ConfigError: with what to type instead.
    """
    for key in swept:
        if key.startswith(MEASURED):
            what = f"Leave it out of the sweep, and type python -m distill.measure RUN {key}=... for each."
            raise ConfigError(key, f"is measured, not learned: its values would be one run. {what}")
        if key.startswith(UNCHANGED):
            raise ConfigError(key, "does not change what is learned: its values would be one run. Give one value.")


def add(sweep: Path, number: int, name: str, words: Sequence[str]) -> Path:
    """Write the record of one more pending job; return its folder."""
    job_dir = sweep / "jobs" / str(number)
    before = read(job_dir)  # of an earlier start of this sweep, whose words may have stood in another order
    kept = {"folder": before["folder"]} if "folder" in before and set(before["overrides"]) == set(words) else {}
    facts = kept | {"number": str(number), "name": name, "overrides": list(words), "status": "pending"}
    write_json(job_dir / "job.json", facts)
    return job_dir


@contextmanager
def recorded(job_dir: Path) -> Iterator[Record]:
    """Keep the record of the job that is done inside."""
    record, start = Record(job_dir), time.perf_counter()
    record.update(status="running", error=None, reused=False)
    RunFolder(job_dir).result.unlink(missing_ok=True)
    try:
        yield record
    except Exception as error:
        record.end("failed", error=format_error(error), seconds=time.perf_counter() - start)
        raise
    except BaseException:
        record.end("stopped", seconds=time.perf_counter() - start)
        raise
    record.end("complete", seconds=time.perf_counter() - start, **valid_metrics(Path(record.facts["folder"])))


def valid_metrics(folder: Path) -> dict[str, float]:
    """Return what a complete run measured on validation."""
    metrics = RunResult.read(RunFolder(folder).result).student["metrics"]
    return {name: value for name, value in metrics.items() if name.startswith("valid/")}


def collect(sweep: Path) -> list[dict]:
    """Write jobs.jsonl from the records of all jobs, and return them in their order; there may be none yet."""
    jobs = [read(job_dir) for job_dir in (sweep / "jobs").glob("*") if job_dir.name.isdigit()]
    jobs.sort(key=lambda facts: int(facts["number"]))
    with atomic(sweep / "jobs.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(facts) + "\n" for facts in jobs), encoding="utf-8")
    return jobs


def finalize_sweep(sweep: Path, metric: str = METRIC, maximize: bool = True) -> None:
    """Print the jobs, the best first, the winner by its mean over seeds, and what to type next; write jobs.jsonl.

    Args:
        sweep: its folder.
        metric: what jobs are compared by, of validation.
        maximize: whether more is better.
    """
    jobs = collect(sweep)
    if all(facts["status"] == "pending" for facts in jobs):
        return  # what went wrong before the first one is said elsewhere
    if metric == METRIC and not any(METRIC in facts for facts in jobs):
        metric = "valid/agreement"  # of faces without labels
    ranked = [facts for facts in jobs if facts["status"] == "complete" and facts.get(metric) is not None]
    ranked.sort(key=lambda facts: facts[metric], reverse=maximize)
    console.print()
    for rank, facts in [*enumerate(ranked, 1), *(("-", facts) for facts in jobs if facts not in ranked)]:
        console.print(f"  {rank:>4}  {line(facts, metric)}")
    states = Counter(map(_state, jobs))
    reused = sum(bool(facts.get("reused")) for facts in jobs if facts["status"] == "complete")
    told = ", ".join(f"{number} {state}" for state, number in states.items())
    told = told.replace(" complete", f" complete ({reused} of them before)") if reused else told
    console.print(f"{len(jobs)} jobs: {told}; sweep folder: {sweep}")
    if not states.keys() <= {"complete", "pruned", "retrying"}:
        console.print("next: the same command again runs what is missing")
    if ranked:
        seeds: dict[tuple, list[dict]] = {}
        for facts in ranked:
            seeds.setdefault(tuple(w for w in facts["overrides"] if not w.startswith("seed=")), []).append(facts)
        best = (max if maximize else min)(seeds.values(), key=lambda jobs: fmean(facts[metric] for facts in jobs))
        over = f" (of {len(best)} seeds, mean {_value(best, metric)})" if len(best) > 1 else ""
        console.print(f"best: {line(best[0], metric).removeprefix('complete').strip()}{over}")
        rule = "" if metric == METRIC else f" --best '{'max' if maximize else 'min'} {metric}'"
        console.print(f"next: python -m distill.export best of {shlex.quote(str(sweep))}{rule}")
        console.print(f"next: python -m distill.report {shlex.quote(str(sweep))}")


def line(facts: dict, metric: str = METRIC) -> str:
    """Return how a job stands, in a line."""
    words = [f"{_state(facts):<9}{facts['name']}"]
    if facts["status"] == "complete" and facts.get(metric) is not None:
        words.append(_value([facts], metric))
    if (seconds := facts.get("seconds")) is not None:
        words.append("reused" if facts.get("reused") else f"{seconds:.0f} s")
    words += [text.splitlines()[0] for text in (facts.get("folder"), facts.get("error")) if text]
    return "  ".join(words)


def _value(jobs: Sequence[dict], metric: str) -> str:
    value = fmean(facts[metric] for facts in jobs)
    return f"valid top-1 {value:.2%}" if metric == METRIC else f"{metric} {value:.4g}"


def _state(facts: dict) -> str:
    return "stopped" if facts["status"] == "running" else facts["status"]


def name_of(words: Sequence[str], swept: Sequence[str]) -> str:
    """Return what a sweep changes for one job as a file name: pooling=both,width=M,temperature=2."""
    short = _short(swept)
    parts = [f"{short[key]}={value}" for key, _, value in (word.partition("=") for word in words) if key in short]
    name = re.sub(r"[^\w.=,+-]+", "_", ",".join(parts))
    if len(name.encode()) <= 120:
        return name
    return f"{name.encode()[:110].decode(errors='ignore')}-{digest(parts)[:8]}"


def sweep_name(words: Sequence[str], swept: Sequence[str]) -> str:
    """Return the name of a sweep: what it changes, and a digest of all that is asked for; the same words, the same name."""
    asked = sorted(word for word in words if not word.startswith(ELSEWHERE))
    keys = re.sub(r"[^\w+-]+", "_", "-".join(_short(sorted(swept)).values()))[:60]
    return f"{keys or 'sweep'}-{digest(asked)[:8]}"


def folder_of(words: Sequence[str], name: str, asked: str | None = None) -> Path:
    """Return the folder of a sweep: the one that is asked for, or one among the run folders that its words ask for."""
    return (
        Path(asked or Path(overrides.value_of(words, "paths.runs") or "runs") / "sweeps" / name).expanduser().absolute()
    )


def _short(keys: Sequence[str]) -> dict[str, str]:
    """Return key -> its last part, or the whole key where two would look alike."""
    last = [key.rsplit(".", 1)[-1] for key in keys]
    return {key: end if last.count(end) == 1 else key for key, end in zip(keys, last, strict=True)}


def refuse_another(folder: Path, what: str) -> None:
    """Refuse a folder that holds another sweep; what is a digest of what is asked for.

    Raises:
        ValueError: it was made for another one.
    """
    if (file := folder / "sweep.txt").exists() and file.read_text(encoding="utf-8").strip() != what:
        raise ValueError(f"{folder}: holds another sweep. Choose another folder, or leave it out.")
    with atomic(file) as temporary:
        temporary.write_text(f"{what}\n", encoding="utf-8")
