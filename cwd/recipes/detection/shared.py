"""What the rivals of Table 9 have in common: options, pairs of maps, and batch norm."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from cwd.losses.maps import in_full_precision
from cwd.system.distributed import processes
from cwd.system.errors import CwdError


class Rival(nn.Module):
    """A loss of two `DetectionOutput`s and the objects of B images, a scalar.

    It raises a `CwdError` where an option is bad, or the detectors or their levels don't fit.
    """

    # of each option that a recipe may give: what a bad value is, and whether one is good
    options: ClassVar[dict[str, tuple[str, Callable[[Any], bool]]]] = {}

    @classmethod
    def check(cls, **options: Any) -> None:
        """Refuse a bad value, as the constructor does."""
        for name, value in options.items():
            meaning, fits = cls.options[name]
            try:
                good = fits(value)
            except TypeError:  # a word where a number belongs
                good = False
            if not good:
                shown = "T" if name == "temperature" else name
                raise CwdError(f"{shown}={value} is {meaning}.")


def paired(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Two detectors' maps [B, C_l, h_l, w_l] by level, in full precision, the teacher's detached.

    Nothing is resized: maps of different strides would be compared as if they were the same level.

    Raises:
        CwdError: the levels differ in number, batch, height or width.
    """
    shapes = [[(len(x), *x.shape[2:]) for x in maps] for maps in (student, teacher)]
    if shapes[0] != shapes[1]:
        raise CwdError(
            f"the student's levels are {shapes[0]} (batch, height, width) and the teacher's "
            f"{shapes[1]}: distil from a detector of the student's kind, on the same images."
        )
    pairs = zip(student, teacher, strict=True)
    return [(in_full_precision(s), in_full_precision(t).detach()) for s, t in pairs]


def normed(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Batch norm of `x` [B, C, H, W], also where each channel has one value only.

    One value has no variance, and torch refuses to train on it. It does occur, at the coarsest
    level of one small image, and is there normalised by the running statistics.
    """
    if norm.training and processes() * x.numel() == x.shape[1]:
        running = norm.running_mean, norm.running_var
        return F.batch_norm(x, *running, norm.weight, norm.bias, eps=norm.eps)
    return norm(x)
