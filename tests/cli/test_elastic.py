"""Elastic width: one training, a student of each width; what is cut is what learned, whatever the run was stopped by."""

import json

import numpy as np
import pytest
import torch
import yaml
from exported import export
from inside import folder_of, job, read
from tiny_training import DATA, split
from torch import nn

from distill.augment.views import ViewRecipe
from distill.config.overrides import composed_job
from distill.evaluation.inference import read_predictions
from distill.export import __main__ as command_line
from distill.export import load
from distill.export import parity as gate
from distill.losses.base.objective import Objective
from distill.losses.ce import CrossEntropy
from distill.measure import measure
from distill.models.elastic import Sandwich, cut, feature
from distill.pipeline.elastic import InPlace, estimate_batch_norm
from distill.predict.student import load as load_student
from distill.report.aggregate import aggregate_runs
from distill.run import prepare_config
from distill.runs.reading import find
from distill.system.sync_batch import sync_batch_norm
from students.ferlite import FerLite

WIDTHS = [0.5, 1.0, 0.875, 0.75, 0.25]
OF_RUN = [0.5, 1, 0.75]
WORDS = (
    "student=ferlite",
    "student.width=[0.5,1,0.75]",
    "teacher=none",
    "loss=[ce]",
    "train.epochs=2",
    "student.size=40",
)


def make(width=WIDTHS, dropout=0.0, size=16):
    torch.manual_seed(0)
    return FerLite(3, size, width, "none", dropout, mean=0.5, std=0.25)


def taught(network, random=1):
    """Return the objective of an elastic network."""
    objective = Objective({"ce": CrossEntropy(), "inplace": InPlace(WIDTHS, random)}, {"ce": 1.0, "inplace": 1.0})
    objective.check(network, 3)
    objective.bind(network, None)
    return objective


def faces(count=8, seed=1):
    return torch.randn(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


def steps(network, objective, optimizer, first, last):
    """Do some steps; return which widths learned in each."""
    learned = []
    for step in range(first, last):
        outputs = network.train()(faces(seed=step))
        learned.append(sorted(outputs.features))
        total, _ = objective(outputs, None, torch.eye(3)[torch.arange(8) % 3])
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    return learned


@pytest.fixture(scope="module")
def learned():
    """An elastic network after some steps in which every width had its turn."""
    network = make()
    steps(network, taught(network), torch.optim.SGD(network.parameters(), lr=0.05), 0, 12)
    with torch.no_grad():
        for parameter in network.parameters():  # a few steps leave the logits of all faces nearly equal
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    return network.eval()


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("elastic")
    printed = job(*WORDS, store=home / "store", runs=home / "runs")
    return folder_of(home / "runs"), printed


# The network


@pytest.mark.parametrize("width", WIDTHS)
def test_a_cut_network_is_the_plain_one_of_its_width_and_answers_as_that_slice_did(learned, width):
    plain, own = make(width), cut(learned, width)
    assert type(own) is FerLite and not hasattr(own, "widths") and not own.training
    shapes = {name: tensor.shape for name, tensor in plain.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in own.state_dict().items()}
    plain.load_state_dict(own.state_dict())
    first = make([width, *(w for w in WIDTHS if w != width)])  # which answers as its first width
    first.load_state_dict(learned.state_dict())
    with torch.no_grad():
        answers = [network.eval()(faces()).logits for network in (own, plain, first)]
    assert answers[0].std(0).min() > 0.01
    assert all(torch.allclose(answers[0], other, rtol=1e-5, atol=1e-5) for other in answers[1:])
    for name, tensor in own.named_parameters():
        assert torch.equal(tensor, learned.get_parameter(name)[tuple(map(slice, tensor.shape))])


def test_a_cut_network_has_tensors_of_its_own(learned):
    before = {name: tensor.clone() for name, tensor in learned.state_dict().items()}
    with torch.no_grad():
        for tensor in cut(learned, 1.0).state_dict().values():
            tensor.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in learned.state_dict().items())


def test_narrower_widths_have_statistics_of_their_own_and_no_weight(learned):
    plain = make(1.0)
    assert [p.shape for p in learned.parameters()] == [p.shape for p in plain.parameters()]
    statistics = [cut(learned, width).head[0][1].running_mean[:8] for width in WIDTHS]
    assert all(mean.abs().sum() > 0 for mean in statistics) and not torch.equal(statistics[0], statistics[1])


@pytest.mark.parametrize("width", [*WIDTHS, "S", "M", *FerLite.ELASTIC])
def test_channels_are_multiples_of_eight(width):
    convolutions = [layer for layer in make(width).modules() if isinstance(layer, nn.Conv2d)]
    assert convolutions and all(layer.out_channels % 8 == 0 for layer in convolutions)


def test_elastic_is_a_list_of_widths():
    assert make("elastic").widths == FerLite.ELASTIC


@pytest.mark.parametrize("width", [[1.0], [], ["S", "M"], [1.0, 0.99], [1.0, 1.0], [1.0, 0], [1.0, True]])
def test_widths_that_are_no_front_are_refused(width):
    with pytest.raises(ValueError, match=r"student\.width"):
        make(width)


def test_layers_of_narrower_widths_are_exchanged_for_several_processes(learned):
    network = make()
    network.load_state_dict(learned.state_dict())
    sync_batch_norm(network)
    norms = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    assert norms and all(isinstance(layer, nn.SyncBatchNorm) for layer in norms)
    assert network.state_dict().keys() == learned.state_dict().keys()
    assert len(list(network.parameters())) == len(list(learned.parameters()))


# The step


def test_every_step_trains_the_widest_the_narrowest_the_first_and_some_by_the_step_s_number():
    sandwich = Sandwich([1.0, 0.875, 0.75, 0.5, 0.25])
    assert sandwich.drawn() == ()  # until a loss listens
    turns = []
    for step in range(40):
        sandwich.step = step
        always, *rest = sandwich.drawn()
        assert always == 0.25 and len(rest) == 1
        turns += rest
        assert sandwich.drawn() == (always, *rest)
    assert set(turns) == {0.875, 0.75, 0.5}
    sandwich.random = 2
    assert len(set(sandwich.drawn())) == 3


def test_less_than_no_random_width_is_refused():
    with pytest.raises(ValueError, match=r"loss\.inplace\.random: -1"):
        InPlace(WIDTHS, -1)


def test_a_student_of_one_width_cannot_be_taught_in_place():
    with pytest.raises(ValueError, match=r"loss\.inplace: comes with student\.width=elastic"):
        taught(make(1.0))


def test_chance_elsewhere_changes_no_width_and_is_not_changed():
    runs = []
    for seed in (1, 2):
        network = make()
        objective, optimizer = taught(network), torch.optim.SGD(network.parameters(), lr=0.01)
        torch.manual_seed(seed)
        np.random.seed(seed)
        before = torch.get_rng_state()
        runs.append(steps(network, objective, optimizer, 0, 6))
        assert torch.equal(before, torch.get_rng_state())
    assert runs[0] == runs[1] and len({str(names) for names in runs[0]}) > 1


def test_the_widest_learns_by_the_losses_and_teaches_the_others_without_learning_from_them():
    network = make()
    objective, target = taught(network), torch.eye(3)[torch.arange(8) % 3]
    outputs = network.train()(faces())
    assert len(outputs.features) == 3 and {feature(0.5), feature(0.25)} < set(outputs.features)
    wide = outputs.logits.detach().clone().requires_grad_()
    narrow = {name: z.detach().clone().requires_grad_() for name, z in outputs.features.items()}
    _, terms = objective(outputs._replace(logits=wide, heads=wide[:, None], features=narrow), None, target)
    objective.losses["inplace"].sandwich.step = 0
    loss = objective.losses["inplace"](outputs._replace(logits=wide, features=narrow), None, target)
    loss.sum().backward()
    assert wide.grad is None and all(z.grad.abs().sum() > 0 for z in narrow.values())
    t = wide.detach().softmax(1)
    by_hand = sum((t * (t.log() - z.detach().log_softmax(1))).sum(1) for z in narrow.values())
    assert torch.allclose(loss, by_hand, atol=1e-6) and terms["inplace"] == pytest.approx(float(by_hand.mean()))


def test_a_training_that_goes_on_from_its_states_is_bit_for_bit_that_which_was_not_stopped():
    def start():
        network = make(dropout=0.1)
        return network, taught(network, random=1), torch.optim.AdamW(network.parameters(), lr=1e-3)

    torch.manual_seed(7)
    whole = start()
    names = steps(*whole, 0, 8)
    torch.manual_seed(7)
    half = start()
    steps(*half, 0, 3)
    kept, chance = [part.state_dict() for part in half], torch.get_rng_state()
    again = start()
    for part, state in zip(again, kept, strict=True):
        part.load_state_dict(state)
    torch.set_rng_state(chance)
    assert steps(*again, 3, 8) == names[3:]
    ours, theirs = again[0].state_dict(), whole[0].state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_batch_norm_is_estimated_on_training_faces_and_nothing_else_is_changed(learned):
    network = cut(learned, 0.25)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    cfg = {"views": {"seed": 0, "cached": 0} | vars(ViewRecipe()), "seed": 0}
    data = DATA.__class__("tiny", DATA.classes, "all", {"train": split("train", 500, 600)})
    estimate_batch_norm(network, cfg, data, torch.float32)
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and all(
        name.rsplit(".", 1)[1] in ("running_mean", "running_var", "num_batches_tracked") for name in changed
    )
    assert all(
        layer.momentum == 0.1 and not layer.training for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)
    )
    once = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    estimate_batch_norm(network, cfg, data, torch.float32)
    assert all(torch.equal(tensor, once[name]) for name, tensor in network.state_dict().items())


# The run


def test_a_run_s_result_shows_the_front(run_folder):
    folder, printed = run_folder
    result = read(folder)
    rows = result["widths"]
    assert [row["width"] for row in rows] == OF_RUN
    assert rows[0]["valid/top1_accuracy"] == result["student"]["metrics"]["valid/top1_accuracy"]
    assert sorted(row["num_parameters"] for row in rows) == [
        row["num_parameters"] for row in sorted(rows, key=lambda r: r["width"])
    ]
    assert result["student"]["num_parameters"] == rows[0]["num_parameters"] < rows[1]["num_parameters"]
    for row in rows[1:]:
        own = read(folder / f"width-{row['width']:g}")
        assert own["student"]["metrics"]["test/nll"] == row["test/nll"] and own["best_epoch"] == result["best_epoch"]
        assert f"{row['num_parameters']:,}" in printed
    assert "the epoch was chosen by width 0.5" in printed
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    best = max(line["valid/top1_accuracy"] for line in lines if "valid/top1_accuracy" in line)
    assert rows[0]["valid/top1_accuracy"] == pytest.approx(best)
    assert all(line["train/inplace"] > 0 for line in lines if "train/ce" in line)


def test_the_report_has_a_row_for_each_width(run_folder):
    found = aggregate_runs(find([run_folder[0].parent]))
    assert len(found.configurations) == 3 and not found.left_out
    assert len({c.label for c in found.configurations}) == 3


def test_the_same_command_again_does_nothing(run_folder, tmp_path):
    folder = run_folder[0]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    printed = job(*WORDS, store=folder.parents[1] / "store", runs=folder.parent)
    assert "is complete; nothing to do" in printed and "chosen by width 0.5" in printed
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}


@pytest.fixture(scope="module")
def exports(run_folder):
    """Export two widths; two epochs teach too little for the gate of int8, which has tests of its own."""
    folder = run_folder[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command_line, "loud_warnings", lambda: None)
        patch.setattr(gate, "MOST_LOST", 1.0)
        patch.setattr(gate, "DRIFT", 1.0)
        command_line.main([str(folder), "--width", "0.75"])
        command_line.main([str(folder)])
    return folder / "width-0.75", folder


def test_an_exported_width_passes_the_gate_and_answers_as_the_run_measured(exports):
    for folder, width in zip(exports, (0.75, 0.5), strict=True):
        parity = json.loads((folder / "export" / "parity.json").read_text())
        assert not parity["refused"] and parity["files"]["student.onnx"]["agreement"] == 1
        student = load(folder / "export")
        assert student.state_dict().keys() == make(width).state_dict().keys()
        config = json.loads((folder / "export" / "config.json").read_text())
        assert config["fer_distill"]["network"]["width"] == width
        probabilities, _, _ = read_predictions(folder / "predictions" / "valid.csv", student.classes)
        accuracy = json.loads(parity["facts"]["valid_top1_accuracy"])
        assert accuracy == pytest.approx(read(folder)["student"]["metrics"]["valid/top1_accuracy"], abs=0.04)
        assert probabilities.shape == (32, 8)


def test_the_card_says_what_it_was_cut_from(exports):
    cut_card, first_card = ((folder / "export" / "model-card.md").read_text() for folder in exports)
    assert (
        "Width: 0.75, cut from a network of the widths" in cut_card and "estimated anew on training faces" in cut_card
    )
    assert "Width: 0.5, cut from a network" in first_card and "are those of training" in first_card


def test_predict_and_measure_take_a_cut_student_as_any_other(exports):
    student = load_student(exports[0], threads=1)
    assert student.predict(np.zeros((48, 48), np.uint8)).shape == (8,)
    for folder in exports:
        result, _ = measure(folder, ["train.precision=fp32"])
        assert result["test"]["top1_accuracy"] == read(folder)["student"]["metrics"]["test/top1_accuracy"]


def test_a_width_that_was_not_trained_is_refused_with_those_that_were(run_folder, capsys):
    _, said = export(capsys, run_folder[0], "--width", "0.6")
    assert "has no student of width 0.6. There are 0.5, 1, 0.75." in said
    _, said = export(capsys, run_folder[0] / "width-1", "--width", "0.5")
    assert "It is a run of one width." in said


# What it goes with


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("loss=[ce,at]", "teacher=resnet50"), r"loss\.at: reads feature maps, and a student of several widths"),
        (("loss=[ce,simkd]", "teacher=resnet50"), r"loss\.simkd: .* a student of several widths"),
        (("teacher=peer", "loss=[ce,dml]"), "teacher: a peer learns beside one network"),
        (("student=cern",), r"student\.width"),
        (("+loss.inplace.random=x",), r"loss\.inplace\.random: 'x'"),
        (("student.width=[1]",), r"student\.width: \[1\] was asked for"),
    ],
)
def test_what_does_not_go_with_several_widths_gets_a_sentence(words, sentence, tmp_path):
    first = ("student=ferlite", "student.width=[1,0.5]", "loss=[ce]", "logger=none", f"paths.runs={tmp_path}")
    with pytest.raises(ValueError, match=sentence):
        prepare_config(*composed_job([*first, *words]))
    assert not list(tmp_path.iterdir())


def test_losses_on_logits_go_with_several_widths_and_phases_keep_teaching_them(tmp_path):
    words = (
        "student=ferlite",
        "student.width=elastic",
        "teacher=resnet50",
        "loss=[ce,kd,dist]",
        "+loss.inplace.random=2",
    )
    phases = "phases=[{epochs:4,loss:[ce]},{epochs:4,loss:[kd,dist]}]"
    cfg, _ = prepare_config(*composed_job([*words, phases, "train.epochs=8", f"paths.runs={tmp_path}"]))
    assert cfg["loss"]["inplace"]["widths"] == list(FerLite.ELASTIC) == cfg["student"]["width"]
    assert cfg["loss"]["inplace"]["random"] == 2
    assert [phase["loss"] for phase in cfg["phases"]] == [["ce", "inplace"], ["kd", "dist", "inplace"]]


def test_a_loss_that_is_left_alone_has_weight_one_beside_in_place(run_folder):
    loss = yaml.safe_load((run_folder[0] / "config.yaml").read_text())["loss"]
    assert {name: node["weight"] for name, node in loss.items()} == {"ce": 1.0, "inplace": 1.0}
