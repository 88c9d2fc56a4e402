"""What happens at a step, as a function of the seed and the step alone, so that runs can resume."""

import numpy as np
import torch
from torch import Tensor

from cwd.runs import Schedule


def poly(schedule: Schedule, step: int) -> float:
    """Share of the learning rate that is left at a step: (1 - step / steps) ^ power."""
    return (1 - step / schedule.steps) ** schedule.power


def chosen_images(count: int, batch: int, seed: int, step: int) -> Tensor:
    """Which images a step trains on: every epoch is a new permutation, its incomplete end left out.

    It depends on the seed and the step alone, so a resumed run sees what it would have seen.

    Returns:
        int64 [batch], indices below `count`.
    """
    per_epoch = count // batch
    epoch, position = divmod(step, per_epoch)
    order = np.random.default_rng([seed, epoch]).permutation(count)
    return torch.from_numpy(order[position * batch : (position + 1) * batch])


def step_seed(seed: int, step: int) -> int:
    """Seed of all other random numbers of a step (augmentation, dropout)."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])
