"""Masks of objects: as annotation files have them, as pixels, and as detectors find them."""

import re
from collections.abc import Sequence
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from cwd.system.extras import Lazy

rle = Lazy("pycocotools.mask")
FAR = 100_000  # pixels: pycocotools goes along every edge of a polygon, step by step
LARGE = 2**28  # pixels: more than Pillow decodes
POLYGONS = "expected polygons of three points or more, each an x and a y in pixels"
Size = tuple[int, int]
Rle = dict[str, Any]  # pycocotools' compressed run-length encoding: "size" and "counts"
Outline = list[np.ndarray] | Rle  # polygons float64 [2 P], x and y in turn; or the encoding


def read_polygons(value: Any) -> Outline:
    """Polygons as small arrays; a run-length encoding as it is, anything else is a ValueError."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, list) or not value:
        raise ValueError("expected polygons or a run-length encoding")
    polygons = []
    for part in value:
        try:
            numbers = np.array(part)
        except ValueError as error:  # lists of several lengths
            raise ValueError(POLYGONS) from error
        fit = numbers.ndim == 1 and len(numbers) % 2 == 0 and numbers.dtype.kind in "iuf"
        if not fit or not (np.abs(numbers) <= FAR).all():
            raise ValueError(POLYGONS)
        if len(numbers) >= 6:  # of fewer than three points there is no area, as in pycocotools
            polygons.append(numbers.astype(np.float64))
    if not polygons:
        raise ValueError(POLYGONS)
    return polygons


def read_rle(value: dict[str, Any], size: Size) -> Rle:
    """A run-length encoding of COCO's format for an image of that size, checked and compressed.

    A damaged one is a `ValueError`; it would make pycocotools write beyond its memory.
    """
    pixels, counts = prod(size), value.get("counts")
    if value.get("size") != [*size] or pixels > LARGE:
        raise ValueError(f"expected a run-length encoding of the image's size, {[*size]}")
    if isinstance(counts, list):
        runs = [run if isinstance(run, int) else -1 for run in counts]
        if sum(runs) == pixels and min(runs) >= 0:
            return rle.frPyObjects(value, *size)
    elif isinstance(counts, str) and re.fullmatch("[0-o]*[0-O]", counts):  # the last number ends
        whole = {"size": [*size], "counts": counts.encode()}
        with suppress(ValueError):  # too many pixels; where there are too few, the rest is filled
            if rle.encode(rle.decode(whole)) == whole:
                return whole
    raise ValueError(f"expected a run-length encoding of {pixels} pixels")


def encoded(outline: Outline, size: Size) -> Rle:
    """The run-length encoding of an object; of polygons, their union."""
    return outline if isinstance(outline, dict) else rle.merge(rle.frPyObjects(outline, *size))


def decoded(rles: Sequence[Rle], size: Size) -> Tensor:
    """Masks uint8 [N, H, W], 1 on the object, from N encodings of an image of that size."""
    if not rles:
        return torch.zeros(0, *size, dtype=torch.uint8)
    return torch.from_numpy(np.ascontiguousarray(rle.decode(list(rles)).transpose(2, 0, 1)))


def pasted(masks: Tensor, boxes: Tensor, size: Size) -> list[Rle]:
    """A detector's masks in the image, from 0.5 on, as torchvision puts them there, encoded.

    Masks are float32 [M, h, w] from 0 to 1 on the CPU, boxes [M, 4] in pixels of such an image.
    """
    rles = []
    for mask, box in zip(masks, boxes, strict=True):
        whole = paste_masks_in_image(mask[None, None], box[None], size)[0, 0] > 0.5
        rles.append(rle.encode(np.asfortranarray(whole.numpy(), np.uint8)))
    return rles
