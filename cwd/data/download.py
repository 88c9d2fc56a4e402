"""Getting a dataset, and checking what was got: `make data DATASET=...`."""

from collections.abc import Callable, Iterable
from pathlib import Path

from cwd.data.base import Dataset, check_complete
from cwd.data.batches import ahead
from cwd.data.classification.folders import build_folders, folder_layout
from cwd.data.datasets import build_dataset, layout_of
from cwd.data.decoded import is_cached, load_cached
from cwd.data.detection.coco import build_coco, coco_layout, get_coco
from cwd.data.opening import large
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.progress import report

WAITING = 64  # images that may wait to be checked
MADE = {
    "scenes": "they are drawn into the data root",
    "crops": "scenes are drawn into the data root and their objects cut out",
}


def obtain(name: str, data_root: str | Path) -> str:
    """Find a dataset below the data root, get it if its licence allows that, and check it.

    Returns a sentence for people, and so is the `CwdError` where it is damaged or has to be got by
    hand.
    """
    root = Path(data_root)
    if name in MADE:
        return f"{name} need no download: {MADE[name]} when a notebook runs."
    if name == "coco":
        get_coco(root)
        return check(name, root, build_coco, coco_layout(name).counts)
    if name == "imagenet":
        return check(name, root, build_folders, folder_layout(name).counts)
    layout = layout_of(name)
    if layout.get:
        layout.get(root)
    said = check(name, root, build_dataset, layout.counts)
    for dataset in (build_dataset(name, root, split) for split in layout.counts):
        if large(layout) and is_cached(dataset, paths.CACHE):
            load_cached(dataset, paths.CACHE).verify()
    return said


def check(name: str, root: Path, build: Callable[..., Dataset], splits: Iterable[str]) -> str:
    """Decode a whole dataset, built by `build(name, root, split)`; returns a sentence.

    Raises:
        CwdError: a file is missing or damaged, or a count or size isn't the official one.
    """
    counts = []
    for split in splits:
        dataset = build(name, root, split)
        check_complete(dataset)
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
