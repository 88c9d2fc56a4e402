"""COCO's average precision of masks, which pycocotools computes from their encodings.

torchmetrics wants them as pixels, and leaves out images without objects, in which whatever is found
is wrong.
"""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import torch
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from cwd.data.detection.coco import CocoDataset
from cwd.models.detection.outputs import Detections


def mask_precisions(dataset: CocoDataset, detections: Sequence[Detections]) -> Tensor:
    """COCO's precision at every recall, by the overlap of masks.

    Args:
        dataset: the images, opened with masks.
        detections: of every image, with encoded masks, see `cwd.evaluation.coco_ap`.

    Returns:
        float64 [10, 101, K, 4] by overlap, recall, label and area, -1 where there is no object.
    """
    wanted: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for index, one in enumerate(detections):
        objects = dataset.annotated(index)
        wanted += entries(
            index,
            category_id=objects.labels.tolist(),
            segmentation=dataset.encodings(index),
            area=objects.area.tolist(),
            iscrowd=objects.crowd.long().tolist(),
        )
        found += entries(
            index,
            category_id=one.labels.tolist(),
            segmentation=one.masks,
            area=[float(rle.area(mask)) for mask in one.masks],
            score=one.scores.tolist(),
        )
    with redirect_stdout(io.StringIO()):  # pycocotools reports what it does
        evaluation = COCOeval(indexed(dataset, wanted), indexed(dataset, found), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
    return torch.from_numpy(evaluation.eval["precision"][..., -1])


def entries(index: int, **fields: list[Any]) -> list[dict[str, Any]]:
    """An image's objects as an annotation file lists them, from a list for each field."""
    rows = zip(*fields.values(), strict=True)
    return [{"image_id": index, **dict(zip(fields, row, strict=True))} for row in rows]


def indexed(dataset: CocoDataset, annotations: list[dict[str, Any]]) -> COCO:
    """What pycocotools makes of a file that has these annotations."""
    coco = COCO()
    coco.dataset = {
        "images": [
            {"id": index, "height": height, "width": width}
            for index, (height, width) in enumerate(dataset.sizes.tolist())
        ],
        "categories": [{"id": label} for label in range(dataset.num_classes)],
        # ids from 1 on: pycocotools takes 0 for no match
        "annotations": [one | {"id": number} for number, one in enumerate(annotations, start=1)],
    }
    coco.createIndex()
    return coco
