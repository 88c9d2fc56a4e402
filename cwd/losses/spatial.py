"""Spatial distillation: what the paper compares with, position by position."""

import torch.nn.functional as F
from torch import Tensor

from cwd.losses.alignment import matched
from cwd.losses.softened import Softened


class PixelWise(Softened):
    """PI, pixel-wise distillation: eq. 6, row "Pixelwise" of Table 1.

        q_i = softmax over the C classes of y_i / T
        loss = T^2 / (B N)  sum_b sum_i  KL(q_i of the teacher || q_i of the student)

    Equation 6 writes the student first in KL(.||.); the published code, and everyone since Hinton
    et al., has the teacher first, as here.

    Args:
        temperature: T, 1 in the paper.

    Shape:
        student_map and teacher_map [B, C, H, W] to a scalar; `target` is not used.

    Raises:
        CwdError: the temperature isn't positive; the maps differ in batch or channels.
    """

    def forward(
        self, student_map: Tensor, teacher_map: Tensor, target: Tensor | None = None
    ) -> Tensor:
        student_map, teacher_map = matched(student_map, teacher_map)
        tau = self.temperature
        log_s = F.log_softmax(student_map / tau, dim=1)  # [B, C, H, W]
        log_t = F.log_softmax(teacher_map / tau, dim=1)  # [B, C, H, W]
        kl = (log_t.exp() * (log_t - log_s)).sum(dim=1)  # [B, H, W]
        return tau**2 * kl.mean()
