"""What a teacher adds to a sweep of 16 MicroExpNet students: python benchmarks/sweep_cost.py [--write docs/sweep_cost.json].

alone    teacher=none loss=[ce]
stored   teacher=resnet50 loss=[ce,kd], the teacher's logits read from the store
live     the same with teacher.cache=false: a forward pass of the teacher in every step
The students of alone and stored are jobs of one python -m distill.run -m, in turns, so that a neighbor on the machine slows
both; medians over the turns. A job's time is that from the end of the job before it to its own end, all that a user waits for;
what the command needs before its first job and after its last counts once for each side. Before that, one job, not counted,
trains the teacher (from scratch, shortly: how well it answers costs no time) and makes its first pass over the faces. Of live a
few students are timed for a few epochs: time in training is taken times epochs / timed epochs, all of it times 16 / timed
students. CPU seconds are user and system of all processes; neighbors disturb them less than those on the wall.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from hydra.experimental.callback import Callback

from distill.system.hardware import environment, set_threads

HERE = Path(__file__).resolve().parent
SIDE = "# @package _global_\ndefaults:\n  - override /teacher: {teacher}\n  - override /loss: [{loss}]\n"
TAUGHT = "teacher: {{name: {name}, size: {size}, pretrained: false, cache: {cache}, train: {{epochs: {epochs}}}}}\n"


class Clock(Callback):
    """Writes [time, CPU seconds of the job's process and its ended children] into a file when a job begins and when it ends."""

    def __init__(self, file: str):
        self.file = file

    def on_run_start(self, **more) -> None:
        with open(self.file, "a", encoding="utf-8") as lines:
            lines.write(json.dumps([time.monotonic(), sum(os.times()[:4])]) + "\n")

    on_job_end = on_run_start


def write_sides(folder: Path, args: argparse.Namespace) -> None:
    """Write experiment=alone, stored and live, so that one sweep can take turns."""
    folder.mkdir(parents=True)
    (folder / "alone.yaml").write_text(SIDE.format(teacher="none", loss="ce"), encoding="utf-8")
    numbers = {"name": args.teacher, "size": args.size, "epochs": args.teacher_epochs}
    for side, cache in (("stored", "true"), ("live", "false")):
        text = SIDE.format(teacher="resnet50", loss="ce, kd") + TAUGHT.format(cache=cache, **numbers)
        (folder / f"{side}.yaml").write_text(text, encoding="utf-8")


def sweep(home: Path, name: str, words: list[str]) -> dict:
    """Do a sweep in home/name, and return the [wall, CPU] seconds of the command itself and of each job."""
    folder = home / name
    folder.mkdir()
    clock = [f"+hydra.callbacks.clock.{key}" for key in (f"file={folder / 'clock'}", "_target_=sweep_cost.Clock")]
    where = [f"hydra.searchpath=[file://{home / 'conf'}]", f"paths.store={home / 'store'}", f"paths.runs={folder}"]
    command = [sys.executable, "-m", "distill.run", "-m", *words, *where, *clock, "logger=none"]
    path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    began = now()
    with open(folder / "log.txt", "w", encoding="utf-8") as log:
        code = subprocess.call(command, env=os.environ | {"PYTHONPATH": path}, stdout=log, stderr=subprocess.STDOUT)
    total = now() - began
    if code:
        sys.exit(f"error: {name} ended with exit code {code}\n{(folder / 'log.txt').read_text('utf-8')[-4000:]}")
    marks = [np.array(json.loads(line)) for line in (folder / "clock").read_text(encoding="utf-8").splitlines()]
    (records,) = folder.glob("sweeps/*/jobs.jsonl")
    recorded = [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()]
    # A job waits for the end of the one before it; its process begins with no CPU seconds.
    ends = [marks[0], *marks[1::2]]
    seconds = [np.array([end[0] - before[0], end[1]]) for before, end in pairwise(ends)]
    jobs = [job_of(record, spent) for record, spent in zip(recorded, seconds, strict=True)]
    return {"start": total - sum(seconds), "jobs": jobs}


def now() -> np.ndarray:
    """Return the time, and the CPU seconds of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([time.monotonic(), used.ru_utime + used.ru_stime])


def job_of(record: dict, seconds: np.ndarray) -> dict:
    """Return what is kept of one job: its side, student and [wall, CPU] seconds, and what its result says."""
    words = dict(word.split("=", 1) for word in record["overrides"])
    result = json.loads((Path(record["folder"]) / "result.json").read_text(encoding="utf-8"))
    who = {"side": words["experiment"], "student": f"{words['student.pooling']} {words['student.width']}"}
    parts = {f"{part}_seconds": result["seconds"][part] for part in ("teacher", "train")}
    return who | {"seconds": seconds, **parts, "teacher_forward_images": result["teacher_forward_images"]}


def per_student(jobs: list[dict], side: str, key: str = "seconds") -> dict[str, np.ndarray]:
    """Return student -> a number, or numbers, of its jobs on one side, medians over the turns."""
    mine = [job for job in jobs if job["side"] == side]
    names = dict.fromkeys(job["student"] for job in mine)
    return {name: np.median([job[key] for job in mine if job["student"] == name], axis=0) for name in names}


def longer(job: dict, times: float) -> np.ndarray:
    """Return the [wall, CPU] seconds of a job if it had trained so many times as long."""
    return job["seconds"] * (1 + job["train_seconds"] * (times - 1) / job["seconds"][0])


def sweeps(home: Path, args: argparse.Namespace) -> tuple[dict, list[dict], dict]:
    """Do the first pass, the sweeps of both sides, and some live students."""
    write_sides(home / "conf" / "experiment", args)
    poolings, widths = args.pooling.split(","), args.width.split(",")
    base = ["student=microexpnet", "data=procedural", f"data.train={args.faces}", *args.words]
    base += [f"train.batch_size={args.batch_size}", f"train.threads={args.threads or 'null'}"]
    full = [*base, f"train.epochs={args.epochs}"]
    one = [f"student.pooling={poolings[-1]}", f"student.width={widths[-1]}"]
    every = [f"student.pooling={args.pooling}", f"student.width={args.width}"]
    few = [f"student.pooling={poolings[len(poolings) // 2]}", f"student.width={','.join(widths[-args.students :])}"]
    first = sweep(home, "first", [*full, *one, "experiment=stored"])
    orders = ["experiment=alone,stored", "experiment=stored,alone"] * args.turns  # the first job is slower
    turns = [sweep(home, f"turn{k}", [*full, *every, orders[k]]) for k in range(args.turns)]
    return first, turns, sweep(home, "live", [*base, f"train.epochs={args.live_epochs}", *few, "experiment=live"])


def measure(home: Path, args: argparse.Namespace) -> dict:
    """Return the times of all sides and their ratios, pairs of [wall, CPU]."""
    first, turns, live = sweeps(home, args)
    (maiden,), jobs, start = first["jobs"], [job for turn in turns for job in turn["jobs"]], [t["start"] for t in turns]
    sides = {side: per_student(jobs, side) for side in ("alone", "stored")}
    seconds = {side: np.median(start, axis=0) + sum(medians.values()) for side, medians in sides.items()}
    sampled = [longer(job, args.epochs / args.live_epochs) for job in live["jobs"]]
    seconds["live"] = live["start"] + len(sides["stored"]) * np.mean(sampled, axis=0)
    training = maiden["teacher_seconds"] - per_student(jobs, "stored", "teacher_seconds")[maiden["student"]]
    return {
        "students": len(sides["stored"]),
        "seconds": seconds,
        "stored_over_alone": seconds["stored"] / seconds["alone"],
        "median_of_pairs": np.median([sides["stored"][name] / sides["alone"][name] for name in sides["alone"]], axis=0),
        "live_over_stored": seconds["live"] / seconds["stored"],
        "teacher_training_seconds": training,
        "first_pass_seconds": maiden["seconds"][0] - training - sides["stored"][maiden["student"]][0],
        "first_pass_images": maiden["teacher_forward_images"],
        "jobs": [*jobs, *live["jobs"]],
    }


def table(measured: dict, args: argparse.Namespace) -> str:
    """Return the numbers as Markdown."""
    of, live = measured["students"], sum(job["side"] == "live" for job in measured["jobs"])
    scaled = f"timed {live} students, times {of}/{live}, and {args.live_epochs} epochs, times {args.epochs}/{args.live_epochs}"
    by = f"teacher {args.teacher} at {args.size} px"
    words = {"alone": "labels alone", "stored": f"{by}, logits stored", "live": f"{by} in every step: {scaled}"}
    lines = [f"| {of} students | wall | CPU | faces seen by the teacher in timed jobs |", "|---|---|---|---|"]
    for side, (wall, cpu) in measured["seconds"].items():
        faces = sum(job["teacher_forward_images"] for job in measured["jobs"] if job["side"] == side)
        lines.append(f"| {words[side]} | {wall:,.1f} s | {cpu:,.1f} s | {faces:,} |")
    for key, what in (
        ("stored_over_alone", "logits stored / labels alone (at most 1.10)"),
        ("median_of_pairs", "the same, median of pairs of students"),
        ("live_over_stored", "in every step / stored (target: at least 15)"),
    ):
        lines.append("| {} | {:.3f} | {:.3f} | |".format(what, *measured[key]))
    once = f"| the first pass, once, after {measured['teacher_training_seconds']:,.0f} s of training the teacher"
    return "\n".join(
        [*lines, f"{once} | {measured['first_pass_seconds']:,.1f} s | | {measured['first_pass_images']:,} |"]
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="more words for every job, such as data.valid=64")
    for name, default, what in (
        ("faces", 2400, "in the training split"),
        ("epochs", 16, "of a student; its views repeat after eight"),
        ("batch-size", 128, "pictures per step, as experiment=ferplus_microexpnet has it"),
        ("turns", 4, "sweeps of both sides, each of them first in half"),
        ("students", 2, "that are timed with a teacher forward in every step"),
        ("live-epochs", 2, "that each of them is timed for"),
        ("size", 48, "side of the teacher's picture in pixels; 48 is that of the README's first run"),
        ("teacher-epochs", 1, "of the teacher's training"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what} ({default})")
    parser.add_argument("--threads", type=int, help="torch threads; every core if not given")
    parser.add_argument("--teacher", default="resnet50", help="any timm name (resnet50)")
    parser.add_argument("--pooling", default="none,first,second,both")
    parser.add_argument("--width", default="M,S,XS,XXS")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the numbers there, too, as JSON")
    return parser.parse_args()


def main() -> None:
    args = parse()
    machine = environment() | {"threads": set_threads(args.threads)}
    print(f"{machine['processor']}, {machine['threads']} threads, torch {machine['packages']['torch']}")
    with tempfile.TemporaryDirectory() as home:
        measured = measure(Path(home), args)
    print(table(measured, args))
    if args.write:
        options = {key: value for key, value in vars(args).items() if key != "write"}
        facts = {"how": " ".join(__doc__.split()), "machine": machine, "options": options, **measured}
        args.write.write_text(json.dumps(facts, indent=1, default=np.ndarray.tolist) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
