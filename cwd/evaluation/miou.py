"""Measuring a network: whole images, one scale, one confusion matrix over all of them."""

import math
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix

from cwd.data.segmentation import IGNORED, Sample
from cwd.data.transforms import normalise
from cwd.models.segmentation import SegmentationOutput
from cwd.system.distributed import processes, rank, total
from cwd.system.errors import CwdError

PIXELS = 2**21  # of a batch; an image of Cityscapes has as many
SCORES = 2**27  # scores at full resolution that exist at once, 512 MiB


@torch.no_grad()
def predict(network: nn.Module, images: Tensor) -> Tensor:
    """Class of every pixel.

    Args:
        network: in eval mode, gives a `SegmentationOutput`.
        images: uint8 [B, 3, H, W].

    Returns:
        int64 [B, H, W], train ids, at the resolution of the images.
    """
    batch = normalise(images).contiguous(memory_format=torch.channels_last)
    return classes_at(network(batch).score, images.shape[-2:])


def predictions(network: nn.Module, images: Tensor) -> list[Tensor]:
    """`predict`, image by image, for pictures; the network is in eval mode, on the CPU."""
    return [predict(network, image[None])[0] for image in images]


@torch.no_grad()
def outputs(network: nn.Module, images: Tensor) -> SegmentationOutput:
    """What a network gives for images as they are stored.

    Args:
        network: in eval mode, on the CPU.
        images: uint8 [B, 3, H, W].
    """
    return network(normalise(images))


def score_maps(network: nn.Module, images: Tensor) -> Tensor:
    """The score maps of `outputs`, [B, K, h, w] at output stride 8."""
    return outputs(network, images).score


def upsample(score: Tensor, size: tuple[int, int]) -> Tensor:
    """A score map at the label's resolution, as the published code does it.

    Args:
        score: [B, K, h, w], any float type.
        size: height and width in pixels.

    Returns:
        float32 [B, K, H, W].
    """
    return F.interpolate(score.float(), size=size, mode="bilinear", align_corners=True)


def classes_at(score: Tensor, size: tuple[int, int], limit: int = SCORES) -> Tensor:
    """The class with the highest score at every pixel, without all scores at full resolution.

    Classes are enlarged in groups, each with a running maximum; the result is the same.

    Args:
        score: [B, K, h, w], any float type.
        size: height and width in pixels.
        limit: enlarged scores that may exist at once; one class at least does.

    Returns:
        int64 [B, H, W]; the lowest class where several are equal.
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

    Args:
        dataset: indexed, it gives a `Sample`.
        indices: which of its images; each is read once, in this order.
        most: images at a time.

    Returns:
        uint8 [B, 3, H, W] and int64 [B, H, W], no more than `PIXELS` pixels unless B is 1. Images
        that wait for others of their size have less than twice `PIXELS` together.
    """
    waiting: dict[torch.Size, list[Sample]] = {}
    for index in indices:
        sample = dataset[index]
        size = sample.target.shape
        group = waiting.setdefault(size, [])
        group.append(sample)
        if len(group) >= min(most, PIXELS // size.numel()):
            yield together(waiting.pop(size))
        while sum(len(group) * size.numel() for size, group in waiting.items()) > PIXELS:
            yield together(waiting.pop(max(waiting, key=lambda s: len(waiting[s]) * s.numel())))
    yield from map(together, waiting.values())


def together(samples: list[Sample]) -> tuple[Tensor, Tensor]:
    """Images and targets of samples of one size, stacked."""
    images, targets = zip(*samples, strict=True)
    return torch.stack(images), torch.stack(targets)


def evaluate(
    network: nn.Module,
    dataset: Any,
    *,
    batch: int = 8,
    device: torch.device | str = "cpu",
    autocast: Any = nullcontext,
) -> dict[str, Any]:
    """mIoU, mAcc and class IoU on 255-ignored pixels (section 3.1, "Evaluation Metrics").

    Processes that train together share the images; all of them have to call this.

    Args:
        network: gives a `SegmentationOutput`; it is put into eval mode and left in its old one.
        dataset: as `build_dataset` gives it, or decoded: with a length, `classes` and
            `num_classes`; indexed, it gives a `Sample`.
        batch: images at a time, at most; fewer where they are large.
        device: where to compute.
        autocast: returns the context manager that sets the precision.

    Returns:
        `miou` in percent over the classes that occur in labels or predictions, `macc` (mean
        recall) over those that occur in labels, `accuracy` of pixels in percent, `class_iou` in
        percent by class name (None for a class that doesn't occur), and `images`, their number.

    Raises:
        CwdError: the network has another number of classes than the dataset.
    """
    if network.num_classes != dataset.num_classes:
        raise CwdError(
            f"the network has {network.num_classes} classes and {dataset.name} "
            f"{dataset.num_classes}: evaluate it on the dataset that it was trained on."
        )
    # summed below: torchmetrics would also do it behind the back of a process that is alone here
    confusion = MulticlassConfusionMatrix(
        dataset.num_classes, ignore_index=IGNORED, sync_on_compute=False
    ).to(device)
    training = network.training
    network.eval()
    mine = range(rank(), len(dataset), processes())
    for images, targets in in_batches(dataset, mine, batch):
        with autocast():
            predicted = predict(network, images.to(device))
        confusion.update(predicted, targets.to(device))
    network.train(training)
    return scores(total(confusion.confmat), dataset.classes) | {"images": len(dataset)}


def scores(confusion: Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    """The numbers of `evaluate` from a confusion matrix.

    Args:
        confusion: [K, K], pixels counted by true class (row) and predicted class (column).
        classes: K names.
    """
    counts = confusion.double().cpu()
    hit, true, predicted = counts.diag(), counts.sum(dim=1), counts.sum(dim=0)
    iou = 100 * hit / (true + predicted - hit)  # 0 / 0 = nan: the class occurs nowhere
    recall = 100 * hit / true
    return {
        "miou": iou.nanmean().item(),
        "macc": recall.nanmean().item(),
        "accuracy": (100 * hit.sum() / counts.sum()).item(),
        "class_iou": {
            name: None if value.isnan() else value.item()
            for name, value in zip(classes, iou, strict=True)
        },
    }
