"""Pooling and enlarging as products with two small matrices: of rows, then of columns.

Both are linear in the map and separable. A GPU's own kernels for them take a quarter of a training
step at the paper's size, most of it backward; on a CPU the products are no faster.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor


@functools.lru_cache(maxsize=256)
def placed(
    make: Callable[[int, int], Tensor], size: int, wanted: int, device: str, dtype: torch.dtype
) -> Tensor:
    """One of the matrices below on a device, made once."""
    return make(size, wanted).to(device, dtype)


def means(size: int, bins: int) -> Tensor:
    """The matrix [bins, size] of `adaptive_avg_pool2d` along a side: means over regions."""
    matrix = torch.zeros(bins, size, dtype=torch.float64)
    for region in range(bins):
        first, last = region * size // bins, -(-(region + 1) * size // bins)
        matrix[region, first:last] = 1 / (last - first)
    return matrix


def blends(size: int, wanted: int) -> Tensor:
    """The matrix [wanted, size] of bilinear `interpolate` with aligned corners along a side."""
    place = torch.linspace(0, size - 1, wanted, dtype=torch.float64)
    return (1 - (place[:, None] - torch.arange(size)).abs()).clamp(min=0)


def resized(x: Tensor, make: Callable[[int, int], Tensor], height: int, width: int) -> Tensor:
    """A map [B, C, h, w] as [B, C, height, width], channels last, by the matrices of `make`."""
    b, c, h, w = x.shape
    rows, columns = (
        placed(make, size, wanted, str(x.device), x.dtype)
        for size, wanted in ((h, height), (w, width))
    )
    x = x.permute(0, 2, 3, 1).reshape(b, h, w * c)
    return (columns @ (rows @ x).view(b, height, w, c)).permute(0, 3, 1, 2)
