"""An annotation file in COCO's format: read, checked, and turned into tensors."""

import hashlib
from operator import itemgetter
from pathlib import Path
from reprlib import repr as shortened
from typing import Annotated, Any, Generic, NamedTuple, NotRequired, TypeVar

import numpy as np
import pandas as pd
import torch
from pydantic import AfterValidator, FailFast, Field, Strict, TypeAdapter, ValidationError
from torch import Tensor
from typing_extensions import TypedDict

from cwd.data.detection.masks import Outline, read_polygons, read_rle
from cwd.models.detection.outputs import Objects
from cwd.system.errors import CwdError

Entry = TypeVar("Entry")


class AnnotationFile(NamedTuple):
    """What an annotation file says of N images, in the order of their ids, as in pycocotools."""

    path: Path
    digest: str  # SHA-256 of its bytes
    files: tuple[str, ...]  # of the images, as the annotations call them
    image_ids: tuple[int, ...]
    sizes: Tensor  # int64 [N, 2], height and width of every image in pixels
    classes: tuple[str, ...]  # in the order of category ids
    category_ids: tuple[int, ...]  # in rising order; there may be gaps
    objects: Objects  # image after image; those of an image stay in the file's order
    starts: Tensor  # int64 [N + 1], the first object of every image, and their number
    outlines: tuple[Outline, ...] | None  # of the objects; None if they weren't asked for


# What a file must be, checked while it is parsed. Fields that aren't named here take no memory, and
# none of COCO's 860,000 annotations becomes an object of a class.
_Whole = Annotated[int, Strict()]
_Side = Annotated[int, Strict(), Field(gt=0, le=100_000)]
_Number = Annotated[float, Strict(), Field(ge=-1e10, le=1e10, allow_inf_nan=False)]
_Text = Annotated[str, Field(min_length=1)]


class _Image(TypedDict):
    id: _Whole
    file_name: _Text
    height: _Side
    width: _Side


class _Category(TypedDict):
    id: _Whole
    name: _Text


class _Annotation(TypedDict):
    id: _Whole
    image_id: _Whole
    category_id: _Whole
    bbox: tuple[_Number, _Number, _Number, _Number]
    area: NotRequired[Annotated[_Number, Field(ge=0)]]
    iscrowd: NotRequired[Annotated[int, Field(ge=0, le=1)]]


class _Outlined(_Annotation):
    segmentation: Annotated[Any, AfterValidator(read_polygons)]


class _File(TypedDict, Generic[Entry]):
    images: Annotated[list[_Image], FailFast()]
    annotations: Annotated[list[Entry], FailFast()]
    categories: Annotated[list[_Category], FailFast()]


_FORMATS = {False: TypeAdapter(_File[_Annotation]), True: TypeAdapter(_File[_Outlined])}


def read_annotations(path: Path, remedy: str, *, masks: bool = False) -> AnnotationFile:
    """Read an annotation file, and if masks are wanted the objects' segmentations.

    Where an object has no `area` its box's counts, where it has no `iscrowd` it is no crowd. A file
    that is missing, not in COCO's format or not consistent is a `CwdError` with the remedy.
    """
    try:
        data = path.read_bytes()
        content = _FORMATS[masks].validate_json(data)
        return _arranged(path, hashlib.sha256(data).hexdigest(), content, masks)
    except ValidationError as error:
        found = _first_of(error)
    except OSError as error:
        found = f"can't be read ({error})" if path.exists() else "is missing, the annotations"
    except ValueError as error:
        found = str(error)
    raise CwdError(f"{path} {found}: {remedy}")


def _first_of(error: ValidationError) -> str:
    found = error.errors()[0]
    if found["type"] == "json_invalid":
        return f"can't be read as JSON ({found['msg']})"
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in found["loc"])
    place = "".join(parts).removeprefix(".") or "all of it"
    if found["type"] == "missing":
        return f"has no {place}"
    wanted = found["msg"].removeprefix("Value error, ").replace("Input", "which")
    return f"has {shortened(found['input'])} for {place}, {wanted}"


def _arranged(path: Path, digest: str, content: _File, masks: bool) -> AnnotationFile:
    """What is in the file, image after image; a `ValueError` says what is wrong with it."""
    annotations = content["annotations"]
    images = sorted(content["images"], key=itemgetter("id"))
    categories = sorted(content["categories"], key=itemgetter("id"))
    if not (images and categories):
        raise ValueError(f"lists no {'categories' if images else 'images'}")
    image_ids, category_ids = _index(images, "images"), _index(categories, "categories")
    classes = _index(categories, "categories", "name")
    _index(images, "images", "file_name")
    _index(annotations, "annotations")
    owner = _places(annotations, "image", image_ids)
    order = torch.from_numpy(np.argsort(owner, kind="stable"))
    counts = np.bincount(owner, minlength=len(images))
    boxes = np.array([one["bbox"] for one in annotations], np.float64).reshape(-1, 4)
    extents = boxes[:, 2:].clip(min=0).prod(axis=1).tolist()
    areas = [one.get("area", extent) for one, extent in zip(annotations, extents, strict=True)]
    boxes[:, 2:] += boxes[:, :2]  # in double: the rounding to single precision comes last
    objects = Objects(
        torch.from_numpy(boxes).float(),
        torch.from_numpy(_places(annotations, "category", category_ids)),
        torch.tensor(areas, dtype=torch.float32),
        torch.tensor([one.get("iscrowd", 0) for one in annotations], dtype=torch.bool),
    )
    sizes = [[image["height"], image["width"]] for image in images]
    outlines = [one["segmentation"] for one in annotations] if masks else []
    for number, outline in enumerate(outlines):
        try:
            if isinstance(outline, dict):
                outlines[number] = read_rle(outline, sizes[owner[number]])
        except ValueError as error:
            place = f"annotations[{number}].segmentation"
            raise ValueError(f"has {shortened(outline)} for {place}, {error}") from error
    return AnnotationFile(
        path,
        digest,
        files=tuple(image["file_name"] for image in images),
        image_ids=tuple(image_ids.tolist()),
        sizes=torch.tensor(sizes),
        classes=tuple(classes),
        category_ids=tuple(category_ids.tolist()),
        objects=objects.keep(order),
        starts=torch.from_numpy(np.concatenate([[0], counts.cumsum()])),
        outlines=tuple(outlines[number] for number in order.tolist()) if masks else None,
    )


def _index(entries: list[Any], part: str, key: str = "id") -> pd.Index:
    index = pd.Index([entry[key] for entry in entries])
    if twice := index[index.duplicated()].tolist():
        raise ValueError(f"has the {key} {twice[0]!r} twice in {part}")
    return index


def _places(annotations: list[_Outlined], what: str, ids: pd.Index) -> np.ndarray:
    wanted = [one[f"{what}_id"] for one in annotations]
    places = ids.get_indexer(wanted)
    if (places < 0).any():
        number = int((places < 0).argmax())
        value = f"{what} {wanted[number]} in annotations[{number}]"
        raise ValueError(f"has the {value}, which is none of those that it lists")
    return places
