"""RepPoints' points, the boxes they stand for, and the objects that cells are trained on."""

import math
import statistics

import pytest
import torch

from cwd.models.detection.assign import best_overlaps, nearest_cells
from cwd.models.detection.points import (
    CONVERSIONS,
    PointsToBoxes,
    by_cell,
    cells,
    in_pixels,
    kernel_points,
    slowed,
)
from cwd.system.errors import CwdError

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


def test_cells_by_hand():
    maps = [torch.zeros(2, 5, 2, 3), torch.zeros(2, 5, 1, 2)]
    found = cells(maps, (8, 16))
    assert found.places[:3].tolist() == [[0, 0], [8, 0], [16, 0]]  # x, y
    assert found.places[3:].tolist() == [[0, 8], [8, 8], [16, 8], [0, 0], [16, 0]]
    assert found.strides.tolist() == [8] * 6 + [16] * 2


def test_maps_are_in_the_order_of_cells():
    strides, shapes = (4, 8), ((3, 5), (2, 3))
    maps = []
    for stride, (height, width) in zip(strides, shapes, strict=True):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        maps.append(torch.stack((x * stride, y * stride)).expand(2, 2, height, width).float())
    where = cells(maps, strides)
    assert torch.equal(by_cell(maps), where.places.expand(2, -1, -1))


def test_kernel_points_by_hand():
    expected = [-1, -1, -1, 0, -1, 1, 0, -1, 0, 0, 0, 1, 1, -1, 1, 0, 1, 1]
    assert kernel_points().tolist() == expected


def test_boxes_in_pixels_by_hand():
    where = cells([torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 1, 1)], (8, 16))
    found = in_pixels(torch.tensor([-1.0, -2.0, 1.0, 3.0]).expand(1, 5, 4), where)
    assert found[0, 1].tolist() == [8 - 8, -16, 8 + 8, 24]
    assert found[0, 2].tolist() == [-8, 8 - 16, 8, 8 + 24]
    assert found[0, 4].tolist() == [-16, -32, 16, 48]


def test_conversions_by_hand():
    y, x = POINTS[0::2], POINTS[1::2]
    points = torch.tensor(POINTS, dtype=torch.float64)
    for convert, count in (("minmax", 9), ("partial_minmax", 4)):
        expected = [min(x[:count]), min(y[:count]), max(x[:count]), max(y[:count])]
        assert PointsToBoxes(convert)(points).tolist() == expected
    moment = PointsToBoxes().double()
    for wider, higher in ((0, 0), (0.5, -0.25)):
        moment.transfer.data[:] = torch.tensor([wider, higher])
        half = statistics.stdev(x) * math.exp(wider), statistics.stdev(y) * math.exp(higher)
        middle = statistics.mean(x), statistics.mean(y)
        expected = [middle[0] - half[0], middle[1] - half[1]]
        expected += [middle[0] + half[0], middle[1] + half[1]]
        assert moment(points).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("convert", CONVERSIONS)
def test_gradient_of_conversions(convert):
    points = torch.randn(2, 3, 18, dtype=torch.float64, requires_grad=True)
    convert = PointsToBoxes(convert).double()
    assert convert(points).shape == (2, 3, 4)
    assert torch.autograd.gradcheck(convert, (points,))


def test_the_transfer_gets_a_hundredth():
    moment, points = PointsToBoxes().double(), torch.tensor(POINTS, dtype=torch.float64)
    moment.transfer.data[:] = torch.tensor([0.3, -0.2])
    left, top, right, bottom = moment(points)
    (gradient,) = torch.autograd.grad(right + 3 * bottom, moment.transfer)
    # d(right)/d(transfer of the width) is half of the width
    expected = [0.01 * (right - left).item() / 2, 0.03 * (bottom - top).item() / 2]
    assert gradient.tolist() == pytest.approx(expected, rel=1e-12)


def test_slowed_changes_the_gradient_only():
    x = torch.randn(1000, requires_grad=True)
    value = slowed(x, 0.1)
    assert torch.equal(value, x)
    value.square().sum().backward()
    torch.testing.assert_close(x.grad, 0.1 * 2 * x.detach())


@pytest.mark.parametrize("spread", [0, 1e-25, 1e-21, 1e-10])
@pytest.mark.parametrize("convert", CONVERSIONS)
def test_points_in_one_place_have_a_finite_gradient(convert, spread):
    points = (spread * torch.randn(7, 18)).requires_grad_()
    convert = PointsToBoxes(convert)
    (convert(points) * torch.tensor([-1.0, -2.0, 3.0, 4.0])).sum().backward()
    assert points.grad.isfinite().all()
    assert points.grad.abs().max() < 10
    for parameter in convert.parameters():
        assert parameter.grad.isfinite().all()


def test_unknown_conversion():
    with pytest.raises(CwdError, match="convert='mean' is no way from points to boxes"):
        PointsToBoxes("mean")


def cell(stride, x, y, size=128):
    """Index of a cell by its column and row."""
    before = sum(math.ceil(size / s) ** 2 for s in STRIDES if s < stride)
    return before + y * math.ceil(size / stride) + x


@pytest.mark.parametrize(
    ("box", "stride", "x", "y"),
    [
        ((9, 9, 39, 41), 8, 3, 3),  # centre 24, 25; log2(7.5) and 3: 2.95, truncated and clamped
        ((0, 0, 64, 64), 16, 2, 2),  # log2(16) = 4
        ((0, 0, 63.9, 64), 8, 4, 4),  # just below 4
        ((0, 0, 32, 128), 16, 1, 4),  # (3 + 5) / 2 = 4; centre 16, 64
        ((0, 0, 127, 127), 16, 4, 4),  # 4.99; 63.5 is nearest to 64
        ((0, 0, 128, 128), 32, 2, 2),
        ((30, 30, 30.5, 30.5), 8, 4, 4),  # log2(1/8) is negative
        ((-300, -300, 3000, 3000), 128, 0, 0),  # 9.7, clamped to 7; the level has one cell
        ((200, -90, 220, -70), 8, 15, 0),  # outside of the image
    ],
)
def test_an_object_has_the_nearest_cell_of_its_level(box, stride, x, y):
    assigned = nearest_cells(grid(), boxes(*box))
    assert assigned.dtype == torch.long
    assert {i: v for i, v in enumerate(assigned.tolist()) if v >= 0} == {cell(stride, x, y): 0}


def test_distance_is_measured_in_the_objects_sides():
    # both nearest to (24, 24): one 2 pixels off and 10 wide, one 3.5 pixels off and 40 wide
    assigned = nearest_cells(grid(), boxes(21, 4, 31, 44, 7.5, 19, 47.5, 29))
    assert assigned[cell(8, 3, 3)] == 1


@pytest.mark.parametrize("swap", [False, True])
def test_a_contested_cell_goes_to_the_nearer(swap):
    # both have cell (3, 3) of stride 8 at (24, 24); their centres are (24, 25) and (24, 26)
    near, far = (14, 15, 34, 35), (14, 16, 34, 36)
    alone = (90, 90, 110, 110)
    order = (far, alone, near) if swap else (near, alone, far)
    assigned = nearest_cells(grid(), boxes(*order))
    assert assigned[cell(8, 3, 3)] == order.index(near)
    assert set(assigned.tolist()) == {-1, order.index(near), 1}  # the farther one has none


def test_of_two_as_near_the_first_has_the_cell():
    same = (14, 15, 34, 35)
    assert set(nearest_cells(grid(), boxes(*same, *same, *same)).tolist()) == {-1, 0}


def test_nearest_cells_as_published():
    """mmdetection's PointAssigner, object after object."""
    where, contested = grid(), 0
    for seed in range(20):
        objects = random_boxes(40, seed=seed)
        owner = {}
        for index, (left, top, right, bottom) in enumerate(objects.tolist()):
            w, h = right - left, bottom - top
            level = min(max(int((math.log2(w / 4) + math.log2(h / 4)) / 2), 3), 7)
            near = []
            for i, ((x, y), stride) in enumerate(
                zip(where.places.tolist(), where.strides.tolist(), strict=True)
            ):
                if stride == 2**level:
                    gap = (x - (left + right) / 2) / w, (y - (top + bottom) / 2) / h
                    near.append((math.hypot(*gap), i))
            distance, i = min(near)
            contested += i in owner
            if i not in owner or distance < owner[i][0]:
                owner[i] = distance, index
        assigned = nearest_cells(where, objects)
        assert {i: index for i, index in enumerate(assigned.tolist()) if index >= 0} == {
            i: index for i, (_, index) in owner.items()
        }
    assert contested > 10


def test_overlaps_by_hand():
    objects = boxes(0, 0, 10, 10, 20, 0, 30, 10)
    candidates = boxes(
        *(0, 0, 10, 10),  # IoU 1 with the first
        *(0, 0, 10, 5),  # 0.5, the limit
        *(0, 0, 10, 4.5),  # 0.45, undecided
        *(0, 0, 10, 4),  # 0.4, still undecided
        *(0, 0, 10, 3.9),  # 0.39
        *(20, 0, 30, 2),  # 0.2, but no candidate overlaps the second more
        *(20, 8, 30, 10),  # as much
        *(20, 0, 30, 1),
        *(50, 50, 60, 60),
        *(5, 5, 5, 5),  # a box without area
    )
    expected = [0, 0, -2, -2, -1, 1, 1, -1, -1, -1]
    assert best_overlaps(candidates, objects).tolist() == expected


def test_an_object_without_a_better_box_takes_anothers():
    # the one candidate is the first object's with IoU 0.9, and the best of the second with 0.6
    candidate = boxes(0, 0, 10, 9)
    first, second = (0, 0, 10, 10), (0, 3, 10, 9)
    assert best_overlaps(candidate, boxes(*first, *second)).tolist() == [1]
    assert best_overlaps(candidate, boxes(*second, *first)).tolist() == [1]  # the last has it


def test_an_object_that_nothing_overlaps_gets_nothing():
    objects = boxes(0, 0, 10, 10, -50, -50, -40, -40)
    assert best_overlaps(boxes(0, 0, 10, 8, 30, 0, 40, 10), objects).tolist() == [0, -1]


def iou(a, b):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return width * height / (sum(areas) - width * height)


def test_overlaps_as_published():
    """mmdetection's MaxIoUAssigner, but for objects that no candidate overlaps."""
    seen = set()
    for seed in range(10):
        objects = random_boxes(8, seed=seed)
        objects = torch.cat((objects, objects[:1]))  # a box twice
        candidates = random_boxes(200, seed=100 + seed)
        candidates = torch.cat((candidates, objects[:1] + 0.2, objects[:4] + 0.5, objects[3:5] + 3))
        candidates = torch.cat((candidates, candidates[-3:]))  # equals
        table = [[iou(o, c) for c in candidates.tolist()] for o in objects.tolist()]
        expected = []
        for column in zip(*table, strict=True):
            best = max(column)
            expected.append(column.index(best) if best >= 0.5 else -1 if best < 0.4 else -2)
        for index, row in enumerate(table):
            for i, value in enumerate(row):
                if value == max(row) > 0:
                    expected[i] = index
        assert best_overlaps(candidates, objects).tolist() == expected
        seen.update(expected)
    assert seen >= {-2, -1, 0, 8}


def test_without_objects_all_is_background():
    where, none = grid(), torch.zeros(0, 4, dtype=torch.float64)
    for assigned in (nearest_cells(where, none), best_overlaps(random_boxes(7), none)):
        assert assigned.dtype == torch.long
        assert (assigned == -1).all()
