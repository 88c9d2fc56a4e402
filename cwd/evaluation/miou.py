"""Measuring a segmentation network: whole images, one scale, one confusion matrix over them."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwd.data.segmentation import IGNORED, Sample
from cwd.data.transforms import normalise
from cwd.evaluation.measuring import by_class, measured
from cwd.models.segmentation import SegmentationOutput
from cwd.system.distributed import total

PIXELS = 2**21  # of a batch; an image of Cityscapes has as many
SCORES = 2**27  # scores at full resolution that exist at once, 512 MiB


@torch.no_grad()
def outputs(network: nn.Module, images: Tensor) -> SegmentationOutput:
    """What a network in eval mode, on the CPU, gives for images as stored, uint8 [B, 3, H, W]."""
    return network(normalise(images))


def score_maps(network: nn.Module, images: Tensor) -> Tensor:
    """The score maps of `outputs`, [B, K, h, w] at output stride 8."""
    return outputs(network, images).score


@torch.no_grad()
def predict(network: nn.Module, images: Tensor) -> Tensor:
    """The class of every pixel of uint8 [B, 3, H, W]: int64 [B, H, W]; in eval mode."""
    batch = normalise(images).contiguous(memory_format=torch.channels_last)
    return classes_at(network(batch).score, images.shape[-2:])


def predictions(network: nn.Module, images: Tensor) -> list[Tensor]:
    """`predict`, image by image, for pictures; on the CPU."""
    return [predict(network, image[None])[0] for image in images]


def upsample(score: Tensor, size: tuple[int, int]) -> Tensor:
    """A score map [B, K, h, w] as float32 [B, K, H, W], enlarged as the published code does it."""
    return F.interpolate(score.float(), size=size, mode="bilinear", align_corners=True)


def classes_at(score: Tensor, size: tuple[int, int], limit: int = SCORES) -> Tensor:
    """The class with the highest score at every pixel, without all scores at full resolution.

    Classes are enlarged in groups of `limit` scores at most, but one class at least, with a running
    maximum; the result is the same.

    Shape:
        [B, K, h, w] to int64 [B, H, W]; the lowest class where several are equal.
    """
    group = max(1, limit // (len(score) * math.prod(size)))
    best, chosen = upsample(score[:, :group], size).max(dim=1)
    for start in range(group, score.shape[1], group):
        value, index = upsample(score[:, start : start + group], size).max(dim=1)
        better = value > best
        best = torch.where(better, value, best)
        chosen = torch.where(better, index + start, chosen)
    return chosen


def in_batches(dataset: Any, indices: Iterable[int], most: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and targets, several at a time where they are of one size and not too large.

    Each of `indices` is read once, in this order. Images that wait for others of their size have
    less than twice `PIXELS` together.

    Returns:
        uint8 [B, 3, H, W] and int64 [B, H, W] with B up to `most`, and no more than `PIXELS` pixels
        unless B is 1.
    """
    waiting: dict[torch.Size, list[Sample]] = {}
    for index in indices:
        sample = dataset[index]
        size = sample.target.shape
        group = waiting.setdefault(size, [])
        group.append(sample)
        if len(group) >= min(most, PIXELS // size.numel()):
            yield _stacked(waiting.pop(size))
        while sum(len(group) * size.numel() for size, group in waiting.items()) > PIXELS:
            yield _stacked(waiting.pop(max(waiting, key=lambda s: len(waiting[s]) * s.numel())))
    yield from map(_stacked, waiting.values())


def _stacked(samples: list[Sample]) -> tuple[Tensor, Tensor]:
    images, targets = zip(*samples, strict=True)
    return torch.stack(images), torch.stack(targets)


def evaluate(
    network: nn.Module,
    dataset: Any,
    *,
    batch: int = 8,
    device: torch.device | str = "cpu",
    autocast: Callable[..., Any] = nullcontext,
) -> dict[str, Any]:
    """mIoU, mAcc and class IoU on 255-ignored pixels (section 3.1, "Evaluation Metrics").

    Processes that train together share the images; all of them have to call this.

    Args:
        network: gives a `SegmentationOutput`.
        dataset: as `build_dataset` gives it, or decoded.
        batch: images at a time, at most; fewer where they are large.
        device: where to compute.
        autocast: returns the context manager that sets the precision.

    Returns:
        In percent `miou` over the classes that occur in labels or predictions, `macc` (mean recall)
        over those that occur in labels, `accuracy` of pixels, `class_iou` by class name (None for
        a class that doesn't occur); and `images`, their number.

    Raises:
        CwdError: the network has another number of classes than the dataset.
    """
    k = dataset.num_classes
    counted = torch.zeros(k * k + 1, dtype=torch.int64, device=device)  # the last: ignored pixels
    with measured(network, dataset) as mine:
        for images, targets in in_batches(dataset, mine, batch):
            with autocast():
                predicted = predict(network, images.to(device))
            true = targets.to(device)
            pairs = torch.where(true == IGNORED, k * k, k * true + predicted)
            counted += torch.bincount(pairs.flatten(), minlength=k * k + 1)
    confusion = total(counted)[:-1].view(k, k)
    return scores(confusion, dataset.classes) | {"images": len(dataset)}


def scores(confusion: Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    """The numbers of `evaluate` from pixels [K, K] counted by true class and predicted class."""
    counts = confusion.double().cpu()
    hit, true, predicted = counts.diag(), counts.sum(dim=1), counts.sum(dim=0)
    iou = 100 * hit / (true + predicted - hit)  # 0 / 0 = nan: the class occurs nowhere
    return {
        "miou": iou.nanmean().item(),
        "macc": (100 * hit / true).nanmean().item(),
        "accuracy": (100 * hit.sum() / counts.sum()).item(),
        "class_iou": by_class(classes, iou),
    }
