"""Channel-wise distillation: every channel is a distribution over the image's positions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cwd.losses.distances import METRICS, Softened
from cwd.losses.fused import ChannelDivergence
from cwd.losses.maps import Target, matched


class ChannelWise(Softened):
    """CW, the paper's loss: eq. 3 and 4.

        phi(y_c) = softmax over the N = H W positions of y_c / T                          (eq. 3)
        loss = T^2 / (B C)  sum_b sum_c sum_i  phi(t_c,i) log[phi(t_c,i) / phi(s_c,i)]    (eq. 4)

    Equation 4 as printed has neither the mean over the B images and C channels nor the T^2 that
    keeps the gradient's size when T changes; the published code has both, and only with them does
    the paper's weight of 35 train. The published code takes the logarithm of a softmax, which is
    minus infinity at small T; `log_softmax` is the same number, always finite.

    Args:
        temperature: T. The larger, the flatter the distributions; the paper's best is 1.
        metric: "kl" is eq. 4; "bhattacharyya" and "l2" are the other columns of Table 3, and
            "swapped" the exchanged arguments of section 3.2. All have the mean and the T^2.

    Shape:
        student_map and teacher_map [B, C, H, W] to a scalar; `target` is not used.
    """

    def forward(self, student_map: Tensor, teacher_map: Tensor, target: Target = None) -> Tensor:
        student_map, teacher_map = matched(student_map, teacher_map)
        tau = self.temperature
        # a compiler does better with the equation as it stands
        if self.metric == "kl" and not torch.compiler.is_compiling():
            return ChannelDivergence.apply(student_map, teacher_map, tau)
        log_s = F.log_softmax(student_map.flatten(2) / tau, dim=2)  # [B, C, N]
        log_t = F.log_softmax(teacher_map.flatten(2) / tau, dim=2)  # [B, C, N]
        return tau**2 * METRICS[self.metric](log_t, log_s, 2).mean()
