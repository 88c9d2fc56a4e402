"""RepPoints: no anchors, but nine points for every cell, whose spread is the box."""

import math
from itertools import chain
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import ops

from cwd.losses.maps import in_full_precision
from cwd.models.detection.base import MOST, Detector, Learnt, Size
from cwd.models.detection.deformable import DeformableConv
from cwd.models.detection.outputs import Detections, Objects
from cwd.models.detection.points import (
    POINTS,
    SCALE,
    UNDECIDED,
    Cells,
    PointsToBoxes,
    best_overlaps,
    by_cell,
    cells,
    in_pixels,
    kernel_points,
    nearest_cells,
    slowed,
)
from cwd.models.names import Architecture

CONVOLUTIONS = 3  # of each tower
POINT_RATE = 0.1  # share of its gradient that the second stage passes to the first one's points
PRIOR = 0.01  # every class's probability at the start
BETA = 0.11  # where smooth L1 turns from squares to lines, in units of 4 strides
INIT_WEIGHT = 0.5
CANDIDATES = 1000  # cells of a level that detections are taken from
THRESHOLD = 0.05  # a class of a cell must have more
NMS = 0.5  # IoU above which the less sure of two boxes of a class goes


class RepPointsOutput(NamedTuple):
    """What the head says of a batch, a map for every level, in float32.

    Points [B, 18, h_l, w_l] are y0, x0, y1, x1, ... in strides from the cell.
    """

    scores: list[Tensor]  # [B, K, h_l, w_l], logits
    initial: list[Tensor]  # the first stage's points
    refined: list[Tensor]  # the second stage's, whose boxes are the detections


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with 32 groups, or as many below as divide the channels and leave each 4 of them.

    Where there are fewer than 8 channels it is one group.
    """
    most = max(1, min(32, channels // 4))
    return nn.GroupNorm(max(n for n in range(1, most + 1) if channels % n == 0), channels)


def _tower(channels: int) -> nn.Sequential:
    """Three 3x3 convolutions, each with its norm and ReLU."""
    layers = (
        ops.Conv2dNormActivation(channels, channels, 3, norm_layer=group_norm)
        for _ in range(CONVOLUTIONS)
    )
    return nn.Sequential(*chain.from_iterable(layers))


class RepPointsHead(nn.Module):
    """The head of RepPoints (Yang et al. 2019) as mmdetection has it, the same for all levels.

        initial = conv1x1(ReLU(conv3x3(f)))                     f, g = the two towers' features
        offset = initial - (the kernel's own nine positions)
        refined = conv1x1(ReLU(deform3x3(f, offset))) + initial, detached
        scores = conv1x1(ReLU(deform3x3(g, offset)))

    Points start on the cell itself, at (column, row) * stride. Deformable convolutions look where
    the initial points lie, and pass a tenth of the gradient on to them. Under autocast only the
    towers and the 3x3 convolution are in half precision: in bfloat16 a point four strides away
    would be known to 1/32 of a stride, and torchvision has no deformable convolution for it.

    Shape:
        Levels [B, channels, h_l, w_l], whose strides are powers of two, to a `RepPointsOutput`.
    """

    def __init__(self, channels: int, num_classes: int, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.strides = strides
        self.class_tower = _tower(channels)
        self.point_tower = _tower(channels)
        self.init_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.init_out = nn.Conv2d(channels, 2 * POINTS, 1)
        self.class_deform = DeformableConv(channels, channels)
        self.class_out = nn.Conv2d(channels, num_classes, 1)
        self.refine_deform = DeformableConv(channels, channels)
        self.refine_out = nn.Conv2d(channels, 2 * POINTS, 1)
        self.to_boxes = PointsToBoxes()
        self.register_buffer("kernel", kernel_points().view(1, -1, 1, 1), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | DeformableConv):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.constant_(self.class_out.bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(self, levels: list[Tensor]) -> RepPointsOutput:
        return RepPointsOutput(*map(list, zip(*map(self.level, levels), strict=True)))

    def level(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, initial and refined points of one level [B, channels, h, w]."""
        about_class, about_points = self.class_tower(x), self.point_tower(x)
        hidden = F.relu(self.init_conv(about_points))
        with torch.autocast(x.device.type, enabled=False):
            hidden, about_class, about_points = map(
                in_full_precision, (hidden, about_class, about_points)
            )
            initial = self.init_out(hidden)
            # the operator reads outside of the map where an offset isn't a number, and the process
            # dies; the points themselves stay as they are, for the trainer to see
            offset = (slowed(initial, POINT_RATE) - self.kernel).nan_to_num()
            scores = self.class_out(F.relu(self.class_deform(about_class, offset)))
            refined = self.refine_out(F.relu(self.refine_deform(about_points, offset)))
        return scores, initial, refined + initial.detach()

    def losses(self, output: RepPointsOutput, targets: list[Objects]) -> dict[str, Tensor]:
        """The three terms, with their weights, of a batch without crowds.

            class = focal(gamma 2, alpha 0.25) of all cells but the undecided / n_refine
            init = 0.5 smooth L1 of the boxes of each object's nearest cell / n_init
            refine = smooth L1 of the boxes of cells whose initial box overlaps an object / n_refine

        Smooth L1 is summed over the four sides, in units of 4 strides. n counts the batch's cells
        with an object, at least one an image. Without any object, the first term is still there,
        and the others are 0 with a gradient of 0.
        """
        where, scores = cells(output.scores, self.strides), by_cell(output.scores)
        boxes = [in_pixels(x, where) for x in map(self.boxes, (output.initial, output.refined))]
        wanted = [objects.boxes.to(scores.dtype) for objects in targets]
        nearest = [nearest_cells(where, of_image) for of_image in wanted]
        best = list(map(best_overlaps, boxes[0].detach(), wanted))
        return {
            "class": _class_loss(scores, targets, best),
            "init": INIT_WEIGHT * _box_loss(boxes[0], where, targets, nearest),
            "refine": _box_loss(boxes[1], where, targets, best),
        }

    def boxes(self, points: list[Tensor]) -> Tensor:
        """Boxes [B, A, 4] around the cells, in strides, of all levels' points [B, 18, h_l, w_l]."""
        return self.to_boxes(by_cell(points))

    @torch.no_grad()
    def detect(self, output: RepPointsOutput, sizes: list[Size]) -> list[Detections]:
        """What is left of the refined boxes in images of these sizes without their padding."""
        where = cells(output.scores, self.strides)
        boxes = in_pixels(self.boxes(output.refined), where)
        scores = by_cell(output.scores).sigmoid()
        counts = [x.shape[2] * x.shape[3] for x in output.scores]
        found = []
        for image_boxes, image_scores, size in zip(boxes, scores, sizes, strict=True):
            sure, first = [], 0
            for of_level in image_scores.amax(dim=1).split(counts):
                sure.append(first + of_level.topk(min(CANDIDATES, len(of_level))).indices)
                first += len(of_level)
            cell = torch.cat(sure)
            row, label = (image_scores[cell] > THRESHOLD).nonzero(as_tuple=True)
            score, box = image_scores[cell[row], label], image_boxes[cell[row]]
            box = ops.clip_boxes_to_image(box, size)
            kept = ops.batched_nms(box, score, label, NMS)[:MOST]
            found.append(Detections(box[kept], score[kept], label[kept]))
        return found


def _class_loss(scores: Tensor, targets: list[Objects], assigned: list[Tensor]) -> Tensor:
    """Focal loss of logits [B, A, K] by B assignments [A], as in `RepPointsHead.losses`."""
    labels, total = torch.zeros_like(scores), 0
    for one_hot, objects, index in zip(labels, targets, assigned, strict=True):
        (cell,) = (index >= 0).nonzero(as_tuple=True)
        one_hot[cell, objects.labels[index[cell]]] = 1
        total += max(1, len(cell))
    counted = torch.stack(assigned) != UNDECIDED  # [B, A]
    return ops.sigmoid_focal_loss(scores[counted], labels[counted], reduction="sum") / total


def _box_loss(
    boxes: Tensor, where: Cells, targets: list[Objects], assigned: list[Tensor]
) -> Tensor:
    """Smooth L1 of boxes [B, A, 4], in pixels, by B assignments [A]; see `RepPointsHead.losses`."""
    value, total = boxes.new_zeros(()), 0
    for image_boxes, objects, index in zip(boxes, targets, assigned, strict=True):
        (cell,) = (index >= 0).nonzero(as_tuple=True)
        unit = SCALE * where.strides[cell, None]
        wanted = objects.boxes[index[cell]].to(boxes.dtype)
        value = value + F.smooth_l1_loss(
            image_boxes[cell] / unit, wanted / unit, beta=BETA, reduction="sum"
        )
        total += max(1, len(cell))
    return value / total


class RepPoints(Detector):
    """The detector: RepPoints' head on a pyramid with norms."""

    norm = staticmethod(group_norm)

    def __init__(self, arch: Architecture, num_classes: int, *, init: str = "random") -> None:
        super().__init__(arch, num_classes, init=init)
        self.head = RepPointsHead(arch.fpn, num_classes, self.strides)

    def learn(self, levels: list[Tensor], targets: list[Objects]) -> Learnt:
        """The losses of `RepPointsHead`."""
        return self.head.losses(self.head(levels), targets), None

    def read(self, levels: list[Tensor], sizes: list[Size]) -> list[Detections]:
        return self.head.detect(self.head(levels), sizes)
