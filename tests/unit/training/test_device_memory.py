"""Where faces, views and a teacher's maps lie changes no batch; nobody waits for a GPU within a step; a pass may be compiled.

What holds of the gathering on a device is seen on the CPU, by the same lines; the last tests are for a machine with a GPU.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from no_waiting import META, NoWaiting, assert_steps_wait_for_nothing
from tiny_training import DATA, frozen, run, train_state

from distill.augment.views import ViewRecipe, render_batch
from distill.data import loader
from distill.data.extra import to_learn_from
from distill.data.loader import DeviceSplit, batches, epoch_order, make_batch, mixup, on_device, resident, to
from distill.losses.base.objective import Objective
from distill.losses.ce import CrossEntropy
from distill.system import hardware
from distill.system.weights import read_weights
from distill.training.batch_loss import BatchLoss
from distill.training.loop import train_step
from distill.training.optim import Constant, optimizer
from distill.training.state import TrainState
from distill.types import InputSpec
from students.cern import Cern
from students.ferlite import FerLite
from students.microexpnet import MicroExpNet
from students.mobilenet_inception import MobileNetInception

CPU, SPLIT = torch.device("cpu"), DATA.splits["train"]
TABLE = ViewRecipe().table(0, 1, len(SPLIT.pixels))
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
STUDENTS = {
    "cern": lambda: Cern(3, 32, 0.25, "max_avg", 0.1, 1, "full", 1.0, False),
    "microexpnet": lambda: MicroExpNet(3, 84, "XXS", "both", 0.5, "xavier", 0.5, 0.25),
    "mobilenet_inception": lambda: MobileNetInception(3, 64, 0.25, "max", "B", 0.1, 0.5, 0.25),
    "ferlite": lambda: FerLite(3, 48, "S", "none", 0.1, 0.5, 0.25),
}


@pytest.fixture
def on_cpu(monkeypatch):
    """All that asks finds that it fits on the device, which is the CPU."""
    monkeypatch.setattr(loader, "fits", lambda size, device: True)


def test_batches_gathered_on_a_device_are_those_of_the_loader_bit_for_bit(monkeypatch):
    monkeypatch.setattr(loader, "ROWS_AT_A_TIME", 7)
    joined = to_learn_from(replace(DATA, extra=DATA.splits["valid"])).splits["train"]
    for split in (SPLIT, joined):
        table, order = ViewRecipe().table(0, 1, len(split.pixels)), epoch_order(3, 2, len(split))
        kept = on_device(split, CPU)
        pairs = list(zip(batches(split, table, 8, order, 2), batches(kept, table, 8, order, 2), strict=True))
        assert len(pairs) == len(split) // 8 - 2
        for step, (one, other) in enumerate(pairs):
            for ours, theirs in zip(mixup(one, 0.4, 1, 2, step), mixup(other, 0.4, 1, 2, step), strict=True):
                assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)


def test_a_batch_from_a_device_is_a_copy():
    kept = on_device(SPLIT, CPU)
    before = [tensor.clone() for tensor in (*kept, TABLE)]
    for tensor in make_batch(kept, TABLE, torch.arange(4)):
        tensor.zero_()
    assert all(torch.equal(one, other) for one, other in zip(before, (*kept, TABLE), strict=True))


def test_a_run_with_its_faces_on_the_device_learns_the_same_and_goes_on_bit_for_bit(tmp_path, on_cpu, capsys):
    run(tmp_path / "device")
    run(tmp_path / "stopped", stop_at=(1, 3))
    run(tmp_path / "stopped")
    assert "train faces: 0.00 GB, kept on the GPU" in capsys.readouterr().out
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "fits", hardware.fits)
        run(tmp_path / "memory")
    assert "kept on the GPU" not in capsys.readouterr().out
    kept = [
        read_weights(tmp_path / name / "checkpoints" / "best.safetensors")[0]
        for name in ("memory", "device", "stopped")
    ]
    for other in kept[1:]:
        assert all(torch.equal(kept[0][name], other[name]) for name in kept[0]) and other.keys() == kept[0].keys()
    lines = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("memory", "device", "stopped")]
    assert len(set(lines)) == 1


def test_faces_stay_in_memory_on_a_cpu_and_where_they_take_more_than_a_quarter_of_what_is_free(monkeypatch):
    assert resident(SPLIT, CPU) is SPLIT
    gpu = SimpleNamespace(type="cuda")
    found = {"mem_get_info": (600, 2000), "memory_reserved": 500, "memory_allocated": 300}
    for name, value in found.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert hardware.fits(200, gpu) and not hardware.fits(201, gpu)


@pytest.mark.parametrize("name", STUDENTS)
def test_a_step_of_a_student_makes_nobody_wait_for_the_device(name, monkeypatch):
    batch, objective = make_batch(SPLIT, TABLE, np.arange(8)), Objective({"ce": CrossEntropy()}, {"ce": 1.0})
    assert_steps_wait_for_nothing(STUDENTS[name](), objective, None, batch, monkeypatch)


def test_the_next_batch_from_a_device_and_its_views_make_nobody_wait():
    split, table = on_device(SPLIT, META), ViewRecipe(autoaugment=True).table(0, 1, len(SPLIT.pixels))
    found = batches(split, table, 8, np.arange(24))
    render_batch(next(found), InputSpec(12))
    with NoWaiting():
        assert render_batch(next(found), InputSpec(12)).is_meta


def test_the_mode_of_these_tests_refuses_what_waits():
    x = torch.ones(3, device=META)
    for waits in (
        lambda: x[x > 0],
        lambda: x.cpu(),
        lambda: x.copy_(torch.ones(3)),
        lambda: torch.ones(1).new_tensor([1.0]),
    ):
        with pytest.raises((AssertionError, NotImplementedError)), NoWaiting():
            waits()
    for waits in (lambda: x.sum().item(), lambda: x.nonzero()):
        with pytest.raises((AssertionError, NotImplementedError, RuntimeError)), NoWaiting():
            waits()


def test_a_compiled_student_learns_what_it_learns_without(monkeypatch):
    compiled = []
    real = torch.compile

    def compile(function):
        compiled.append(function)
        return real(function, backend="aot_eager", fullgraph=True)

    monkeypatch.setattr(torch, "compile", compile)
    batch = make_batch(SPLIT, TABLE, np.arange(16))
    losses = {}
    for wanted in (False, True):
        torch._dynamo.reset()
        torch.manual_seed(0)
        student, objective = STUDENTS["microexpnet"](), Objective({"ce": CrossEntropy()}, {"ce": 1.0})
        steps = optimizer([student], "adamw", 1e-3, 0.1, False)
        made = TrainState(student.train(), objective, steps, Constant(), None, "net", wanted)
        assert made.student.state_dict().keys() == STUDENTS["microexpnet"]().state_dict().keys()
        torch.manual_seed(1)
        losses[wanted] = [float(train_step(batch, None, made, torch.float32)["loss"]) for _ in range(3)]
    assert len(compiled) == 1 and losses[True] == pytest.approx(losses[False], rel=1e-5)


def test_on_a_cpu_a_line_says_that_nothing_is_compiled(capsys):
    assert (
        not hardware.compiles(True, CPU)
        and "train.compile: the steps are not compiled on cpu" in capsys.readouterr().out
    )
    assert not hardware.compiles(False, CPU) and hardware.compiles(True, SimpleNamespace(type="cuda"))
    assert not capsys.readouterr().out


def test_in_bf16_the_student_computes_in_bf16_and_its_losses_in_float32():
    seen = {}
    made = train_state()
    made.student.register_forward_hook(lambda net, given, out: seen.update(student=out.logits.dtype))
    batch = make_batch(SPLIT, TABLE, np.arange(8))
    total, terms = BatchLoss(made.student, made.objective)(batch, frozen(1), torch.bfloat16)
    assert seen["student"] == torch.bfloat16 and {total.dtype, *(x.dtype for x in terms.values())} == {torch.float32}
    total.backward()
    assert {p.grad.dtype for p in made.student.parameters()} == {torch.float32}


@needs_gpu
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("name", STUDENTS)
def test_steps_on_a_gpu_wait_for_nothing(name, kept):
    gpu = torch.device("cuda")
    student = STUDENTS[name]().to(gpu, memory_format=torch.channels_last)
    objective = Objective({"ce": CrossEntropy()}, {"ce": 1.0}).to(gpu)
    steps = optimizer([student], "adamw", 1e-3, 0.1, False)
    made = TrainState(student.train(), objective, steps, Constant(), None, "net")
    split = resident(SPLIT, gpu) if kept else SPLIT
    assert isinstance(split, DeviceSplit) == kept
    terms = []
    for step, batch in enumerate(batches(split, TABLE, 8, np.arange(48))):
        torch.cuda.set_sync_debug_mode("default" if step < 2 else "error")
        mixed = to(mixup(batch, 0.4, 0, 0, step), gpu)
        terms.append(train_step(mixed, None, made, torch.bfloat16, 1.0))
    torch.cuda.set_sync_debug_mode("default")
    assert len(terms) == 6 and all(value["loss"].isfinite() for value in terms)


@needs_gpu
def test_a_compiled_student_learns_the_same_on_a_gpu():
    gpu, losses = torch.device("cuda"), {}
    batch = to(make_batch(SPLIT, TABLE, np.arange(16)), gpu)
    for wanted in (False, True):
        torch.manual_seed(0)
        student, objective = STUDENTS["ferlite"]().to(gpu), Objective({"ce": CrossEntropy()}, {"ce": 1.0}).to(gpu)
        steps = optimizer([student], "adamw", 1e-3, 0.1, False)
        made = TrainState(student.train(), objective, steps, Constant(), None, "net", wanted)
        losses[wanted] = [float(train_step(batch, None, made, torch.float32)["loss"]) for _ in range(3)]
    assert losses[True] == pytest.approx(losses[False], rel=1e-2)
