"""What all measures have in common."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cwd.system.distributed import processes, rank
from cwd.system.errors import CwdError


@contextmanager
def measured(network: nn.Module, dataset: Any) -> Iterator[range]:
    """A network in eval mode, without gradients, and the images that this process measures it on.

    Each part of the network goes back to its old mode, since some may be frozen in eval mode.

    Raises:
        CwdError: the network has another number of classes than the dataset.
    """
    if network.num_classes != dataset.num_classes:
        raise CwdError(
            f"the network has {network.num_classes} classes and {dataset.name} "
            f"{dataset.num_classes}: evaluate it on the dataset that it was trained on."
        )
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            yield range(rank(), len(dataset), processes())
    finally:
        for module, mode in modes:
            module.training = mode


def by_class(classes: tuple[str, ...], values: Tensor) -> dict[str, float | None]:
    """A number [K] for each class's name, None for one that is nan."""
    return {
        name: None if value.isnan() else value.item()
        for name, value in zip(classes, values, strict=True)
    }
