"""Augmented batches by step: from memory, or as windows of a dataset that is decoded on disk."""

from concurrent.futures import Future

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
        if self.resident:
            chosen, at, draws = self.plan(step)
            index = chosen.to(self.device)
            batch, target = cut(self.images[index], self.targets[index], at)
        else:
            reading, draws = self.take(step)
            crops = [
                cut(*(part.to(self.device, non_blocking=True) for part in pixels), at)
                for *pixels, at in (future.result() for future in reading)
            ]
            batch, target = (torch.cat(parts) for parts in zip(*crops, strict=True))
        if self.schedule.photometric:
            batch = distort(batch, draws, self.schedule.batch, self.rows)
        return batch, target

    def plan(self, step: int) -> tuple[Tensor, Positions, torch.Generator]:
        """Which images a step takes, where its crops lie, and the generator for what follows."""
        chosen = chosen_images(len(self.dataset), self.schedule.batch, self.seed, step)
        draws = self.draws(step)
        drawn = self.augment.draw(len(chosen), self.dataset.sizes[chosen], draws)
        chosen = chosen[self.rows]
        return chosen, self.augment.positions(drawn[self.rows], self.dataset.sizes[chosen]), draws

    def _ask(self, step: int) -> tuple[list[Future], torch.Generator]:
        chosen, at, draws = self.plan(step)
        parts = zip(chosen.tolist(), *at, strict=True)
        return [self.pool.submit(self._read, i, *p) for i, *p in parts], draws

    def _read(
        self, index: int, rows: Tensor, columns: Tensor, outside: Tensor
    ) -> tuple[Tensor, Tensor, Positions]:
        """The part of an image that a crop needs, and the crop's positions in that part."""
        # from an even pixel on: halves are rounded to even ones, before and after the shift
        spans = [(int(p.min()) // 2 * 2, int(p.max()) + 2) for p in (rows, columns)]
        image, target = self.dataset.window(index, *(slice(*span) for span in spans))
        at = Positions(rows[None] - spans[0][0], columns[None] - spans[1][0], outside[None])
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
        return pixels, torch.from_numpy(np.array(target))[None], at
