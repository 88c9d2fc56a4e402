"""Layers that see the whole batch, however many processes share it."""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn

from cwd.system.distributed import mine, processes, total


class WholeBatchNorm2d(nn.BatchNorm2d):
    """Batch norm with mean and variance over the images of all processes.

    torch's own (`nn.SyncBatchNorm`) computes on GPUs only and can't be differentiated twice, as the
    critic's penalty is. This one is slower and needs more memory, but is only arithmetic.

    Args:
        norm: the layer whose place it takes; timm's has an activation in it.

    Shape:
        [B, C, H, W] in and out, equally many images in every process.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.drop, self.act = (getattr(norm, name, nn.Identity()) for name in ("drop", "act"))
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.normalised(x) if self.training else super().forward(x)
        return self.act(self.drop(x))

    def normalised(self, x: Tensor) -> Tensor:
        """`x` with mean and variance of its batch; the running ones follow them."""
        full = x.to(self.running_mean.dtype)  # as torch does: statistics of bf16 in float32
        count = processes() * x.numel() // x.shape[1]  # values of a channel
        mean = total(full.sum(dim=(0, 2, 3))) / count  # [C]
        centred = full - mean[:, None, None]
        variance = total(centred.square().sum(dim=(0, 2, 3))) / count  # [C]
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


class WholeBatchDropout(nn.Dropout):
    """Dropout whose mask is drawn for the images of all processes, as one process draws it."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape that begins with the batch."""
        return x * mine(self.mask(x)) if self.training else x

    def mask(self, x: Tensor) -> Tensor:
        """What one process multiplies the whole batch with."""
        # for what each value is, its place in memory matters, so the mask lies as `x` does
        whole = torch.cat([torch.empty_like(x)] * processes()).fill_(1)
        return F.dropout(whole, self.p)


class WholeBatchDropout2d(WholeBatchDropout):
    """The same for whole channels."""

    def mask(self, x: Tensor) -> Tensor:
        """What one process multiplies the whole batch with."""
        return F.dropout2d(x.new_ones(processes() * x.shape[0], x.shape[1], 1, 1), self.p)


def replacement(layer: nn.Module, fused: bool) -> nn.Module | None:
    """The layer that sees the whole batch in place of one that doesn't; None if it does."""
    found: Any = None
    if isinstance(layer, nn.BatchNorm2d):
        found = convert_sync_batchnorm(layer) if fused else WholeBatchNorm2d(layer)
    elif isinstance(layer, nn.Dropout2d):
        found = WholeBatchDropout2d(layer.p)
    elif isinstance(layer, nn.Dropout):
        found = WholeBatchDropout(layer.p)
    return found


def synchronise(module: nn.Module, fused: bool = False) -> nn.Module:
    """Make batch norm and dropout see the whole batch, in place; in one process they do already.

    Parameters and the names of the state stay what they were.

    Args:
        module: what is trained.
        fused: whether to take torch's batch norm: quick, on GPUs only, differentiable once.
    """
    if processes() > 1:
        for name, child in module.named_children():
            layer = replacement(child, fused)
            if layer is None:
                synchronise(child, fused)
            else:
                setattr(module, name, layer)
    return module
