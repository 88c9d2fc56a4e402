"""Chen's method: what it makes of Faster R-CNN's loss, anchor by anchor and box by box."""

import pytest
import torch
import torch.nn.functional as F
from fake_detectors import detectors, learnt, pointwise, seen
from torchvision.models.detection.roi_heads import fastrcnn_loss

from cwd.recipes.detection.chen import WeightedHints
from cwd.system.errors import CwdError


def pair(teacher_channels=6, **options):
    student, teacher = detectors(teacher_channels=teacher_channels)
    loss = WeightedHints(student, teacher, **options).double()
    return loss, learnt(seen(student)), seen(teacher, seed=1)


def stage(loss, s, t, labels):
    """L_cls of a stage, summed, from distributions [N, K + 1], the background first."""
    soft = -(t * s.log()).sum() - 0.5 * (t[:, 0] * s[:, 0].log()).sum()
    hard = -s[range(len(s)), labels.long()].log().sum()
    return loss.mu * hard + (1 - loss.mu) * soft


def boxes(loss, s, t, wanted):
    """L_reg of a stage, summed: torchvision's smooth L1 has beta 1/9."""
    gaps, (ours, theirs) = (s - wanted).abs(), ((x - wanted).square().sum(1) for x in (s, t))
    smooth = torch.where(gaps < 1 / 9, gaps.square() * 9 / 2, gaps - 1 / 18).sum()
    return smooth + loss.nu * ours[ours + loss.margin > theirs].sum()


def naive(loss, student, teacher):
    """L of the paper as a whole."""
    r, detector = student.regions, teacher.source
    size = detector.size(teacher.levels)
    objectness, deltas = detector.first_stage(teacher.levels)
    logits, box_deltas = detector.second_stage(teacher.levels, r.proposals, size)
    at, found = r.positive, [n for n, label in enumerate(r.labels) if label]
    s, t = (torch.stack([1 - p, p], 1) for p in (r.objectness.sigmoid(), objectness.sigmoid()))
    first = stage(loss, s[r.sampled], t[r.sampled], r.anchor_labels[r.sampled])
    first += boxes(loss, r.deltas[at], deltas[at], r.delta_targets[at])
    second = stage(loss, r.logits.softmax(1), logits.softmax(1), r.labels)
    s, t = (torch.stack([x[n, r.labels[n]] for n in found]) for x in (r.box_deltas, box_deltas))
    second += boxes(loss, s, t, r.box_targets[found])
    triples = zip(loss.adapters, student.levels[:4], teacher.levels[:4], strict=True)
    hint = sum((pointwise(conv, s) - t).square().mean() / 4 for conv, s, t in triples)
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
    assert total.item() == pytest.approx(naive(loss, student, teacher).item(), rel=1e-12)
    # some boxes are better than the teacher's and some are not, else this says nothing of the bound
    r, deltas = student.regions, teacher.source.first_stage(teacher.levels)[1]
    s, t = ((x - r.delta_targets)[r.positive].square().sum(1) for x in (r.deltas, deltas))
    assert 0 < (s > t).sum() < len(s)
    assert ((s <= t) & (s + 3 > t)).any()


def test_gradient():
    loss, student, teacher = pair(mu=0.3, nu=2.0, gamma=0.1)

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


def test_it_needs_the_students_regions():
    loss, student, teacher = pair()
    with pytest.raises(CwdError, match="give the student the targets"):
        loss(student._replace(regions=None), teacher, [])
