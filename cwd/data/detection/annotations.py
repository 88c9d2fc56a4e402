"""An annotation file in COCO's format: read, checked, and turned into tensors."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cwd.data.detection.masks import Outline, read_outline
from cwd.models.detection.outputs import Objects
from cwd.system.errors import CwdError

PARTS = ("images", "annotations", "categories")


class AnnotationFile(NamedTuple):
    """What an annotation file says of N images.

    Attributes:
        path: the file.
        digest: SHA-256 of its bytes.
        files: the images' files as the annotations call them, by image id.
        image_ids: in rising order, which is pycocotools' order too.
        sizes: int64 [N, 2], height and width of every image in pixels.
        classes: names, in the order of category ids.
        category_ids: in rising order; there may be gaps.
        objects: all annotations, image after image; those of an image stay in the file's order.
        starts: int64 [N + 1], the first object of every image, and their number.
        outlines: the objects' segmentations in the same order; None if they weren't asked for.
    """

    path: Path
    digest: str
    files: tuple[str, ...]
    image_ids: tuple[int, ...]
    sizes: Tensor
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    objects: Objects
    starts: Tensor
    outlines: tuple[Outline, ...] | None = None


@dataclass(frozen=True)
class Kind:
    """What a field must be: a test, and its name for the reader."""

    name: str
    fits: Callable[[Any], bool]


def is_whole(value: Any) -> bool:
    """Whether a value is an integer."""
    return isinstance(value, int)


def is_finite(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def is_box(value: Any) -> bool:
    """Whether a value is four finite numbers."""
    return isinstance(value, list) and len(value) == 4 and all(map(is_finite, value))


ID = Kind("a whole number", is_whole)
SIDE = Kind("a number of pixels", lambda value: is_whole(value) and value > 0)
TEXT = Kind("a text", lambda value: isinstance(value, str) and bool(value))
BOX = Kind("four finite numbers", is_box)
AREA = Kind("a number from 0 on", lambda value: is_finite(value) and value >= 0)
FLAG = Kind("0 or 1", lambda value: value in (0, 1))
SEGMENTATION = Kind("polygons or a run-length encoding", bool)


def read_annotations(path: Path, remedy: str, *, masks: bool = False) -> AnnotationFile:
    """Read an annotation file.

    Where an object has no `area` its box's counts, where it has no `iscrowd` it is no crowd.

    Args:
        path: the JSON file.
        remedy: what to do if it isn't as it should be.
        masks: whether the objects' segmentations are wanted, which are left aside otherwise.

    Raises:
        CwdError: the file is missing, damaged or not in COCO's format, an id or a class's name
            occurs twice, an annotation belongs to no image or category of the file, or a
            segmentation that is wanted isn't there or doesn't fit its image.
    """
    reader = Reader(path, remedy)
    ids, category_ids = reader.field("images", "id", ID), reader.field("categories", "id", ID)
    names = reader.field("categories", "name", TEXT)
    images, categories = reader.places("images", ids), reader.places("categories", category_ids)
    reader.places("categories", names, "name")
    reader.places("annotations", reader.field("annotations", "id", ID))
    if not images:
        raise reader.refusal("lists no images")
    owner = np.array(reader.owners("image", images), np.int64)
    order = np.argsort(owner, kind="stable")
    counts = np.bincount(owner, minlength=len(images))

    sizes = torch.tensor([reader.field("images", key, SIDE) for key in ("height", "width")]).mT
    rank = np.argsort([images[image] for image in ids])
    sizes = sizes[rank].contiguous()
    outlines = outlines_of(reader, sizes[owner].tolist()) if masks else None
    files = reader.field("images", "file_name", TEXT)
    return AnnotationFile(
        path,
        reader.digest,
        tuple(files[number] for number in rank.tolist()),
        tuple(images),
        sizes,
        tuple(name for _, name in sorted(zip(category_ids, names, strict=True))),
        tuple(categories),
        objects_of(reader, categories).keep(torch.from_numpy(order)),
        torch.from_numpy(np.concatenate([[0], counts.cumsum()])),
        None if outlines is None else tuple(outlines[number] for number in order.tolist()),
    )


class Reader:
    """An annotation file's lists, and the refusal of what isn't as it should be.

    Args:
        path: the file.
        remedy: what to do then.

    Raises:
        CwdError: the file is missing, no JSON, or without one of the lists.
    """

    def __init__(self, path: Path, remedy: str) -> None:
        self.path, self.remedy = path, remedy
        if not path.is_file():
            raise self.refusal("is missing, the annotations")
        try:
            data = path.read_bytes()
            content = json.loads(data)
        except (OSError, ValueError, RecursionError) as error:
            raise self.refusal(f"can't be read as JSON ({error})") from error
        self.digest = hashlib.sha256(data).hexdigest()
        self.lists = content if isinstance(content, dict) else {}
        for part in PARTS:
            if not isinstance(self.lists.get(part), list):
                raise self.refusal(f"has no list {part!r}, expected annotations in COCO's format")

    def refusal(self, found: str) -> CwdError:
        """The sentence that names the file, what was found in it, and the remedy."""
        return CwdError(f"{self.path} {found}: {self.remedy}")

    def field(self, part: str, key: str, kind: Kind, **default: Any) -> list[Any]:
        """One field of every entry of a list; where `default` is given, it may be absent.

        Raises:
            CwdError: an entry hasn't the field, or it is no such value.
        """
        values = []
        for number, entry in enumerate(self.lists[part]):
            if not isinstance(entry, dict) or (key not in entry and not default):
                raise self.refusal(f"has no {key} in {part}[{number}]")
            if key in entry and not kind.fits(entry[key]):
                raise self.refusal(
                    f"has {shortened(entry[key])} for {key} in {part}[{number}], expected "
                    f"{kind.name}"
                )
            values.append(entry.get(key, default.get("default")))
        return values

    def places(self, part: str, values: Sequence[Any], what: str = "id") -> dict[Any, int]:
        """The place of every value in rising order, by value and in that order.

        Raises:
            CwdError: one occurs twice.
        """
        places = {value: place for place, value in enumerate(sorted(set(values)))}
        if len(places) < len(values):
            twice = next(value for value, count in Counter(values).items() if count > 1)
            raise self.refusal(f"has the {what} {twice!r} twice in {part}")
        return places

    def owners(self, what: str, places: dict[int, int]) -> list[int]:
        """The place of every annotation's image or category.

        Raises:
            CwdError: it isn't listed.
        """
        values = self.field("annotations", f"{what}_id", ID)
        for number, value in enumerate(values):
            if value not in places:
                raise self.refusal(
                    f"has the {what} {value} in annotations[{number}], which is none of those that "
                    "it lists"
                )
        return [places[value] for value in values]


def objects_of(reader: Reader, categories: dict[int, int]) -> Objects:
    """All annotations in the file's order.

    Args:
        reader: of the file.
        categories: labels by category id.

    Raises:
        CwdError: a field isn't as it should be.
    """
    boxes = np.array(reader.field("annotations", "bbox", BOX), np.float64).reshape(-1, 4)
    products = boxes[:, 2:].clip(min=0).prod(axis=1).tolist()
    areas = reader.field("annotations", "area", AREA, default=None)
    areas = [box if own is None else own for own, box in zip(areas, products, strict=True)]
    boxes[:, 2:] += boxes[:, :2]  # in double: the rounding to single precision comes last
    return Objects(
        torch.from_numpy(boxes).float(),
        torch.tensor(reader.owners("category", categories), dtype=torch.int64),
        torch.tensor(areas, dtype=torch.float32),
        torch.tensor(reader.field("annotations", "iscrowd", FLAG, default=0), dtype=torch.bool),
    )


def outlines_of(reader: Reader, sizes: list[list[int]]) -> list[Outline]:
    """All segmentations in the file's order.

    Args:
        reader: of the file.
        sizes: height and width of every annotation's image.

    Raises:
        CwdError: one is missing or doesn't fit its image.
    """
    values, outlines = reader.field("annotations", "segmentation", SEGMENTATION), []
    for number, (value, (height, width)) in enumerate(zip(values, sizes, strict=True)):
        try:
            outlines.append(read_outline(value, (height, width)))
        except ValueError as error:
            raise reader.refusal(
                f"has {shortened(value)} for segmentation in annotations[{number}], {error}"
            ) from error
    return outlines
