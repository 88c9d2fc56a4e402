"""Measuring a classifier: one middle crop of every image, top-1 and top-5 accuracy."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from cwd.config.schedule import ClassificationSchedule
from cwd.data.batches import ahead
from cwd.data.classification.batches import middle
from cwd.data.classification.folders import FolderDataset, Labelled
from cwd.data.transforms import normalise
from cwd.evaluation.coco_ap import measured
from cwd.system.distributed import processes, rank, total
from cwd.system.errors import CwdError

FEW = 5  # classes, of which top-5 would always be right


@torch.no_grad()
def evaluate(
    network: nn.Module,
    dataset: FolderDataset,
    schedule: ClassificationSchedule,
    *,
    batch: int = 64,
    device: torch.device | str = "cpu",
    autocast: Any = nullcontext,
) -> dict[str, Any]:
    """Accuracy on the middle crops of a dataset.

    Processes that train together share the images; all of them have to call this, and each gets
    the same numbers.

    Args:
        network: gives a `ClassificationOutput`; it is put into eval mode and left in its old one.
        dataset: see `cwd.data.classification.folders.build_folders`.
        schedule: how large images and crops are, see `cwd.data.classification.batches.middle`.
        batch: images at a time.
        device: where to compute.
        autocast: returns the context manager that sets the precision.

    Returns:
        See `scores`, and `images`, their number.

    Raises:
        CwdError: the network has another number of classes than the dataset.
    """
    if network.num_classes != dataset.num_classes:
        raise CwdError(
            f"the network has {network.num_classes} classes and {dataset.name} "
            f"{dataset.num_classes}: evaluate it on the dataset that it was trained on."
        )

    def read(index: int) -> Labelled:
        image, label = dataset[index]
        return Labelled(middle(image, schedule), label)

    mine = range(rank(), len(dataset), processes())
    images = ahead(read, mine, 2 * batch)
    counts = torch.zeros(3, dataset.num_classes, dtype=torch.int64)
    with measured(network):
        for start in range(0, len(mine), batch):
            some = [next(images) for _ in mine[start : start + batch]]
            crops, labels = zip(*some, strict=True)
            pixels = normalise(torch.stack(crops).to(device))
            with autocast():
                out = network(pixels.contiguous(memory_format=torch.channels_last))
            counts += counted(out.score.float().cpu(), torch.tensor(labels))
    whole = total(counts.to(device)).cpu()  # on the device, where processes can add it up
    return scores(whole, dataset.classes) | {"images": len(dataset)}


def counted(score: Tensor, labels: Tensor) -> Tensor:
    """How many images each class has, and how many of them are right at once and among the best 5.

    Args:
        score: [B, K].
        labels: int64 [B].

    Returns:
        int64 [3, K].
    """
    classes = score.shape[1]
    best = score.topk(min(FEW, classes), dim=1).indices == labels[:, None]  # [B, 5]
    masks = torch.ones_like(labels, dtype=torch.bool), best[:, 0], best.any(dim=1)
    return torch.stack([torch.bincount(labels[mask], minlength=classes) for mask in masks])


def scores(counts: Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    """Accuracies from counts.

    Args:
        counts: see `counted`.
        classes: K names.

    Returns:
        In percent: `top1`; `top5`, None for fewer than 6 classes; `mean_class`, the mean over
        classes that have images of their top-1 accuracy; and `class_accuracy`, that by class name,
        None where a class has no image.
    """
    images, first, among = counts.double()
    by_class = 100 * first / images  # 0 / 0 = nan: the class has no image
    return {
        "top1": (100 * first.sum() / images.sum()).item(),
        "top5": (100 * among.sum() / images.sum()).item() if len(classes) > FEW else None,
        "mean_class": by_class.nanmean().item(),
        "class_accuracy": {
            name: None if value.isnan() else value.item()
            for name, value in zip(classes, by_class, strict=True)
        },
    }
