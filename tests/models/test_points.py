"""RepPoints' points, the boxes they stand for, and the objects that cells are trained on."""

import math

import pytest
import torch
from plain_reppoints import plain_best, plain_nearest
from torchvision.ops import deform_conv2d

from cwd.models.detection.deformable import DeformableConv, sampled_conv
from cwd.models.detection.points import (
    PointsToBoxes,
    best_overlaps,
    cells,
    nearest_cells,
)

STRIDES = (8, 16, 32, 64, 128)
POINTS = [3.0, 1, 0, -2, 5, 4, 1, 2, 2, 9, -1, -3, 7, 0, 4, 6, 6, -8]  # y0, x0, y1, x1, ...


def grid(size=128, strides=STRIDES):
    shapes = [math.ceil(size / stride) for stride in strides]
    return cells([torch.zeros(1, 1, n, n, dtype=torch.float64) for n in shapes], strides)


def boxes(*values):
    return torch.tensor(values, dtype=torch.float64).view(-1, 4)


def random_boxes(count, size=128, seed=0, largest=60):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * size
    sides = torch.rand(count, 2, generator=generator, dtype=torch.float64) ** 2 * largest + 2
    return torch.cat((corner, corner + sides), dim=1)


@pytest.mark.parametrize("size", [(5, 7), (1, 4), (3, 1), (1, 1)])
def test_deformable_convolution_equals_torchvisions(size):
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    x, weight = draw(2, 3, *size).requires_grad_(), draw(4, 3, 3, 3).requires_grad_()
    offset = (2 * draw(2, 18, *size)).requires_grad_()  # many of them beyond the border
    probe = draw(2, 4, *size)
    ours, theirs = (
        (out, *torch.autograd.grad((out * probe).sum(), (x, offset, weight)))
        for out in (sampled_conv(x, offset, weight), deform_conv2d(x, offset, weight, padding=1))
    )
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)
    conv = DeformableConv(3, 4).double()
    expected = torch.nn.functional.conv2d(x, conv.weight, padding=1)
    torch.testing.assert_close(conv(x, torch.zeros_like(offset)), expected)


def test_gradient_of_boxes():
    points, moment = torch.tensor(POINTS, dtype=torch.float64), PointsToBoxes().double()
    left, top, right, bottom = moment(points)
    (gradient,) = torch.autograd.grad(right + 3 * bottom, moment.transfer)
    # d(right)/d(transfer of the width) is half of the width, and a hundredth of it is passed on
    expected = [0.01 * (right - left).item() / 2, 0.03 * (bottom - top).item() / 2]
    assert gradient.tolist() == pytest.approx(expected, rel=1e-12)
    points = torch.randn(2, 3, 18, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(moment, (points,))


@pytest.mark.parametrize("spread", [0, 1e-25, 1e-21, 1e-10])
def test_points_in_one_place_have_a_finite_gradient(spread):
    points, convert = (spread * torch.randn(7, 18)).requires_grad_(), PointsToBoxes()
    (convert(points) * torch.tensor([-1.0, -2.0, 3.0, 4.0])).sum().backward()
    assert points.grad.isfinite().all()
    assert points.grad.abs().max() < 10
    assert convert.transfer.grad.isfinite().all()


ALONE = [
    (9, 9, 39, 41),  # centre 24, 25; log2(7.5) and 3: 2.95, truncated and clamped
    (0, 0, 64, 64),  # log2(16) = 4
    (0, 0, 63.9, 64),  # just below 4
    (0, 0, 32, 128),  # (3 + 5) / 2 = 4; centre 16, 64
    (0, 0, 127, 127),  # 4.99; 63.5 is nearest to 64
    (0, 0, 128, 128),  # 5
    (30, 30, 30.5, 30.5),  # log2(1/8) is negative
    (-300, -300, 3000, 3000),  # 9.7, clamped to 7; the level has one cell
    (200, -90, 220, -70),  # outside of the image
]


def test_nearest_cells_as_published():
    where, contested = grid(), 0
    places = list(zip(where.places.tolist(), where.strides.tolist(), strict=True))
    several = [random_boxes(40, seed=seed) for seed in range(20)]
    several = [torch.cat((objects, objects[:3])) for objects in several]  # of equals, the first
    for objects in [*(boxes(*box) for box in ALONE), *several]:
        expected = plain_nearest(objects.tolist(), places)
        assigned = nearest_cells(where, objects)
        assert assigned.dtype == torch.long
        assert {i: k for i, k in enumerate(assigned.tolist()) if k >= 0} == expected
        contested += len(objects) - len(expected)
    assert contested > 70
    # by hand: the cells of (24, 24) at stride 8, and of the whole image at stride 128
    assert nearest_cells(where, boxes(*ALONE[0]))[3 * 16 + 3] == 0
    assert nearest_cells(where, boxes(*ALONE[7]))[-1] == 0


LIMITS = boxes(
    *(0, 0, 10, 10),  # IoU 1 with the first
    *(0, 0, 10, 5),  # 0.5, the limit
    *(0, 0, 10, 4.5),  # 0.45, undecided
    *(0, 0, 10, 4),  # 0.4, still undecided
    *(20, 0, 30, 2),  # 0.2, but no candidate overlaps the second more
    *(20, 8, 30, 10),  # as much
    *(50, 50, 60, 60),  # nothing overlaps the third object, which gets nothing
    *(5, 5, 5, 5),  # a box without area
)
BEST = (0, 0, 10, 10), (0, 3, 10, 9)  # of both, (0, 0, 10, 9) is the best: the last has it


def test_overlaps_as_published():
    cases = [(LIMITS, boxes(0, 0, 10, 10, 20, 0, 30, 10, -50, -50, -40, -40))]
    cases += [(boxes(0, 0, 10, 9), boxes(*BEST[i], *BEST[1 - i])) for i in (0, 1)]
    for seed in range(10):
        objects = random_boxes(8, seed=seed)
        objects = torch.cat((objects, objects[:1]))  # a box twice
        candidates = random_boxes(200, seed=100 + seed)
        candidates = torch.cat((candidates, objects[:1] + 0.2, objects[:4] + 0.5, objects[3:5] + 3))
        cases.append((torch.cat((candidates, candidates[-3:])), objects))  # equals
    found = [best_overlaps(*case).tolist() for case in cases]
    assert found == [plain_best(*(part.tolist() for part in case)) for case in cases]
    assert found[:3] == [[0, 0, -2, -2, 1, 1, -1, -1], [1], [1]]
    assert {value for each in found for value in each} >= {-2, -1, 0, 8}
