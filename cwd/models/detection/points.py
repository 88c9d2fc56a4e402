"""RepPoints' points: where the cells lie, and which box nine points stand for."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cwd.system.errors import CwdError

POINTS = 9  # of a cell: as many as the positions of a 3x3 kernel
CORNERS = 4  # so many of them span the box of "partial_minmax"
TRANSFER_RATE = 0.01  # share of its gradient that the moment's transfer gets
CONVERSIONS = ("moment", "minmax", "partial_minmax")


class Cells(NamedTuple):
    """The cells of all levels: the finest level first, then row, then column.

    Attributes:
        places: float [A, 2], x and y of the cells in pixels, without the half cell that other
            detectors add.
        strides: float [A], pixels from a cell to the next.
    """

    places: Tensor
    strides: Tensor


def cells(maps: list[Tensor], strides: tuple[int, ...]) -> Cells:
    """The cells of maps [B, C_l, h_l, w_l], in the maps' type and on their device."""
    places, steps = [], []
    for x, stride in zip(maps, strides, strict=True):
        height, width = x.shape[2:]
        across, down = (torch.arange(n, device=x.device, dtype=x.dtype) for n in (width, height))
        y, x_ = torch.meshgrid(down, across, indexing="ij")
        places.append(torch.stack((x_.flatten(), y.flatten()), dim=1) * stride)
        steps.append(x.new_full((height * width,), stride))
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
    """The box that nine points stand for (RepPoints, section 3.2).

    In the units of the points:

        moment:          mean -+ std * exp(transfer), the std unbiased, the transfer learnt for
                         width and height
        minmax:          the smallest box around all points
        partial_minmax:  the smallest box around the first four

    As published, the transfer gets 0.01 of its gradient: it belongs to all boxes at once.

    Args:
        convert: which of the three.

    Attributes:
        transfer: [2], of width and height, in logarithms; only "moment" has it.

    Shape:
        Points [..., 18] as y0, x0, y1, x1, ... to boxes [..., 4]: left, top, right, bottom.

    Raises:
        CwdError: `convert` is none of the three.
    """

    def __init__(self, convert: str = "moment") -> None:
        super().__init__()
        if convert not in CONVERSIONS:
            raise CwdError(
                f"convert={convert!r} is no way from points to boxes: use one of "
                f"{', '.join(CONVERSIONS)}."
            )
        self.convert = convert
        if convert == "moment":
            self.transfer = nn.Parameter(torch.zeros(2))

    def forward(self, points: Tensor) -> Tensor:
        """See the class."""
        points = points.unflatten(-1, (POINTS, 2)).flip(-1)  # [..., 9, 2], x first
        if self.convert == "moment":
            centre = points.mean(dim=-2)  # [..., 2]
            # where all points coincide, torch's std has the gradient 0 and not 0 / 0
            half = points.std(dim=-2) * slowed(self.transfer, TRANSFER_RATE).exp()
            return torch.cat((centre - half, centre + half), dim=-1)
        if self.convert == "partial_minmax":
            points = points[..., :CORNERS, :]
        return torch.cat((points.amin(dim=-2), points.amax(dim=-2)), dim=-1)


def in_pixels(boxes: Tensor, where: Cells) -> Tensor:
    """Boxes [B, A, 4] around their cells, in strides, as boxes on the image, in pixels."""
    return boxes * where.strides[:, None] + where.places.repeat(1, 2)
