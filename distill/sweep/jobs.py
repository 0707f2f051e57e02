"""What is written down of a sweep: its name and folder, what each of its jobs is, where its run lies, how it ended.

SWEEP/jobs/N/job.json   job N: its words, its run folder, its state
SWEEP/pooling=both,...  a link to each run folder, named by what the sweep changes
SWEEP/jobs.jsonl        all of them together, one line per job
"""

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from distill.config import overrides
from distill.system.cli import report_error
from distill.system.console import console
from distill.system.files import atomic, digest, write_json
from distill.system.processes import JobFailed

ELSEWHERE = ("paths.", "logger", "launcher")  # words that do not say what a sweep is


class Record:
    """What is known of one job; every change is on the disk at once.

    Args:
        place: its folder, SWEEP/jobs/N.
    """

    def __init__(self, place: Path):
        self.place, self.sweep = place, place.parents[1]
        self.facts = read(place)

    def update(self, **facts) -> None:
        self.facts |= facts
        write_json(self.place / "job.json", self.facts)

    def begin(self, folder: Path) -> None:
        """Note the run folder and link to it from the sweep's, where the file system has links."""
        self.update(folder=str(folder))
        link = self.sweep / self.facts["name"]
        with suppress(OSError):
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(folder.absolute(), self.sweep.absolute()), target_is_directory=True)

    def end(self, status: str, **facts) -> None:
        """Note how it ended and say so in a line; where there is no run folder to say so, result.json in its place does."""
        if status == "complete":
            facts["valid/top1_accuracy"] = _accuracy(Path(self.facts["folder"]))
        if status == "failed" and not self.facts.get("folder"):
            write_json(self.place / "result.json", {"status": "failed", "error": facts["error"]})
        self.update(status=status, **facts)
        console.print(f"job {self.facts['number']}: {line(self.facts)}")


def read(place: Path) -> dict:
    """Return what a job's record says; of a job that nobody planned, its number."""
    try:
        return json.loads((place / "job.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"number": place.name, "name": f"job-{place.name}", "overrides": [], "status": "waiting"}


def plan(sweep: Path, jobs: Sequence[Sequence[str]], swept: Sequence[str]) -> None:
    """Write the record of every job before the first one begins.

    Raises:
        ValueError: a key that changes no student is swept over.
    """
    refuse_idle(swept)
    names: set[str] = set()
    for number, words in enumerate(jobs):
        name = name_of(words, swept) or "job"
        name = f"{name}-{number}" if name in names else name
        names.add(name)
        add(sweep, str(number), name, words)
    collect(sweep)


def refuse_idle(swept: Sequence[str]) -> None:
    """Refuse to sweep over what does not change a student: all values would be one run folder.

    Raises:
        ValueError: with what to type instead.
    """
    for key in swept:
        if key.startswith("eval.") or key in ("data.test_subset", "data.subset_dir"):
            raise ValueError(
                f"{key}: is measured, not learnt: its values would be one run. Leave it out of the sweep, and type "
                f"python -m distill.measure RUN {key}=... for each."
            )
        if key.startswith(("checkpoint.", "logger")) or key in ("train.threads", "train.device", "data.verify"):
            raise ValueError(f"{key}: does not change what is learnt: its values would be one run. Give one value.")


def add(sweep: Path, number: str, name: str, words: Sequence[str]) -> Path:
    """Write the record of one more job that waits; return its place."""
    place = sweep / "jobs" / number
    before = read(place)  # of an earlier start of this sweep, whose words may have stood in another order
    kept = {"folder": before["folder"]} if "folder" in before and set(before["overrides"]) == set(words) else {}
    facts = kept | {"number": number, "name": name, "overrides": list(words), "status": "waiting"}
    write_json(place / "job.json", facts)
    return place


@contextmanager
def recorded(place: Path) -> Iterator[Record]:
    """Keep the record of the job that is done inside.

    Raises:
        JobFailed: in the place of whatever the job ended with.
    """
    record, start = Record(place), time.perf_counter()
    record.update(status="running", error=None, reused=False)
    (place / "result.json").unlink(missing_ok=True)
    try:
        yield record
    except Exception as error:
        record.end("failed", error=report_error(error), seconds=time.perf_counter() - start)
        raise JobFailed(record.facts["error"]) from error
    except BaseException:
        record.end("stopped", seconds=time.perf_counter() - start)
        raise
    record.end("complete", seconds=time.perf_counter() - start)


def collect(sweep: Path) -> list[dict]:
    """Write jobs.jsonl from the records of all jobs, and return them in their order; there may be none yet."""
    jobs = [read(place) for place in (sweep / "jobs").glob("*") if place.name.isdigit()]
    jobs.sort(key=lambda facts: int(facts["number"]))
    with atomic(sweep / "jobs.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(facts) + "\n" for facts in jobs), encoding="utf-8")
    return jobs


def conclude(sweep: Path, next_step: str = "the same command again runs what is missing") -> int:
    """Print how every job ended, write jobs.jsonl, and return the exit code: 1 where a job is not complete."""
    if not (jobs := collect(sweep)):
        return 1  # what went wrong before the first one is said elsewhere
    console.print()
    for facts in jobs:
        console.print(f"  {facts['number']:>4}  {line(facts)}")
    counts = {name: sum(_state(facts) == name for facts in jobs) for name in dict.fromkeys(map(_state, jobs))}
    reused = sum(bool(facts.get("reused")) for facts in jobs if _state(facts) == "complete")
    before = f" ({reused} of them before)" if reused else ""
    told = ", ".join(f"{n} {name}{before if name == 'complete' else ''}" for name, n in counts.items())
    missing = any(name not in ("complete", "pruned", "again") for name in counts)
    console.print(f"{len(jobs)} jobs: {told}; sweep folder: {sweep}")
    console.print(f"next: {next_step if missing else f'python -m distill.report {sweep}'}")
    return int(missing)


def line(facts: dict) -> str:
    """Return how a job stands, in a line."""
    accuracy, seconds = facts.get("valid/top1_accuracy"), facts.get("seconds")
    words = [f"{_state(facts):<9}{facts['name']}"]
    words += [f"valid top-1 {accuracy:.2%}"] if accuracy is not None and facts["status"] == "complete" else []
    words += ["as it was" if facts.get("reused") else f"{seconds:.0f} s"] if seconds is not None else []
    words += [str(facts["folder"])] if facts.get("folder") else []
    words += [facts["error"].splitlines()[0]] if facts.get("error") else []
    return "  ".join(words)


def _state(facts: dict) -> str:
    return {"waiting": "not run", "running": "stopped"}.get(facts["status"], facts["status"])


def _accuracy(folder: Path) -> float | None:
    try:
        return json.loads((folder / "result.json").read_text(encoding="utf-8"))["student"]["metrics"].get(
            "valid/top1_accuracy"
        )
    except (OSError, ValueError, KeyError):
        return None


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
    asked = sorted(word for word in words if not word.startswith(("-", "hydra", *ELSEWHERE)))
    keys = re.sub(r"[^\w+-]+", "_", "-".join(_short(sorted(swept)).values()))[:60]
    return f"{keys or 'sweep'}-{digest(asked)[:8]}"


def folder_of(words: Sequence[str], swept: Sequence[str]) -> Path:
    """Return the folder of a sweep, among the run folders that its words ask for."""
    home = Path(overrides.value_of(words, "paths.runs") or "runs").expanduser()
    return home.absolute() / "sweeps" / sweep_name(words, swept)


def _short(keys: Sequence[str]) -> dict[str, str]:
    """Return key -> its last part, or the whole key where two would look alike."""
    last = [key.rsplit(".", 1)[-1] for key in keys]
    return {key: end if last.count(end) == 1 else key for key, end in zip(keys, last, strict=True)}


def refuse_another(folder: Path, what: str) -> None:
    """Refuse a folder that holds another sweep.

    Args:
        folder: of the sweep.
        what: a digest of what is asked for.

    Raises:
        ValueError: it was made for another one.
    """
    if (file := folder / "sweep.txt").exists() and file.read_text(encoding="utf-8").strip() != what:
        raise ValueError(f"{folder}: holds another sweep. Choose another folder, or leave it out.")
    with atomic(file) as temporary:
        temporary.write_text(f"{what}\n", encoding="utf-8")
