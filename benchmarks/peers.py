"""A distillation step here, in torchdistill and in timm, side by side: python benchmarks/peers.py [--json docs/peers.json].

alone         fer-distill, labels alone: train_step without a teacher
stored        fer-distill, the teacher's logits read from the store, which one pass over the faces has filled
live          fer-distill, a forward pass of the teacher in every step
torchdistill  torchdistill.core.distillation: DistillationBox with KDLoss and a frozen teacher, as its sample configs have them
timm          timm.task.LogitDistillationTask, as timm's train script calls it
torchdistill comes with pip install -e '.[test]', timm with fer-distill; one that is missing is left out. Neither stores what a
teacher answers, so both ask it in every step. All have one student from one seed, a ResNet-50 at 96 px, the same faces in the same
batches, rendered inside the step by the same function, cross-entropy and Hinton's loss with the same weights and temperature, AdamW,
float32, channels last, no moving average, one thread. A network gets the picture that its owner's loop would give it: ours draws one
for each network; torchdistill and timm hand the student's to the teacher, which enlarges it.

They take turns, and the ratios are those within rounds. Processor time, so that a neighbor on the machine slows nobody: on one thread it
is the time that passes where nothing else runs. The sweep is arithmetic from these steps and the first pass; what whole commands take is
measured by benchmarks/sweep_cost.py.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from itertools import cycle
from pathlib import Path

import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_module
from torch import Tensor, nn

from distill import build
from distill.augment.views import ViewRecipe, render_batch
from distill.config import schema as config
from distill.data.loader import batches, epoch_order
from distill.system.files import write_json
from distill.system.hardware import environment, pick_precision, set_threads, tune_allocator
from distill.training.loop import TrainState, train_step
from distill.types import Batch, Dataset, InputSpec
from teachers.frozen import FrozenTeacher
from teachers.logit_cache import LogitCache
from teachers.output_store import manifest

CPU = torch.device("cpu")
STUDENTS = {"FerLite S": "student=ferlite student.width=S", "MicroExpNet XXS": "student=microexpnet"}
ALPHA, TEMPERATURE, LR, DECAY = 0.9, 4.0, 1e-3, 0.05  # total = ALPHA * cross-entropy + (1 - ALPHA) * T^2 * KL
BASE = (
    *("data=procedural", "data.valid=64", "data.test=64", "teacher=resnet50", "teacher.pretrained=false"),
    *("loss=[ce,kd]", "loss.ce.target=hard", f"loss.ce.weight={ALPHA}", f"loss.kd.weight={1 - ALPHA}"),
    *(f"loss.kd.temperature={TEMPERATURE}", f"optimizer.lr={LR}", f"optimizer.weight_decay={DECAY}", "logger=none"),
)
Step = Callable[[Batch], Tensor]


class TensorNet(nn.Module):
    """One of our networks as other loops call it: a tensor in, logits out.

    Args:
        network: images -> Outputs.
        given: the input that it is shown, which is made its own: resized, and gray to RGB.
    """

    def __init__(self, network: nn.Module, given: InputSpec):
        super().__init__()
        self.network, self.given = network, given
        self.pretrained_cfg = {"mean": given.mean, "std": given.std}  # where timm looks

    def forward(self, images: Tensor) -> Tensor:
        spec = self.network.input
        if spec != self.given:
            if spec.size != self.given.size:
                images = F.interpolate(images, size=spec.size, mode="bilinear")
            mean, std, new_mean, new_std = (
                images.new_tensor(values).view(1, -1, 1, 1)
                for values in (self.given.mean, self.given.std, spec.mean, spec.std)
            )
            images = ((images * std + mean - new_mean) / new_std).expand(-1, spec.channels, -1, -1)
            images = images.contiguous(memory_format=torch.channels_last)
        return self.network(images).logits


def student_of(cfg, data: Dataset) -> nn.Module:
    """Make the student with the weights of its seed, to be trained."""
    return build.network(cfg.student, cfg.plugins, data).to(memory_format=torch.channels_last).train()


def ours(cfg, data: Dataset, losses: tuple[str, ...], teacher) -> Step:
    """Return fer-distill's training step."""
    student = student_of(cfg, data)
    objective = build.objective({name: cfg.loss[name] for name in losses}, cfg.plugins, data)
    objective.bind(student, teacher)
    optimizer = build.optimizer(cfg.optimizer, None, [student, objective])
    train_state = TrainState(student, objective, optimizer, build.make(cfg.schedule, cfg.plugins), None, "")
    return lambda batch: train_step(batch, teacher, train_state, torch.float32)["loss"]


def torchdistill(cfg, data: Dataset, network: nn.Module) -> Step:
    """Return torchdistill's training step."""
    from torchdistill.core.distillation import get_distillation_box

    student = student_of(cfg, data)
    spec, where = student.input, {"student_module_path": ".", "teacher_module_path": "."}
    where |= {"student_module_io": "output", "teacher_module_io": "output"}
    kd = {"key": "KDLoss", "kwargs": where | {"temperature": TEMPERATURE, "alpha": ALPHA, "reduction": "batchmean"}}
    train_config = {
        "num_epochs": 1,
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only", "requires_grad": True},
        "optimizer": {"key": "AdamW", "kwargs": {"lr": LR, "weight_decay": DECAY}},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {"sub_terms": {"kd": {"criterion": kd, "weight": 1.0}}},
        },
    }
    nets = TensorNet(network, spec).eval(), TensorNet(student, spec)
    box = get_distillation_box(*nets, {}, train_config, CPU, None, False, 1)
    box.pre_epoch_process(epoch=0)

    def step(batch: Batch) -> Tensor:
        loss = box.forward_process(render_batch(batch, spec), batch.label, None)
        box.post_forward_process(loss=loss)
        return loss.detach()

    return step


def timm(cfg, data: Dataset, network: nn.Module) -> Step:
    """Return timm's training step."""
    from timm.optim import create_optimizer_v2
    from timm.task import LogitDistillationTask
    from timm.task.distillation import DistillationTeacher

    student = student_of(cfg, data)
    spec = student.input
    task = LogitDistillationTask(
        TensorNet(student, spec),
        DistillationTeacher(TensorNet(network, spec)),
        criterion=nn.CrossEntropyLoss(),
        task_loss_weight=ALPHA,
        temperature=TEMPERATURE,
        verbose=False,
    ).train()
    optimizer = create_optimizer_v2(task.get_trainable_module(), opt="adamw", lr=LR, weight_decay=DECAY)

    def step(batch: Batch) -> Tensor:
        loss = task(render_batch(batch, spec), batch.label)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


PEERS = {"torchdistill": torchdistill, "timm": timm}


def contestants(cfg, data: Dataset, network: nn.Module, stored: LogitCache) -> dict[str, Step]:
    """Return name -> training step, without the peers that are not installed, which are named."""
    live = FrozenTeacher(network, "live", data.classes, torch.float32)
    steps = {
        "alone": ours(cfg, data, ("ce",), None),
        "stored": ours(cfg, data, ("ce", "kd"), stored),
        "live": ours(cfg, data, ("ce", "kd"), live),
    }
    for name, make in PEERS.items():
        try:
            steps[name] = make(cfg, data, network)
        except ImportError as error:
            print(f"{name} is left out: {error}. Install it with pip install -U {name}")
    return steps


def rounds(steps: dict[str, Step], feed: Iterator[Batch], count: int, quick: int) -> dict[str, list[float]]:
    """Return name -> seconds a step, the median within each round: quick steps of what asks no teacher, one of each other.

    Args:
        steps: name -> training step.
        feed: batches, the same one for all that take turns.
        count: rounds; one more comes first, which fills caches.
        quick: pairs of steps, alone and stored, in a round.
    """
    fast = ["alone", "stored"]
    slow = [name for name in steps if name not in fast]
    medians: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(count + 1):
        spent: dict[str, list[float]] = {name: [] for name in steps}
        for number, names in enumerate([fast] * quick + [slow]):
            batch = next(feed)
            for name in names[:: 1 if (turn + number) % 2 else -1]:
                start = time.process_time()
                steps[name](batch)
                spent[name].append(time.process_time() - start)
        for name, seconds in spent.items() if turn else ():
            medians[name].append(statistics.median(seconds))
    return medians


def measure(words: str, args: argparse.Namespace, store: Path) -> dict:
    """Return the seconds a step of each contestant with one student, and the seconds a face of the teacher's first pass."""
    with initialize_config_module("conf", version_base="1.3"):
        chosen = [*BASE, *words.split(), f"data.train={args.faces}", f"paths.store={store}"]
        chosen += [f"teacher.name={args.teacher}", f"teacher.size={args.size}"]
        cfg = config.typed(compose("run", overrides=chosen))
    data, recipe = build.dataset(cfg.data, cfg.paths.store, cfg.plugins), build.augmentation(cfg.augment)
    torch.manual_seed(1)
    network = build.bare_teacher(cfg.teacher, cfg.plugins, data.classes)
    teacher = FrozenTeacher(network, args.teacher, data.classes, torch.float32)
    stored, table, seconds = first_pass(teacher, data, recipe, store / words.replace("=", "-"))
    order = epoch_order(0, 0, len(data.splits["train"]))
    feed = cycle(list(batches(data.splits["train"], table, args.batch_size, order)))
    timed = rounds(contestants(cfg, data, network, stored), feed, args.rounds, args.quick)
    return {"size": student_of(cfg, data).input.size, "first_pass_per_face": seconds / args.faces, "rounds": timed}


def first_pass(teacher: FrozenTeacher, data: Dataset, recipe: ViewRecipe, folder: Path):
    """Store the teacher's logits of all training faces; return them, their view's table, and the seconds.

    Of two views the second is timed and answered: the first one fills caches.
    """
    stored = LogitCache(folder, manifest(data, "", [], recipe, 0, str(torch.float32)), lambda: teacher, data, CPU)
    for view in (1, 2):
        table, start = recipe.table(0, view, len(data.splits["train"].pixels)), time.process_time()
        stored.open("train", view, table)
        seconds = time.process_time() - start
    return stored, table, seconds


def summary(measured: dict, batch_size: int, args: argparse.Namespace) -> dict:
    """Return what the table shows of one student: seconds a step, ratios within rounds, and seconds of a sweep."""
    timed, rows = measured["rounds"], {}
    steps = args.sweep * args.epochs * args.sweep_faces / batch_size
    pass_seconds = min(args.epochs, args.views) * args.sweep_faces * measured["first_pass_per_face"]
    for name, seconds in timed.items():
        step = statistics.median(seconds)
        over = {
            other: statistics.median(mine / reference for mine, reference in zip(seconds, timed[other], strict=True))
            for other in ("alone", "stored")
        }
        sweep = steps * step + (pass_seconds if name == "stored" else 0)
        rows[name] = {"step": step, "over_alone": over["alone"], "over_stored": over["stored"], "sweep": sweep}
    return rows


def main(words: list[str] | None = None) -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", nargs="+", default=list(STUDENTS), choices=list(STUDENTS))
    for name, default, what in (
        ("faces", 256, "synthetic faces that are trained on"),
        ("batch-size", 32, "faces per step"),
        ("rounds", 15, "of which the medians count"),
        ("quick", 20, "steps without a teacher per round"),
        ("size", 96, "side of the teacher's picture in pixels"),
        ("sweep", 16, "students of the sweep"),
        ("epochs", 32, "of each of them"),
        ("views", 8, "different views of each face, which the first pass stores"),
        ("sweep-faces", 10_000, "faces that they are trained on"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what} ({default})")
    parser.add_argument("--teacher", default="resnet50", help="any timm name (resnet50)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all numbers, too")
    args = parser.parse_args(words)
    tune_allocator()
    set_threads(1)
    facts = environment() | {"default_precision": str(pick_precision("auto", CPU)).removeprefix("torch.")}
    with suppress(PackageNotFoundError):
        facts["packages"]["torchdistill"] = version("torchdistill")
    print(f"{facts['processor']}, {facts['threads']} thread, torch {facts['packages']['torch']}")
    students = {}
    with tempfile.TemporaryDirectory() as store:
        for name in args.students:
            measured = measure(STUDENTS[name], args, Path(store))
            students[name] = measured | {"contestants": summary(measured, args.batch_size, args)}
            for who, row in students[name]["contestants"].items():
                ratios = f"{row['over_alone']:7.3f} of alone {row['over_stored']:7.2f} of stored"
                print(f"{name} {who:>12} {1e3 * row['step']:9.2f} ms {ratios}  sweep {row['sweep'] / 3600:6.2f} h")
    if args.json:
        options = {key: value for key, value in vars(args).items() if key != "json"}
        write_json(
            args.json, {"how": " ".join(__doc__.split()), "machine": facts, "options": options, "students": students}
        )


if __name__ == "__main__":
    main()
