"""How a network is trained, and what happens at a step.

All of it is a function of the seed and the step alone, so that runs can resume.
"""

import functools
import os
from abc import abstractmethod
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cwd.config.settings import (
    Count,
    Fraction,
    Number,
    Positive,
    Range,
    ShareRange,
    Side,
    Size,
    Switch,
    Weights,
    Whole,
    settings,
)
from cwd.system.errors import CwdError


@settings
class BaseSchedule:
    """What every training has; the defaults of a subclass are its paper's."""

    steps: Count
    batch: Count  # images a step, over all processes
    lr: Positive
    momentum: Fraction = 0.9
    weight_decay: Number = 5e-4
    flip: Switch = True
    checkpoint_every: Count = 500  # steps
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # see `cwd.system.device.PRECISIONS`
    clip: Number = 0.0  # largest norm of all gradients together; 0: they are not clipped

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """The two numbers of pixels that say how large the images of a batch are."""

    @abstractmethod
    def lr_factor(self, step: int) -> float:
        """The learning-rate factor of a step."""


@settings
class Schedule(BaseSchedule):
    """How a segmentation network is trained; the defaults are the paper's for Cityscapes."""

    steps: Count = 40_000
    batch: Count = 8
    lr: Positive = 0.01
    crop: Size = (512, 512)  # height, width in pixels
    scale: Range = (0.7, 2.1)  # random scale
    power: Number = 0.9  # of the poly schedule
    aux_weight: Number = 0.4
    scale_step: Positive = 0.1  # between two random scales
    photometric: Switch = False  # see `cwd.data.transforms.distort`
    class_weights: Weights | None = None  # of each class in the cross-entropy; None: all alike

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the crops."""
        return self.crop

    def lr_factor(self, step: int) -> float:
        """The poly schedule: (1 - step / steps) ^ power."""
        return (1 - step / self.steps) ** self.power


@settings
class DetectionSchedule(BaseSchedule):
    """How a detector is trained; the defaults are mmdetection's 2x schedule for Faster R-CNN.

    Table 9's students have the AP of that schedule: 24 epochs of COCO's images with objects, the
    rate linear from a thousandth on at first, and a tenth of it after 16 and again after 22 epochs.
    """

    steps: Count = 175_920
    batch: Count = 16
    lr: Positive = 0.02
    weight_decay: Number = 1e-4
    short: Side = 800  # pixels of an image's short side
    long: Side = 1333  # most pixels of its long side
    warmup: Whole = 500  # steps
    drops: ShareRange = (16 / 24, 22 / 24)  # shares of the steps after which it is a tenth

    def __post_init__(self) -> None:
        if self.short > self.long:
            raise ValueError(f"has short {self.short} and long {self.long}, make long the larger")

    @property
    def size(self) -> tuple[int, int]:
        """`short` and `long`."""
        return self.short, self.long

    def lr_factor(self, step: int) -> float:
        """Linear warm-up, then steps down to a tenth."""
        factor = 0.1 ** sum(step >= drop * self.steps for drop in self.drops)
        if step < self.warmup:
            factor *= 1 - (1 - step / self.warmup) * (1 - 1e-3)
        return factor


@settings
class ClassificationSchedule(BaseSchedule):
    """How a classifier is trained; the defaults are the usual ones of papers on distillation.

    100 epochs of ImageNet, the rate a tenth after 30, again after 60 and again after 90 of them:
    the recipe of torchvision's and PyTorch's examples, with 10 epochs more.
    """

    steps: Whole = 500_400  # 100 epochs of 5,004 full batches; 0: weights as they come
    batch: Count = 256
    lr: Positive = 0.1
    weight_decay: Number = 1e-4
    crop: Side = 224  # pixels of a side
    short: Side = 256  # pixels of an image's short side, of which the middle crop is measured
    scale: ShareRange = (0.08, 1.0)  # share of an image's area that a random crop has
    drop_every: Positive = 0.3  # share of the steps after which the rate is a tenth, again
    warmup: Whole = 0  # steps

    def __post_init__(self) -> None:
        if self.crop > self.short:
            raise ValueError(f"has crop {self.crop} and short {self.short}, make short the larger")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the crops."""
        return self.crop, self.crop

    def lr_factor(self, step: int) -> float:
        """Linear warm-up, then steps down to a tenth."""
        factor = 0.1 ** (step // max(1, round(self.drop_every * self.steps)))
        return factor * min(1, (step + 1) / self.warmup) if self.warmup else factor


def check_batch(dataset: Any, schedule: BaseSchedule) -> None:
    """Raise CwdError if a batch has more images than there are, or than memory has room for."""
    if len(dataset) < schedule.batch:
        raise CwdError(
            f"{dataset.name} has {len(dataset)} training images, fewer than a batch of "
            f"{schedule.batch}: lower the schedule's batch."
        )
    height, width = schedule.size
    need = 12 * schedule.batch * height * width  # float32, three channels
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if need > memory:
        raise CwdError(
            f"a batch of {schedule.batch} images of {height}x{width} takes {need / 2**30:,.0f} GiB "
            f"and this machine has {memory / 2**30:.0f}: lower the schedule's batch or size."
        )


def chosen_images(count: int, batch: int, seed: int, step: int) -> Tensor:
    """Which images a step trains on, int64 [batch], indices below `count`.

    Every epoch is a new permutation, its incomplete end left out.
    """
    per_epoch = count // batch
    epoch, position = divmod(step, per_epoch)
    order = _shuffled(count, seed, epoch)
    return torch.from_numpy(order[position * batch : (position + 1) * batch].copy())


@functools.lru_cache(maxsize=4)  # shuffling a million at each step would tell
def _shuffled(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


def step_seed(seed: int, step: int) -> int:
    """Seed of all other random numbers of a step (augmentation, dropout)."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])
