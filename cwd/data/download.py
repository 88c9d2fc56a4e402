"""Getting a dataset, and checking what was got: `make data DATASET=...`."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from cwd.config.run import OWN, Data
from cwd.data.base import Dataset, Layout, ahead, both_parts, readable
from cwd.data.classification.folders import FOLDER_LAYOUTS, build_folders
from cwd.data.datasets import LAYOUTS, build_dataset, large
from cwd.data.decoded import is_cached, load_cached
from cwd.data.detection.coco import COCO_LAYOUTS, build_coco
from cwd.data.scenes.draw import DRAWN
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.progress import report

WAITING = 64  # images that may wait to be checked
KINDS = {
    "coco": [(COCO_LAYOUTS, build_coco)],
    "imagenet": [(FOLDER_LAYOUTS, build_folders)],
    OWN: [(LAYOUTS, build_dataset), (COCO_LAYOUTS, build_coco)],
}


def obtain(name: str, data_root: str | Path) -> str:
    """Find a dataset below the data root, get it if its licence allows that, and check it.

    Returns a sentence, for a user's own also a line a split with sizes and shares of classes; where
    it is damaged or has to be got by hand, that is a `CwdError`.
    """
    root = readable(data_root)
    if name in (*DRAWN, "crops"):
        return f"{name} need no download: they are made in the data root when a notebook runs."
    kinds = KINDS.get(name, [(LAYOUTS, build_dataset)])
    # of one's own, labels or boxes are enough
    there = [(layouts[name], build) for layouts, build in kinds if layouts[name].find(root)]
    found = there or [(layouts[name], build) for layouts, build in kinds[:1]]
    return "\n".join(_obtained(name, root, layout, build) for layout, build in found)


def _obtained(name: str, root: Path, layout: Layout, build: Callable[..., Dataset]) -> str:
    counts, lines = [], []
    if layout.get:
        layout.get(root)
    for split in layout.counts or ("train", "val"):
        dataset = build(name, root, split).take(None)
        lines.append(_check(dataset))
        if build is build_dataset and large(layout) and is_cached(dataset, paths.CACHE):
            load_cached(dataset, paths.CACHE).verify()
        counts.append(f"{len(dataset)} {split}")
    if layout.own:
        both_parts(Data(name, root=str(root)), lambda split: build(name, root, split))
    said = (
        f"{name} is in {dataset.root}: {', '.join(counts)}, {dataset.num_classes} classes; every "
        "file decoded and checked."
    )
    return "\n".join([said, *lines] if layout.own else [said])


def _check(dataset: Dataset) -> str:
    """Decode all of a dataset; where that fails, or a size isn't the official one, a `CwdError`.

    Returns a line: the sizes of its images, and how many of the labelled pixels or of the objects
    are of each class.
    """
    report(f"decoding {len(dataset)} images of {dataset.split}")
    official, counts = getattr(dataset.layout, "size", None), Counter()

    def look(index: int) -> tuple[tuple[int, ...], Tensor]:
        image, target = dataset[index]
        labels = torch.as_tensor(getattr(target, "labels", target))
        return tuple(image.shape[1:]), labels.flatten().bincount()

    sizes = set()
    seen = ahead(look, range(len(dataset)), WAITING)
    for image, (size, labels) in zip(dataset.names, seen, strict=True):
        if official and size != official:
            raise CwdError(
                f"{dataset.root / image} is {size[1]}x{size[0]} pixels, expected "
                f"{official[1]}x{official[0]}: get the dataset again as it is distributed."
            )
        sizes.add(size)
        counts.update(dict(enumerate(labels.tolist())))
    by_area = sorted(sizes, key=lambda size: (math.prod(size), size))
    ends = dict.fromkeys([by_area[0], by_area[-1]])
    ends = " to ".join(f"{width}x{height}" for height, width in ends)
    whole = sum(counts[label] for label in range(dataset.num_classes))
    if not whole and getattr(dataset.layout, "own", False):
        raise CwdError(
            f"{dataset.root} has nothing labelled in {dataset.split}, to learn or measure: label "
            "some of its images."
        )
    shares = (f"{c} {100 * counts[k] / max(1, whole):.1f}%" for k, c in enumerate(dataset.classes))
    return f"{dataset.split}: {ends} pixels; {', '.join(shares)}"
