"""Wang's imitation: masks by hand, the loss position by position."""

import pytest
import torch
from fake_detectors import SIZE, detectors, identity, objects, seen
from torch import nn

from cwd.recipes.detection import wang
from cwd.recipes.detection.wang import FineGrainedImitation, near_objects
from cwd.system.errors import CwdError

TARGETS = [objects((3, 2, 14, 9), (40, 10, 63, 30)), objects((20, 4, 29, 31))]


def tiles(stride, height, width):
    places = [(i * stride, j * stride) for i in range(height) for j in range(width)]
    return torch.tensor([[x, y, x + stride, y + stride] for y, x in places]).float()


# two levels of an image of 8x16, one square anchor at each position
SHAPES = [(2, 4), (1, 2)]
ANCHORS = [tiles(4, 2, 4), tiles(8, 1, 2)]


@pytest.mark.parametrize(
    ("boxes", "threshold", "expected"),
    [
        # IoU 1 with a fine anchor, 1/4 with the coarse one around it
        ([(4, 0, 8, 4)], 0.5, ["0100 0000", "00"]),
        ([(4, 0, 8, 4)], 0.25, ["0100 0000", "00"]),  # 1/4 isn't above 1/4
        ([(4, 0, 8, 4)], 0.24, ["0100 0000", "10"]),
        # 1 with a coarse anchor: fine ones, at 1/4, are left out by the level that fits
        ([(8, 0, 16, 8)], 0.5, ["0000 0000", "01"]),
        # 1/2 with two fine anchors and with the coarse one
        ([(0, 0, 8, 4)], 0.5, ["1100 0000", "10"]),
        # 12/20 and 4/28 with fine anchors, 16/64 with the coarse one
        ([(1, 0, 5, 4)], 0.5, ["1000 0000", "00"]),
        ([(1, 0, 5, 4)], 0.3, ["1000 0000", "10"]),
        ([(1, 0, 5, 4)], 0.2, ["1100 0000", "10"]),
        # every object has its own best overlap
        ([(4, 0, 8, 4), (8, 0, 16, 8)], 0.5, ["0100 0000", "01"]),
        # outside of the image, and no object at all
        ([(-9, -9, -1, -1)], 0.0, ["0000 0000", "00"]),
        ([], 0.5, ["0000 0000", "00"]),
    ],
)
def test_masks_by_hand(boxes, threshold, expected):
    found = near_objects(ANCHORS, SHAPES, objects(*boxes).boxes, threshold)
    rows = [" ".join("".join(str(int(x)) for x in row) for row in level) for level in found]
    assert rows == expected


def overlap(a, b):
    width, height = (min(a[n + 2], b[n + 2]) - max(a[n], b[n]) for n in (0, 1))
    shared = max(width, 0) * max(height, 0)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return shared / (sum(areas) - shared)


def naive_imitation(loss, student, teacher, targets, threshold, relu):
    """The formula in numbers, object by object and position by position."""
    total, count = 0.0, 0
    anchors = student.source.anchors(student.levels, SIZE)
    for number, image in enumerate(targets):
        chosen = set()
        for box in image.boxes.tolist():
            overlaps = {
                (n, place): overlap(box, anchor)
                for n, level in enumerate(anchors)
                for place, anchor in enumerate(level.tolist())
            }
            best = max(overlaps.values())
            chosen |= {
                (n, place // 2) for (n, place), v in overlaps.items() if v > threshold * best
            }
        count += len(chosen)
        for n, place in chosen:
            s, t = student.levels[n][number], teacher.levels[n][number]
            i, j = divmod(place, s.shape[2])
            conv = loss.adapters[n]
            window = nn.functional.pad(s, (1, 1, 1, 1))[:, i : i + 3, j : j + 3]
            for c in range(len(t)):
                value = ((window * conv.weight[c]).sum() + conv.bias[c]).item()
                value = max(value, 0) if relu else value
                total += (t[c, i, j].item() - value) ** 2
    return total / (2 * count)


@pytest.mark.parametrize(("threshold", "relu"), [(0.5, "no"), (0.3, "yes")])
def test_imitation_by_hand(threshold, relu, monkeypatch):
    monkeypatch.setattr(wang, "BLOCK", 1)
    student, teacher = detectors(stages=1, teacher_channels=6)
    loss = FineGrainedImitation(student, teacher, threshold=threshold, relu=relu).double()
    for adapter in loss.adapters:
        assert 0 < adapter.weight.abs().max() <= 2e-4  # cut off at two deviations
        nn.init.normal_(adapter.weight)
        nn.init.normal_(adapter.bias)
    outputs = seen(student), seen(teacher, seed=1)
    value = loss(*outputs, TARGETS).item()
    expected = naive_imitation(loss, *outputs, TARGETS, threshold, relu == "yes")
    assert value == pytest.approx(expected, rel=1e-12)


def test_imitation_without_objects():
    student, teacher = detectors()
    loss, (s, t) = FineGrainedImitation(student, teacher).double(), (seen(student), seen(teacher))
    value = loss(s, t, [objects(), objects()])
    value.backward()
    assert value == 0
    assert all((x.grad == 0).all() for x in s.levels)
    # an image without objects adds neither errors nor positions
    s1, t1 = (x._replace(levels=[y[:1] for y in x.levels]) for x in (s, t))
    torch.testing.assert_close(
        loss(s, t, [TARGETS[0], objects()]), loss(s1, t1, TARGETS[:1]), rtol=1e-12, atol=0
    )


def test_imitation_of_equal_maps_is_zero():
    student, _ = detectors()
    loss, output = FineGrainedImitation(student, student).double(), seen(student)
    for adapter in loss.adapters:
        identity(adapter)
    assert loss(output, output, TARGETS) == 0


def test_imitation_needs_anchors():
    with pytest.raises(CwdError, match="Faster R-CNN or RetinaNet"):
        FineGrainedImitation(nn.Identity(), nn.Identity())
