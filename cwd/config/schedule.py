"""How a network is trained, and what happens at a step.

All of it is a function of the seed and the step alone, so that runs can resume.
"""

import functools
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from cwd.system.device import PRECISIONS
from cwd.system.errors import CwdError


@dataclass(frozen=True)
class BaseSchedule:
    """What every training has; the defaults of a subclass are its paper's."""

    fewest_steps: ClassVar[int] = 1
    steps: int
    batch: int  # images a step, over all processes
    lr: float
    momentum: float = 0.9
    weight_decay: float = 5e-4
    flip: bool = True
    checkpoint_every: int = 500  # steps
    precision: str = "auto"  # auto, bf16 or fp32
    clip: float = 0.0  # largest norm of all gradients together; 0: they are not clipped

    def __post_init__(self) -> None:
        least = {"steps": self.fewest_steps, "batch": 1, "checkpoint_every": 1}
        for name, number in least.items():
            if getattr(self, name) < number:
                raise CwdError(
                    f"schedule: {name} is {getattr(self, name)}, give at least {number}."
                )
        if self.precision not in PRECISIONS:
            raise CwdError(
                f"schedule: precision is {self.precision!r}, use one of {', '.join(PRECISIONS)}."
            )

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """The two numbers of pixels that say how large the images of a batch are."""

    @abstractmethod
    def lr_factor(self, step: int) -> float:
        """The learning-rate factor of a step."""


@dataclass(frozen=True)
class Schedule(BaseSchedule):
    """How a segmentation network is trained; the defaults are the paper's for Cityscapes."""

    steps: int = 40_000
    batch: int = 8
    lr: float = 0.01
    crop: tuple[int, int] = (512, 512)  # height, width in pixels
    scale: tuple[float, float] = (0.7, 2.1)  # random scale
    power: float = 0.9  # of the poly schedule
    aux_weight: float = 0.4
    scale_step: float = 0.1  # between two random scales
    photometric: bool = False  # see `cwd.data.transforms.distort`

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the crops, whole numbers also where YAML had others."""
        height, width = (int(side) for side in self.crop)
        return height, width

    def lr_factor(self, step: int) -> float:
        """The poly schedule: (1 - step / steps) ^ power."""
        return (1 - step / self.steps) ** self.power


@dataclass(frozen=True)
class DetectionSchedule(BaseSchedule):
    """How a detector is trained; the defaults are mmdetection's 2x schedule for Faster R-CNN.

    Table 9's students have the AP of that schedule: 24 epochs of COCO's images with objects, the
    rate linear from a thousandth on at first, and a tenth of it after 16 and again after 22 epochs.
    """

    steps: int = 175_920
    batch: int = 16
    lr: float = 0.02
    weight_decay: float = 1e-4
    short: int = 800  # pixels of an image's short side
    long: int = 1333  # most pixels of its long side
    warmup: int = 500  # steps
    drops: tuple[float, float] = (16 / 24, 22 / 24)  # shares of the steps after which it is a tenth

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 32 <= self.short <= self.long:
            raise CwdError(
                f"schedule: short is {self.short} and long {self.long}, give pixels of an image's "
                "sides, the short one at least 32."
            )

    @property
    def size(self) -> tuple[int, int]:
        """`short` and `long`."""
        return int(self.short), int(self.long)

    def lr_factor(self, step: int) -> float:
        """Linear warm-up, then steps down to a tenth."""
        factor = 0.1 ** sum(step >= drop * self.steps for drop in self.drops)
        if step < self.warmup:
            factor *= 1 - (1 - step / self.warmup) * (1 - 1e-3)
        return factor


@dataclass(frozen=True)
class ClassificationSchedule(BaseSchedule):
    """How a classifier is trained; the defaults are the usual ones of papers on distillation.

    100 epochs of ImageNet, the rate a tenth after 30, again after 60 and again after 90 of them:
    the recipe of torchvision's and PyTorch's examples, with 10 epochs more.
    """

    fewest_steps: ClassVar[int] = 0  # public weights can be measured as they come
    steps: int = 500_400  # 100 epochs of 5,004 full batches
    batch: int = 256
    lr: float = 0.1
    weight_decay: float = 1e-4
    crop: int = 224  # pixels of a side
    short: int = 256  # pixels of an image's short side, of which the middle crop is measured
    scale: tuple[float, float] = (0.08, 1.0)  # share of an image's area that a random crop has
    drop_every: float = 0.3  # share of the steps after which the rate is a tenth, again and again
    warmup: int = 0  # steps

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 32 <= self.crop <= self.short:
            raise CwdError(
                f"schedule: crop is {self.crop} and short {self.short}, give pixels of a side, the "
                "crop at least 32 and not more than the short side."
            )
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise CwdError(
                f"schedule: scale is {tuple(self.scale)}, give two shares of an image's area, "
                "0 < smallest <= largest <= 1."
            )
        if not self.drop_every > 0:
            raise CwdError(
                f"schedule: drop_every is {self.drop_every}, give a share of the steps above 0; 1 "
                "keeps the rate."
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the crops."""
        return int(self.crop), int(self.crop)

    def lr_factor(self, step: int) -> float:
        """Linear warm-up, then steps down to a tenth."""
        factor = 0.1 ** (step // max(1, round(self.drop_every * self.steps)))
        return factor * min(1, (step + 1) / self.warmup) if self.warmup else factor


def check_batch(dataset: Any, schedule: BaseSchedule) -> None:
    """Refuse a dataset that doesn't fill a batch.

    Raises:
        CwdError: there are fewer images than a batch has.
    """
    if len(dataset) < schedule.batch:
        raise CwdError(
            f"{dataset.name} has {len(dataset)} training images, fewer than a batch of "
            f"{schedule.batch}: lower the schedule's batch."
        )


def chosen_images(count: int, batch: int, seed: int, step: int) -> Tensor:
    """Which images a step trains on: every epoch is a new permutation, its incomplete end left out.

    It depends on the seed and the step alone, so a resumed run sees what it would have seen.

    Returns:
        int64 [batch], indices below `count`.
    """
    per_epoch = count // batch
    epoch, position = divmod(step, per_epoch)
    order = shuffled(count, seed, epoch)
    return torch.from_numpy(order[position * batch : (position + 1) * batch].copy())


@functools.lru_cache(maxsize=4)
def shuffled(count: int, seed: int, epoch: int) -> np.ndarray:
    """The images of an epoch in order, int64 [count]; shuffling a million at each step would tell.

    Args:
        count: images.
        seed: of the run.
        epoch: which.
    """
    return np.random.default_rng([seed, epoch]).permutation(count)


def step_seed(seed: int, step: int) -> int:
    """Seed of all other random numbers of a step (augmentation, dropout)."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])
