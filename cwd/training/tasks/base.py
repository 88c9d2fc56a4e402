"""What the loop has to know of a kind of network; the loop itself is the same for all."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cwd.config.run import Data, Run
from cwd.config.schedule import BaseSchedule
from cwd.models.build import build_network


class Task(ABC):
    """A kind of network."""

    measure: str  # the metric by which networks are ranked, a key of what `evaluate` gives
    unit: str  # the same for people
    schedule: type[BaseSchedule]  # the class of its schedules
    build = staticmethod(build_network)

    @abstractmethod
    def open_data(self, data: Data, data_root: Path) -> tuple[Any, Any]:
        """The training images and those that are measured on, opened once in a process.

        Each has a length, `name`, `num_classes` and `checksum`. A dataset that is missing,
        incomplete or damaged, or has nothing to learn, is a `CwdError`.
        """

    @abstractmethod
    def batches(
        self, dataset: Any, schedule: Any, seed: int, device: torch.device, rows: slice
    ) -> Callable[[int], tuple[Tensor, Any]]:
        """What gives a step's images, float32 [B, 3, H, W], normalised, and their target.

        Of the whole batch these are the `rows`, see `cwd.system.distributed.rows`.
        """

    def student(self, run: Run, num_classes: int) -> nn.Module:
        """The network that a run begins with."""
        return build_network(run.network, num_classes, init=run.init)

    def forward(self, network: nn.Module, images: Tensor, target: Any) -> Any:
        """The network's output for a batch; a teacher's target is None."""
        return network(images)

    @abstractmethod
    def losses(self, out: Any, target: Any, schedule: Any) -> dict[str, Tensor]:
        """The student's own terms by name, scalars."""

    @abstractmethod
    def distiller(self, run: Run, student: nn.Module, teacher: nn.Module) -> nn.Module:
        """The run's recipe at work, see `cwd.recipes.distiller.Distiller`."""

    def compile(
        self, students: Sequence[Any], teacher: Any, schedule: Any, device: str
    ) -> list[str]:
        """Compile in place what pays of students in training and teacher or None; its names."""
        return []  # detectors see images of many sizes, and a classifier's steps are short

    @abstractmethod
    def evaluate(
        self, network: nn.Module, dataset: Any, schedule: Any, **where: Any
    ) -> dict[str, Any]:
        """What `cwd.evaluation` measures of a network; `where` are `device` and `autocast`."""
