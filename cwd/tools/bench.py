"""Speed, as ratios within one run: `make bench`."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwd.config.schedule import Schedule
from cwd.data import fake_trees
from cwd.data.batches import Batches
from cwd.data.datasets import SegmentationDataset, build_dataset
from cwd.data.decoded import load_cached
from cwd.data.segmentation import PER_PIXEL
from cwd.experiments.loss_costs import loss_step
from cwd.experiments.profile import load_profile
from cwd.losses import ChannelWise
from cwd.system import paths
from cwd.system.device import compile_where_it_pays, cpu_has_bf16, pick_device
from cwd.system.timing import REPEATS, race
from cwd.tools.trial import seconds_a_step, shortened

SHAPES = ((8, 19, 64, 64), (8, 512, 64, 64))  # score map and feature map of a 512x512 crop
FULL = (1024, 2048)  # height and width of Cityscapes' images


def published(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """CW as the published code computes it: softmax, its logarithm, KLDivLoss."""
    b, c = student_map.shape[:2]
    p = F.softmax(teacher_map.reshape(b, c, -1), dim=2)
    log_q = F.softmax(student_map.reshape(b, c, -1), dim=2).log()
    return nn.KLDivLoss(reduction="sum")(log_q, p) / (b * c)


def bench() -> None:
    """Print how much faster ours is than the published form and than fp32."""
    device = pick_device("auto")
    fast = cpu_has_bf16() or device == "cuda"
    print(f"device {device}, {torch.get_num_threads()} threads, medians of {REPEATS}\n")
    loss = ChannelWise()
    compile_where_it_pays([loss], positions=64 * 64)
    lines = {
        f"CW on {list(shape)}, forward and backward: published": race(
            [loss_step(f, shape, device) for f in (published, loss)], device
        )
        for shape in SHAPES
    }
    steps, run = [], load_profile("quick").run("CW_f", 0)
    for precision in ("fp32", "auto"):
        trial = shortened(run, 20, {"train": 16, "val": 1}, precision=precision)
        steps.append(seconds_a_step(trial, device, paths.BUILD / "bench"))
    lines["training step, CW_f, batch 8 of 64x128: fp32"] = steps
    table = 1e3 * pd.DataFrame(lines, index=["theirs (ms)", "ours (ms)"]).T
    table["ratio"] = table["theirs (ms)"] / table["ours (ms)"]
    print(table.round(2).to_string())
    if not fast:
        print("\nthis processor doesn't compute in bfloat16, so both steps are fp32.")
    print(f"\nthe loader alone, crops of 512x512 from images of 1024x2048\n{loading_speed()}")


@dataclass
class _Counted:
    """A dataset whose decoded pixels are counted: a cached one, or one that reads whole images."""

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

    Both ways make the same batches of 8 crops, in as many threads, `steps` of them after one that
    isn't timed. The images (at least 8, of this height and width) are generated, see
    `cwd.data.fake_trees`, and their files are as large as photographs'.

    Returns one line a way: `images/s`, the same as a `ratio` to the first, and decoded `MB a crop`.
    """
    schedule = Schedule(steps=steps + 1)
    lines = {}
    with tempfile.TemporaryDirectory() as folder:
        root = fake_trees.cityscapes(Path(folder) / "cityscapes", count=images, size=size)
        files = build_dataset("cityscapes", root, "train")
        cached = load_cached(files, Path(folder) / "cache")
        ways = {"whole PNG, decoded for every crop": files, "window of the decoded file": cached}
        for way, dataset in ways.items():
            counted = _Counted(dataset, cached.sizes)
            batches = Batches(counted, schedule, 0, torch.device("cpu"))
            batches(0)
            began = time.perf_counter()
            for step in range(1, schedule.steps):
                batches(step)
            rate = steps * schedule.batch / (time.perf_counter() - began)
            decoded = PER_PIXEL * counted.pixels / (schedule.steps * schedule.batch)
            lines[way] = {"images/s": rate, "ratio": rate, "MB a crop": decoded / 1e6}
    table = pd.DataFrame(lines).T.rename_axis("each crop is read from a")
    table["ratio"] /= table["ratio"].iloc[0]
    return table.round(1)
