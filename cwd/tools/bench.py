"""Speed, as ratios within one run: `make bench`."""

import functools
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwd.config.run import Run
from cwd.config.schedule import Schedule
from cwd.data import fake_trees
from cwd.data.batches import Batches
from cwd.data.datasets import SegmentationDataset, build_dataset
from cwd.data.decoded import load_cached
from cwd.data.segmentation import PER_PIXEL
from cwd.experiments.loss_costs import loss_step
from cwd.experiments.profile import load_profile
from cwd.losses import ChannelWise, IntraClassVariation, PairwiseAffinity, PixelWise
from cwd.models.build import build_network
from cwd.system import paths
from cwd.system.device import compile_where_it_pays, pick_device, training_threads
from cwd.system.files import make_folder
from cwd.system.progress import VARIABLE
from cwd.system.timing import REPEATS, race
from cwd.tools.environment import environment
from cwd.tools.trial import seconds_a_step, shortened
from cwd.training.loop import train, train_together
from cwd.training.run_folder import RunFolder

SHAPES = ((8, 19, 64, 64), (8, 512, 64, 64))  # score map and feature map of a 512x512 crop
PAIRS = (2, 64, 64, 64)  # a map whose pairs of positions, 4096 x 4096, fit everywhere
FULL = (1024, 2048)  # height and width of Cityscapes' images
GROUP = ("MIMIC_f", "MIMIC_s", "AT_f", "AT_s", "PI", "PI_f", "LOCAL_f", "PA_f", "PA_s", "IFV_f",
         "CW_f", "CW_s")  # fmt: skip


def published(student_map: Tensor, teacher_map: Tensor, dim: int = 2) -> Tensor:
    """CW as the published code computes it: softmax, its logarithm, KLDivLoss; PI by `dim` 1."""
    p, q = (F.softmax(x.flatten(2), dim=dim) for x in (teacher_map, student_map))
    return nn.KLDivLoss(reduction="sum")(q.log(), p) * p.shape[dim] / p.numel()


def published_pa(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """PA as SKDS's code computes it, at full resolution."""
    units = (x / (x.norm(dim=1, keepdim=True) + 1e-8) for x in (student_map, teacher_map))
    s, t = (torch.einsum("icm,icn->imn", x.flatten(2), x.flatten(2)) for x in units)
    return (t - s).pow(2).sum() / t.numel()


def published_ifvd(student_map: Tensor, teacher_map: Tensor, target: Tensor) -> Tensor:
    """IFVD as its code computes it, class by class."""
    target = F.interpolate(target[:, None].float(), size=student_map.shape[2:])
    similar = []
    for x in (student_map, teacher_map):
        centre = x.clone()
        for c in range(19):
            mask = (target == c).float()
            mean = (mask * x).sum((-1, -2)) / (mask.sum((-1, -2)) + 1e-6)
            centre = (1 - mask) * centre + mask * mean[..., None, None]
        similar.append(F.cosine_similarity(x, centre))
    return F.mse_loss(*similar)


def bench() -> None:
    """Print how much faster ours is than the published forms, and a group than runs alone."""
    device = pick_device("auto")
    threads = f"{torch.get_num_threads()} threads for losses, on a CPU one for steps"
    print(f"device {device}, {threads}, medians of {REPEATS}\n")
    lines = _losses(device)
    with (
        tempfile.TemporaryDirectory(dir=make_folder(paths.BUILD / "bench")) as name,
        environment({VARIABLE: f"{name}/said"}),  # what trainings report
    ):
        lines |= _steps(device, Path(name))
        lines |= _group(device, Path(name))
    table = 1e3 * pd.DataFrame(lines, index=["theirs (ms)", "ours (ms)"]).T
    table["ratio"] = table["theirs (ms)"] / table["ours (ms)"]
    print(table.round(2).to_string())
    print(f"\nthe loader alone, crops of 512x512 from images of 1024x2048\n{loading_speed()}")


def _losses(device: str) -> dict[str, list[float]]:
    """Losses against their published forms, and CW against what its maps take to be moved."""
    lines = {}
    for shape in SHAPES:
        compiled, loss = ChannelWise(), ChannelWise()
        compile_where_it_pays([compiled], positions=64 * 64)
        read, write = (torch.randn(shape, device=device) for _ in range(2))
        # two maps are read and a gradient is written, which is one and a half copies
        moved = 1.5 * race([functools.partial(write.copy_, read)], device)[0]
        theirs, eager, ours = race(
            [loss_step(f, shape, device) for f in (published, loss, compiled)], device
        )
        lines[f"CW on {list(shape)}: published"] = [theirs, eager]
        lines[f"CW on {list(shape)}, compiled: published"] = [theirs, ours]
        lines[f"CW on {list(shape)}, compiled: moving its maps"] = [moved, ours]
    pairs = {
        "PI": (SHAPES[0], functools.partial(published, dim=1), PixelWise()),
        "PA, all pairs of positions": (PAIRS, published_pa, PairwiseAffinity(0)),
        "IFVD": (SHAPES[1], published_ifvd, IntraClassVariation()),
    }
    for name, (shape, theirs, ours) in pairs.items():
        steps = [loss_step(f, shape, device, labelled=name == "IFVD") for f in (theirs, ours)]
        lines[f"{name} on {list(shape)}: published"] = race(steps, device)
    return lines


def _steps(device: str, folder: Path) -> dict[str, list[float]]:
    """A training step with CW_f against the published recipe's, written plainly."""
    quick = load_profile("quick").run("CW_f", 0)
    runs = {"at quick's size": (quick, quick.schedule.size)}
    if device == "cuda":  # a CPU takes minutes a step
        cityscapes = load_profile("cityscapes")
        large = replace(cityscapes.run("CW_f", 0), data=quick.data)
        runs["at the paper's size"] = (large, large.schedule.size)
    lines = {}
    for name, (run, (height, width)) in runs.items():
        trial = shortened(run, 20, {"train": 16, "val": 1, "size": (height, width)})
        ours = seconds_a_step(trial, device, folder)
        with training_threads(device):  # as many as ours has
            theirs = race([plain_step(trial, device)], device, repeats=5)[0]
        lines[f"step with CW_f {name}: published recipe, fp32"] = [theirs, ours]
    return lines


def plain_step(run: Run, device: str) -> Callable[[], None]:
    """A step of the published recipe on random images: fp32, nothing fused, compiled or shared."""
    size, batch = run.schedule.size, run.schedule.batch
    teacher, student = (build_network(r.network, 19).to(device) for r in (run.teacher, run))
    align = nn.Conv2d(student.feature_channels, teacher.feature_channels, 1).to(device)
    teacher.eval()
    learnt = [*student.parameters(), *align.parameters()]
    optimizer = torch.optim.SGD(learnt, lr=0.01, momentum=0.9, weight_decay=5e-4, foreach=False)
    images = torch.randn(batch, 3, *size, device=device)
    target = torch.randint(19, (batch, *size), device=device)

    def cross_entropy(score: Tensor) -> Tensor:
        large = F.interpolate(score, size=size, mode="bilinear", align_corners=True)
        return F.cross_entropy(large, target, ignore_index=255)

    def step() -> None:
        out = student(images)
        with torch.no_grad():
            wanted = teacher(images)
        loss = cross_entropy(out.score) + 0.4 * cross_entropy(out.aux_score)
        loss = loss + 35 * published(align(out.feature), wanted.feature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def _group(device: str, folder: Path) -> dict[str, list[float]]:
    """A step of twelve recipes trained together against the same trained one after the other."""
    profile = load_profile("quick")
    runs = [shortened(profile.run(recipe, 0), 10, {"train": 16, "val": 1}) for recipe in GROUP]
    seconds = []
    for name, parts in (("alone", [[run] for run in runs]), ("together", [runs])):
        place = {"runs": folder / name, "data_root": folder / "data", "device": device}
        train(runs[0].teacher, **place)
        for part in parts:
            train_together(part, **place, allow_weak_teacher=True)
        records = [RunFolder(place["runs"], run).provenance for run in runs]
        seconds.append(sum(record["seconds"] for record in records) / runs[0].schedule.steps)
    return {f"step of {len(runs)} recipes: one after the other": seconds}


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
