"""The images of a run: found or drawn, checked, and decoded once."""

import functools
from pathlib import Path

from cwd.config.run import Data
from cwd.data.datasets import build_dataset
from cwd.data.decoded import MEMORY, DecodedDataset, load_cached, load_in_memory
from cwd.data.scenes.draw import write_dataset
from cwd.data.segmentation import Layout
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.files import exclusive
from cwd.system.progress import report

DRAWING = 3600.0  # seconds that a process waits for another one to draw what both need


def scenes_folder(data: Data, data_root: Path) -> Path:
    """Where the scenes that `data` describes lie, or would lie."""
    if not (data.size and data.train and data.val):
        raise CwdError(
            f"dataset {data.name}: size, train and val must say what to draw; set all three."
        )
    height, width = (int(n) for n in data.size)
    return data_root / "scenes" / f"{height}x{width}-{data.train}-{data.val}-seed{data.seed}"


def scenes_root(data: Data, data_root: Path) -> Path:
    """As `scenes_folder`; they are drawn if they aren't there yet."""
    root = scenes_folder(data, data_root)
    with exclusive(root.with_suffix(".lock"), f"drawing the scenes {root}", patience=DRAWING):
        if not root.exists():
            report(f"drawing {data.train + data.val} scenes into {root}")
        splits = {"train": data.train, data.split: data.val}
        return write_dataset(root, size=data.size, splits=splits, seed=data.seed)


def large(layout: Layout) -> bool:
    """Whether a dataset's images differ in size, or are too many to be kept in memory."""
    return layout.typical is not None or layout.decoded("train") > MEMORY


@functools.lru_cache(maxsize=4)
def open_data(data: Data, data_root: Path) -> tuple[DecodedDataset, DecodedDataset]:
    """Training images and the images that mIoU is measured on.

    They are decoded once in a process, however many runs ask for them; those that are too large
    for that, once on a machine. A dataset that is missing, incomplete or damaged, or too large for
    the disk, is a `CwdError`.
    """
    root = scenes_root(data, data_root) if data.name == "scenes" else data_root
    parts = []
    for split, count in (("train", data.train), (data.split, data.val)):
        dataset = build_dataset(data.name, root, split).take(count)
        if data.size or not large(dataset.layout):
            parts.append(load_in_memory(dataset, size=data.size))
        else:
            parts.append(load_cached(dataset, paths.CACHE))
    return parts[0], parts[1]
