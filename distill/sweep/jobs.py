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
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from signal import Signals
from statistics import fmean

from distill.config import overrides
from distill.config.naming import job_name
from distill.runs.folder import RunFolder
from distill.runs.result import RunResult
from distill.system.console import console
from distill.system.files import digest, write_json, write_text
from distill.system.processes import LOG

ELSEWHERE = ("-", "paths.", "logger", "launcher", "hydra", "+hydra", "~hydra")  # words that do not say what a sweep is
METRIC = "valid/top1_accuracy"


class Record:
    """What is known of one job; every change is on the disk at once.

    Args:
        job_dir: its folder, SWEEP/jobs/N.
    """

    def __init__(self, job_dir: Path):
        self.job_dir, self.sweep, self.refusal = job_dir, job_dir.parents[1], RunFolder(job_dir).result
        try:
            self.facts = json.loads((job_dir / "job.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):  # nobody planned it
            self.facts = {"number": job_dir.name, "name": f"job-{job_dir.name}", "overrides": [], "status": "pending"}

    @property
    def folder(self) -> RunFolder:
        """Its run folder; before it has one, its own."""
        return RunFolder(Path(self.facts.get("folder") or self.job_dir))

    def update(self, **facts) -> None:
        """Note facts."""
        self.facts |= facts
        write_json(self.job_dir / "job.json", self.facts)

    def begin(self, folder: Path) -> None:
        """Note the run folder and link to it from the sweep's, where the file system has links."""
        self.update(folder=str(folder), status="running", began=time.time())
        link = self.sweep / self.facts["name"]
        with suppress(OSError):
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(folder.absolute(), self.sweep.absolute()))

    def close(self, code: int, behind: str = "") -> None:
        """Note how the job ended, and say it in a line; of one without a run folder result.json in its own says it, too.

        Args:
            code: its exit code, -N where signal N ended it.
            behind: why a search asked it to end, which does not count where it had ended.
        """
        complete, log = self.folder.is_complete(), self.job_dir / LOG
        began = self.facts.get("began")
        facts = {"status": "failed", "error": None} | ({"seconds": time.time() - began} if began else {})
        if code == 0 or (code < 0 and complete):
            metrics = RunResult.read(self.folder.result).student["metrics"] if complete else {}
            facts |= {"status": "complete"} | {name: metrics[name] for name in metrics if name.startswith("valid/")}
        elif behind and not complete:
            RunResult("pruned", error=behind).write(self.folder.result)
            facts["status"] = "pruned"
        elif code < 0:
            name = Signals(-code).name
            facts["error"] = f"was killed by {name}; the same command again goes on from its last checkpoint"
        else:
            printed = log.read_text(errors="replace", encoding="utf-8") if log.exists() else ""
            errors = re.findall(r"^error: (.*)", printed, re.MULTILINE)
            facts["error"] = errors[-1] if errors else f"ended with exit code {code}; {log} says more"
        self.update(**facts)
        if facts["error"] and not self.folder.config.is_file():
            RunResult("failed", error=facts["error"]).write(self.refusal)
        console.print(f"job {self.facts['number']}: {line(self.facts)}")


def plan(sweep: Path, jobs: Sequence[Sequence[str]], swept: Sequence[str]) -> list[Path]:
    """Write the record of every job before the first one begins; return their folders."""
    job_dirs: dict[str, Path] = {}
    for number, words in enumerate(jobs):
        name = job_name(words, swept) or "job"
        name = f"{name}-{number}" if name in job_dirs else name
        job_dirs[name] = add(sweep, number, name, words)
    collect(sweep)
    return list(job_dirs.values())


def add(sweep: Path, number: int, name: str, words: Sequence[str]) -> Path:
    """Write the record of one more pending job; return its folder."""
    job_dir = sweep / "jobs" / str(number)
    record = Record(job_dir)  # of an earlier start of this sweep, whose words may have stood in another order
    same = "folder" in record.facts and set(record.facts["overrides"]) == set(words)
    record.facts = {"folder": record.facts["folder"]} if same else {}
    record.update(number=str(number), name=name, overrides=list(words), status="pending")
    record.refusal.unlink(missing_ok=True)
    return job_dir


def collect(sweep: Path) -> list[dict]:
    """Write jobs.jsonl from the records of all jobs, and return them in their order; none is at work now."""
    numbers = sorted(int(job_dir.name) for job_dir in (sweep / "jobs").glob("*") if job_dir.name.isdigit())
    jobs = [Record(sweep / "jobs" / str(number)).facts for number in numbers]
    jobs = [facts | {"status": "stopped"} if facts["status"] == "running" else facts for facts in jobs]
    write_text(sweep / "jobs.jsonl", "".join(json.dumps(facts) + "\n" for facts in jobs))
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
    complete = [facts for facts in jobs if facts["status"] == "complete"]
    ranked = sorted((f for f in complete if f.get(metric) is not None), key=lambda f: f[metric], reverse=maximize)
    console.print()
    for rank, facts in [*enumerate(ranked, 1), *(("-", facts) for facts in jobs if facts not in ranked)]:
        console.print(f"  {rank:>4}  {line(facts, metric)}")
    states = Counter(facts["status"] for facts in jobs)
    counts = ", ".join(f"{number} {state}" for state, number in states.items())
    if reused := sum("reused" in facts for facts in complete):
        counts = counts.replace(" complete", f" complete ({reused} of them before)")
    console.print(f"{len(jobs)} jobs: {counts}; sweep folder: {sweep}")
    if changed := [facts for facts in jobs if facts.get("code_changed")]:
        console.print(
            f"*** CODE CHANGED since {len(changed)} of {len(jobs)} jobs were made: {', '.join(changed[0]['code_changed'][:3])}. They "
            "are of the code as it was; to train with the code as it is, type paths.runs=ANOTHER_FOLDER.",
            style="bold",
        )
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
        trial = any(word.startswith("debug=") for facts in jobs for word in facts["overrides"])  # no run to choose from
        if not trial:
            console.print(f"next: python -m distill.export best of {shlex.quote(str(sweep))}{rule}")
        console.print(f"next: python -m distill.report {shlex.quote(str(sweep))}{' --debug' if trial else ''}")


def line(facts: dict, metric: str = METRIC) -> str:
    """Return how a job stands, in a line."""
    words = [f"{facts['status']:<9}{facts['name']}"]
    if facts["status"] == "complete" and facts.get(metric) is not None:
        words.append(_value([facts], metric))
    if "seconds" in facts:
        words.append("reused" if "reused" in facts else f"{facts['seconds']:.0f} s")
    words += [text.splitlines()[0] for text in (facts.get("folder"), facts.get("error")) if text]
    return "  ".join(words)


def _value(jobs: Sequence[dict], metric: str) -> str:
    value = fmean(facts[metric] for facts in jobs)
    return f"valid top-1 {value:.2%}" if metric == METRIC else f"{metric} {value:.4g}"


def sweep_folder(words: Sequence[str], stem: str, what: Sequence, folder: str | None = None) -> tuple[Path, str]:
    """Return the folder of a sweep, and a digest of all that is asked for; the same words in any order, the same folder.

    Args:
        words: of the command line; those that say where and how jobs run do not count.
        stem: what the folder's name begins with.
        what: is asked for besides.
        folder: that is to be taken instead of the one that is named so, among the run folders.
    """
    identity = digest([*what, sorted(word for word in words if not word.startswith(ELSEWHERE))])
    runs = overrides.value_of(words, "paths.runs") or "runs"
    path = folder or overrides.sweep_dir(words) or f"{runs}/sweeps/{stem[:60]}-{identity[:8]}"
    return Path(path).expanduser().absolute(), identity
