"""RepPoints' points: where the cells lie, which box nine points stand for, and whose a cell is."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

POINTS = 9  # of a cell: as many as the positions of a 3x3 kernel
TRANSFER_RATE = 0.01  # share of its gradient that the moment's transfer gets
BACKGROUND = -1  # a cell that belongs to no object
UNDECIDED = -2  # one that overlaps too much for background and too little for an object
SCALE = 4  # objects of this many strides belong to a level
POSITIVE, NEGATIVE = 0.5, 0.4  # IoU from which a box is an object's, below which it's background


class Cells(NamedTuple):
    """The cells of all levels: the finest level first, then row, then column."""

    places: Tensor  # float [A, 2], x and y in pixels, without the half cell that others add
    strides: Tensor  # float [A], pixels from a cell to the next, a power of two


def cells(maps: list[Tensor], strides: tuple[int, ...]) -> Cells:
    """The cells of maps [B, C_l, h_l, w_l], in the maps' type and on their device."""
    places, steps = [], []
    for x, stride in zip(maps, strides, strict=True):
        down, across = (torch.arange(n, device=x.device, dtype=x.dtype) for n in x.shape[2:])
        places.append(torch.cartesian_prod(down, across).flip(1) * stride)
        steps.append(x.new_full((len(places[-1]),), stride))
    return Cells(torch.cat(places), torch.cat(steps))


def by_cell(maps: list[Tensor]) -> Tensor:
    """Maps [B, C, h_l, w_l] of all levels as [B, A, C], in the order of `Cells`."""
    return torch.cat([x.flatten(2).mT for x in maps], dim=1)


def kernel_points() -> Tensor:
    """Where a 3x3 convolution looks, as offsets [18] in cells: y0, x0, y1, x1, ..."""
    steps = torch.arange(-1.0, 2.0)
    return torch.cartesian_prod(steps, steps).flatten()


def slowed(x: Tensor, rate: float) -> Tensor:
    """`x`, of whose gradient only a share goes on."""
    fixed = x.detach()
    return fixed + rate * (x - fixed)  # the bracket is 0, so the value is x to the last digit


class PointsToBoxes(nn.Module):
    """The box that nine points stand for (RepPoints, section 3.2, moment-based).

        mean -+ std * exp(transfer)             the std unbiased, all in the units of the points

    As published, the transfer [2], of width and height, gets 0.01 of its gradient: it belongs to
    all boxes at once.

    Shape:
        Points [..., 18] as y0, x0, y1, x1, ... to boxes [..., 4]: left, top, right, bottom.
    """

    def __init__(self) -> None:
        super().__init__()
        self.transfer = nn.Parameter(torch.zeros(2))

    def forward(self, points: Tensor) -> Tensor:
        points = points.unflatten(-1, (POINTS, 2)).flip(-1)  # [..., 9, 2], x first
        centre = points.mean(dim=-2)  # [..., 2]
        # where all points coincide, torch's std has the gradient 0 and not 0 / 0
        half = points.std(dim=-2) * slowed(self.transfer, TRANSFER_RATE).exp()
        return torch.cat((centre - half, centre + half), dim=-1)


def in_pixels(boxes: Tensor, where: Cells) -> Tensor:
    """Boxes [B, A, 4] around their cells, in strides, as boxes on the image, in pixels."""
    return boxes * where.strides[:, None] + where.places.repeat(1, 2)


def nearest_cells(where: Cells, boxes: Tensor) -> Tensor:
    """The first stage's assignment: each object has one cell, the nearest on the level of its size.

        level = [log2(w / 4) + log2(h / 4)] / 2, truncated, between the finest and the coarsest
        distance = |((x - centre_x) / w, (y - centre_y) / h)|_2

    A cell that is nearest for several of the boxes [N, 4] goes to the nearest of them, and the
    others go without (mmdetection: PointAssigner with pos_num=1). Of equals, the first has it.

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

    A candidate [A, 4] belongs to the object [N, 4] that it overlaps most if their IoU is 0.5 or
    more, is background below 0.4, and undecided between. Then every object also gets the
    candidates that overlap it as much as any does, however little; of several such objects the
    last has it (mmdetection: MaxIoUAssigner with min_pos_iou=0). Unlike there, an object that no
    candidate overlaps gets none. There it gets all of those at IoU 0, nearly the whole image.

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
