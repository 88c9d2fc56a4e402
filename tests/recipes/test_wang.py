"""Wang's imitation: masks by hand, the loss position by position."""

import pytest
import torch
from fake_detectors import SIZE, TARGETS, detectors, objects, seen
from torch import nn

from cwd.recipes.detection import wang
from cwd.recipes.detection.wang import FineGrainedImitation, near_objects


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
def test_masks_by_hand(boxes, threshold, expected, monkeypatch):
    monkeypatch.setattr(wang, "BLOCK", 1)
    found = near_objects(ANCHORS, SHAPES, objects(*boxes).boxes, threshold)
    rows = [" ".join("".join(str(int(x)) for x in row) for row in level) for level in found]
    assert rows == expected


def naive_imitation(loss, student, teacher, targets, threshold, relu):
    """The formula, image by image."""
    total, count = 0.0, 0
    anchors = student.source.anchors(student.levels, SIZE)
    shapes = [x.shape[2:] for x in student.levels]
    for number, image in enumerate(targets):
        masks = near_objects(anchors, shapes, image.boxes, threshold)
        for mask, conv, s, t in zip(
            masks, loss.adapters, student.levels, teacher.levels, strict=True
        ):
            windows = nn.functional.unfold(s[number : number + 1], 3, padding=1)[0]  # [9 C, h w]
            adapted = conv.weight.flatten(1) @ windows + conv.bias[:, None]
            gap = t[number].flatten(1) - (adapted.clamp_min(0) if relu else adapted)
            total += gap[:, mask.flatten()].square().sum().item()
            count += mask.sum().item()
    return total / (2 * count)


@pytest.mark.parametrize(("threshold", "relu"), [(0.5, "no"), (0.3, "yes")])
def test_imitation_by_hand(threshold, relu):
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
