"""Deformable convolution: a 3x3 kernel whose nine positions are moved by offsets."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import DeformConv2d


class DeformableConv(DeformConv2d):
    """torchvision's deformable 3x3 convolution, without bias; on a CPU the same by `grid_sample`.

    torchvision's kernel for CPUs computes one value after the other and takes six times as long,
    forward and backward, as sampling all positions and multiplying them by the weights.

    Shape:
        Maps [B, inputs, H, W] and offsets [B, 18, H, W] (dy, dx of each kernel position, row by
        row, in positions of the map) to [B, outputs, H, W]. Beyond the border are zeros.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False)

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        on_cpu = x.device.type == "cpu"
        return sampled_conv(x, offset, self.weight) if on_cpu else super().forward(x, offset)


def sampled_conv(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """What torchvision's `deform_conv2d` with padding 1 computes; shapes as in the class above."""
    height, width = x.shape[-2:]
    steps = torch.arange(-1, 2, dtype=x.dtype, device=x.device)
    kernel = torch.cartesian_prod(steps, steps)[:, :, None, None]
    y, x_ = (offset.unflatten(1, (9, 2)) + kernel).unbind(dim=2)  # [B, 9, H, W], from the cell
    y = y + torch.arange(height, dtype=x.dtype, device=x.device)[:, None]
    x_ = x_ + torch.arange(width, dtype=x.dtype, device=x.device)
    # grid_sample's -1 and 1 are the edges of the map, half a position beyond its outermost centres
    grid = torch.stack([(2 * x_ + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    sampled = F.grid_sample(x, grid.flatten(1, 2), align_corners=False)  # [B, C, 9 H, W]
    sampled = sampled.unflatten(2, (9, height)).flatten(1, 2)  # [B, 9 C, H, W]
    return F.conv2d(sampled, weight.flatten(1)[:, :, None, None])
