"""The batch of every step: read ahead of time, and the same wherever a run begins."""

from abc import ABC, abstractmethod
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cwd.config.schedule import BaseSchedule, check_batch, chosen_images, step_seed
from cwd.data.base import ahead
from cwd.data.decoded import InMemoryDataset
from cwd.data.transforms import Positions, RandomScaleCropFlip, cut, distort

AHEAD = 3  # batches that are read from disk before they are asked for


class BatchSource(ABC):
    """The batch of every step, the same for a seed however often and from where it is asked.

    Threads read what the next steps need while one is computed. Of each batch, `rows` is this
    process's part. Fewer images than a batch has are a `CwdError`, as is an image that can't be
    read.
    """

    def __init__(
        self,
        dataset: Any,
        schedule: BaseSchedule,
        seed: int,
        device: torch.device | str,
        rows: slice = slice(None),
    ) -> None:
        check_batch(dataset, schedule)
        self.dataset, self.schedule, self.seed, self.rows = dataset, schedule, seed, rows
        self.device = torch.device(device)
        self.due = -1  # the step whose images are the next of those that are coming
        self._prepare()

    @abstractmethod
    def _prepare(self) -> None: ...

    def draws(self, step: int) -> torch.Generator:
        """The generator of a step's augmentation, on the CPU and at its beginning."""
        return torch.Generator().manual_seed(step_seed(self.seed, step))

    @abstractmethod
    def plan(self, step: int) -> list[tuple]:
        """What `read` has to know of every image of the whole batch: its index, what is random."""

    @abstractmethod
    def read(self, index: int, *drawn: Any) -> Any:
        """An image as a batch needs it, by one of several threads."""

    def take(self, step: int) -> list[Any]:
        """This process's images of a step, as `read` gives them."""
        count = len(range(self.schedule.batch)[self.rows])
        if not step == self.due < self.schedule.steps:
            steps = range(step, max(step + 1, self.schedule.steps))
            images = (image for each in steps for image in self.plan(each)[self.rows])
            self.coming = ahead(lambda image: self.read(*image), images, AHEAD * count)
        self.due = -1  # an error ends what is coming
        found = list(islice(self.coming, count))
        self.due = step + 1
        return found

    @abstractmethod
    def __call__(self, step: int) -> tuple[Tensor, Any]:
        """The batch of a step: images float32 [B, 3, H, W], normalised, and their targets."""


class Batches(BatchSource):
    """Batches for segmentation: random crops, of a dataset in memory or of windows on a disk."""

    def _prepare(self) -> None:
        dataset, schedule = self.dataset, self.schedule
        self.augment = RandomScaleCropFlip(
            schedule.crop, scale=schedule.scale, step=schedule.scale_step, flip=schedule.flip
        )
        self.resident = isinstance(dataset, InMemoryDataset)  # on the device that augments it
        if self.resident:
            self.images = dataset.images.to(self.device)
            self.targets = dataset.targets.to(self.device)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch of a step: float32 [B, 3, h, w], normalised, and int64 [B, h, w]."""
        chosen, drawn, draws = self.drawn(step)
        if self.resident:
            mine = chosen[self.rows]
            at = self.augment.positions(drawn[self.rows], self.dataset.sizes[mine])
            mine = mine.to(self.device)
            batch, target = cut(self.images[mine], self.targets[mine], at)
        else:
            crops = [
                cut(*(part.to(self.device, non_blocking=True) for part in pixels), at)
                for *pixels, at in self.take(step)
            ]
            batch, target = (torch.cat(parts) for parts in zip(*crops, strict=True))
        if self.schedule.photometric:
            batch = distort(batch, draws, self.schedule.batch, self.rows)
        return batch, target

    def drawn(self, step: int) -> tuple[Tensor, Tensor, torch.Generator]:
        """Which images the whole batch has, their crops, and the generator for what follows."""
        chosen = chosen_images(len(self.dataset), self.schedule.batch, self.seed, step)
        draws = self.draws(step)
        return chosen, self.augment.draw(len(chosen), self.dataset.sizes[chosen], draws), draws

    def plan(self, step: int) -> list[tuple[int, Tensor]]:
        """As `drawn`, image by image."""
        chosen, drawn, _ = self.drawn(step)
        return list(zip(chosen.tolist(), drawn.split(1), strict=True))

    def read(self, index: int, drawn: Tensor) -> tuple[Tensor, Tensor, Positions]:
        """The part of an image that a crop needs, and the crop's positions in that part."""
        at = self.augment.positions(drawn, self.dataset.sizes[index])
        # from an even pixel on: halves are rounded to even ones, before and after the shift
        spans = [(int(p.min()) // 2 * 2, int(p.max()) + 2) for p in (at.rows, at.columns)]
        image, target = self.dataset.window(index, *(slice(*span) for span in spans))
        at = Positions(at.rows - spans[0][0], at.columns - spans[1][0], at.outside)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
        return pixels, torch.from_numpy(np.array(target))[None], at
