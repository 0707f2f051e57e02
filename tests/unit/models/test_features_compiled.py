"""Feature maps and their gradients survive torch.compile."""

import pytest
import torch
from mapped_nets import features, micro, pictures, teacher, timm_net

from distill.losses.base.objective import Objective
from distill.losses.hint import Hint


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
