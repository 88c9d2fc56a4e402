"""Getting a dataset, and checking what was got: `make data DATASET=...`."""

from pathlib import Path

from cwd.data.base import Dataset, ahead
from cwd.data.classification.folders import FOLDER_LAYOUTS, build_folders
from cwd.data.datasets import LAYOUTS, build_dataset, large
from cwd.data.decoded import is_cached, load_cached
from cwd.data.detection.coco import COCO_LAYOUTS, build_coco
from cwd.data.scenes.draw import DRAWN
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.progress import report

WAITING = 64  # images that may wait to be checked
OTHERS = {"coco": (COCO_LAYOUTS, build_coco), "imagenet": (FOLDER_LAYOUTS, build_folders)}


def obtain(name: str, data_root: str | Path) -> str:
    """Find a dataset below the data root, get it if its licence allows that, and check it.

    Returns a sentence; where it is damaged or has to be got by hand, that is a `CwdError`.
    """
    root = Path(data_root)
    if name in (*DRAWN, "crops"):
        return f"{name} need no download: they are made in the data root when a notebook runs."
    layouts, build = OTHERS.get(name, (LAYOUTS, build_dataset))
    layout, counts = layouts[name], []
    if layout.get:
        layout.get(root)
    for split in layout.counts:
        dataset = build(name, root, split).take(None)
        _check(dataset)
        if build is build_dataset and large(layout) and is_cached(dataset, paths.CACHE):
            load_cached(dataset, paths.CACHE).verify()
        counts.append(f"{len(dataset)} {split}")
    return (
        f"{name} is in {dataset.root}: {', '.join(counts)}, {dataset.num_classes} classes; every "
        "file decoded and checked."
    )


def _check(dataset: Dataset) -> None:
    """Decode all of a dataset; where that fails, or a size isn't the official one, a `CwdError`."""
    report(f"decoding {len(dataset)} images of {dataset.split}")
    official = getattr(dataset.layout, "size", None)
    sizes = ahead(lambda index: tuple(dataset[index][0].shape[1:]), range(len(dataset)), WAITING)
    for image, size in zip(dataset.names, sizes, strict=True):
        if official and size != official:
            raise CwdError(
                f"{dataset.root / image} is {size[1]}x{size[0]} pixels, expected "
                f"{official[1]}x{official[0]}: get the dataset again as it is distributed."
            )
