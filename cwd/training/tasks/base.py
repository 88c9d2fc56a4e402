"""What the loop has to know of a kind of network; the loop itself is the same for all."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from cwd.config.schedule import BaseSchedule


@dataclass(frozen=True)
class Task:
    """A kind of network, as functions.

    Attributes:
        measure: the metric by which networks are ranked, a key of what `evaluate` gives.
        unit: the same for people.
        schedule: the class of its schedules.
        open_data: `Data` and the data root to the training images and those that are measured on,
            each with a length, `name`, `num_classes` and `checksum`.
        batches: (dataset, schedule, seed, device, rows) to what gives the batch of a step: images
            float32 [B, 3, H, W], normalised, and their target.
        build: (name, number of classes, init=, device=) to the network.
        student: (run, number of classes) to the network that a run begins with.
        forward: (network, images, target) to its output; the target may be None.
        losses: (output, target, schedule) to the network's own terms by name, scalars.
        distiller: (run, student, teacher) to the recipe at work, see `cwd.recipes.Distiller`.
        evaluate: (network, dataset, schedule, device=, autocast=) to metrics.
        kept: (schedule, teacher) to what determines a batch, and the bytes of the teacher's maps of
            a whole run; None if they are never kept.
    """

    measure: str
    unit: str
    schedule: type[BaseSchedule]
    open_data: Callable[..., tuple[Any, Any]]
    batches: Callable[..., Callable[[int], tuple[Tensor, Any]]]
    build: Callable[..., nn.Module]
    student: Callable[..., nn.Module]
    forward: Callable[..., Any]
    losses: Callable[..., dict[str, Tensor]]
    distiller: Callable[..., nn.Module]
    evaluate: Callable[..., dict[str, Any]]
    kept: Callable[..., tuple[tuple, int]] | None = None
