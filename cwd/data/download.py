"""Getting a dataset, and checking what was got: `make data DATASET=...`."""

from collections.abc import Callable, Iterable
from pathlib import Path

from cwd.data.base import Dataset
from cwd.data.batches import ahead
from cwd.data.classification.folders import FOLDER_LAYOUTS, build_folders
from cwd.data.datasets import LAYOUTS, build_dataset, large
from cwd.data.decoded import is_cached, load_cached
from cwd.data.detection.coco import COCO_LAYOUTS, build_coco, get_coco
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.progress import report

WAITING = 64  # images that may wait to be checked


def obtain(name: str, data_root: str | Path) -> str:
    """Find a dataset below the data root, get it if its licence allows that, and check it.

    Returns a sentence for people, and so is the `CwdError` where it is damaged or has to be got by
    hand.
    """
    root = Path(data_root)
    if name in ("scenes", "crops"):
        return f"{name} need no download: they are made in the data root when a notebook runs."
    if name == "coco":
        get_coco(root)
        return check(name, root, build_coco, COCO_LAYOUTS[name].counts)
    if name == "imagenet":
        return check(name, root, build_folders, FOLDER_LAYOUTS[name].counts)
    layout = LAYOUTS[name]
    if layout.get:
        layout.get(root)
    said = check(name, root, build_dataset, layout.counts)
    for dataset in (build_dataset(name, root, split) for split in layout.counts):
        if large(layout) and is_cached(dataset, paths.CACHE):
            load_cached(dataset, paths.CACHE).verify()
    return said


def check(name: str, root: Path, build: Callable[..., Dataset], splits: Iterable[str]) -> str:
    """Decode a whole dataset, built by `build(name, root, split)`; returns a sentence.

    A file that is damaged, or a count or size that isn't the official one, is a `CwdError`.
    """
    counts = []
    for split in splits:
        dataset = build(name, root, split).take(None)
        report(f"decoding {len(dataset)} images of {split}")
        official = getattr(dataset.layout, "size", None)
        sizes = ahead(lambda i, d=dataset: tuple(d[i][0].shape[1:]), range(len(dataset)), WAITING)
        for image, size in zip(dataset.names, sizes, strict=True):
            if official and size != official:
                raise CwdError(
                    f"{dataset.root / image} is {size[1]}x{size[0]} pixels, expected "
                    f"{official[1]}x{official[0]}: get the dataset again as it is distributed."
                )
        counts.append(f"{len(dataset)} {split}")
    return (
        f"{name} is in {dataset.root}: {', '.join(counts)}, {dataset.num_classes} classes; every "
        "file decoded and checked."
    )
