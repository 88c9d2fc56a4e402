"""RepPoints' head, losses and detections against plain Python."""

import math
import statistics
from itertools import chain

import pytest
import torch
import torch.nn.functional as F
from plain_reppoints import plain_best, plain_iou, plain_nearest
from torchvision.ops import deform_conv2d

from cwd.models.detection import reppoints
from cwd.models.detection.outputs import Objects
from cwd.models.detection.reppoints import RepPointsHead, RepPointsOutput, group_norm

STRIDES = (4, 8, 16)
SHAPES = ((6, 5), (3, 3), (2, 2))
K = 3
TRANSFER = 0.25, -0.125  # of width and height
PLACES = [
    ((j * s, i * s), s)
    for s, (height, width) in zip(STRIDES, SHAPES, strict=True)
    for i in range(height)
    for j in range(width)
]


def objects(boxes=(), labels=()):
    boxes = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    none = torch.zeros(len(boxes))
    return Objects(boxes, torch.tensor(labels, dtype=torch.long), none, none.bool())


TARGETS = [
    objects([[2, 3, 14, 15], [6, 2, 14, 16], [1, 1, 7, 6], [12, 11, 20, 24]], [0, 2, 1, 1]),
    objects([[0, 0, 20, 24], [-9, -5, -1, 3], [11, 4, 16, 9]], [2, 0, 1]),
]


def random_maps(channels=8, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        scale * torch.randn(2, channels, *shape, generator=generator, dtype=torch.float64)
        for shape in SHAPES
    ]


def random_output(seed=0, spread=1.2):
    parts = (K, 2), (18, spread), (18, spread)
    output = RepPointsOutput(*(random_maps(*p, 9 * seed + i) for i, p in enumerate(parts)))
    for x in chain(*output):
        x.requires_grad_()
    return output


def head(transfer=(0, 0)):
    torch.manual_seed(0)
    network = RepPointsHead(8, K, STRIDES).double()
    for parameter in network.parameters():  # larger than at the start, so that everything matters
        parameter.data += 0.1 * torch.randn_like(parameter)
    network.to_boxes.transfer.data[:] = torch.tensor(transfer)
    return network


def test_each_point_is_looked_at_by_its_own_weight():
    # at positions between the pixels, written out: the point k of y 2k and x 2k + 1
    network, (x, *_) = head(), random_maps()
    scores, initial, refined = network.level(x)
    row, column = 2, 3
    for tower, deform, out, found in (
        (network.point_tower, network.refine_deform, network.refine_out, refined - initial),
        (network.class_tower, network.class_deform, network.class_out, scores),
    ):
        features, total = F.pad(tower(x), (20, 20, 20, 20)).detach(), 0
        for k, weight in enumerate(deform.weight.flatten(2).unbind(2)):
            y = 20 + row + initial[1, 2 * k, row, column].item()
            z = 20 + column + initial[1, 2 * k + 1, row, column].item()
            up, left = math.floor(y), math.floor(z)
            for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
                share = (1 - abs(y - up - i)) * (1 - abs(z - left - j))
                total = total + share * weight @ features[1, :, up + i, left + j]
        expected = out(F.relu(total)[None, :, None, None]).flatten()
        torch.testing.assert_close(found[1, :, row, column], expected)


def test_a_tenth_of_the_gradient_reaches_the_initial_points():
    network, (x, *_) = head(), random_maps()
    scores, initial, refined = network.level(x)
    for found, tower, deform, out in (
        (scores, network.class_tower, network.class_deform, network.class_out),
        (refined, network.point_tower, network.refine_deform, network.refine_out),
    ):
        offset = (initial - network.kernel).detach().requires_grad_()
        direct = out(F.relu(deform_conv2d(tower(x), offset, deform.weight, padding=1)))
        (whole,) = torch.autograd.grad(direct.square().sum(), offset)
        through = (found if found is scores else found - initial.detach()).square().sum()
        (part,) = torch.autograd.grad(through, initial, retain_graph=True)
        assert whole.abs().max() > 0
        torch.testing.assert_close(part, 0.1 * whole)


def test_the_start():
    network = RepPointsHead(64, K, (8, 16, 32, 64, 128))
    for module in network.modules():
        if hasattr(module, "weight") and module.weight.ndim == 4 and module.weight.numel() > 1000:
            assert module.weight.std().item() == pytest.approx(0.01, rel=0.15)
    assert network.class_out.bias.sigmoid().tolist() == pytest.approx([0.01] * K)
    output = network([torch.randn(1, 64, n, n) for n in (8, 4, 2, 1, 1)])
    assert max(x.abs().max() for x in output.initial) < 0.1  # points start on the cell
    groups = {256: 32, 64: 16, 96: 24, 12: 3, 10: 2, 7: 1, 3: 1}
    assert {channels: group_norm(channels).num_groups for channels in groups} == groups


def plain_box(points, centre, stride):
    y, x = points[0::2], points[1::2]
    half = [statistics.stdev(v) * math.exp(t) for v, t in zip((x, y), TRANSFER, strict=True)]
    middle = statistics.mean(x), statistics.mean(y)
    box = [middle[a] + sign * half[a] for sign in (-1, 1) for a in (0, 1)]
    return [stride * v + centre[i % 2] for i, v in enumerate(box)]


def smooth(a, b, stride):
    gaps = [abs(u - v) / (4 * stride) for u, v in zip(a, b, strict=True)]
    return sum(g * g / 0.22 if g < 0.11 else g - 0.055 for g in gaps)


def focal(logit, positive):
    p = 1 / (1 + math.exp(-logit))
    return -0.25 * (1 - p) ** 2 * math.log(p) if positive else -0.75 * p**2 * math.log(1 - p)


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
        nearest, best = plain_nearest(boxes, PLACES), plain_best(first, boxes)
        for i, k in nearest.items():
            sums["init"] += smooth(first[i], boxes[k], PLACES[i][1])
        for i, (k, logits) in enumerate(zip(best, scores, strict=True)):
            label = target.labels[k].item() if k >= 0 else -1
            if k != -2:
                sums["class"] += sum(focal(v, c == label) for c, v in enumerate(logits))
            if k >= 0:
                sums["refine"] += smooth(second[i], boxes[k], PLACES[i][1])
        undecided += best.count(-2)
        counts[0] += max(1, len(nearest))
        counts[1] += max(1, sum(k >= 0 for k in best))
    sums["init"] *= 0.5 / counts[0]
    return {**sums, **{n: sums[n] / counts[1] for n in ("class", "refine")}}, undecided


@pytest.mark.parametrize("targets", [TARGETS, [objects(), TARGETS[0]], [objects(), objects()]])
def test_losses_by_hand(targets):
    skipped = 0
    for seed in range(3):
        output = random_output(seed)
        expected, undecided = plain_losses(output, targets)
        found = head(TRANSFER).losses(output, targets)
        assert list(found) == ["class", "init", "refine"]
        assert {n: v.item() for n, v in found.items()} == pytest.approx(expected, rel=1e-9)
        skipped += undecided
    assert (skipped > 0) == any(len(t.boxes) for t in targets)


def test_gradient_of_the_losses():
    network, output = head(), random_output()

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


LIMITS = [(1000, 0.05, 0.5, 100), (1000, 0.5, 0.2, 100), (4, 0.05, 0.5, 100), (1000, 0.3, 0.5, 7)]


@pytest.mark.parametrize("limits", [*LIMITS, (1000, 1.0, 0.5, 100)])
def test_detections_by_hand(limits, monkeypatch):
    for name, value in zip(("CANDIDATES", "THRESHOLD", "NMS", "MOST"), limits, strict=True):
        monkeypatch.setattr(reppoints, name, value)
    output, sizes = random_output(spread=1), [(23, 19), (21, 20)]
    found = head(TRANSFER).detect(output, sizes)
    for image, (detections, size) in enumerate(zip(found, sizes, strict=True)):
        expected = plain_detections(output, image, size, *limits)
        assert detections.labels.tolist() == [label for _, label, _ in expected]
        assert detections.scores.tolist() == pytest.approx([score for score, _, _ in expected])
        expected = torch.tensor([box for *_, box in expected], dtype=torch.float64).view(-1, 4)
        torch.testing.assert_close(detections.boxes, expected)
        assert not detections.boxes.requires_grad


def test_odd_batches_train():
    """Without objects, in bfloat16, with all points in one place, and with nan."""
    torch.manual_seed(0)
    network, inputs = RepPointsHead(8, K, STRIDES), [x.float() for x in random_maps()]
    losses = network.losses(network(inputs), [objects(), objects()])
    assert losses["class"] > 0
    assert losses["init"] == losses["refine"] == 0
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
    assert network.class_tower[0].weight.grad.abs().max() > 0

    exact = network.losses(network(inputs), TARGETS)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(inputs)
        losses = network.losses(output, TARGETS)
    assert {x.dtype for x in (*chain(*output), *losses.values())} == {torch.float32}
    assert [v.item() for v in losses.values()] == pytest.approx(
        [v.item() for v in exact.values()], rel=0.05
    )

    for part in (network.init_out, network.refine_out):
        part.weight.data.zero_()
    sum(network.losses(network(inputs), TARGETS).values()).backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
    assert network.init_out.bias.grad.abs().max() > 0

    network.init_out.bias.data[:] = torch.nan  # must not end the process
    losses = network.losses(network(inputs), TARGETS)
    assert losses["init"].isnan()
    sum(losses.values()).backward()
