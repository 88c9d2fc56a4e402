"""What all rivals of Table 9 promise; Heo's loss, and its margins by integration."""

import math

import pytest
import torch
from fake_detectors import (
    SIZE,
    TARGETS,
    FakeDetector,
    detectors,
    identity,
    learnt,
    objects,
    pointwise,
    seen,
)
from scipy.integrate import quad
from scipy.stats import norm as normal
from torch import nn

from cwd.recipes.detection.chen import WeightedHints
from cwd.recipes.detection.heo import FeatureOverhaul, connector, margins
from cwd.recipes.detection.wang import FineGrainedImitation
from cwd.recipes.detection.zhang import AttentionGuidedNonLocal
from cwd.system.errors import CwdError

LOSSES = [WeightedHints, FineGrainedImitation, FeatureOverhaul, AttentionGuidedNonLocal]


@pytest.fixture(params=LOSSES)
def rival(request):
    """A loss in float64, and what a student and a wider teacher gave."""
    student, teacher = detectors(teacher_channels=6, teacher_widths=(3, 5, 4, 6))
    torch.manual_seed(2)
    loss = request.param(student, teacher).double()
    return loss, learnt(seen(student)), seen(teacher, seed=1)


def used(loss, output):
    """The maps of an output that a loss looks at."""
    if isinstance(loss, FeatureOverhaul):
        return output.stages
    return output.levels[:4] if isinstance(loss, WeightedHints) else output.levels


def test_the_student_and_all_adapters_learn_and_the_teacher_does_not(rival):
    loss, student, teacher = rival
    loss(student, teacher, TARGETS).backward()
    assert all(x.grad is not None for x in used(loss, student))
    assert sum(x.grad.abs().sum() for x in used(loss, student)) > 0
    assert all(x.grad is None for x in [*teacher.stages, *teacher.levels])
    assert all(p.grad is None for p in teacher.source.parameters())
    for name, parameter in loss.named_parameters():
        assert parameter.grad is not None, name
    # the detectors are no part of it
    assert not any(isinstance(module, FakeDetector) for module in loss.modules())
    fresh = type(loss)(*detectors(teacher_channels=6, teacher_widths=(3, 5, 4, 6)))
    fresh.double().load_state_dict(loss.state_dict())


def as_type(output, dtype):
    return output._replace(
        stages=[x.to(dtype) for x in output.stages], levels=[x.to(dtype) for x in output.levels]
    )


def test_bf16_maps_are_compared_in_float32(rival):
    loss, student, teacher = rival
    loss.float(), student.source.float(), teacher.source.float()
    for parameter in loss.parameters():
        nn.init.normal_(parameter, std=0.3)
    half = [as_type(x, torch.bfloat16) for x in (student, teacher)]
    full = [as_type(x, torch.float32) for x in half]
    if isinstance(loss, WeightedHints):  # whose teacher answers in its own precision
        regions = learnt(full[0]).regions
        full[0] = full[0]._replace(regions=regions)
        half = [half[0]._replace(regions=regions), full[1]]
    expected, value = loss(*full, TARGETS), loss(*half, TARGETS)
    torch.testing.assert_close(value, expected)
    assert value.dtype == torch.float32
    if not isinstance(loss, WeightedHints):
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(loss(*half, TARGETS), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("size", [SIZE, (64, 32), (96, 32)])
def test_a_batch_of_one_and_other_shapes(rival, size):
    loss, student, teacher = rival
    student = seen(student.source, 1, size)
    student = learnt(student, positive=(3, 40))
    value = loss(student, seen(teacher.source, 1, size, 1), [objects((1, 2, 30, 40))])
    value.backward()
    assert value.isfinite()
    assert all(x.grad.isfinite().all() for x in used(loss, student))


def test_other_levels_are_refused(rival):
    loss, student, teacher = rival
    with pytest.raises(CwdError, match="distil from a detector of the student's kind"):
        loss(student, seen(teacher.source, size=(64, 64)), TARGETS)


# Heo


@pytest.mark.parametrize("gamma", [0.7, -1.3, 0.01])
@pytest.mark.parametrize("ratio", [-30, -2, -0.5, 0, 0.4, 2, 3.09])
def test_margins_by_integration(gamma, ratio):
    norm, scale = nn.BatchNorm2d(1).double(), abs(gamma)
    nn.init.constant_(norm.weight, gamma)
    nn.init.constant_(norm.bias, ratio * scale)

    def integral(f):  # below zero, as far as the density reaches
        low, high = (ratio - 9) * scale, min(0, (ratio + 9) * scale)
        return quad(lambda x: f(x) * normal.pdf(x, ratio * scale, scale), low, high)[0]

    expected = integral(lambda x: x) / integral(lambda x: 1)
    assert margins(norm).item() == pytest.approx(expected, rel=1e-8)


def test_margins_where_nothing_is_negative_or_nothing_varies():
    norm = nn.BatchNorm2d(5)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([2.0, -2.0, 0.0, 0.0, 0.0]))
        norm.bias.copy_(torch.tensor([6.2, 60.0, 0.0, -0.5, 0.5]))
    assert margins(norm).tolist() == [-6, -6, 0, -0.5, 0]


def naive_overhaul(loss, student, teacher):
    total = 0.0
    norms = teacher.source.backbone.last_norms()
    for n, weight in enumerate((1 / 8, 1 / 4, 1 / 2, 1)):
        r = pointwise(loss.connectors[n][0], student.stages[n])
        centred = r - r.mean(dim=(0, 2, 3), keepdim=True)  # new norms: weight 1, bias 0
        r = centred / (centred.square().mean(dim=(0, 2, 3), keepdim=True) + 1e-5).sqrt()
        cut = teacher.stages[n].maximum(margins(norms[n])[:, None, None])
        counted = ~((r <= cut) & (cut <= 0))
        total += weight * (cut - r)[counted].square().sum().item()
    return total / len(student.stages[0])


def test_overhaul_by_hand():
    student, teacher = detectors(teacher_widths=(3, 5, 4, 6))
    loss = FeatureOverhaul(student, teacher).double()
    s, t = seen(student), seen(teacher, seed=1, scale=2)
    assert loss(s, t, []).item() == pytest.approx(naive_overhaul(loss, s, t), rel=1e-11)
    assert [tuple(m.shape) for m in loss.margins] == [(1, c, 1, 1) for c in (3, 5, 4, 6)]


def test_connectors_start_as_published():
    conv, norm = connector(64, 128)
    assert conv.bias is None
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / 128), rel=0.05)
    assert isinstance(norm, nn.BatchNorm2d)


def test_overhaul_is_zero_where_the_student_is_the_cut_teacher_or_both_are_negative():
    student, _ = detectors()
    loss, t = FeatureOverhaul(student, student).double(), seen(student)
    for conv, norm in loss.connectors:
        identity(conv)
        norm.eval().eps = 0
    cut = [x.maximum(m) for x, m in zip(t.stages, loss.margins, strict=True)]
    assert loss(t._replace(stages=cut), t, []) == 0
    lower = [torch.where(x <= 0, x - 1, x) for x in cut]  # below what is negative already
    assert loss(t._replace(stages=lower), t, []) == 0
    higher = [torch.where(x <= 0, x + 0.5, x) for x in cut]
    weights = (1 / 8, 1 / 4, 1 / 2, 1)
    counted = [w * 0.5**2 * (x <= 0).sum().item() for x, w in zip(cut, weights, strict=True)]
    assert loss(t._replace(stages=higher), t, []).item() == pytest.approx(sum(counted) / 2)
    for margin in loss.margins:
        margin.zero_()  # as from a norm whose weight and bias are zero: a cut at 0 isn't positive
    assert loss(t._replace(stages=[x - 9 * (x <= 0) for x in t.stages]), t, []) == 0


def test_overhaul_gradient():
    student, teacher = detectors(teacher_widths=(3, 5, 4, 6))
    loss = FeatureOverhaul(student, teacher).double().eval()
    s, t = seen(student, 1, (16, 16)), seen(teacher, 1, (16, 16), 1)

    def value(*stages):
        return loss(s._replace(stages=list(stages)), t, [])

    assert torch.autograd.gradcheck(value, s.stages)
