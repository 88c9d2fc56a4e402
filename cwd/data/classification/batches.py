"""Batches for classifiers by step: random crops, resized to one size and mirrored."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop, resize, resized_crop

from cwd.config.schedule import ClassificationSchedule, chosen_images
from cwd.data.base import ahead
from cwd.data.batches import BatchSource
from cwd.data.classification.folders import Labelled
from cwd.data.transforms import normalise

TRIES = 10  # for a crop that fits into its image
ASPECT = (3 / 4, 4 / 3)  # of a crop's width to its height
MEMORY = 2 * 2**30  # bytes up to which decoded images are kept in memory
LOOKED_AT = 32  # images from which the size of all is judged
Size = tuple[int, int]


class Draws(NamedTuple):
    """What is random in the crops of a batch, float64 from 0 to 1."""

    area: Tensor  # [B, 10], of every try
    aspect: Tensor  # [B, 10], likewise
    corner: Tensor  # [B, 2], down and to the right
    mirror: Tensor  # [B]


def draw(batch: int, generator: torch.Generator) -> Draws:
    """All random numbers of a batch."""
    shapes = (batch, TRIES), (batch, TRIES), (batch, 2), (batch,)
    return Draws(*(torch.rand(s, generator=generator, dtype=torch.float64) for s in shapes))


def window(size: Size, drawn: Draws, scale: tuple[float, float]) -> tuple[int, int, int, int]:
    """Top, left, height and width of a crop in pixels, as torchvision's RandomResizedCrop has it.

    The first of ten tries that fits; if none does, the largest middle crop of a fitting aspect.
    The corner is one draw for all tries, which gives the same distribution. `size` is height and
    width of the image, `drawn` of this image alone, `scale` least and largest share of its area.
    """
    height, width = size
    area = height * width * (scale[0] + (scale[1] - scale[0]) * drawn.area)  # [10]
    low, high = map(math.log, ASPECT)
    aspect = torch.exp(low + (high - low) * drawn.aspect)
    wide, high_ = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (wide >= 1) & (wide <= width) & (high_ >= 1) & (high_ <= height)
    if fits.any():
        first = int(fits.int().argmax())
        crop = int(high_[first]), int(wide[first])
        room = torch.tensor(size) - torch.tensor(crop)
        top, left = (drawn.corner * (room + 1)).long().minimum(room).tolist()
        return top, left, *crop
    crop = min(height, round(width / ASPECT[0])), min(width, round(height * ASPECT[1]))
    return (height - crop[0]) // 2, (width - crop[1]) // 2, *crop


def middle(image: Tensor, schedule: ClassificationSchedule) -> Tensor:
    """What is measured of an image uint8 [3, H, W], resized to `short`: its middle, as `size`."""
    resized = resize(image, [int(schedule.short)], antialias=True)
    return center_crop(resized, list(schedule.size))


class ClassificationBatches(BatchSource):
    """Batches for classifiers; small datasets are decoded once and kept in memory."""

    def _prepare(self) -> None:
        self.images: Sequence[Labelled] = self.dataset
        some = self.dataset.first(min(len(self.dataset), LOOKED_AT))
        seen = [some[index].image.nbytes for index in range(len(some))]
        if sum(seen) / len(seen) * len(self.dataset) <= MEMORY:
            numbers = range(len(self.dataset))
            self.images = list(ahead(self.dataset.__getitem__, numbers, self.schedule.batch))

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch of a step: float32 [B, 3, crop, crop], normalised, and int64 [B]."""
        crops, labels = zip(*self.take(step), strict=True)
        return normalise(torch.stack(crops).to(self.device)), torch.tensor(labels).to(self.device)

    def plan(self, step: int) -> list[tuple[int, Draws]]:
        """Which images the whole batch has, and what is random in the crop of each."""
        chosen = chosen_images(len(self.dataset), self.schedule.batch, self.seed, step)
        drawn = draw(self.schedule.batch, self.draws(step))
        return list(zip(chosen.tolist(), map(Draws, *drawn), strict=True))

    def read(self, index: int, drawn: Draws) -> Labelled:
        """A crop of an image, uint8, and the image's label."""
        image, label = self.images[index]
        place = window(tuple(image.shape[-2:]), drawn, self.schedule.scale)
        crop = resized_crop(image, *place, size=list(self.schedule.size), antialias=True)
        mirrored = self.schedule.flip and drawn.mirror < 0.5
        return Labelled(crop.flip(-1) if mirrored else crop, label)
