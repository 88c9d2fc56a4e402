"""COCO's average precision of boxes and masks, which pycocotools computes."""

import io
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchvision.ops import box_convert

from cwd.data.base import ahead
from cwd.data.detection.batches import fitted, prepare, stacked
from cwd.data.detection.coco import CocoDataset
from cwd.data.detection.masks import Size, pasted
from cwd.evaluation.measuring import by_class, measured
from cwd.models.detection.outputs import Detections
from cwd.system.distributed import processes
from cwd.system.errors import CwdError
from cwd.system.extras import Lazy

coco_api, cocoeval = Lazy("pycocotools.coco"), Lazy("pycocotools.cocoeval")
NUMBERS = ("ap", "ap50", "ap75", "ap_s", "ap_m", "ap_l")  # in pycocotools' order


def evaluate(detector: nn.Module, dataset: CocoDataset, **settings: Any) -> dict[str, Any]:
    """COCO's average precision of a detector: the `scores` of what `collect` gives.

    Processes that train together share the images; all of them have to call this, and each gets
    the same numbers.
    """
    return scores(dataset, collect(detector, dataset, **settings))


def collect(
    detector: nn.Module,
    dataset: CocoDataset,
    *,
    short: int,
    long: int,
    device: torch.device | str = "cpu",
    autocast: Callable[..., Any] = nullcontext,
    batch: int = 8,
) -> list[Detections]:
    """What a detector finds in every image of a dataset.

    Images are resized to a `short` side, see `cwd.data.detection.batches.fitted`. Those of one size
    are computed together, up to a `batch`, and no image is padded for another one's sake, so the
    result doesn't depend on the batch. Arguments else are as of `cwd.evaluation.miou.evaluate`.

    Returns:
        By index, on the CPU; boxes in pixels of the image as it is stored, and so are masks.

    Raises:
        CwdError: the detector has another number of classes than the dataset.
    """
    found: dict[int, Detections] = {}
    stored = [tuple(size) for size in dataset.sizes.tolist()]
    with measured(detector, dataset) as mine:
        chunks = _in_chunks(mine, [fitted(size, short, long) for size in stored], batch)
        order = (index for chunk in chunks for index in chunk)
        pictures = ahead(lambda index: prepare(dataset.image(index), short, long), order, 2 * batch)
        for chunk in chunks:
            images, scales = zip(*(next(pictures) for _ in chunk), strict=True)
            sizes = [tuple(image.shape[-2:]) for image in images]
            with autocast():
                answers = detector.detect(stacked([x.to(device) for x in images]), sizes)
            for index, answer, scale in zip(chunk, answers, scales, strict=True):
                found[index] = _rescaled(answer, scale, stored[index])
    found = _together(found)
    return [found[index] for index in range(len(dataset))]


def _in_chunks(mine: Sequence[int], sizes: Sequence[Size], batch: int) -> list[list[int]]:
    """Images of one size, at most `batch` at a time."""
    groups: dict[Size, list[int]] = {}
    for index in mine:
        groups.setdefault(sizes[index], []).append(index)
    return [
        group[start : start + batch]
        for group in groups.values()
        for start in range(0, len(group), batch)
    ]


def _rescaled(answer: Detections, scale: Tensor, size: Size) -> Detections:
    """Detections in the image as it is stored, on the CPU, without those that aren't finite."""
    boxes, sure = answer.boxes.cpu().float() / scale, answer.scores.cpu().float()
    finite = boxes.isfinite().all(dim=1) & sure.isfinite()
    boxes, masks = boxes[finite], answer.masks
    if masks is not None:
        masks = pasted(masks.cpu().float()[finite], boxes, size)
    return Detections(boxes, sure[finite], answer.labels.cpu()[finite], masks)


def _together(found: dict[int, Detections]) -> dict[int, Detections]:
    """What all processes found."""
    if processes() == 1:
        return found
    parts: list[Any] = [None] * processes()
    dist.all_gather_object(parts, found)
    return {index: Detections(*answer) for part in parts for index, answer in part.items()}


def scores(dataset: CocoDataset, detections: Sequence[Detections]) -> dict[str, Any]:
    """COCO's average precision of detections, what pycocotools says of the same files.

    Returns:
        In percent: `ap` (mean over overlaps of 0.5 to 0.95), `ap50`, `ap75`, `ap_s`, `ap_m` and
        `ap_l` (objects of less than 32^2 pixels, up to 96^2, and above), `class_ap` by class name;
        each is None where there is no such object. `images` is their number. If there are masks in
        both, also `mask_ap`, `mask_ap50` and so on.

    Raises:
        CwdError: there aren't detections of every image.
    """
    boxes = _coco(dataset, detections)
    precision = torch.tensor(boxes.eval["precision"][:, :, :, 0, -1])  # [T, 101, K]
    precision[precision < 0] = float("nan")  # a class without objects
    class_ap = by_class(dataset.classes, 100 * precision.mean(dim=(0, 1)))
    result = _percent(boxes) | {"class_ap": class_ap, "images": len(dataset)}
    if dataset.masked and all(one.masks is not None for one in detections):
        masks = _percent(_coco(dataset, detections, masks=True))
        result |= {f"mask_{name}": value for name, value in masks.items()}
    return result


def precision_recall(dataset: CocoDataset, detections: Sequence[Detections]) -> pd.DataFrame:
    """The curve under which `ap50` is the area.

    Returns:
        `recall` from 0 to 1 in 101 steps, and `precision` from 0 to 1: at that recall or a higher
        one at best, 0 where it isn't reached, mean over the classes that have objects.

    Raises:
        CwdError: no image has an object.
    """
    curve = _coco(dataset, detections).eval["precision"][0, :, :, 0, -1]  # [101, K]
    curve = curve[:, (curve > -1).all(axis=0)]
    if not curve.size:
        raise CwdError(f"{dataset.name} has no objects in {len(dataset)} images: use more images.")
    return pd.DataFrame({"recall": np.linspace(0, 1, 101), "precision": curve.mean(axis=1)})


def to_coco_results(
    dataset: CocoDataset, detections: Sequence[Detections], *, masks: bool = False
) -> list[dict[str, Any]]:
    """Detections as COCO's results format has them, for pycocotools and COCO's server.

    With `masks` these are in place of boxes: with both, pycocotools would call a mask small or
    large by its box's area.
    """
    results = []
    for index, one in enumerate(detections):
        extents = _xywh(one.boxes)
        if masks:
            extents = [found | {"counts": found["counts"].decode()} for found in one.masks]
        columns = {"segmentation" if masks else "bbox": extents, "score": one.scores.tolist()}
        results += _entries(dataset, index, one.labels, columns)
    return results


def _annotations(dataset: CocoDataset, masks: bool) -> Any:
    """What pycocotools makes of the annotation file, of the dataset's images alone."""
    entries = []
    for index in range(len(dataset)):
        one = dataset.annotated(index)
        extents = dataset.encodings(index) if masks else _xywh(one.boxes)
        columns = {"segmentation" if masks else "bbox": extents}
        columns |= {"area": one.area.tolist(), "iscrowd": one.crowd.int().tolist()}
        entries += _entries(dataset, index, one.labels, columns)
    sizes = zip(dataset.image_ids, dataset.sizes.tolist(), strict=True)
    coco = coco_api.COCO()
    coco.dataset = {
        "images": [{"id": n, "height": height, "width": width} for n, (height, width) in sizes],
        "categories": [{"id": number} for number in dataset.category_ids],
        # ids from 1 on: pycocotools takes 0 for no match
        "annotations": [entry | {"id": number} for number, entry in enumerate(entries, start=1)],
    }
    coco.createIndex()
    return coco


def _xywh(boxes: Tensor) -> list[list[float]]:
    return box_convert(boxes.double(), "xyxy", "xywh").tolist()


def _entries(
    dataset: CocoDataset, index: int, labels: Tensor, columns: dict[str, list[Any]]
) -> list[dict[str, Any]]:
    """An image's objects as files list them."""
    ids = [dataset.category_ids[label] for label in labels.tolist()]
    columns = {"image_id": [dataset.image_ids[index]] * len(ids), "category_id": ids} | columns
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _coco(dataset: CocoDataset, detections: Sequence[Detections], *, masks: bool = False) -> Any:
    """pycocotools' evaluation; its precision is [T, 101, K, 4, 3], by area and number too."""
    if len(detections) != len(dataset):
        raise CwdError(
            f"there are detections of {len(detections)} images and {dataset.name} has "
            f"{len(dataset)}: give those of every image, in its order."
        )
    with redirect_stdout(io.StringIO()):  # pycocotools reports what it does
        truth = _annotations(dataset, masks)
        results = to_coco_results(dataset, detections, masks=masks)
        found = truth.loadRes(results) if results else coco_api.COCO()
        evaluation = cocoeval.COCOeval(truth, found, "segm" if masks else "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _percent(evaluation: Any) -> dict[str, float | None]:
    with redirect_stdout(io.StringIO()):
        evaluation.summarize()
    stats = dict(zip(NUMBERS, evaluation.stats.tolist(), strict=False))
    return {name: None if value < 0 else 100 * value for name, value in stats.items()}
