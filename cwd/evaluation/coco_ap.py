"""Measuring a detector: COCO's average precision, and what it is computed from."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchmetrics.detection import MeanAveragePrecision
from torchvision.ops import box_convert

from cwd.data.batches import ahead
from cwd.data.detection.batches import fitted, prepare, stacked
from cwd.data.detection.coco import CocoDataset
from cwd.data.detection.masks import Size, pasted
from cwd.evaluation.mask_ap import mask_precisions
from cwd.models.detection.outputs import Detections
from cwd.system.distributed import processes, rank
from cwd.system.errors import CwdError

# COCO's thresholds in double, as pycocotools has them. torchmetrics' own are rounded to single
# precision, and then a recall of exactly 0.1 is below the threshold 0.1.
OVERLAPS = np.linspace(0.5, 0.95, 10).tolist()
RECALLS = np.linspace(0, 1, 101).tolist()
EVERY, SMALL, MEDIUM, LARGE = range(4)  # pycocotools' areas: all, < 32^2, to 96^2, > 96^2 pixels


def evaluate(detector: nn.Module, dataset: CocoDataset, **settings: Any) -> dict[str, Any]:
    """COCO's average precision of a detector.

    Processes that train together share the images; all of them have to call this, and each gets
    the same numbers.

    Args:
        detector: see `collect`, as all arguments.
        dataset: see there.
        settings: `short`, `long`, `device`, `autocast` and `batch`, see there.

    Returns:
        See `scores`.

    Raises:
        CwdError: as `collect`.
    """
    return scores(dataset, collect(detector, dataset, **settings))


@torch.no_grad()
def collect(
    detector: nn.Module,
    dataset: CocoDataset,
    *,
    short: int,
    long: int,
    device: torch.device | str = "cpu",
    autocast: Any = nullcontext,
    batch: int = 8,
) -> list[Detections]:
    """What a detector finds in every image of a dataset.

    Images of one size are computed together, and no image is padded for another one's sake, so
    the result doesn't depend on the batch.

    Args:
        detector: has `num_classes` and `detect`, see `cwd.models.detection.base`; it is put
            into eval mode and left in its old one.
        dataset: see `cwd.data.detection.coco.build_coco`; its first images alone are
            `dataset.first(count)`.
        short: see `cwd.data.detection.batches.fitted`.
        long: see `cwd.data.detection.batches.fitted`.
        device: where to compute.
        autocast: returns the context manager that sets the precision.
        batch: images of one size at a time, at most.

    Returns:
        By index, on the CPU; boxes in pixels of the image as it is stored, and so are masks.

    Raises:
        CwdError: the detector has another number of classes than the dataset.
    """
    if detector.num_classes != dataset.num_classes:
        raise CwdError(
            f"the detector has {detector.num_classes} classes and {dataset.name} "
            f"{dataset.num_classes}: evaluate it on the dataset that it was trained on."
        )
    chunks = in_chunks(dataset, short, long, batch)
    order = (index for chunk in chunks for index in chunk)
    pictures = ahead(lambda index: prepare(dataset.image(index), short, long), order, 2 * batch)
    found: dict[int, Detections] = {}
    stored = dataset.sizes.tolist()
    with measured(detector):
        for chunk in chunks:
            images, scales = zip(*(next(pictures) for _ in chunk), strict=True)
            sizes = [tuple(image.shape[-2:]) for image in images]
            with autocast():
                answers = detector.detect(stacked([x.to(device) for x in images]), sizes)
            for index, answer, scale in zip(chunk, answers, scales, strict=True):
                found[index] = rescaled(answer, scale, tuple(stored[index]))
    found = together(found)
    return [found[index] for index in range(len(dataset))]


@contextmanager
def measured(detector: nn.Module) -> Iterator[None]:
    """Eval mode, and afterwards what was before: part by part, since some may be frozen in it."""
    modes = [(module, module.training) for module in detector.modules()]
    detector.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def rescaled(answer: Detections, scale: Tensor, size: Size) -> Detections:
    """Detections in the image as it is stored, on the CPU, without those that aren't finite.

    Args:
        answer: detections in the resized image.
        scale: see `cwd.data.detection.batches.prepare`.
        size: height and width of the image as it is stored.
    """
    boxes, sure = answer.boxes.cpu().float() / scale, answer.scores.cpu().float()
    finite = boxes.isfinite().all(dim=1) & sure.isfinite()
    boxes = boxes[finite]
    masks = answer.masks
    if masks is not None:
        masks = pasted(masks.cpu().float()[finite], boxes, size)
    return Detections(boxes, sure[finite], answer.labels.cpu()[finite], masks)


def in_chunks(dataset: CocoDataset, short: int, long: int, batch: int) -> list[list[int]]:
    """This process's images, those of one size after resizing at most `batch` at a time."""
    groups: dict[tuple[int, int], list[int]] = {}
    sizes = dataset.sizes.tolist()
    for index in range(rank(), len(dataset), processes()):
        height, width = sizes[index]
        groups.setdefault(fitted((height, width), short, long), []).append(index)
    return [
        group[start : start + batch]
        for group in groups.values()
        for start in range(0, len(group), batch)
    ]


def together(found: dict[int, Detections]) -> dict[int, Detections]:
    """What all processes found."""
    if processes() == 1:
        return found
    parts: list[Any] = [None] * processes()
    dist.all_gather_object(parts, found)
    return {index: Detections(*answer) for part in parts for index, answer in part.items()}


def scores(dataset: CocoDataset, detections: Sequence[Detections]) -> dict[str, Any]:
    """COCO's average precision of detections, what pycocotools says of the same files.

    Args:
        dataset: the images.
        detections: of every image, boxes in its pixels; see `collect`.

    Returns:
        In percent: `ap` (mean over overlaps of 0.5 to 0.95), `ap50`, `ap75`, `ap_s`, `ap_m` and
        `ap_l` (objects of less than 32^2 pixels, up to 96^2, and above), `class_ap` by class name;
        each is None where there is no such object. `images` is their number. If there are masks in
        both, also `mask_ap`, `mask_ap50` and so on.
    """
    precision, labels = precisions(dataset, detections, OVERLAPS)
    everywhere = precision[..., EVERY]
    by_label = {label: percent(everywhere[:, :, k]) for k, label in enumerate(labels)}
    result = means(precision) | {
        "class_ap": {name: by_label.get(label) for label, name in enumerate(dataset.classes)},
        "images": len(dataset),
    }
    if dataset.masked and all(one.masks is not None for one in detections):
        masks = means(mask_precisions(dataset, detections))
        result |= {f"mask_{name}": value for name, value in masks.items()}
    return result


def means(precision: Tensor) -> dict[str, float | None]:
    """COCO's six numbers in percent.

    Args:
        precision: float64 [10, 101, L, 4] by overlap, recall, label and area.
    """
    everywhere = precision[..., EVERY]
    return {
        "ap": percent(everywhere),
        "ap50": percent(everywhere[0]),
        "ap75": percent(everywhere[5]),
        "ap_s": percent(precision[..., SMALL]),
        "ap_m": percent(precision[..., MEDIUM]),
        "ap_l": percent(precision[..., LARGE]),
    }


def precisions(
    dataset: CocoDataset, detections: Sequence[Detections], overlaps: list[float]
) -> tuple[Tensor, list[int]]:
    """COCO's precision at every recall, from torchmetrics, which asks pycocotools.

    Returns:
        float64 [T, 101, L, 4] by overlap, recall, label and area, -1 where there is no object; and
        the L labels that occur.

    Raises:
        CwdError: there aren't detections of every image.
    """
    if len(detections) != len(dataset):
        raise CwdError(
            f"there are detections of {len(detections)} images and {dataset.name} has "
            f"{len(dataset)}: give those of every image, in its order."
        )
    # every process has all detections: torchmetrics shall not gather them again
    metric = MeanAveragePrecision(
        box_format="xyxy",
        iou_type="bbox",
        iou_thresholds=overlaps,
        rec_thresholds=RECALLS,
        extended_summary=True,
        backend="pycocotools",
        sync_on_compute=False,
    )
    metric.warn_on_many_detections = False
    wanted = [dataset.annotated(index) for index in range(len(dataset))]
    metric.update(
        [
            {"boxes": one.boxes.double(), "scores": one.scores, "labels": one.labels}
            for one in detections
        ],
        [
            {
                "boxes": one.boxes.double(),
                "labels": one.labels,
                "iscrowd": one.crowd.long(),
                # torchmetrics would take an area of 0 for none, and the box's for it
                "area": one.area.double().clamp(min=1e-9),
            }
            for one in wanted
        ],
    )
    summary = metric.compute()
    return summary["precision"][..., -1], summary["classes"].flatten().tolist()


def percent(precision: Tensor) -> float | None:
    """The mean of those that are defined, in percent; None if none is."""
    defined = precision[precision > -1]
    return 100 * defined.mean().item() if len(defined) else None


def precision_recall(
    dataset: CocoDataset, detections: Sequence[Detections], iou: float = 0.5
) -> pd.DataFrame:
    """The curve under which the average precision is the area.

    Args:
        dataset: the images.
        detections: of every image, see `collect`.
        iou: overlap from which on a detection counts as right.

    Returns:
        `recall` from 0 to 1 in 101 steps, and `precision` from 0 to 1: at that recall or a higher
        one at best, 0 where it isn't reached, mean over the classes that have objects.

    Raises:
        CwdError: `iou` is no share, or no image has an object.
    """
    if not 0 < iou <= 1:
        raise CwdError(f"iou {iou} is no overlap: give a number above 0 and up to 1.")
    precision, _ = precisions(dataset, detections, [float(iou)])
    curve = precision[0, :, :, EVERY]  # [101, L]
    curve = curve[:, (curve > -1).all(dim=0)]
    if not curve.numel():
        raise CwdError(f"{dataset.name} has no objects in {len(dataset)} images: use more images.")
    return pd.DataFrame({"recall": RECALLS, "precision": curve.mean(dim=1).numpy()})


def to_coco_results(
    dataset: CocoDataset, detections: Sequence[Detections], *, masks: bool = False
) -> list[dict[str, Any]]:
    """Detections as COCO's results format has them, for pycocotools and COCO's server.

    Args:
        dataset: the images.
        detections: of every image, see `collect`.
        masks: give masks in place of boxes; with both, pycocotools would call a mask small or large
            by its box's area.

    Returns:
        For each detection its `image_id`, `category_id`, `score`, and `bbox` (left, top, width and
        height in pixels) or `segmentation`.
    """
    results = []
    for image_id, one in zip(dataset.image_ids, detections, strict=True):
        if masks:
            extents = [found | {"counts": found["counts"].decode()} for found in one.masks]
        else:
            extents = box_convert(one.boxes.double(), "xyxy", "xywh").tolist()
        parts = zip(one.labels.tolist(), extents, one.scores.tolist(), strict=True)
        results += [
            {
                "image_id": image_id,
                "category_id": dataset.category_ids[label],
                "segmentation" if masks else "bbox": extent,
                "score": score,
            }
            for label, extent, score in parts
        ]
    return results
