"""The second paper: feature distillation through a learnable transformation of the channels."""

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

from cwd.losses.maps import Target, matched
from cwd.system.errors import CwdError

ACTIVATIONS = {"relu": nn.ReLU, "none": nn.Identity}


class ChannelTransformation(nn.Module):
    """CT (Liu, Wang & Chu, 2023): the student's channels, transformed, shall be the teacher's.

        f(s) = W2 relu(W1 s + b1) + b2      at every position: two 1x1 convolutions
        loss = 1 / (B C N)  sum_b sum_c sum_i  (f(s)_c,i - t_c,i)^2

    f is trained together with the student and is no part of the student that is saved. The distance
    is MIMIC's, with MIMIC's mean, so that the two differ in the transformation alone.

    Args:
        student_channels: C_s of the student's map.
        teacher_channels: C of the teacher's map.
        hidden: channels between the two convolutions, as a share of the teacher's; 0 leaves out the
            first convolution and the activation, which is the linear alignment of MIMIC.
        kernel: side of the convolutions' windows in positions. 1 is the paper's; 3 looks at
            neighbours as well, as the spatial transformations do that the paper sets itself
            against (MGD's generator, Yang et al. 2022, here without its masks).
        activation: "relu"; or "none", a linear transformation with as many weights.

    Shape:
        student_map [B, C_s, H, W] and teacher_map [B, C, H, W] to a scalar; `target` is not used.

    Raises:
        CwdError: an option is no such value; a map has other channels than it was made for.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        hidden: float = 1.0,
        kernel: int = 1,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        if isinstance(hidden, str) or not 0 <= hidden <= 16:
            raise CwdError(f"hidden={hidden} is no share of the channels: give a number, 0 to 16.")
        if isinstance(kernel, str) or kernel not in (1, 3, 5, 7):
            raise CwdError(f"kernel={kernel} is no side of a window: use 1, 3, 5 or 7.")
        if activation not in ACTIVATIONS:
            known = " or ".join(ACTIVATIONS)
            raise CwdError(f"activation={activation} is unknown: use {known}.")
        side, between = int(kernel), max(1, round(hidden * teacher_channels))
        widths = [student_channels, *([between] if hidden else []), teacher_channels]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, side, padding="same"), ACTIVATIONS[activation]()]
        self.transform = nn.Sequential(*layers[:-1])  # nothing after the last convolution

    def forward(self, student_map: Tensor, teacher_map: Tensor, target: Target = None) -> Tensor:
        return F.mse_loss(*matched(self.transformed(student_map), teacher_map))

    def transformed(self, student_map: Tensor) -> Tensor:
        """The student's map as it is compared: [B, C_s, H, W] to [B, C, H, W]."""
        channels = self.transform[0].in_channels
        if student_map.ndim != 4 or student_map.shape[1] != channels:
            raise CwdError(
                f"the student map is {tuple(student_map.shape)} and the transformation is for "
                f"{channels} channels: give [batch, {channels}, height, width]."
            )
        return self.transform(student_map)
