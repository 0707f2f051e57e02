"""Jobs of a sweep at the same time: several on one machine, on SLURM, on Ray; and the teacher is prepared once for all of them."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import inside
import pytest
import yaml
from commandline import ROOT, command, environment
from hydra import compose, initialize_config_module
from slurm_stand_in import install

from distill.config.overrides import compose_jobs
from distill.sweep.executors import LocalExecutor, cores
from distill.sweep.multirun import executor_of
from distill.system import processes
from distill.system.processes import run_process

ALONE = ("teacher=none", "loss=[ce]", "data.train=64", "data.valid=32", "data.test=32", "student.size=36")


def run(words: list[str], env: dict, timeout: float = 300) -> subprocess.CompletedProcess:
    return subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout)


def unset(*names: str) -> dict:
    return {key: value for key, value in environment().items() if key not in names}


@pytest.mark.parametrize("name, target", [("joblib", "JoblibLauncher"), ("slurm", "SlurmLauncher")])
def test_a_launcher_is_chosen_by_a_word_and_says_its_command(name, target):
    with initialize_config_module("conf", version_base="1.3"):
        cfg = compose("run", overrides=[f"launcher={name}"], return_hydra_config=True)
    assert cfg.hydra.launcher._target_.endswith(target)
    said = (ROOT / "conf" / "launcher" / f"{name}.yaml").read_text()
    assert f"python -m distill.run -m launcher={name}" in said


def test_a_launcher_of_one_job_is_refused(tmp_path):
    with pytest.raises(
        SystemExit, match=r"^error: launcher=joblib: starts the jobs of a sweep, .* Type -m, too, or leave"
    ):
        inside.job("launcher=joblib", store=tmp_path, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_ray_has_its_options_in_a_file_and_others_are_refused(tmp_path):
    said = (ROOT / "conf" / "launcher" / "ray.yaml").read_text()
    assert "python -m distill.sweep launcher=ray" in said and set(yaml.safe_load(said)) == {
        "address",
        "num_cpus",
        "num_gpus",
    }
    with pytest.raises(ValueError, match=r"launcher\.cpus: no such key\. Did you mean launcher\.num_cpus"):
        compose_jobs([[]], ["launcher=ray", "launcher.cpus=2"], [], tmp_path)
    for number in (0, -1, "two"):
        _, launcher = compose_jobs([[]], ["launcher=ray", f"launcher.num_cpus={number}"], [], tmp_path)
        with pytest.raises(ValueError, match=rf"launcher\.num_cpus: expected 1 or more.*, got {number}\."):
            executor_of(launcher, 1)


SLEEPS = "import os, pathlib, time; pathlib.Path('pid').write_text(f'{os.getpid()}\\n'); time.sleep(60)"
POOL = f"""
from pathlib import Path
from distill.sweep.executors import LocalExecutor
LocalExecutor(1, lambda words: exec({SLEEPS!r})).start([], Path.cwd())
import time; time.sleep(60)
"""


def test_a_job_dies_with_the_sweep_that_is_killed(tmp_path):
    env = environment() | {"PYTHONPATH": str(ROOT)}
    sweep = subprocess.Popen([sys.executable, "-c", POOL], cwd=tmp_path, env=env)
    job = pid_of(tmp_path, sweep)
    assert is_alive(job)
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.wait()
    deadline = time.monotonic() + 10
    while is_alive(job):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_job_that_does_not_end_when_it_is_asked_to_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "GRACE_PERIOD_S", 0.3)
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPS}"
    for words, number in ((deaf, signal.SIGKILL), (SLEEPS, signal.SIGTERM)):
        (tmp_path / "pid").unlink(missing_ok=True)
        with ThreadPoolExecutor(1) as pool:
            code = pool.submit(run_process, [sys.executable, "-c", words], str(tmp_path), str(tmp_path), {})
            job = pid_of(tmp_path)
            (tmp_path / processes.STOP).touch()
            assert code.result(20) == -number and not is_alive(job)


RAY_POOL = f"""
import sys, time
from pathlib import Path
from distill.sweep import executors as pools
from distill.sweep.executors import STOP, RayExecutor
pools._job = lambda words, job_dir, threads: ([sys.executable, "-c", {SLEEPS!r}], str(job_dir), str(job_dir), {{}})
pool, place = RayExecutor("local", 1, 0), Path.cwd()
pool.start([], place)
while not (place / "pid").exists():
    time.sleep(0.1)
(place / STOP).touch()
pool.close()
"""


@pytest.mark.slow
def test_a_ray_cluster_is_left_when_its_jobs_have_ended(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RAY_POOL], cwd=tmp_path, env=environment() | {"PYTHONPATH": str(ROOT)}, timeout=120
    )
    assert done.returncode == 0 and not is_alive(pid_of(tmp_path))


def pid_of(folder: Path, process: subprocess.Popen | None = None) -> int:
    """Return the number of the job that sleeps, once it does."""
    deadline = time.monotonic() + 60
    while not ((folder / "pid").exists() and (folder / "pid").read_text().endswith("\n")):
        assert time.monotonic() < deadline and (process is None or not process.poll())
        time.sleep(0.01)
    return int((folder / "pid").read_text())


def is_alive(pid: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_cores_are_shared_out_among_the_jobs_of_a_machine(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert LocalExecutor(1, list).threads == cores() and LocalExecutor(4 * cores(), list).threads == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert LocalExecutor(1, list).threads == "3"


@pytest.mark.slow
def test_joblib_two_jobs_at_a_time_share_the_cores_and_one_fine_tuning_of_their_teacher(tmp_path):
    words = ("-m", "launcher=joblib", "hydra.launcher.n_jobs=2", "data.train=64", "data.valid=32", "data.test=32")
    words += ("student.size=36", "train.epochs=1", "augment.num_views=1", "seed=0,1")
    asked = command(*words, store=tmp_path / "store", runs=tmp_path / "runs")
    done = run(asked, unset("OMP_NUM_THREADS"))
    assert done.returncode == 0, done.stdout + done.stderr
    results = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/result.json")]
    assert [result["status"] for result in results] == ["complete", "complete"]
    (teacher,) = (tmp_path / "store" / "teachers").glob("*/metrics.jsonl")
    epochs = [line for line in teacher.read_text().splitlines() if "valid/top1_accuracy" in line]
    assert len(epochs) == 1  # fine-tuned once, by one of them
    assert sum(result["teacher_forward_images"] for result in results) == 64 + 32 + 32  # and asked once
    threads = {json.loads(path.read_text())["threads"] for path in (tmp_path / "runs").glob("*/env.json")}
    assert threads == {max(cores() // 2, 1)}
    logs = [path.read_text() for path in (tmp_path / "runs").glob("sweeps/*/jobs/*/log.txt")]
    assert len(logs) == 2 and all("epoch   1/1" in log for log in logs) and "epoch   1/1" not in done.stdout


@pytest.mark.slow
def test_a_preempted_slurm_job_is_queued_again_and_goes_on_from_its_checkpoint(tmp_path):
    scripts = install(tmp_path / "slurm", sys.executable)
    words = ("-m", "launcher=slurm", "hydra.launcher.partition=short", *ALONE, "train.epochs=16", "seed=0,1")
    words += ("train.batch_size=16", "checkpoint.every_steps=1")
    asked = command(*words, store=tmp_path / "store", runs=tmp_path / "runs")
    env = environment() | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    sweep = subprocess.Popen(asked, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    pids = scripts / "4242_0.pids"
    until(lambda: pids.exists() and pids.read_text().strip(), sweep)
    until(lambda: first_checkpoint(tmp_path), sweep)
    os.kill(int(pids.read_text().split()[0]), signal.SIGUSR2)  # what SLURM sends before it takes a node away
    said = sweep.communicate(timeout=200)[0]
    assert sweep.returncode == 0, said
    assert len(pids.read_text().split()) == 2 and len((scripts / "4242_1.pids").read_text().split()) == 1
    script = (scripts / "4242.sh").read_text()
    for option in ("--partition=short", "--array=0-1%2", "--requeue", "--signal=USR2@120", "--cpus-per-task=4"):
        assert option in script
    jobs = [json.loads(line) for line in next(tmp_path.glob("runs/sweeps/*/jobs.jsonl")).read_text().splitlines()]
    assert [job["status"] for job in jobs] == ["complete", "complete"]
    results = [json.loads((Path(job["folder"]) / "result.json").read_text()) for job in jobs]
    assert results[0]["resumed_at_step"] > 0 and results[1]["resumed_at_step"] == 0


def first_checkpoint(folder: Path) -> bool:
    """Say whether job 0 has saved a checkpoint."""
    for path in folder.glob("runs/sweeps/*/jobs/0/job.json"):
        said = json.loads(path.read_text())
        return "folder" in said and (Path(said["folder"]) / "checkpoints" / "last.pt").exists()
    return False


def until(ready, process: subprocess.Popen, seconds: float = 150) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.05)


@pytest.mark.slow
def test_jobs_on_a_ray_cluster_end_in_the_same_sweep_folder_and_a_failed_one_is_not_repeated(tmp_path):
    words = (*ALONE, "student=microexpnet", "train.epochs=1", "train.batch_size=32", "logger=none")
    where = (f"paths.store={tmp_path / 'store'}", f"paths.runs={tmp_path / 'runs'}")
    ray = ("launcher=ray", "launcher.num_cpus=1")
    asked = [sys.executable, "-m", "distill.sweep", *ray, *words, "student.pooling=both,third", *where]
    done = run(asked, unset("OMP_NUM_THREADS"))
    assert done.returncode == 1 and "2 jobs: 1 complete, 1 failed" in done.stdout, done.stdout + done.stderr
    (sweep,) = (tmp_path / "runs" / "sweeps").iterdir()
    assert (sweep / "pooling=both" / "result.json").is_file()
    log = (sweep / "jobs" / "1" / "log.txt").read_text()
    assert log.count("got 'third'") == 1
    assert json.loads((sweep / "pooling=both" / "env.json").read_text())["threads"] == 1
