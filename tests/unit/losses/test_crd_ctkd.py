"""CRD remembers pictures bit by bit through a checkpoint, and CTKD's temperature climbs where its student descends."""

import copy
import math

import numpy as np
import pytest
import torch
from relational_losses import LOSSES, ROWS, B, K, batch, bound, value

from distill.losses.base.objective import Objective
from distill.losses.base.ramps import ramp
from distill.losses.crd import ContrastiveRepresentation, last_places
from distill.losses.ctkd import CurriculumTemperature
from distill.types import Outputs

# CRD's memory


def test_negatives_are_met_pictures_of_other_classes_each_as_often():
    loss = bound(ContrastiveRepresentation, {"rows": ROWS, "negatives": 40000})
    loss.label[:30] = torch.tensor([0] * 10 + [2] * 15 + [3] * 5)
    for label, allowed in ((0, range(10, 30)), (2, [*range(10), *range(25, 30)]), (1, range(30))):
        counts = torch.bincount(loss._draw(torch.tensor([label]))[0], minlength=ROWS)
        assert counts.nonzero().flatten().tolist() == list(allowed)
        assert counts.max() < 1.4 * counts[counts > 0].min()
    loss.label[:] = torch.tensor([-1] * 36 + [3] * 4)
    assert (loss._draw(torch.tensor([3])) < 36).all(), "rows not met yet, where no other class was met"


def test_a_memory_from_a_checkpoint_goes_on_bit_by_bit():
    def steps(loss, seeds):
        return [value(loss, *batch(seed=s), seed=s).detach() for s in seeds]

    whole = bound(*LOSSES[-1])
    wanted = steps(whole, range(4))
    first = bound(*LOSSES[-1])
    steps(first, range(2))
    second = bound(ContrastiveRepresentation, LOSSES[-1][1])
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert all(torch.equal(a, b) for a, b in zip(steps(second, (2, 3)), wanted[2:], strict=True))
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in whole.state_dict().items())
    assert (whole.label >= 0).sum() > B and whole.log_z.isfinite().all()
    assert torch.allclose(whole.teacher_memory.norm(dim=1), torch.ones(ROWS), atol=1e-5)


def test_of_a_picture_that_a_batch_holds_several_times_the_last_is_remembered():
    assert last_places(torch.tensor([4, 2, 4, 4, 7, 2])).tolist() == [3, 5, 3, 3, 4, 5]
    own, theirs, target, index = batch()
    index[[0, 3]], target[[0, 3]] = index[4].clone(), target[4].clone()
    loss = bound(*LOSSES[-1])
    own_value = value(loss, own, theirs, target, index)
    assert own_value.isfinite().all()
    for memory, embed, vectors in (
        (loss.student_memory, loss.embed_student, own),
        (loss.teacher_memory, loss.embed_teacher, theirs),
    ):
        wanted = torch.nn.functional.normalize(embed(vectors), dim=1)
        for place in (1, 2, 4, 5):
            assert torch.allclose(memory[index[place]], wanted[place], atol=1e-6)
        assert not torch.allclose(memory[index[0]], wanted[0], atol=1e-2)


def test_crd_with_what_it_cannot_do_is_refused():
    own, theirs, target, index = batch()
    loss = bound(*LOSSES[-1])
    with pytest.raises(ValueError, match=r"remembers pictures by their row .* no index"):
        value(loss, own, theirs, target, None)
    with pytest.raises(ValueError, match=f"rows: {ROWS}, but row {ROWS} of the packed data came"):
        value(loss, own, theirs, target, index.clone().fill_(ROWS))
    with pytest.raises(ValueError, match="rows: null; give the number of packed training pictures"):
        bound(ContrastiveRepresentation, {})


# CTKD's temperature


def ctkd(theta, z_s, z_t, lowest=1.0, span=20.0):
    t = lowest + span / (1 + math.exp(-theta))
    p, q = (np.exp(z / t) / np.exp(z / t).sum(1, keepdims=True) for z in (z_t, z_s))
    return t**2 * (p * np.log(p / q)).sum(1)


def test_the_temperature_climbs_where_the_student_descends():
    g = torch.Generator().manual_seed(0)
    z_s, z_t = torch.randn(B, K, generator=g), 3 * torch.randn(B, K, generator=g)
    for reversal in (1.0, 0.25, 0.0):
        loss = CurriculumTemperature(start=4.0, reversal=reversal)
        theta = loss.theta.item()
        assert loss.temperature.item() == pytest.approx(4.0)
        found = loss(*(Outputs(z, z[:, None], {}) for z in (z_s, z_t)), None)
        assert found.detach().numpy() == pytest.approx(ctkd(theta, z_s.numpy(), z_t.numpy()), rel=1e-4)
        found.sum().backward()
        up, down = (ctkd(theta + d, z_s.double().numpy(), z_t.double().numpy()).sum() for d in (1e-5, -1e-5))
        assert loss.theta.grad.item() == pytest.approx(-reversal * (up - down) / 2e-5, rel=1e-3, abs=1e-9)


def test_the_reversal_follows_its_ramp_and_the_first_temperature_is_the_papers():
    loss = CurriculumTemperature()
    assert loss.temperature.item() == pytest.approx(1 + 20 / (1 + math.exp(-1)), abs=0.01)
    rising = ramp({"from": 0, "to": 1, "end": 10, "shape": "cosine"}, "loss.ctkd.reversal")
    objective = Objective({"ctkd": loss}, {"ctkd": 1.0}, {"ctkd": {"reversal": rising}})
    for epoch, factor in ((0, 0), (2.5, (1 - math.sqrt(0.5)) / 2), (5, 0.5), (10, 1), (99, 1)):
        objective.at(epoch)
        assert loss.reversal == pytest.approx(factor)


def test_the_learned_temperature_is_among_what_is_logged():
    objective = Objective({"ctkd": CurriculumTemperature()}, {"ctkd": 1.0})
    first = objective.changing()
    assert first == {"temperature_ctkd": pytest.approx(15.62, abs=0.01)}
    with torch.no_grad():
        objective.losses["ctkd"].theta.sub_(1.0)
    assert objective.changing() == {"temperature_ctkd": pytest.approx(11.0, abs=0.01)}
