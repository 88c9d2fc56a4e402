"""Losses against formulas written out in float64, position by position."""

import math

import pytest
import torch
from maps import kl, maps

from cwd.losses import ChannelAlignment, ChannelWise, PixelWise
from cwd.system.device import has_compiler
from cwd.system.errors import CwdError


@pytest.mark.parametrize("tau", [0.5, 1.0, 4.0])
def test_channel_wise_is_equation_4(tau):
    student, teacher = maps()
    expected = 0.0
    for b in range(2):
        for c in range(3):
            expected += kl(teacher[b, c].flatten().tolist(), student[b, c].flatten().tolist(), tau)
    expected *= tau**2 / (2 * 3)
    assert ChannelWise(tau)(student, teacher).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("tau", [1.0, 2.0])
def test_pixel_wise_is_equation_6(tau):
    student, teacher = maps()
    expected = 0.0
    for b in range(2):
        for i in range(4):
            for j in range(5):
                expected += kl(teacher[b, :, i, j].tolist(), student[b, :, i, j].tolist(), tau)
    expected *= tau**2 / (2 * 4 * 5)
    assert PixelWise(tau)(student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_by_hand():
    # one channel, two positions: p = (3/4, 1/4), q = (1/2, 1/2)
    teacher = torch.tensor([math.log(3.0), 0.0], dtype=torch.float64).view(1, 1, 1, 2)
    student = torch.zeros(1, 1, 1, 2, dtype=torch.float64)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert ChannelWise()(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    assert PixelWise()(student, teacher).item() == 0  # one class: nothing to choose from


@pytest.mark.parametrize("loss", [ChannelWise(1.0), ChannelWise(3.0), PixelWise(1.0)])
def test_gradient(loss):
    student, teacher = maps()
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), (student,))
    loss(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad.abs().max() > 0


def test_gradient_is_what_the_derivation_says():
    # d loss / d s = T / (B C) (q - p)
    student, teacher = maps()
    ChannelWise(2.0)(student, teacher).backward()
    q = (student.detach() / 2).flatten(2).softmax(2)
    p = (teacher.detach() / 2).flatten(2).softmax(2)
    torch.testing.assert_close(student.grad.flatten(2), 2.0 / 6 * (q - p))


@pytest.mark.parametrize("loss", [ChannelWise(), PixelWise()])
def test_zero_at_equality_and_positive_elsewhere(loss):
    student, teacher = maps()
    assert loss(teacher, teacher).item() == pytest.approx(0, abs=1e-15)
    assert loss(student, teacher).item() > 0


def test_adding_a_constant_changes_nothing():
    student, teacher = maps()
    per_channel = torch.randn(2, 3, 1, 1, dtype=torch.float64)
    moved = ChannelWise()(student + per_channel, teacher - per_channel)
    torch.testing.assert_close(moved, ChannelWise()(student, teacher))
    per_pixel = torch.randn(2, 1, 4, 5, dtype=torch.float64)
    moved = PixelWise()(student + per_pixel, teacher - per_pixel)
    torch.testing.assert_close(moved, PixelWise()(student, teacher))


@pytest.mark.parametrize("tau", [0.01, 1.0, 1000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [ChannelWise, PixelWise])
def test_finite_at_extreme_temperatures(kind, tau, dtype):
    student, teacher = maps((2, 19, 16, 32), dtype)
    value = kind(tau)(10 * student, 10 * teacher)
    value.backward()
    assert value.isfinite()
    assert value > 0
    assert student.grad.isfinite().all()


def test_published_form_underflows_where_ours_does_not():
    student, teacher = maps((1, 1, 8, 8), torch.float32)
    published = (10 * student.flatten(2) / 0.01).softmax(2).log()
    assert published.isinf().any()
    assert ChannelWise(0.01)(10 * student, 10 * teacher).isfinite()


def test_student_map_of_another_size_is_resized():
    teacher = torch.randn(1, 2, 8, 8, dtype=torch.float64)
    student = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    larger = torch.nn.functional.interpolate(student, size=(8, 8), mode="bilinear")
    assert ChannelWise()(student, teacher) == ChannelWise()(larger, teacher)


@pytest.mark.parametrize(
    ("student", "teacher", "word"),
    [((1, 2, 4, 4), (1, 3, 4, 4), "channels"), ((2, 3, 4, 4), (1, 3, 4, 4), "batch")],
)
def test_maps_that_do_not_fit(student, teacher, word):
    with pytest.raises(CwdError, match=word):
        ChannelWise()(torch.zeros(student), torch.zeros(teacher))


@pytest.mark.parametrize("tau", [0, -1, math.inf, math.nan, "warm"])
def test_bad_temperature(tau):
    with pytest.raises(CwdError, match="positive number"):
        ChannelWise(tau)


@pytest.mark.skipif(not has_compiler(), reason="torch.compile needs a C++ compiler")
def test_compiled_equals_eager():
    student, teacher = maps((2, 19, 16, 16), torch.float32)
    eager = ChannelWise()(student, teacher)
    (eager_gradient,) = torch.autograd.grad(eager, student)
    fast = torch.compile(ChannelWise())(student, teacher)
    (gradient,) = torch.autograd.grad(fast, student)
    torch.testing.assert_close(fast, eager)
    torch.testing.assert_close(gradient, eager_gradient)


def test_alignment():
    features = torch.randn(2, 3, 4, 5)
    plain = ChannelAlignment(3, 7)
    assert plain(features).shape == (2, 7, 4, 5)
    assert sum(p.numel() for p in plain.parameters()) == 3 * 7 + 7
    published = ChannelAlignment(3, 7, "conv-bn-relu")
    assert published(features).min() == 0
    assert sum(p.numel() for p in published.parameters()) == 3 * 7 + 7 + 7
    with pytest.raises(CwdError, match="align=linear"):
        ChannelAlignment(3, 7, "linear")
