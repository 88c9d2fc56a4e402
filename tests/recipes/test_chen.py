"""Chen's method: what it makes of Faster R-CNN's loss, anchor by anchor and box by box."""

import math

import pytest
import torch
import torch.nn.functional as F
from fake_detectors import CLASSES, detectors, identity, learnt, pointwise, seen
from maps import softmax
from torchvision.models.detection.roi_heads import fastrcnn_loss

from cwd.recipes.detection.chen import WeightedHints
from cwd.system.errors import CwdError


def pair(teacher_channels=6, **options):
    student, teacher = detectors(teacher_channels=teacher_channels)
    loss = WeightedHints(student, teacher, **options).double()
    return loss, learnt(seen(student)), seen(teacher, seed=1)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def classes(logits):
    """The distributions that a stage's logits are, the background first."""
    if logits.ndim == 1:
        return [[sigmoid(-x), sigmoid(x)] for x in logits.tolist()]
    return [softmax(row) for row in logits.tolist()]


def naive_stage(loss, student, teacher, labels):
    """L_cls of a stage, summed."""
    total = 0.0
    for s, t, label in zip(classes(student), classes(teacher), labels.tolist(), strict=True):
        soft = sum((1 if c else 1.5) * t[c] * -math.log(s[c]) for c in range(len(s)))
        total += loss.mu * -math.log(s[int(label)]) + (1 - loss.mu) * soft
    return total


def naive_boxes(loss, student, teacher, wanted):
    """L_reg of a stage, summed: torchvision's smooth L1 has beta 1/9."""
    total = 0.0
    for s, t, y in zip(student.tolist(), teacher.tolist(), wanted.tolist(), strict=True):
        gaps = [abs(a - b) for a, b in zip(s, y, strict=True)]
        total += sum(g * g * 9 / 2 if g < 1 / 9 else g - 1 / 18 for g in gaps)
        ours = sum(g * g for g in gaps)
        theirs = sum((a - b) ** 2 for a, b in zip(t, y, strict=True))
        total += loss.nu * (ours if ours + loss.margin > theirs else 0)
    return total


def naive(loss, student, teacher):
    """L of the paper as a whole."""
    r, detector = student.regions, teacher.source
    objectness, deltas = detector.first_stage(teacher.levels)
    logits, box_deltas = detector.second_stage(
        teacher.levels, r.proposals, detector.size(teacher.levels)
    )
    at = r.sampled
    first = naive_stage(loss, r.objectness[at], objectness[at], r.anchor_labels[at])
    at = r.positive
    first += naive_boxes(loss, r.deltas[at], deltas[at], r.delta_targets[at])
    second = naive_stage(loss, r.logits, logits, r.labels)
    for n, label in enumerate(r.labels.tolist()):
        if label:
            rows = slice(n, n + 1)
            boxes = r.box_deltas[rows, label], box_deltas[rows, label], r.box_targets[rows]
            second += naive_boxes(loss, *boxes)
    hint = 0.0
    for conv, s, t in zip(loss.adapters, student.levels[:4], teacher.levels[:4], strict=True):
        gaps = (pointwise(conv, s) - t).flatten().tolist()
        hint += sum(g * g for g in gaps) / len(gaps) / 4
    return first / len(r.sampled) + second / len(r.labels) + loss.gamma * hint


def own(regions):
    """Faster R-CNN's own loss, as torchvision computes it."""
    r, at = regions, regions.positive
    first = F.binary_cross_entropy_with_logits(r.objectness[r.sampled], r.anchor_labels[r.sampled])
    box = F.smooth_l1_loss(r.deltas[at], r.delta_targets[at], beta=1 / 9, reduction="sum")
    second = fastrcnn_loss(r.logits, r.box_deltas.flatten(1), [r.labels], [r.box_targets])
    return first + box / len(r.sampled) + sum(second)


OPTIONS = [{}, {"mu": 0.3, "nu": 2.0, "gamma": 0.1}, {"margin": 3.0}, {"mu": 1.0}]


@pytest.mark.parametrize("options", OPTIONS)
def test_added_to_the_detectors_own_loss_it_is_the_papers(options):
    loss, student, teacher = pair(**options)
    total = own(student.regions) + loss(student, teacher, [])
    assert total.item() == pytest.approx(naive(loss, student, teacher), rel=1e-12)


def test_some_boxes_are_better_than_the_teachers_and_some_are_not():
    # otherwise the tests above say nothing of the bound
    _, student, teacher = pair()
    r = student.regions
    deltas = teacher.source.first_stage(teacher.levels)[1]
    s, t = ((x - r.delta_targets)[r.positive].square().sum(1) for x in (r.deltas, deltas))
    assert 0 < (s > t).sum() < len(s)
    assert ((s <= t) & (s + 3 > t)).any()


def test_the_teachers_own_answers_leave_its_entropy_only():
    # student = teacher, nu = gamma = 0: L_soft - CE, with L_soft the weighted entropy
    student, _ = detectors()
    loss = WeightedHints(student, student, mu=0.0, nu=0.0, gamma=0.0).double()
    output = learnt(seen(student))
    r = output.regions
    p = torch.sigmoid(r.objectness[r.sampled])
    entropy = -(p * p.log() + 1.5 * (1 - p) * (1 - p).log()).mean()
    weights = torch.tensor([1.5, *[1.0] * CLASSES])
    q = r.logits.softmax(1)
    entropy = entropy - (weights * q * q.log()).sum(1).mean()
    hard = F.binary_cross_entropy(p, r.anchor_labels[r.sampled]) + F.cross_entropy(
        r.logits, r.labels
    )
    torch.testing.assert_close(loss(output, output, []), entropy - hard)


def test_with_annotated_classes_only_and_equal_maps_it_is_zero():
    student, _ = detectors()
    loss, output = WeightedHints(student, student, mu=1.0, nu=0.0).double(), learnt(seen(student))
    for adapter in loss.adapters:
        identity(adapter)
    assert loss(output, output, []) == 0


@pytest.mark.parametrize("options", OPTIONS)
def test_gradient(options):
    loss, student, teacher = pair(**options)

    def value(objectness, deltas, logits, box_deltas, level):
        regions = student.regions._replace(
            objectness=objectness, deltas=deltas, logits=logits, box_deltas=box_deltas
        )
        levels = [*student.levels[:3], level, student.levels[4]]
        return loss(student._replace(regions=regions, levels=levels), teacher, [])

    r = student.regions
    parts = (r.objectness, r.deltas, r.logits, r.box_deltas, student.levels[3])
    parts = [x.detach().requires_grad_() for x in parts]
    assert torch.autograd.gradcheck(value, parts, fast_mode=True)


def test_without_boxes_and_with_extreme_logits():
    loss, student, teacher = pair()
    r = student.regions
    empty = torch.zeros(0, dtype=torch.long)
    regions = r._replace(
        positive=empty,
        labels=torch.zeros_like(r.labels),
        objectness=torch.full_like(r.objectness, -1000.0).requires_grad_(),
        logits=(1000 * r.logits).detach().requires_grad_(),
    )
    value = loss(student._replace(regions=regions), teacher, [])
    grads = torch.autograd.grad(value, [regions.objectness, regions.logits])
    assert value.isfinite()
    assert all(g.isfinite().all() for g in grads)
    nothing = regions._replace(
        sampled=empty,
        proposals=[p[:0] for p in r.proposals],
        logits=r.logits[:0],
        box_deltas=r.box_deltas[:0],
        labels=r.labels[:0],
        box_targets=r.box_targets[:0],
    )
    hint = loss(student._replace(regions=nothing), teacher, [])
    assert hint > 0


def test_without_targets_it_says_so():
    loss, student, teacher = pair()
    with pytest.raises(CwdError, match="give the student the targets"):
        loss(student._replace(regions=None), teacher, [])


@pytest.mark.parametrize("stages", [(1, 1), (2, 1), (1, 2)])
def test_it_is_for_faster_rcnn(stages):
    student, teacher = (detectors(stages=n)[0] for n in stages)
    with pytest.raises(CwdError, match="only Faster R-CNN makes"):
        WeightedHints(student, teacher)


def test_other_anchors_are_refused():
    student, teacher = detectors(unit=2.0)
    loss = WeightedHints(student, teacher).double()
    with pytest.raises(CwdError, match="give both detectors the same anchors"):
        loss(learnt(seen(student)), seen(teacher), [])
