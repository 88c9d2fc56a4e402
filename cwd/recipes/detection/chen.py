"""Chen et al. 2017: soft classes, boxes as good as the teacher's, and hints, for Faster R-CNN."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwd.models.detection.outputs import DetectionOutput as Output
from cwd.models.detection.outputs import Objects
from cwd.recipes.detection.shared import Rival, paired
from cwd.system.errors import CwdError

BACKGROUND = 1.5  # w of the background; every other class has 1
WEIGHT = ("no weight of a term: give a number, at least 0", lambda v: 0 <= v < math.inf)
HINTED = 4  # P2 to P5; P6 is every other position of P5


class WeightedHints(Rival):
    """Chen et al. 2017, "Learning efficient object detection models": a row of Table 9.

    The method trains both stages of Faster R-CNN with

        L_cls = mu CE + (1 - mu) L_soft,   L_soft = -sum_c w_c P_t(c) log P_s(c)
        L_reg = smooth L1 + nu L_b,        L_b = |R_s - y|^2 if |R_s - y|^2 + m > |R_t - y|^2 else 0
        L_hint = mean of (adapter(S) - T)^2, averaged over P2 to P5
        L = (L_cls + L_reg of stage 1) + (L_cls + L_reg of stage 2) + gamma L_hint

    with w = 1.5 for the background and 1 for objects. CE and smooth L1 are the detector's own terms
    already, so the value here is what the method adds to them, and at weight 1 the sum is exactly
    L; being a difference, it may be negative:

        (1 - mu) (L_soft - CE) + nu L_b of both stages + gamma L_hint

    The teacher scores the student's anchors and proposals. L_soft is averaged and L_b divided as
    torchvision does with CE and smooth L1: by the sampled anchors, and by the sampled proposals.
    Stage 1 has two classes, P(object) = sigmoid(objectness); L_b is over the 4 deltas of the boxes
    that belong to an object, in stage 2 those of its class. What sources leave open: mu (notes on
    the paper found 0.8 to train, 0.5 hardly), m, and the hint's layers. The adapters are 1x1
    convolutions, kept where the channels agree, as published.

    Args:
        student: a Faster R-CNN, which has to be given the targets.
        teacher: the same; all Faster R-CNNs have the same anchors.
        mu: the share of the annotated class, 0 to 1.
        nu: the weight of L_b.
        gamma: the weight of L_hint.
        margin: m; the student's box is left alone once it is better than the teacher's by this.
    """

    options: ClassVar = {
        "mu": ("no share of the annotated class: give a number from 0 to 1", lambda v: 0 <= v <= 1),
        "nu": WEIGHT,
        "gamma": WEIGHT,
        "margin": ("no margin of a squared error: give a number, at least 0", WEIGHT[1]),
    }

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        *,
        mu: float = 0.8,
        nu: float = 0.5,
        gamma: float = 0.5,
        margin: float = 0.0,
    ) -> None:
        self.check(mu=mu, nu=nu, gamma=gamma, margin=margin)
        super().__init__()
        self.mu, self.nu, self.gamma, self.margin = mu, nu, gamma, margin
        self.adapters = nn.ModuleList(
            nn.Conv2d(student.channels, teacher.channels, 1) for _ in range(HINTED)
        )

    def forward(self, student: Output, teacher: Output, targets: list[Objects]) -> Tensor:
        r = student.regions
        if r is None:
            raise CwdError(
                "Chen's method compares the regions that Faster R-CNN is trained on, and the "
                "student's output has none: give the student the targets."
            )
        pairs = paired(student.levels[:HINTED], teacher.levels[:HINTED])
        detector, levels = teacher.source, teacher.levels
        with torch.no_grad():  # what the teacher says of the student's anchors and proposals
            objectness, deltas = detector.first_stage(levels)
            logits, box_deltas = detector.second_stage(levels, r.proposals, detector.size(levels))
        with torch.autocast(r.logits.device.type, enabled=False):
            at, boxes = r.sampled, r.positive
            hard = F.binary_cross_entropy_with_logits(
                r.objectness[at], r.anchor_labels[at], reduction="sum"
            )
            soft = _softened_objects(r.objectness[at], objectness[at])
            bounded = self._bounded(r.deltas[boxes], deltas[boxes], r.delta_targets[boxes])
            first = self._stage(soft - hard, bounded, len(at))

            found = (r.labels > 0).nonzero()[:, 0]
            of_class = found, r.labels[found]
            hard = F.cross_entropy(r.logits, r.labels, reduction="sum")
            soft = _softened_classes(r.logits, logits)
            bounded = self._bounded(
                r.box_deltas[of_class], box_deltas[of_class], r.box_targets[found]
            )
            second = self._stage(soft - hard, bounded, len(r.labels))
            hints = [F.mse_loss(f(s), t) for f, (s, t) in zip(self.adapters, pairs, strict=True)]
            return first + second + self.gamma * torch.stack(hints).mean()

    def _stage(self, softer: Tensor, bounded: Tensor, count: int) -> Tensor:
        """One stage's terms, from the sums of L_soft - CE and of L_b."""
        return ((1 - self.mu) * softer + self.nu * bounded) / max(count, 1)

    def _bounded(self, student: Tensor, teacher: Tensor, wanted: Tensor) -> Tensor:
        """Sum of L_b over P boxes, from their deltas and what these should be, all [P, 4]."""
        s, t = ((deltas - wanted).square().sum(dim=1) for deltas in (student, teacher))
        return (s * (s + self.margin > t)).sum()


def _softened_objects(student: Tensor, teacher: Tensor) -> Tensor:
    """Sum of L_soft over anchors, from the logits [S] of being an object."""
    background = BACKGROUND * torch.sigmoid(-teacher) * F.logsigmoid(-student)
    return -(torch.sigmoid(teacher) * F.logsigmoid(student) + background).sum()


def _softened_classes(student: Tensor, teacher: Tensor) -> Tensor:
    """Sum of L_soft over proposals, from logits [R, K + 1] with the background first."""
    terms = teacher.softmax(dim=1) * student.log_softmax(dim=1)
    return -(terms.sum() + (BACKGROUND - 1) * terms[:, 0].sum())
