"""The paper's augmentation, for a whole batch at once, on whatever device the batch lies on."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as colour

from cwd.data.segmentation import IGNORED
from cwd.models.weights import MEAN, STD
from cwd.system.errors import CwdError


def normalise(images: Tensor) -> Tensor:
    """RGB images [B, 3, H, W], 0 to 255, to float32 of mean 0 and deviation 1 over ImageNet."""
    # the published code subtracts the mean only, in BGR; timm's weights expect the division too
    mean, std = _statistics(images.device)
    return (images.float() - 255 * mean) / (255 * std)


def _statistics(device: torch.device) -> tuple[Tensor, ...]:  # [3, 1, 1] each
    return tuple(torch.tensor(values, device=device).view(3, 1, 1) for values in (MEAN, STD))


class Positions(NamedTuple):
    """Where the pixels of a batch of crops come from."""

    rows: Tensor  # float32 [B, h], in pixels of the image
    columns: Tensor  # float32 [B, w], from right to left in a mirrored crop
    outside: Tensor  # bool [B, h, w], whether the crop's pixel lies beyond the image


class RandomScaleCropFlip:
    """Random scale, random crop, random mirror image, as the published code does it.

    An image is scaled by one of lo, lo + step, ..., hi; where it is then smaller than the crop
    (height and width), it is padded below and at the right with the mean colour, and its target
    with 255. The crop is sampled from the unscaled image in one pass.
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
        if not (0 < scale[0] <= scale[1] and step > 0 and math.isfinite(scale[1] / step)):
            raise CwdError(
                f"scale {tuple(scale)} in steps of {step} is no range: give finite numbers, "
                "0 < smallest <= largest."
            )
        self.crop = int(crop[0]), int(crop[1])
        # the small number: (2.1 - 0.7) / 0.1 is a hair below 14
        count = math.floor((scale[1] - scale[0]) / step + 1e-6) + 1
        self.scales = scale[0] + step * torch.arange(count, dtype=torch.float64)
        self.flip = flip

    def draw(
        self, batch: int, sizes: tuple[int, int] | Tensor, generator: torch.Generator
    ) -> Tensor:
        """Scale, top, left, mirror, scaled height and width of every image: [B, 6], on the CPU.

        Lengths are in pixels of the scaled image; `sizes` is that of all images, or [B, 2].
        """
        chosen = torch.randint(len(self.scales), (batch,), generator=generator)
        scales = self.scales[chosen]  # [B]
        corner = torch.rand(batch, 2, generator=generator, dtype=torch.float64)
        mirror = torch.rand(batch, generator=generator) < (0.5 if self.flip else 0)
        # In double, and only here: in single, 1.1 * 375 rounds the other way.
        scaled = (scales[:, None] * torch.as_tensor(sizes)).round()  # [B, 2]
        room = (scaled - torch.tensor(self.crop)).clamp(min=0)
        corner = (corner * (room + 1)).floor().clamp(max=room)
        return torch.cat([scales[:, None], corner, mirror[:, None], scaled], dim=1)

    def positions(self, drawn: Tensor, sizes: tuple[int, int] | Tensor) -> Positions:
        """Where the pixels of crops come from, as `draw` gives them."""
        scale, top, left, mirror, high, wide = drawn.float()[:, :, None].unbind(dim=1)  # [B, 1]
        height, width = torch.as_tensor(sizes).expand(len(drawn), 2)[:, :, None].unbind(dim=1)
        rows, below = _source(self.crop[0], top, scale, height, high)  # [B, h]
        columns, beside = _source(self.crop[1], left, scale, width, wide)  # [B, w]
        columns = torch.where(mirror > 0, columns.flip(1), columns)
        outside = below[:, :, None] | torch.where(mirror > 0, beside.flip(1), beside)[:, None]
        return Positions(rows, columns, outside)

    def __call__(
        self, images: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Augment a batch; see `cut`. The generator is the CPU's, so all devices get the same."""
        size = images.shape[-2:]
        if targets.shape != (len(images), *size):
            raise CwdError(
                f"images are {tuple(images.shape)} and targets {tuple(targets.shape)}: give "
                "[B, 3, H, W] and [B, H, W] of one batch."
            )
        drawn = self.draw(len(images), size, generator)
        return cut(images, targets, self.positions(drawn, size))


def cut(images: Tensor, targets: Tensor, at: Positions) -> tuple[Tensor, Tensor]:
    """Sample crops of uint8 [B, 3, H, W] bilinearly, of their targets at the nearest pixel.

    Gives float32 [B, 3, h, w], normalised, and int64 [B, h, w].
    """
    height, width = images.shape[-2:]
    rows, columns, outside = (part.to(images.device) for part in at)
    # x before y, from -1 to 1 over the image's edges
    x, y = 2 * (columns[:, None] + 0.5) / width - 1, 2 * (rows[:, :, None] + 0.5) / height - 1
    grid = torch.stack(torch.broadcast_tensors(x, y), dim=3)  # [B, h, w, 2]
    sampled = F.grid_sample(normalise(images), grid, padding_mode="border", align_corners=False)
    sampled = sampled.masked_fill(outside[:, None], 0)  # the mean colour

    y, x = rows.round().long(), columns.round().long()
    index = torch.arange(len(images), device=images.device)[:, None, None]
    labels = targets[index, y[:, :, None], x[:, None]].long()  # [B, h, w]
    return sampled, labels.masked_fill(outside, IGNORED)


def distort(
    batch: Tensor, generator: torch.Generator, count: int, rows: slice = slice(None)
) -> Tensor:
    """Photometric distortion, as mmsegmentation's configurations for VOC and ADE20K have it.

    Brightness, contrast, saturation and hue are each changed with probability 1/2, contrast second
    or last; padding (exactly the mean colour) stays as it is. The batch, float32 [b, 3, h, w],
    normalised, is `rows` of the `count` images that are drawn for.
    """
    amounts = torch.rand(count, 4, generator=generator)
    used = torch.rand(count, 4, generator=generator) < 0.5
    first = torch.rand(count, generator=generator) < 0.5
    padding = (batch == 0).all(dim=1, keepdim=True)
    mean, std = _statistics(batch.device)
    changed = []
    draws = amounts[rows], used[rows], first[rows].tolist()
    for image, amount, use, early in zip(batch * std + mean, *draws, strict=True):
        shift, contrast, saturation, turn = amount.tolist()
        changes = [
            lambda x, a=shift: (x + (2 * a - 1) * 32 / 255).clamp(0, 1),
            lambda x, a=contrast: colour.adjust_brightness(x, 0.5 + a),  # x times a factor, clamped
            lambda x, a=saturation: colour.adjust_saturation(x, 0.5 + a),
            lambda x, a=turn: colour.adjust_hue(x, 0.2 * a - 0.1),
        ]
        for number in (0, 1, 2, 3) if early else (0, 2, 3, 1):
            if use[number]:
                image = changes[number](image)  # noqa: PLW2901
        changed.append(image)
    return ((torch.stack(changed) - mean) / std).masked_fill(padding, 0)


def _source(
    count: int, first: Tensor, scale: Tensor, size: Tensor, extent: Tensor
) -> tuple[Tensor, Tensor]:
    # Where pixels [B, count] come from along one axis, and which are beyond the image: from pixel
    # `first` on of the image scaled from `size` to `extent` pixels, all [B, 1].
    scaled = first + torch.arange(count)  # [B, count]
    beyond = scaled >= extent
    # pixels are areas: their centres are half a pixel from the edge, before and after scaling
    place = ((scaled + 0.5) / scale - 0.5).clamp(min=0)
    return torch.minimum(place, (size - 1).to(place.dtype)), beyond
