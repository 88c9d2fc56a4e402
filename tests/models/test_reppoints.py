"""RepPoints' losses and detections in plain Python, and that it learns to detect."""

import math
import statistics
from itertools import chain

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import box_iou

from cwd.models.detection import reppoints
from cwd.models.detection.outputs import Objects
from cwd.models.detection.reppoints import RepPointsHead, RepPointsOutput, group_norm
from cwd.system.errors import CwdError

STRIDES = (4, 8, 16)
SHAPES = ((6, 5), (3, 3), (2, 2))
K = 3
TRANSFER = 0.25, -0.125  # of width and height


def objects(boxes=(), labels=()):
    boxes = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    none = torch.zeros(len(boxes))
    return Objects(boxes, torch.tensor(labels, dtype=torch.long), none, none.bool())


def random_output(seed=0, spread=1.2):
    generator = torch.Generator().manual_seed(seed)

    def maps(channels, scale):
        return [
            (scale * torch.randn(2, channels, *s, generator=generator, dtype=torch.float64))
            for s in SHAPES
        ]

    output = RepPointsOutput(maps(K, 2), maps(18, spread), maps(18, spread))
    for x in chain(*output):
        x.requires_grad_()
    return output


TARGETS = [
    objects([[2, 3, 14, 15], [6, 2, 14, 16], [1, 1, 7, 6], [12, 11, 20, 24]], [0, 2, 1, 1]),
    objects([[0, 0, 20, 24], [-9, -5, -1, 3], [11, 4, 16, 9]], [2, 0, 1]),
]


def plain_box(points, centre, stride):
    y, x = points[0::2], points[1::2]
    half = [statistics.stdev(v) * math.exp(t) for v, t in zip((x, y), TRANSFER, strict=True)]
    middle = statistics.mean(x), statistics.mean(y)
    box = [middle[a] + sign * half[a] for sign in (-1, 1) for a in (0, 1)]
    return [stride * v + centre[i % 2] for i, v in enumerate(box)]


def plain_iou(a, b):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
    return width * height / (areas - width * height)


def plain_nearest(boxes):
    owner = {}
    for k, (left, top, right, bottom) in enumerate(boxes):
        w, h = right - left, bottom - top
        level = min(max(int((math.log2(w / 4) + math.log2(h / 4)) / 2), 2), 4)
        gaps = [
            (math.hypot((x - (left + right) / 2) / w, (y - (top + bottom) / 2) / h), i)
            for i, ((x, y), stride) in enumerate(PLACES)
            if stride == 2**level
        ]
        gap, i = min(gaps)
        if i not in owner or gap < owner[i][0]:
            owner[i] = gap, k
    return {i: k for i, (_, k) in owner.items()}


def plain_best(candidates, boxes):
    table = [[plain_iou(b, c) for c in candidates] for b in boxes]
    found = {}
    for i, column in enumerate(zip(*table, strict=True)):
        if max(column) >= 0.4:
            found[i] = column.index(max(column)) if max(column) >= 0.5 else None
    for k, row in enumerate(table):
        found.update({i: k for i, value in enumerate(row) if value == max(row) > 0})
    return found


def smooth(a, b, stride):
    gaps = [abs(u - v) / (4 * stride) for u, v in zip(a, b, strict=True)]
    return sum(g * g / 0.22 if g < 0.11 else g - 0.055 for g in gaps)


def focal(logit, positive):
    p = 1 / (1 + math.exp(-logit))
    return -0.25 * (1 - p) ** 2 * math.log(p) if positive else -0.75 * p**2 * math.log(1 - p)


PLACES = [
    ((j * s, i * s), s)
    for s, (height, width) in zip(STRIDES, SHAPES, strict=True)
    for i in range(height)
    for j in range(width)
]


def listed(maps, image):
    """The channels of every cell of an image."""
    return [x for level in maps for x in level[image].flatten(1).T.tolist()]


def plain_losses(output, targets):
    sums, counts, undecided = {"class": 0, "init": 0, "refine": 0}, [0, 0], 0
    for b, target in enumerate(targets):
        scores, *both = (listed(maps, b) for maps in output)
        first, second = (
            [plain_box(p, *place) for p, place in zip(points, PLACES, strict=True)]
            for points in both
        )
        boxes = target.boxes.tolist()
        nearest, best = plain_nearest(boxes), plain_best(first, boxes)
        for i, k in nearest.items():
            sums["init"] += smooth(first[i], boxes[k], PLACES[i][1])
        for i, logits in enumerate(scores):
            k = best.get(i, -1)
            if k is None:
                undecided += 1
                continue
            label = target.labels[k].item() if k >= 0 else -1
            sums["class"] += sum(focal(v, c == label) for c, v in enumerate(logits))
            if k >= 0:
                sums["refine"] += smooth(second[i], boxes[k], PLACES[i][1])
        counts[0] += max(1, len(nearest))
        counts[1] += max(1, sum(k is not None for k in best.values()))
    sums["init"] *= 0.5 / counts[0]
    return {**sums, **{n: sums[n] / counts[1] for n in ("class", "refine")}}, undecided


@pytest.mark.parametrize("targets", [TARGETS, [objects(), TARGETS[0]], [objects(), objects()]])
def test_losses_by_hand(targets):
    skipped = 0
    for seed in range(6):
        output = random_output(seed)
        expected, undecided = plain_losses(output, targets)
        network = RepPointsHead(8, K, STRIDES).double()
        network.to_boxes.transfer.data[:] = torch.tensor(TRANSFER)
        found = network.losses(output, targets)
        assert list(found) == ["class", "init", "refine"]
        assert {n: v.item() for n, v in found.items()} == pytest.approx(expected, rel=1e-9)
        skipped += undecided
    assert (skipped > 0) == any(len(t.boxes) for t in targets)


def test_gradient_of_the_losses():
    network, output = RepPointsHead(8, K, STRIDES).double(), random_output()

    def losses(*maps):
        thirds = [list(maps[i : i + 3]) for i in (0, 3, 6)]
        return tuple(network.losses(RepPointsOutput(*thirds), TARGETS).values())

    assert torch.autograd.gradcheck(losses, tuple(chain(*output)), fast_mode=True)


def plain_detections(output, image, size, candidates, threshold, nms, most):
    """Refined boxes by score; each must overlap the kept ones of its class by at most `nms`."""
    sure, start = [], 0
    scores, points = listed(output.scores, image), listed(output.refined, image)
    for height, width in SHAPES:
        level = range(start, start + height * width)
        sure += sorted(level, key=lambda i: max(scores[i]), reverse=True)[:candidates]
        start += height * width
    found = []
    for i in sure:
        box = plain_box(points[i], *PLACES[i])
        box = [min(max(v, 0), size[1 - axis % 2]) for axis, v in enumerate(box)]
        found += [(1 / (1 + math.exp(-v)), c, box) for c, v in enumerate(scores[i])]
    kept = []
    for score, label, box in sorted(found, reverse=True):
        rivals = (plain_iou(box, other) for _, c, other in kept if c == label)
        if score > threshold and all(v <= nms for v in rivals):
            kept.append((score, label, box))
    return kept[:most]


@pytest.mark.parametrize(
    ("candidates", "threshold", "nms", "most"),
    [(1000, 0.05, 0.5, 100), (1000, 0.5, 0.2, 100), (4, 0.05, 0.5, 100), (1000, 0.3, 0.5, 7)],
)
def test_detections_by_hand(candidates, threshold, nms, most, monkeypatch):
    monkeypatch.setattr(reppoints, "CANDIDATES", candidates)
    network, output, sizes = (
        RepPointsHead(8, K, STRIDES).double(),
        random_output(spread=1),
        [(23, 19), (21, 20)],
    )
    network.to_boxes.transfer.data[:] = torch.tensor(TRANSFER)
    found = network.detect(output, sizes, score_threshold=threshold, nms=nms, most=most)
    for image, (detections, size) in enumerate(zip(found, sizes, strict=True)):
        expected = plain_detections(output, image, size, candidates, threshold, nms, most)
        assert detections.labels.tolist() == [label for _, label, _ in expected]
        assert detections.scores.tolist() == pytest.approx([score for score, _, _ in expected])
        expected = torch.tensor([box for *_, box in expected], dtype=torch.float64)
        torch.testing.assert_close(detections.boxes, expected)
        assert not detections.boxes.requires_grad


def test_nothing_found():
    network, output = RepPointsHead(8, K, STRIDES), random_output()
    for detections in network.detect(output, [(24, 20)] * 2, score_threshold=1.0):
        assert [x.shape for x in detections] == [(0, 4), (0,), (0,)]


def test_another_number_of_images():
    with pytest.raises(CwdError, match="targets for 1 images and outputs for 2"):
        RepPointsHead(8, K, STRIDES).losses(random_output(), TARGETS[:1])


SCENES = [  # boxes and classes on 64 x 64 pixels
    objects([[6, 8, 26, 30], [36, 30, 58, 56]], [0, 1]),
    objects([[10, 34, 40, 54], [38, 6, 56, 24]], [1, 0]),
]
COLOURS = torch.tensor([[1.0, -1, 0], [-1, 1, 0]])  # of the classes


def painted():
    images = torch.full((len(SCENES), 3, 64, 64), -0.5)
    for image, scene in zip(images, SCENES, strict=True):
        for (left, top, right, bottom), label in zip(
            scene.boxes.int().tolist(), scene.labels, strict=True
        ):
            image[:, top:bottom, left:right] = COLOURS[label][:, None, None]
    return images


class Tiny(nn.Module):
    """RepPoints on seven strided convolutions, of which the last five give the levels."""

    def __init__(self, width=24):
        super().__init__()
        self.steps = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, width, 3, 2, 1), group_norm(width))
            for c in [3, *[width] * 6]
        )
        self.head = RepPointsHead(width, 2)

    def forward(self, x):
        maps = []
        for step in self.steps:
            x = step(F.relu(x) if maps else x)
            maps.append(x)
        return self.head(maps[2:])


def test_it_learns_to_detect():
    torch.manual_seed(3)
    network, images, steps = Tiny(), painted(), 180
    optimizer = torch.optim.Adam(network.parameters(), 4e-3)
    slower = torch.optim.lr_scheduler.MultiStepLR(optimizer, [steps * 4 // 5])
    for _ in range(steps):
        optimizer.zero_grad()
        sum(network.head.losses(network(images), SCENES).values()).backward()
        optimizer.step()
        slower.step()
    found = network.head.detect(network(images), [(64, 64)] * len(SCENES), score_threshold=0.3)
    for detections, scene in zip(found, SCENES, strict=True):
        assert len(detections.boxes)
        overlap = box_iou(scene.boxes, detections.boxes)
        overlap = overlap * (scene.labels[:, None] == detections.labels)
        assert (overlap.amax(dim=1) > 0.7).all()  # every object is found
        assert (overlap.amax(dim=0) > 0.3).all()  # and nothing where there is none
