"""Which object a cell of RepPoints is trained on, in each of its two stages."""

import torch
from torch import Tensor
from torchvision.ops import box_iou

from cwd.models.detection.points import Cells

BACKGROUND = -1  # a cell that belongs to no object
UNDECIDED = -2  # one that overlaps too much for background and too little for an object

SCALE = 4  # objects of this many strides belong to a level
POSITIVE, NEGATIVE = 0.5, 0.4  # IoU from which a box is an object's, below which it's background


def nearest_cells(where: Cells, boxes: Tensor) -> Tensor:
    """The first stage's assignment: each object has one cell, the nearest on the level of its size.

        level = [log2(w / 4) + log2(h / 4)] / 2, truncated, between the finest and the coarsest
        distance = |((x - centre_x) / w, (y - centre_y) / h)|_2

    A cell that is nearest for several objects goes to the nearest of them, and the others go
    without (mmdetection: PointAssigner with pos_num=1). Of equals, the first has it.

    Args:
        where: the A cells; a level's stride is a power of two.
        boxes: [N, 4], in pixels.

    Returns:
        int64 [A]: an object's index, or -1.
    """
    assigned = torch.full(where.strides.shape, BACKGROUND, device=boxes.device)
    if not len(boxes):
        return assigned
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp_min(1e-6)  # [N, 2]
    centres = (boxes[:, 2:] + boxes[:, :2]) / 2
    of_cells = where.strides.log2().round().long()  # [A]
    of_objects = (sides / SCALE).log2().mean(dim=1).trunc().long()
    of_objects = of_objects.clamp(of_cells[0], of_cells[-1])  # [N]
    distances = ((where.places - centres[:, None]) / sides[:, None]).norm(dim=2)  # [N, A]
    distances = distances.masked_fill(of_objects[:, None] != of_cells, torch.inf)
    distance, cell = distances.min(dim=1)  # [N]
    # j takes i's cell if it is nearer, or as near and earlier
    order = torch.arange(len(boxes), device=boxes.device)
    nearer = (distance < distance[:, None]) | (
        (distance == distance[:, None]) & (order < order[:, None])
    )  # [N, N], row i and column j
    kept = ~((cell == cell[:, None]) & nearer).any(dim=1)
    assigned[cell[kept]] = order[kept]
    return assigned


def best_overlaps(candidates: Tensor, boxes: Tensor) -> Tensor:
    """The second stage's assignment: by the overlap of the first stage's boxes with the objects.

    A candidate belongs to the object that it overlaps most if their IoU is 0.5 or more, is
    background below 0.4, and undecided between. Then every object also gets the candidates that
    overlap it as much as any does, however little; of several such objects the last has it
    (mmdetection: MaxIoUAssigner with min_pos_iou=0). Unlike there, an object that no candidate
    overlaps gets none. There it gets all of those at IoU 0, nearly the whole image.

    Args:
        candidates: [A, 4], in pixels.
        boxes: [N, 4], in pixels.

    Returns:
        int64 [A]: an object's index, -1 for background, or -2 for undecided.
    """
    if not len(boxes):
        return torch.full((len(candidates),), BACKGROUND, device=candidates.device)
    iou = box_iou(boxes, candidates)  # [N, A]
    most, assigned = iou.max(dim=0)  # [A]
    assigned = assigned.masked_fill(most < POSITIVE, UNDECIDED)
    assigned = assigned.masked_fill(most < NEGATIVE, BACKGROUND)
    order = torch.arange(len(boxes), device=boxes.device)[:, None]
    best = (iou == iou.amax(dim=1, keepdim=True)) & (iou > 0)
    last = torch.where(best, order, BACKGROUND).amax(dim=0)  # [A]
    return torch.where(last >= 0, last, assigned)
