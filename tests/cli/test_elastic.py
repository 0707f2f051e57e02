"""Elastic width: what is cut is what learned, and which widths a step teaches its number decides."""

import numpy as np
import pytest
import torch
from tiny_training import split
from torch import nn

from distill.augment.views import ViewRecipe
from distill.losses.base.objective import Objective
from distill.losses.ce import CrossEntropy
from distill.models.elastic import Sandwich, cut, feature
from distill.pipeline.elastic import InPlace, estimate_batch_norm
from distill.runs.config import AugmentConfig
from distill.system.errors import ConfigError
from distill.system.sync_batch import sync_batch_norm
from students.ferlite import FerLite

WIDTHS = [0.5, 1.0, 0.875, 0.75, 0.25]


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
    with pytest.raises(ConfigError) as error:
        make(width)
    assert error.value.key == "student.width"


def test_layers_of_narrower_widths_are_exchanged_for_several_processes(learned):
    network = make()
    network.load_state_dict(learned.state_dict())
    sync_batch_norm(network)
    norms = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    assert norms and all(isinstance(layer, nn.SyncBatchNorm) for layer in norms)
    assert network.state_dict().keys() == learned.state_dict().keys()
    assert len(list(network.parameters())) == len(list(learned.parameters()))


# The step


def test_elastic_step_trains_the_widest_the_narrowest_the_first_and_some_by_the_step_s_number():
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


@pytest.mark.parametrize(("key", "value"), [("random", -1), ("labels", 1.1), ("labels", -0.1)])
def test_a_number_that_cannot_be_is_refused_by_its_key(key, value):
    with pytest.raises(ValueError, match=rf"loss\.inplace\.{key}: expected .*, got {value}\.$"):
        InPlace(WIDTHS, **{key: value})


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
    answers = {name: z.detach().log_softmax(1) for name, z in narrow.items()}
    by_hand = sum(0.5 * (t * (t.log() - z)).sum(1) - 0.5 * (target * z).sum(1) for z in answers.values())
    assert torch.allclose(loss, by_hand, atol=1e-6) and terms["inplace"] == pytest.approx(float(by_hand.mean()))


def test_about_a_face_without_a_label_the_widest_says_all():
    network = make()
    loss = taught(network).losses["inplace"]
    outputs, target = network.train()(faces(4)), torch.eye(3)[[0, 1, 2, 0]] * torch.tensor([[1.0], [0], [1], [0]])
    both = []
    for loss.labels in (0.5, 0.0):
        loss.sandwich.step = 0
        both.append(loss(outputs, None, target))
    assert torch.equal(both[0][1::2], both[1][1::2]) and not torch.isclose(both[0][::2], both[1][::2]).any()


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
    augment, train = AugmentConfig(seed=0, num_views=0, **vars(ViewRecipe())), split("train", 500, 600)
    estimate_batch_norm(network, augment, 0, train, torch.float32)
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and all(
        name.rsplit(".", 1)[1] in ("running_mean", "running_var", "num_batches_tracked") for name in changed
    )
    assert all(
        layer.momentum == 0.1 and not layer.training for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)
    )
    once = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    estimate_batch_norm(network, augment, 0, train, torch.float32)
    assert all(torch.equal(tensor, once[name]) for name, tensor in network.state_dict().items())
