"""Feature maps and their gradients survive torch.compile and several processes."""

import os

import pytest
import torch
import torch.multiprocessing
from mapped_nets import features, micro, pictures, teacher, timm_net
from torch.nn.parallel import DistributedDataParallel

from distill.losses.base.objective import Objective
from distill.losses.hint import Hint
from distill.types import Outputs


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize(
    "make, names", [(micro, ("conv1", "conv2:in", "embedding")), (timm_net, ("bn1", "act1:in", "layer3"))]
)
def test_maps_survive_compilation_as_one_graph(make, names, backend):
    network = make().eval()
    features(network, *names)
    torch._dynamo.reset()
    compiled = torch.compile(network, backend=backend, fullgraph=True)
    with torch.no_grad():
        for seed in (1, 2):
            x = pictures(network, seed=seed)
            ours, theirs = compiled(x), network(x)
            assert ours.features.keys() == theirs.features.keys() and len(ours.features) == len(names)
            for name, value in theirs.features.items():
                assert torch.allclose(ours.features[name], value, atol=1e-5), name
            assert torch.allclose(ours.logits, theirs.logits, atol=1e-5)


def test_gradients_of_maps_pass_through_a_compiled_student():
    student, taught_by = micro(), teacher()
    objective = Objective({"hint": Hint(normalize=False)}, {"hint": 1.0})
    objective.bind(student, taught_by)
    torch._dynamo.reset()
    gradients = []
    for network in (student, torch.compile(student, backend="aot_eager", fullgraph=True)):
        student.zero_grad()
        objective(network(pictures(student)), answers(taught_by), None)[0].backward()
        gradients.append(student.conv1.weight.grad.clone())
    assert gradients[0].abs().max() > 0 and torch.allclose(*gradients, atol=1e-6)


def answers(taught_by, rows=3):
    """What a frozen teacher answers to pictures, without a data set."""
    with torch.no_grad():
        return taught_by.network(pictures(taught_by.network, rows))


def bound():
    """A student and an objective with a regressor, the same in every process."""
    student, taught_by = micro(), teacher()
    objective = Objective({"hint": Hint(normalize=False)}, {"hint": 1.0})
    torch.manual_seed(3)
    objective.bind(student, taught_by)
    return student, objective, answers(taught_by, 4)


def part(outputs, rows):
    return Outputs(outputs.logits[rows], outputs.heads[rows], {name: x[rows] for name, x in outputs.features.items()})


def work(rank, folder):
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    student, objective, taught = bound()
    rows = slice(2 * rank, 2 * rank + 2)
    student, objective = (
        DistributedDataParallel(student, find_unused_parameters=True),
        DistributedDataParallel(objective),
    )
    objective(student(pictures(student.module, 4)[rows]), part(taught, rows), None)[0].backward()
    named = {**dict(student.module.named_parameters()), **dict(objective.module.named_parameters())}
    torch.save({name: p.grad for name, p in named.items() if p.grad is not None}, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_share_the_gradients_of_student_and_regressors_as_one_process_has_them(tmp_path):
    torch.multiprocessing.start_processes(work, (tmp_path,), nprocs=2, start_method="spawn")
    student, objective, taught = bound()
    objective(student(pictures(student, 4)), taught, None)[0].backward()
    alone = {
        name: p.grad for name, p in [*student.named_parameters(), *objective.named_parameters()] if p.grad is not None
    }
    assert any("regressors" in name for name in alone) and "conv1.weight" in alone
    for rank in (0, 1):
        shared = torch.load(tmp_path / f"{rank}.pt")
        for name, gradient in alone.items():
            assert gradient.abs().max() > 0 and torch.allclose(shared[name], gradient, atol=1e-6), name
