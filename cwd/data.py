"""The images of a run: found or drawn, checked, decoded once, and kept in memory."""

import functools
from pathlib import Path

from cwd.datasets import InMemoryDataset, build_dataset, load_in_memory
from cwd.errors import CwdError
from cwd.files import exclusive
from cwd.progress import report
from cwd.runs import Data
from cwd.scenes import write_dataset


def scenes_root(data: Data, data_root: Path) -> Path:
    """Folder of the scenes that `data` describes; they are drawn if they aren't there yet.

    Raises:
        CwdError: `data` leaves open what to draw, or the folder can't be written.
    """
    if not (data.size and data.train and data.val):
        raise CwdError("dataset scenes: size, train and val must say what to draw; set all three.")
    height, width = (int(n) for n in data.size)
    root = data_root / "scenes" / f"{height}x{width}-{data.train}-{data.val}-seed{data.seed}"
    with exclusive(root.with_suffix(".lock"), f"drawing the scenes {root}"):
        if not root.exists():
            report(f"drawing {data.train + data.val} scenes into {root}")
        splits = {"train": data.train, data.split: data.val}
        return write_dataset(root, size=(height, width), splits=splits, seed=data.seed)


@functools.lru_cache(maxsize=4)
def open_data(data: Data, data_root: Path) -> tuple[InMemoryDataset, InMemoryDataset]:
    """Training images and the images that mIoU is measured on.

    They are decoded once in a process, however many runs ask for them.

    Raises:
        CwdError: the dataset is missing or damaged, or doesn't fit into memory.
    """
    root = scenes_root(data, data_root) if data.name == "scenes" else data_root
    train, val = (build_dataset(data.name, root, split) for split in ("train", data.split))
    return (
        load_in_memory(train, size=data.size, limit=data.train),
        load_in_memory(val, size=data.size, limit=data.val),
    )
