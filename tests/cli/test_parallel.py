"""One run in several processes of torchrun is the run of one process, killed and resumed too, and fails with one sentence."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import parallel_steps
import pytest
import ranks
import torch
from commandline import ROOT, assert_equal_runs, checkpoint_writes, command, distill, environment, result_of
from safetensors.torch import load_file
from torch import nn

from distill.config.ranges import check_train
from distill.models.feature_hooks import attach_hooks, inspect_layers
from distill.runs.config import TrainConfig
from distill.system import distributed as parallel
from distill.system.sync_batch import sync_batch_norm
from students.timm_student import TimmStudent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="torchrun and /proc are of Linux"),
]
JOB = (
    *("data.train=300", "teacher.train.precision=fp32", "student.size=36", "loss=[ce,dist,cc]"),
    *("teacher.cache=features", "teacher.precision=fp32"),
    *("train.precision=fp32", "train.batch_size=37", "optimizer=sgd", "optimizer.lr=0.0002", "optimizer.momentum=0"),
    *("optimizer.nesterov=false", "schedule=plateau", "train.log_every_n_steps=1", "checkpoint.every_steps=3"),
)  # a network without BatchNorm and dropout, whose steps are those of one process up to rounding; Adam would enlarge it


def torchrun(*options, store, runs):
    """Return the words of the tiny job under torchrun."""
    return [sys.executable, "-m", "torch.distributed.run", *options, *command(*JOB, store=store, runs=runs)[1:]]


def worker(job, rank):
    """Return the process id of one of torchrun's processes, once it is there."""
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    wanted = f"RANK={rank}".encode()
    return next(
        (int(pid) for pid in children if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")), None
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two processes that torchrun itself starts."""
    store, runs = (tmp_path_factory.mktemp(name) for name in ("store2", "runs2"))
    words = torchrun("--standalone", "--nproc-per-node=2", store=store, runs=runs)
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run folder:") == 2 and done.stdout.count("epoch   2/2") == 1, "one process prints"
    return store, runs


@pytest.fixture(scope="module")
def one(two, tmp_path_factory):
    """The same by one process, with the teacher that two have trained, so that its answers can be compared to the bit."""
    store, runs = (tmp_path_factory.mktemp(name) for name in ("store1", "runs1"))
    shutil.copytree(two[0] / "teachers", store / "teachers")
    done = distill(*JOB, store=store, runs=runs)
    assert done.returncode == 0, done.stderr
    return store, runs


def lines(runs):
    (path,) = runs.glob("*/metrics.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_alike(ours, theirs, tolerance=5e-5):
    """Compare what two runs logged and measured, up to the rounding of float32 that steps enlarge."""
    assert len(lines(ours)) == len(lines(theirs)) > 16
    for a, b in zip(lines(ours), lines(theirs), strict=True):
        assert a == pytest.approx(b, rel=tolerance, abs=1e-5)
    a, b = (result_of(runs) for runs in (ours, theirs))
    for who in ("teacher", "student"):
        for name, value in b[who]["metrics"].items():
            assert a[who]["metrics"][name] == pytest.approx(value, rel=tolerance, abs=1e-5), name
    assert a["best_epoch"] == b["best_epoch"] and a["steps"] == b["steps"] == 16


def test_torchrun_two_processes_measure_what_one_does(one, two):
    assert_alike(two[1], one[1])
    asked = [result_of(runs)["teacher_forward_images"] for _, runs in (one, two)]
    assert asked == [2 * 300 + 64 + 64] * 2, "two training views, valid and test, each face once"
    (folder,), (other,) = ([path.parent for path in runs.glob("*/result.json")] for _, runs in (one, two))
    assert folder.name == other.name, "a run is not named by how many processes did it"
    assert json.loads((other / "env.json").read_text())["processes"] == 2
    ours, theirs = (load_file(path / "checkpoints" / "best.safetensors") for path in (other, folder))
    assert ours.keys() == theirs.keys()


def test_logit_cache_of_two_processes_equals_that_of_one(one, two):
    ours, theirs = ({path.name: path for path in store.glob("logits/*/*.npy")} for store, _ in (two, one))
    assert ours.keys() == theirs.keys() and len(ours) == 6, "two training views of logits and a layer, valid and test"
    assert all(ours[name].read_bytes() == theirs[name].read_bytes() for name in theirs)
    assert len(np.load(ours["train-view1.npy"])) == 300, "more than one batch, so that both took part"
    assert not list(two[0].rglob("*.tmp"))


def test_run_killed_process_resumes_bit_equal_with_two_and_alike_with_one(one, two, tmp_path):
    killed, alone = tmp_path / "killed", tmp_path / "alone"
    words = torchrun("--standalone", "--nproc-per-node=2", store=two[0], runs=killed)
    job = subprocess.Popen(words, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ready, deadline = checkpoint_writes(killed, 2), time.monotonic() + 200
    while not ready():
        assert job.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(worker(job, 1), signal.SIGKILL)
    assert job.wait(60) == 1, "torchrun ends the others"
    assert not list(killed.glob("*/result.json")), "it was stopped, it did not fail"
    shutil.copytree(killed, alone)
    done = ranks.run(command(*JOB, store=two[0], runs=killed))
    assert done.returncode == 0, done.stderr
    assert result_of(killed)["resumed_at_step"] > 0
    assert_equal_runs(next(killed.iterdir()), next(two[1].iterdir()))
    done = distill(*JOB, store=two[0], runs=alone)
    assert done.returncode == 0 and result_of(alone)["resumed_at_step"] > 0
    assert_alike(alone, two[1])


def test_run_process_killed_alone_ends_the_other_with_an_error(two, tmp_path):
    """Without torchrun, which would end it."""
    runs = tmp_path / "runs"
    job = ranks.start(command(*JOB, store=two[0], runs=runs))
    ready, deadline = checkpoint_writes(runs, 1), time.monotonic() + 200
    while not ready():
        assert job[0].poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    job[1].send_signal(signal.SIGKILL)
    assert ranks.end(job).returncode and job[0].poll() == 1, "the other ends by itself"


def test_run_on_two_machines_measures_what_one_process_does(one, tmp_path):
    """Two agents that share store and runs, as two machines do, and meet by c10d."""
    store, runs = tmp_path / "store", tmp_path / "runs"
    shutil.copytree(one[0] / "teachers", store / "teachers")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        where = f"localhost:{free.getsockname()[1]}"
    meet = ("--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint={where}", "--rdzv-id=x")
    words = torchrun(*meet, store=store, runs=runs)
    files = [open(tmp_path / f"agent{k}", "w+") for k in (0, 1)]  # noqa: SIM115, a full pipe would stop both
    agents = [subprocess.Popen(words, cwd=ROOT, env=environment(), stdout=file, stderr=file) for file in files]
    try:
        ends = [agent.wait(300) for agent in agents]
    finally:
        for agent in agents:
            agent.terminate()
    said = [Path(file.name).read_text() for file in files]
    assert ends == [0, 0], said
    assert "".join(said).count("run folder:") == 2, "one process prints, on one of the two"
    assert_alike(runs, one[1])
    (folder,), (other,) = ([path.parent for path in place.glob("*/result.json")] for place in (runs, one[1]))
    assert folder.name == other.name and json.loads((folder / "env.json").read_text())["processes"] == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("-m", "seed=0,1"), "error: -m: the jobs of a sweep are processes of their own"),
        (("optimizer.lr=1e30", "teacher=none", "loss=[ce]"), "error: loss term 'ce' is nan at step"),
    ],
)
def test_run_error_of_all_processes_is_said_once(words, says, tmp_path):
    done = ranks.run(command("train.precision=fp32", *words, store=tmp_path / "store", runs=tmp_path / "runs"))
    assert done.returncode == 1
    assert done.stderr.count(says) == done.stderr.count("error: ") == 1, done.stderr


def test_check_train_batch_below_the_processes_is_refused(monkeypatch):
    for name, value in zip(parallel.NEEDED, ("0", "0", "4", "4", "localhost", "1"), strict=True):
        monkeypatch.setenv(name, value)
    numbers = TrainConfig(
        epochs=1,
        min_steps=None,
        batch_size=3,
        monitor="valid/nll",
        precision="auto",
        max_grad_norm=None,
        ema_decay=0,
        class_balance_power=0,
        mixup=0,
        log_every_n_steps=1,
        threads=None,
        compile=False,
        device="cpu",
    )
    with pytest.raises(
        ValueError, match=r"^train\.batch_size: expected 4 or more, that of all 4 processes together, got 3"
    ):
        check_train("train", numbers, 1)


def test_own_share_is_contiguous_and_differs_by_one_at_most(monkeypatch):
    monkeypatch.setattr(parallel, "world", lambda: 3)
    assert parallel.shard_sizes(7) == [3, 2, 2] and parallel.shard_sizes(2) == [1, 1, 0]
    places = []
    for rank in range(3):
        monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
        places += range(7)[parallel.local_slice(7)]
    assert places == list(range(7))


def test_run_error_of_one_process_is_said_and_recorded_once(tmp_path):
    (tmp_path / "fail.py").write_text(
        "import os, sys\n"
        "from distill import run\n"
        "from teachers.frozen import FrozenTeacher\n"
        "forward = FrozenTeacher.forward\n"
        "def broken(self, batch):\n"
        "    answer = forward(self, batch)\n"
        "    return answer._replace(logits=answer.logits * float('nan')) if os.environ['RANK'] == '1' else answer\n"
        "FrozenTeacher.forward = broken\n"
        "run.cli()\n"
    )
    words = command("data.train=300", store=tmp_path / "store", runs=tmp_path / "runs")
    done = ranks.run([*words[:2], "fail", *words[3:]], cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("error: teacher: its logits of train view 1 are not all finite") == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert result_of(tmp_path / "runs")["status"] == "failed"


def test_train_step_three_processes_equal_one_in_float64(tmp_path, monkeypatch):
    """But for batch statistics and dropout. parallel_steps.py itself asserts that all three are equal, also after a stop, to the bit."""
    file = tmp_path / "steps.pt"
    done = ranks.run([sys.executable, "-m", parallel_steps.__name__, str(file)], processes=3)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    others = torch.load(file, weights_only=True)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    for case in parallel_steps.CASES:
        found, theirs = parallel_steps.steps(case), others[case]
        assert found.keys() == theirs.keys() and sum("gradient" in name for name in found) > 10, case
        names = found.keys() - {"next random number"}
        other = [name for name in names if not torch.allclose(theirs[name], found[name], rtol=1e-9, atol=1e-10)]
        assert bool(other) == (case in parallel_steps.OTHERS), (case, other)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (
            RuntimeError("[third_party/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer"),
            parallel.PeerLost,
        ),
        (torch.distributed.DistNetworkError("reset"), parallel.PeerLost),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), RuntimeError),
    ],
)
def test_watch_peers_renames_only_the_loss_of_a_process(error, kind):
    with pytest.raises(Exception) as told, parallel.watch_peers():
        raise error
    assert told.type is kind


def test_sync_batch_norm_keeps_names_values_hooks_and_activations():
    student = TimmStudent("test_efficientnet", 8, 32, 1, 0.5, 0.25, False, 0.0).train()
    found = inspect_layers(student)
    attach_hooks(student, [layer for name, layer in found.layers.items() if "bn" in name])
    images, before = torch.rand(4, 1, 32, 32), student.state_dict()
    answer = student(images)
    sync_batch_norm(student)
    kinds = {type(module) for module in student.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}
    assert kinds and all(issubclass(kind, nn.SyncBatchNorm) for kind in kinds)
    again, after = student(images), student.state_dict()
    assert torch.equal(answer.logits, again.logits) and list(before) == list(after)
    assert len(answer.features) > 3 and all(torch.equal(x, again.features[name]) for name, x in answer.features.items())
    assert all(after[name].data_ptr() == value.data_ptr() for name, value in before.items())
