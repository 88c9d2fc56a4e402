"""What must agree before two activation maps can be compared: size, channels, number format."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwd.system.errors import CwdError

Target = Tensor | None  # int64 [B, H, W], the classes of positions; few losses look at them


def matched(
    student_map: Tensor, teacher_map: Tensor, *, same_channels: bool = True
) -> tuple[Tensor, Tensor]:
    """The two maps as every loss compares them: the one place where a map is resized.

    The teacher's map is detached, so no gradient reaches the teacher. Where heights or widths
    differ, the student's map is resized bilinearly to the teacher's size. Half-precision maps
    become float32, since sums over thousands of positions don't fit into bfloat16.

    A loss that compares similarities between positions, not channel with channel, takes maps with
    any numbers of channels.

    Shape:
        [B, C, h, w] and [B, C, H, W] to two of [B, C, H, W].

    Raises:
        CwdError: the maps aren't four-dimensional, or empty, or differ in batch size or channels.
    """
    if not (isinstance(student_map, Tensor) and isinstance(teacher_map, Tensor)):
        kinds = type(student_map).__name__, type(teacher_map).__name__
        raise CwdError(f"a {kinds[0]} and a {kinds[1]} can't be compared: give two tensors.")
    shapes = tuple(student_map.shape), tuple(teacher_map.shape)
    fit = student_map.ndim == teacher_map.ndim == 4 and len(student_map) == len(teacher_map)
    if not fit or 0 in shapes[0] + shapes[1]:
        raise CwdError(
            f"student map {shapes[0]} and teacher map {shapes[1]} can't be compared: give both as "
            "[batch, channels, height, width] for the same batch."
        )
    if same_channels and shapes[0][1] != shapes[1][1]:
        raise CwdError(
            f"the student map has {shapes[0][1]} channels and the teacher map {shapes[1][1]}: put "
            "a cwd.losses.ChannelAlignment on the student map, as a recipe does by itself."
        )
    student_map, teacher_map = in_full_precision(student_map), in_full_precision(teacher_map)
    teacher_map = teacher_map.detach()
    if shapes[0][2:] != shapes[1][2:]:
        student_map = F.interpolate(student_map, size=shapes[1][2:], mode="bilinear")
    return student_map, teacher_map


def is_number(value: object) -> bool:
    """Whether an option is a number, which a text from a recipe isn't, nor True."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def whole(name: str, value: float) -> int:
    """An option that counts something; a `CwdError` if it isn't a whole number from 1 on."""
    if not is_number(value) or value % 1 or value < 1:
        raise CwdError(f"{name}={value} counts nothing: give a whole number from 1 on.")
    return int(value)


def weight(name: str, value: float) -> float:
    """An option that is the weight of a part of a loss, 0 leaves it out; else a `CwdError`."""
    if not is_number(value) or not 0 <= value < float("inf"):
        raise CwdError(f"{name}={value} is no weight: give a number from 0 on.")
    return value


def in_full_precision(x: Tensor) -> Tensor:
    """`x` in float32, or in float64 if it is that already."""
    return x if x.dtype == torch.float64 else x.float()


class ChannelAlignment(nn.Sequential):
    """1x1 convolution that gives the student's map the teacher's number of channels (section 2.2).

    It is trained together with the student and is no part of the student that is saved.

    Args:
        student_channels: channels of the student's map.
        teacher_channels: channels of the teacher's map.
        style: "conv", a plain 1x1 convolution with bias, as the paper writes; or "conv-bn-relu",
            as the published code has it.

    Shape:
        [B, student_channels, H, W] to [B, teacher_channels, H, W].
    """

    def __init__(self, student_channels: int, teacher_channels: int, style: str = "conv") -> None:
        if style == "conv":
            super().__init__(nn.Conv2d(student_channels, teacher_channels, 1))
        elif style == "conv-bn-relu":
            super().__init__(
                nn.Conv2d(student_channels, teacher_channels, 1, bias=False),
                nn.BatchNorm2d(teacher_channels),
                nn.ReLU(inplace=True),
            )
        else:
            raise CwdError(f"align={style} is unknown: use conv or conv-bn-relu.")
