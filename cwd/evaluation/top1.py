"""Measuring a classifier: one middle crop of every image, top-1 and top-5 accuracy."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from cwd.config.schedule import ClassificationSchedule
from cwd.data.base import ahead
from cwd.data.classification.batches import middle
from cwd.data.classification.folders import FolderDataset, Labelled
from cwd.data.transforms import normalise
from cwd.evaluation.measuring import by_class, measured
from cwd.system.distributed import total

FEW = 5  # classes, of which top-5 would always be right


def evaluate(
    network: nn.Module,
    dataset: FolderDataset,
    schedule: ClassificationSchedule,
    *,
    batch: int = 64,
    device: torch.device | str = "cpu",
    autocast: Callable[..., Any] = nullcontext,
) -> dict[str, Any]:
    """Accuracy on the middle crops of a dataset, see `scores`, and `images`, their number.

    Processes that train together share the images; all of them have to call this.

    Raises:
        CwdError: the network has another number of classes than the dataset.
    """

    def read(index: int) -> Labelled:
        image, label = dataset[index]
        return Labelled(middle(image, schedule), label)

    counts = torch.zeros(3, dataset.num_classes, dtype=torch.int64)
    with measured(network, dataset) as mine:
        images = ahead(read, mine, 2 * batch)
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
    """Images of each class, those that are right at once, and those among the best 5.

    Shape:
        Scores [B, K] and labels int64 [B] to int64 [3, K].
    """
    classes = score.shape[1]
    best = score.topk(min(FEW, classes), dim=1).indices == labels[:, None]  # [B, 5]
    masks = torch.ones_like(labels, dtype=torch.bool), best[:, 0], best.any(dim=1)
    return torch.stack([torch.bincount(labels[mask], minlength=classes) for mask in masks])


def scores(counts: Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    """Accuracies in percent from what `counted` gives.

    Returns:
        `top1`; `top5`, None for fewer than 6 classes; `class_accuracy`, top-1 by class name, None
        where a class has no image; and `mean_class`, its mean over the others.
    """
    images, first, among = counts.double()
    accuracy = 100 * first / images  # 0 / 0 = nan: the class has no image
    return {
        "top1": (100 * first.sum() / images.sum()).item(),
        "top5": (100 * among.sum() / images.sum()).item() if len(classes) > FEW else None,
        "mean_class": accuracy.nanmean().item(),
        "class_accuracy": by_class(classes, accuracy),
    }
