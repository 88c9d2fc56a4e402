"""Layers that see the whole batch, however many processes share it."""

import torch
import torch.nn.functional as F
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn

from cwd.system.distributed import mine, processes, total


class _WholeBatchNorm2d(nn.BatchNorm2d):
    """Batch norm with mean and variance over the images of all processes, in the place of `norm`.

    torch's own (`nn.SyncBatchNorm`) computes on GPUs only and can't be differentiated twice, as the
    critic's penalty is. This one is slower and needs more memory, but is only arithmetic.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.beside = beside(norm)
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.beside(super().forward(x))
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
        y = centred * scale[:, None, None] + self.bias[:, None, None]
        return self.beside(y.to(x.dtype))


def beside(norm: nn.BatchNorm2d) -> nn.Sequential:
    """What a norm does after normalising: timm's has an activation in it."""
    return nn.Sequential(*(getattr(norm, name, nn.Identity()) for name in ("drop", "act")))


class _WholeBatchDropout(nn.Module):
    """Dropout whose mask is drawn for the images of all processes, as one process draws it."""

    def __init__(self, dropout: nn.Dropout | nn.Dropout2d) -> None:
        super().__init__()
        self.p, self.channels = dropout.p, isinstance(dropout, nn.Dropout2d)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        if self.channels:
            mask = F.dropout2d(x.new_ones(processes() * x.shape[0], x.shape[1], 1, 1), self.p)
        else:  # for what each value is, its place in memory matters, so the mask lies as `x` does
            mask = F.dropout(torch.cat([torch.empty_like(x)] * processes()).fill_(1), self.p)
        return x * mine(mask)


def synchronise(module: nn.Module, fused: bool = False) -> nn.Module:
    """Make batch norm and dropout see the whole batch, in place; in one process they do already.

    Parameters and the names of the state stay what they were. `fused` takes torch's batch norm:
    quick, on GPUs only, differentiable once.
    """
    for name, child in module.named_children() if processes() > 1 else ():
        if isinstance(child, nn.BatchNorm2d):
            layer = convert_sync_batchnorm(child) if fused else _WholeBatchNorm2d(child)
        elif isinstance(child, nn.Dropout | nn.Dropout2d):
            layer = _WholeBatchDropout(child)
        else:
            layer = synchronise(child, fused)
        setattr(module, name, layer)
    return module
