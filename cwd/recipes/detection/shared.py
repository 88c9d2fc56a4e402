"""What the rivals of Table 9 have in common: pairs of maps, batch norm, and options."""

import math
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from cwd.losses.maps import in_full_precision
from cwd.system.distributed import processes
from cwd.system.errors import CwdError


def paired(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Two detectors' maps by level, in full precision, the teacher's detached.

    Nothing is resized: maps of different strides would be compared as if they were the same level.

    Args:
        student: maps [B, C_l, h_l, w_l], any float type.
        teacher: maps [B, C'_l, h_l, w_l], any float type.

    Raises:
        CwdError: the levels differ in number, batch, height or width.
    """
    shapes = [[(len(x), *x.shape[2:]) for x in maps] for maps in (student, teacher)]
    if shapes[0] != shapes[1]:
        raise CwdError(
            f"the student's levels are {shapes[0]} (batch, height, width) and the teacher's "
            f"{shapes[1]}: distil from a detector of the student's kind, on the same images."
        )
    return [
        (in_full_precision(s), in_full_precision(t).detach())
        for s, t in zip(student, teacher, strict=True)
    ]


def normed(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Batch norm of `x` [B, C, H, W], also where each channel has one value only.

    One value has no variance, and torch refuses to train on it. It does occur, at the coarsest
    level of one small image, and is there normalised by the running statistics.
    """
    if norm.training and processes() * x.numel() == x.shape[1]:
        running = norm.running_mean, norm.running_var
        return F.batch_norm(x, *running, norm.weight, norm.bias, eps=norm.eps)
    return norm(x)


def check_number(
    name: str,
    value: Any,
    meaning: str,
    *,
    above: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
) -> None:
    """Refuse an option that isn't a number, at least 0 and within bounds.

    Args:
        name: of the option.
        value: what was given for it.
        meaning: what it can't be, and what to give: "no temperature: give a positive number".
        above: a lower bound, not allowed itself.
        below: an upper bound, not allowed itself.
        most: the largest that is allowed.

    Raises:
        CwdError: it is something else.
    """
    if isinstance(value, str) or not (0 <= value <= most and above < value < below):
        raise CwdError(f"{name}={value} is {meaning}.")
