"""How fast crops come from images of Cityscapes' size: decoded each time, or read as windows."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from cwd.config.schedule import Schedule
from cwd.data import fake_trees
from cwd.data.datasets import build_dataset
from cwd.data.decoded import load_cached
from cwd.data.loading import Batches
from cwd.data.segmentation import PER_PIXEL, SegmentationDataset

FULL = (1024, 2048)  # height and width of Cityscapes' images


@dataclass
class Counted:
    """A dataset whose windows are counted.

    Attributes:
        dataset: a `CachedDataset`; or one that decodes, of which whole images are read.
        sizes: height and width of every image.
        pixels: that were read so far.
    """

    dataset: Any
    sizes: torch.Tensor
    pixels: int = 0

    name = "generated"

    def __len__(self) -> int:
        return len(self.dataset)

    def window(self, index: int, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        """As `CachedDataset.window`."""
        if not isinstance(self.dataset, SegmentationDataset):
            image, target = self.dataset.window(index, rows, columns)
            self.pixels += target.size
            return image, target
        sample = self.dataset[index]
        self.pixels += sample.target.numel()
        image, target = sample.image.permute(1, 2, 0).numpy(), sample.target.numpy()
        return image[rows, columns], target[rows, columns].astype(np.uint8)


def loading_speed(
    *, images: int = 16, size: tuple[int, int] = FULL, steps: int = 12
) -> pd.DataFrame:
    """Images a second of the loader alone, augmentation included, with the paper's crop and scales.

    Both ways make the same batches of 8 crops, in as many threads. The images are generated (see
    `cwd.data.fake_trees`), and their files are as large as photographs'.

    Args:
        images: how many are generated, at least 8.
        size: their height and width.
        steps: batches that are timed, after one that isn't.

    Returns:
        One line a way: `images/s`, the same as a `ratio` to the first, and decoded `MB a crop`.
    """
    schedule = Schedule(steps=steps + 1)
    lines = {}
    with tempfile.TemporaryDirectory() as folder:
        root = fake_trees.cityscapes(Path(folder) / "cityscapes", count=images, size=size)
        files = build_dataset("cityscapes", root, "train")
        cached = load_cached(files, Path(folder) / "cache")
        for way, dataset in (
            ("whole PNG, decoded for every crop", files),
            ("window of the decoded file", cached),
        ):
            counted = Counted(dataset, cached.sizes)
            batches = Batches(counted, schedule, 0, torch.device("cpu"))
            batches(0)
            began = time.perf_counter()
            for step in range(1, schedule.steps):
                batches(step)
            rate = steps * schedule.batch / (time.perf_counter() - began)
            first = next(iter(lines.values()), {"images/s": rate})
            crops = schedule.steps * schedule.batch
            lines[way] = {
                "images/s": rate,
                "ratio": rate / first["images/s"],
                "MB a crop": PER_PIXEL * counted.pixels / crops / 1e6,
            }
    return pd.DataFrame(lines).T.rename_axis("each crop is read from a").round(1)
