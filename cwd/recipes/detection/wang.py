"""Wang et al. 2019: the student imitates the teacher's features near objects."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_iou

from cwd.models.detection.outputs import DetectionOutput as Output
from cwd.models.detection.outputs import Objects
from cwd.recipes.detection.shared import Rival, paired

STD = 1e-4  # of the adapters' first weights
BLOCK = 16  # objects whose overlap with all anchors is computed at once


class FineGrainedImitation(Rival):
    """Wang et al. 2019, "fine-grained feature imitation": a row of Table 9.

        M_k = largest IoU of object k with any anchor
        I = 1 at positions with an anchor whose IoU with some object k is above psi M_k, else 0
        loss = sum over images, channels and positions of I (T - adapter(S))^2 / (2 sum I)

    The published code has one map of stride 16. Here all five levels take part, M_k is the largest
    over all of them, so that an object chooses the level that fits it, and sum I counts the chosen
    positions of all levels and images. Each level has an adapter, a 3x3 convolution whose weights
    start from a normal distribution of deviation 1e-4, cut off at two deviations. The published
    adapter ends in a ReLU, with which the negative half of a pyramid's features can't be matched:
    it is an option. Left out: the published code does without the loss for its first 400
    iterations. Its weight is 0.01. Without objects the loss is zero.

    Args:
        student: a detector with anchors.
        teacher: a detector with the same levels.
        threshold: psi, from 0 to below 1.
        relu: whether adapters end in a ReLU, "no" or, as published, "yes".
    """

    options: ClassVar = {
        "threshold": (
            "no share of the best overlap: give a number from 0 to below 1",
            lambda v: 0 <= v < 1,
        ),
        "relu": ("unknown: use yes, as published, or no", {"yes", "no"}.__contains__),
    }

    def __init__(
        self, student: nn.Module, teacher: nn.Module, *, threshold: float = 0.5, relu: str = "no"
    ) -> None:
        self.check(threshold=threshold, relu=relu)
        super().__init__()
        self.threshold, self.relu = threshold, relu == "yes"
        self.adapters = nn.ModuleList(
            nn.Conv2d(student.channels, teacher.channels, 3, padding=1) for _ in student.strides
        )
        for adapter in self.adapters:
            nn.init.trunc_normal_(adapter.weight, std=STD, a=-2 * STD, b=2 * STD)
            nn.init.zeros_(adapter.bias)

    def forward(self, student: Output, teacher: Output, targets: list[Objects]) -> Tensor:
        pairs = paired(student.levels, teacher.levels)
        anchors = student.source.anchors(student.levels, student.source.size(student.levels))
        shapes = [tuple(s.shape[2:]) for s, _ in pairs]
        images = [near_objects(anchors, shapes, image.boxes, self.threshold) for image in targets]
        errors, count = pairs[0][0].new_zeros(()), pairs[0][0].new_zeros(())
        with torch.autocast(errors.device.type, enabled=False):
            for adapter, (s, t), *masks in zip(self.adapters, pairs, *images, strict=True):
                adapted = F.relu(adapter(s)) if self.relu else adapter(s)
                chosen = torch.stack(masks)  # [B, h, w]
                errors = errors + ((t - adapted).square().sum(dim=1) * chosen).sum()
                count = count + chosen.sum()
            return errors / (2 * count.clamp_min(1))


def near_objects(
    anchors: list[Tensor], shapes: list[tuple[int, int]], boxes: Tensor, threshold: float
) -> list[Tensor]:
    """I of one image, bool [h, w] by level; nothing is chosen for an object that no anchor touches.

    Args:
        anchors: of each level, [h w k, 4] in pixels, by row, column and shape.
        shapes: height and width of each level.
        boxes: of the objects, [N, 4] in pixels.
        threshold: psi.
    """
    everywhere = torch.cat(anchors)
    chosen = torch.zeros(len(everywhere), dtype=torch.bool, device=everywhere.device)
    for block in boxes.split(BLOCK):
        overlap = box_iou(block, everywhere)  # [objects, anchors]
        best = overlap.amax(dim=1, keepdim=True)
        chosen |= (overlap > threshold * best).any(dim=0)
    by_level = chosen.split([len(level) for level in anchors])
    return [x.view(*shape, -1).any(dim=2) for x, shape in zip(by_level, shapes, strict=True)]
