"""Masked generative distillation: the teacher's map is to be made from a part of the student's."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwd.losses.maps import Target, is_number, matched, weight
from cwd.system.errors import CwdError


class Generator(nn.Module):
    """The block that MGD and Af-DCD train: a map like the teacher's, from what is left unmasked.

        g = W2 relu(W1 (m A s))        A is 1x1, W1 and W2 are 3x3 convolutions, all with biases

    m [B, 1, H, W] is drawn anew at each step: 0 with probability `masked`, else 1. Where student
    and teacher have the same channels there is no A. A `masked` that is no share, and a map of
    other channels than it was made for, are a `CwdError`.
    """

    def __init__(self, student_channels: int, teacher_channels: int, masked: float) -> None:
        super().__init__()
        if not is_number(masked) or not 0 <= masked < 1:
            raise CwdError(f"masked={masked} is no share of the map: give a number from 0 to 1.")
        same = student_channels == teacher_channels
        self.inputs = student_channels
        self.align = nn.Identity() if same else nn.Conv2d(student_channels, teacher_channels, 1)
        self.first = nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1)
        self.second = nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1)
        self.mask = nn.Dropout(masked)  # a layer, which processes that share a batch draw as one

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] != self.inputs:
            raise CwdError(
                f"the student map is {tuple(x.shape)} and the generator is for {self.inputs} "
                f"channels: give [batch, {self.inputs}, height, width]."
            )
        seen = self.mask(torch.ones_like(x[:, :1])) > 0  # dropout rescales, MGD doesn't
        return self.second(F.relu(self.first(self.align(x) * seen)))


class MaskedGeneration(nn.Module):
    """MGD (Yang et al., ECCV 2022): the student's masked map generates the teacher's.

        loss = P / (B N)  sum_b sum_c sum_i  (g(s)_c,i - t_c,i)^2          g as in `Generator`

    The published loss is a sum over the map, over its P = 4096 positions: here the same weight
    means the same on a map of another size. Over channels it stays a sum. The published code looks
    at the backbone's last stage, and adds CW on the score map to this (weight 3, T = 4).

    Args:
        student_channels, teacher_channels: C_s and C of the maps.
        masked: the probability with which a position is hidden from the generator.
        positions: P, of the map that the weight was published for.

    Shape:
        student_map [B, C_s, H, W] and teacher_map [B, C, H, W] to a scalar; `target` is not used.

    Cost:
        18 C^2 weights and B N times as many multiply-adds; memory linear in N.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        masked: float = 0.75,
        positions: float = 4096,
    ) -> None:
        super().__init__()
        self.generator = Generator(student_channels, teacher_channels, masked)
        self.positions = weight("positions", positions)

    def forward(self, student_map: Tensor, teacher_map: Tensor, target: Target = None) -> Tensor:
        student_map, teacher_map = matched(student_map, teacher_map, same_channels=False)
        return squared_error(self.transformed(student_map), teacher_map, self.positions)

    def transformed(self, student_map: Tensor) -> Tensor:
        """The student's map as it is compared: [B, C_s, H, W] to [B, C, H, W]."""
        return self.generator(student_map)


def squared_error(generated: Tensor, teacher_map: Tensor, positions: float) -> Tensor:
    """The sum over channels and `positions` of the mean squared error, of two [B, C, H, W]."""
    g, t = matched(generated, teacher_map)
    return positions * t.shape[1] * F.mse_loss(g, t)
