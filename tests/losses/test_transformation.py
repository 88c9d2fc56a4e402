"""Channel-wise transformation against its formula, position by position, and in recipes."""

import pytest
import torch
from maps import maps, mean_squares, positions

from cwd.losses import ChannelTransformation, Mimic
from cwd.models.build import build_network
from cwd.recipes import Distiller, parse_recipe
from cwd.recipes.detection.distil import DetectionDistiller


def transformation(*args, **options):
    torch.manual_seed(0)
    return ChannelTransformation(*args, **options).double()


def at(conv, x):
    """A 1x1 convolution on the channels of one position, a list, in plain Python."""
    weight, bias = conv.weight[:, :, 0, 0].tolist(), conv.bias.tolist()
    return [b + sum(w * v for w, v in zip(row, x, strict=True))
            for row, b in zip(weight, bias, strict=True)]  # fmt: skip


@pytest.mark.parametrize("activation", ["relu", "none"])
@pytest.mark.parametrize(("hidden", "between"), [(1.0, 3), (2.0, 6), (0.5, 2)])
def test_the_formula_position_by_position(activation, hidden, between):
    student, teacher = maps((2, 5, 4, 3), teacher_channels=3)
    loss = transformation(5, 3, hidden=hidden, activation=activation)
    first, _, last = loss.transform
    assert first.weight.shape == (between, 5, 1, 1)
    assert last.weight.shape == (3, between, 1, 1)
    total = 0.0
    for x, t in zip(positions(student), positions(teacher), strict=True):
        y = [max(v, 0.0) if activation == "relu" else v for v in at(first, x)]
        total += mean_squares(at(last, y), t)
    expected = total / (2 * 4 * 3)
    assert loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_without_a_hidden_layer_it_is_mimics_alignment():
    student, teacher = maps((2, 5, 4, 3), teacher_channels=3)
    loss = transformation(5, 3, hidden=0)
    (conv,) = loss.transform
    assert torch.equal(loss(student, teacher), Mimic()(conv(student), teacher))


def test_windows_see_neighbours_and_keep_the_size():
    student, teacher = maps((1, 2, 5, 6), teacher_channels=3)
    loss = transformation(2, 3, kernel=3)
    assert loss.transformed(student).shape == teacher.shape
    reach = torch.autograd.grad(loss.transformed(student)[0, :, 2, 3].sum(), student)[0]
    assert (reach[0].abs().sum(dim=0) > 0).sum() > 9  # two windows of 3x3, ReLU may close some


def test_what_is_trained_is_the_transformation():
    student, teacher = (
        build_network(name, 4).eval() for name in ("Classifier-MBV1(0.25)", "Classifier-R18")
    )
    distiller = Distiller(parse_recipe("CT_f + CW_f"), student, teacher, (2, 2))
    with torch.no_grad():
        student_out, teacher_out = (
            network(torch.randn(2, 3, 64, 64)) for network in (student, teacher)
        )
    values = distiller(student_out, teacher_out, torch.tensor([0, 1]))
    sum(values.values()).backward()
    shapes = sorted(tuple(p.shape) for p in distiller.trained.parameters() if p.ndim == 4)
    # CW's alignment, and the two convolutions of CT
    assert shapes == [(512, 256, 1, 1), (512, 256, 1, 1), (512, 512, 1, 1)]
    assert all(p.grad is not None for p in distiller.trained.parameters())
    compared = distiller.compared("CT_f", student_out)
    assert torch.equal(compared, distiller.losses["CT_f"].transform(student_out.feature))


def test_each_level_of_a_pyramid_has_its_own():
    student, teacher = (build_network(f"RetinaNet-R18({w}, fpn=16)", 3) for w in (0.125, 0.25))
    distiller = DetectionDistiller(parse_recipe("CT_fpn(levels=3, hidden=2)"), student, teacher)
    weights = [tuple(p.shape) for p in distiller.trained.parameters() if p.ndim == 4]
    assert weights == [(32, 16, 1, 1), (16, 32, 1, 1)] * 3
    student_out, teacher_out = (
        network(torch.randn(2, 3, 64, 64)) for network in (student, teacher)
    )
    (value,) = distiller(student_out, teacher_out, []).values()
    losses = distiller.losses["CT_fpn"].losses
    by_hand = sum(
        ((f.transform(mine) - goal.detach()) ** 2).mean()
        for f, mine, goal in zip(losses, student_out.convs, teacher_out.convs, strict=False)
    )
    torch.testing.assert_close(value, by_hand)
