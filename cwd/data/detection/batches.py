"""Batches for detectors by step: images resized in their proportions, mirrored, and padded."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode, resize

from cwd.config.schedule import DetectionSchedule, chosen_images
from cwd.data.base import ahead
from cwd.data.batches import BatchSource
from cwd.data.detection.coco import CocoDataset, Picture, to_learn
from cwd.data.detection.masks import Size
from cwd.data.transforms import normalise
from cwd.models.detection.outputs import Objects
from cwd.system.errors import CwdError

DIVISOR = 32  # of the padded images' sides, as in mmdetection
MEMORY = 2 * 2**30  # bytes up to which resized images are kept in memory


def fitted(size: Size, short: int, long: int) -> Size:
    """Height and width that an image is resized to, as mmdetection computes it.

    Its short side gets `short` pixels, or fewer, so that its long side has at most `long`.
    """
    factor = min(short / min(size), long / max(size))
    return tuple(max(1, int(side * factor + 0.5)) for side in size)


def prepare(image: Tensor, short: int, long: int) -> tuple[Tensor, Tensor]:
    """An image uint8 [3, H, W] as large as detectors take it, see `fitted`.

    With it come the factors of a box's coordinates, float32 [4]: w / W, h / H, w / W, h / H.
    """
    old = tuple(image.shape[-2:])
    new = fitted(old, short, long)
    if new != old:
        image = resize(image, list(new), antialias=True)
    down, right = (after / before for after, before in zip(new, old, strict=True))
    return image, torch.tensor([right, down, right, down])


def prepare_picture(picture: Picture, short: int, long: int) -> Picture:
    """As `prepare`, and those of its objects that detectors learn: with a pixel of their masks."""
    learned, boxes = to_learn(picture.objects, torch.tensor(picture.image.shape[-2:]))
    image, scale = prepare(picture.image, short, long)
    area = picture.objects.area * scale[:2].prod()
    objects = picture.objects._replace(boxes=boxes * scale, area=area).keep(learned)
    if objects.masks is not None:
        masks = resized(objects.masks, tuple(image.shape[-2:]))
        objects = objects._replace(masks=masks).keep(masks.bool().flatten(1).any(dim=1))
    return Picture(image, objects)


def resized(masks: Tensor, size: Size) -> Tensor:
    """Masks uint8 [N, H, W] of another height and width, each pixel that at its centre."""
    exact = InterpolationMode.NEAREST_EXACT  # plain nearest moves a mask against its box
    return resize(masks, list(size), exact) if len(masks) else masks.new_zeros(0, *size)


def mirrored(picture: Picture) -> Picture:
    """The mirror image, and its objects' boxes and masks."""
    image, objects = picture
    left, top, right, bottom = objects.boxes.unbind(dim=1)
    boxes = torch.stack([image.shape[-1] - right, top, image.shape[-1] - left, bottom], dim=1)
    masks = None if objects.masks is None else objects.masks.flip(-1)
    return Picture(image.flip(-1), objects._replace(boxes=boxes, masks=masks))


def padded(objects: Objects, size: Size) -> Objects:
    """Objects whose masks, if they have any, are as large as the batch's images."""
    if objects.masks is None:
        return objects
    below, beside = (new - old for new, old in zip(size, objects.masks.shape[1:], strict=True))
    return objects._replace(masks=F.pad(objects.masks, (0, beside, 0, below)))


def padded_size(sizes: Iterable[Size]) -> Size:
    """The least height and width, multiples of 32, that all images fit into."""
    return tuple(-(-max(sides) // DIVISOR) * DIVISOR for sides in zip(*sizes, strict=True))


def stacked(images: Sequence[Tensor], size: Size | None = None) -> Tensor:
    """B images uint8 [3, h, w] as detectors take them: float32 [B, 3, H, W], normalised.

    They are padded at the end with 0, the mean colour, to a size or to what they need.
    """
    height, width = size or padded_size([image.shape[-2:] for image in images])
    batch = torch.zeros(len(images), 3, height, width, device=images[0].device)
    batch = batch.contiguous(memory_format=torch.channels_last)
    for place, image in zip(batch, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = normalise(image[None])[0]
    return batch


def alike(upright: np.ndarray, batch: int, seed: int, step: int) -> Tensor:
    """Which images a step trains on, all `upright` (bool [N]) or none.

    As `cwd.config.schedule.chosen_images`, and the same where there is one kind only. An epoch
    leaves out the incomplete end of both kinds; where neither fills a batch, that is a `CwdError`.
    """
    if upright.all() or not upright.any():
        return chosen_images(len(upright), batch, seed, step)
    per_epoch = int(upright.sum()) // batch + int((~upright).sum()) // batch
    if not per_epoch:
        raise CwdError(
            f"{len(upright)} training images, upright or not, don't fill a batch of {batch} of one "
            "kind: lower the schedule's batch."
        )
    epoch, position = divmod(step, per_epoch)
    draws = np.random.default_rng([seed, epoch])
    order = draws.permutation(len(upright))
    kinds = order[~upright[order]], order[upright[order]]
    rows = [kind[: len(kind) // batch * batch].reshape(-1, batch) for kind in kinds]
    return torch.from_numpy(draws.permutation(np.concatenate(rows))[position])


class DetectionBatches(BatchSource):
    """Batches of images of sizes of their own, padded to the largest of the whole batch.

    Upright images and others don't share one, as in mmdetection, since padding both to a square
    would take half as much again. The dataset is what `CocoDataset.trainable` gives.
    """

    schedule: DetectionSchedule
    dataset: CocoDataset

    def _prepare(self) -> None:
        self.sizes = [fitted(size, *self.schedule.size) for size in self.dataset.sizes.tolist()]
        self.upright = np.array([height > width for height, width in self.sizes])
        counts = self.dataset.file.starts.diff()[list(self.dataset.chosen)].tolist()
        layers = (3 + count * self.dataset.masked for count in counts)  # with the crowds' masks
        need = sum(n * h * w for n, (h, w) in zip(layers, self.sizes, strict=True))
        self.resident: list[Picture] = []  # on the device, not mirrored
        if need <= MEMORY:
            pictures = ahead(self.read, range(len(self.dataset)), self.schedule.batch)
            self.resident = [self.placed(picture) for picture in pictures]

    def __call__(self, step: int) -> tuple[Tensor, list[Objects]]:
        """The batch of a step: float32 [B, 3, H, W], normalised, and the objects of every image."""
        plan = self.plan(step)
        size = padded_size(self.sizes[index] for index, _ in plan)  # of all processes' images
        if self.resident:
            pictures = [self.read(*image) for image in plan[self.rows]]
        else:
            pictures = [self.placed(picture) for picture in self.take(step)]
        images, targets = zip(*pictures, strict=True)
        return stacked(images, size), [padded(target, size) for target in targets]

    def plan(self, step: int) -> list[tuple[int, bool]]:
        """Which images the whole batch has, and whether each is mirrored."""
        chosen = alike(self.upright, self.schedule.batch, self.seed, step)
        draws = torch.rand(self.schedule.batch, generator=self.draws(step))
        flips = draws < (0.5 if self.schedule.flip else 0)
        return list(zip(chosen.tolist(), flips.tolist(), strict=True))

    def read(self, index: int, flip: bool = False) -> Picture:
        """An image of the dataset, resized, and mirrored if asked for."""
        if self.resident:
            picture = self.resident[index]
        else:
            picture = prepare_picture(self.dataset[index], *self.schedule.size)
        return mirrored(picture) if flip else picture

    def placed(self, picture: Picture) -> Picture:
        """The same on the device."""
        return Picture(picture.image.to(self.device), picture.objects.to(self.device))
