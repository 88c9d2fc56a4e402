"""The heads of the paper's networks: pyramid pooling (PSPNet) and atrous pyramid (Deeplab)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation as ConvNormReLU

from cwd.models.separable import blends, means, resized

BINS = (1, 2, 3, 6)  # sides of the pyramid's pooled maps
RATES = (12, 24, 36)  # dilations of the atrous pyramid at output stride 8
DROPOUT = 0.1


def as_products(x: Tensor) -> bool:
    """Whether `cwd.models.separable` pools and enlarges a map: where it is faster."""
    return x.is_cuda


class RegionMeans(nn.AdaptiveAvgPool2d):
    """Means of a map over side x side regions: [B, C, side, side]."""

    def forward(self, x: Tensor) -> Tensor:
        side = self.output_size
        return resized(x, means, side, side) if as_products(x) else super().forward(x)


def pooled(inputs: int, outputs: int, side: int) -> nn.Sequential:
    """Averages over side x side regions, then a 1x1 convolution with norm and ReLU."""
    return nn.Sequential(RegionMeans(side), *ConvNormReLU(inputs, outputs, 1))


def enlarged(x: Tensor, like: Tensor) -> Tensor:
    """A map [B, C, ., .] at the height and width of another, bilinearly."""
    size = like.shape[-2:]
    if as_products(x):
        return resized(x, blends, *size)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


class PyramidPooling(nn.Module):
    """PSPNet's head (Zhao et al. 2017, figure 3): the map and its means over 1 to 36 regions.

    Shape:
        The backbone's last map [B, inputs, h, w] to the feature map [B, width, h, w]; each branch
        has `width` channels.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(pooled(inputs, width, side) for side in BINS)
        self.bottleneck = ConvNormReLU(inputs + len(BINS) * width, width, 3)
        self.dropout = nn.Dropout2d(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        branches = [enlarged(branch(x), x) for branch in self.branches]  # each [B, width, h, w]
        x = torch.cat([x, *branches], dim=1)  # [B, inputs + 4 width, h, w]
        return self.dropout(self.bottleneck(x))  # [B, width, h, w]


class AtrousPyramid(nn.Module):
    """Deeplab's head (ASPP, Chen et al. 2017, figure 5): five looks at the map, side by side.

    They are a 1x1 convolution, three dilated 3x3 ones and the image's mean.

    Shape:
        The backbone's last map [B, inputs, h, w] to the feature map [B, width, h, w]; each branch
        has half as many channels.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        inner = width // 2
        self.point = ConvNormReLU(inputs, inner, 1)
        self.atrous = nn.ModuleList(ConvNormReLU(inputs, inner, 3, dilation=rate) for rate in RATES)
        self.image = pooled(inputs, inner, 1)
        self.project = ConvNormReLU((2 + len(RATES)) * inner, width, 1)
        self.dropout = nn.Dropout2d(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.point(x), *(branch(x) for branch in self.atrous)]
        x = torch.cat([*branches, enlarged(self.image(x), x)], dim=1)  # [B, 5 inner, h, w]
        return self.dropout(self.project(x))  # [B, width, h, w]


def auxiliary_head(inputs: int, width: int, num_classes: int) -> nn.Sequential:
    """Score map [B, K, h, w] from the backbone's third stage, used in training only."""
    return nn.Sequential(
        *ConvNormReLU(inputs, width, 3, bias=True),
        nn.Dropout2d(DROPOUT),
        nn.Conv2d(width, num_classes, 1),
    )
