"""The paper's augmentation, for a whole batch at once, on whatever device the batch lies on."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cwd.errors import CwdError
from cwd.layouts import IGNORED

# ImageNet statistics in RGB, for pixels from 0 to 1. The published code subtracts the mean only, in
# BGR; dividing by the deviation too is what timm's weights expect.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalise(images: Tensor) -> Tensor:
    """Images as the networks take them.

    Args:
        images: uint8 [B, 3, H, W], RGB; or float of that shape, from 0 to 255.

    Returns:
        float32 [B, 3, H, W], mean 0 and deviation 1 over ImageNet.
    """
    mean = torch.tensor(MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(3, 1, 1)
    return (images.float() - 255 * mean) / (255 * std)


class RandomScaleCropFlip:
    """Random scale, random crop, random mirror image, as the published code does it.

    An image is scaled by one of lo, lo + step, ..., hi; where it is then smaller than the crop, it
    is padded below and at the right with the mean colour, and its target with 255. The crop is
    sampled from the unscaled image in one pass, so the scaled image never exists.

    Args:
        crop: height and width of the result, in pixels.
        scale: lo and hi; the published code's are 0.7 and 2.1.
        step: between two scales.
        flip: whether half of the crops are mirrored.

    Raises:
        CwdError: the crop or the scale isn't positive, or lo is above hi.
    """

    def __init__(
        self,
        crop: tuple[int, int],
        *,
        scale: tuple[float, float] = (0.7, 2.1),
        step: float = 0.1,
        flip: bool = True,
    ) -> None:
        if min(crop) < 1:
            raise CwdError(f"crop {tuple(crop)} is no size: give a positive height and width.")
        if not 0 < scale[0] <= scale[1] or step <= 0:
            raise CwdError(f"scale {tuple(scale)} is no range: give 0 < smallest <= largest.")
        if not math.isfinite(scale[1] / step):
            raise CwdError(
                f"scale {tuple(scale)} in steps of {step} has no end: give finite numbers."
            )
        self.crop = int(crop[0]), int(crop[1])
        # the small number: (2.1 - 0.7) / 0.1 is a hair below 14
        count = math.floor((scale[1] - scale[0]) / step + 1e-6) + 1
        self.scales = scale[0] + step * torch.arange(count, dtype=torch.float64)
        self.flip = flip

    def draw(self, batch: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Scale, top, left, mirror, scaled height and width of every image: [B, 6], on the CPU.

        All but scale and mirror are in pixels of the scaled image.
        """
        chosen = torch.randint(len(self.scales), (batch,), generator=generator)
        scales = self.scales[chosen]  # [B]
        corner = torch.rand(batch, 2, generator=generator, dtype=torch.float64)
        mirror = torch.rand(batch, generator=generator) < (0.5 if self.flip else 0)
        # In double, and only here: in single, 1.1 * 375 rounds the other way.
        scaled = (scales[:, None] * torch.tensor(size)).round()  # [B, 2]
        room = (scaled - torch.tensor(self.crop)).clamp(min=0)
        corner = (corner * (room + 1)).floor().clamp(max=room)
        return torch.cat([scales[:, None], corner, mirror[:, None], scaled], dim=1)

    def __call__(
        self, images: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Augment a batch.

        Args:
            images: uint8 [B, 3, H, W].
            targets: uint8 or int64 [B, H, W].
            generator: of the CPU; the same state gives the same crops on every device.

        Returns:
            float32 [B, 3, h, w], normalised, and int64 [B, h, w].

        Raises:
            CwdError: images and targets differ in number or size.
        """
        height, width = images.shape[-2:]
        if targets.shape != (len(images), height, width):
            raise CwdError(
                f"images are {tuple(images.shape)} and targets {tuple(targets.shape)}: give "
                "[B, 3, H, W] and [B, H, W] of one batch."
            )
        drawn = self.draw(len(images), (height, width), generator).to(images.device, torch.float32)
        scale, top, left, mirror, high, wide = drawn[:, :, None].unbind(dim=1)  # each [B, 1]
        rows, below = source(self.crop[0], top, scale, height, high)  # [B, h]
        columns, beside = source(self.crop[1], left, scale, width, wide)  # [B, w]
        columns = torch.where(mirror > 0, columns.flip(1), columns)
        outside = below[:, :, None] | torch.where(mirror > 0, beside.flip(1), beside)[:, None]

        grid = torch.stack(
            torch.broadcast_tensors(
                2 * (columns[:, None] + 0.5) / width - 1, 2 * (rows[:, :, None] + 0.5) / height - 1
            ),
            dim=3,
        )  # [B, h, w, 2], x before y, from -1 to 1 over the image's edges
        sampled = F.grid_sample(
            normalise(images), grid, mode="bilinear", padding_mode="border", align_corners=False
        )
        sampled = sampled.masked_fill(outside[:, None], 0)  # the mean colour

        y, x = rows.round().long(), columns.round().long()
        index = torch.arange(len(images), device=images.device)[:, None, None]
        labels = targets[index, y[:, :, None], x[:, None]].long()  # [B, h, w]
        return sampled, labels.masked_fill(outside, IGNORED)


def source(
    count: int, first: Tensor, scale: Tensor, size: int, extent: Tensor
) -> tuple[Tensor, Tensor]:
    """Where the pixels of a crop come from, along one axis.

    Args:
        count: pixels of the crop.
        first: [B, 1], the crop's first pixel in the scaled image.
        scale: [B, 1].
        size: pixels of the unscaled image.
        extent: [B, 1], pixels of the scaled image.

    Returns:
        Positions in the unscaled image, float [B, count], between its first and last pixel; and
        whether the pixel lies beyond the scaled image, bool [B, count].
    """
    scaled = first + torch.arange(count, device=first.device)  # [B, count]
    beyond = scaled >= extent
    # pixels are areas: their centres are half a pixel from the edge, before and after scaling
    return ((scaled + 0.5) / scale - 0.5).clamp(0, size - 1), beyond
