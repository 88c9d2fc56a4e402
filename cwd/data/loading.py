"""Augmented batches by step: from memory, or as windows of a dataset that is decoded on disk."""

import numpy as np
import torch
from torch import Tensor

from cwd.config.schedule import chosen_images
from cwd.data.batches import BatchSource
from cwd.data.decoded import InMemoryDataset
from cwd.data.transforms import Positions, RandomScaleCropFlip, cut, distort


class Batches(BatchSource):
    """Batches for segmentation: crops of random scale and position, half of them mirrored."""

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
