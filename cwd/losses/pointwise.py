"""Point-wise spatial distillation: position by position, the upper half of Table 1."""

import torch.nn.functional as F
from torch import Tensor, nn

from cwd.losses.distances import METRICS, Softened
from cwd.losses.maps import Target, is_number, matched
from cwd.system.errors import CwdError

NORMS = ("paper", "released")  # of PI
SMALLEST = 1e-12  # an image whose activations are all smaller has no attention


class Mimic(nn.Module):
    """MIMIC (FitNets, Romero et al. 2015; Li et al. 2017): row "Mimic" of Table 1.

        loss = 1 / (B C N)  sum_b sum_c sum_i  (s_c,i - t_c,i)^2

    Shape:
        student_map and teacher_map [B, C, H, W] to a scalar; `target` is not used.
    """

    def forward(self, student_map: Tensor, teacher_map: Tensor, target: Target = None) -> Tensor:
        return F.mse_loss(*matched(student_map, teacher_map))


class AttentionTransfer(nn.Module):
    """AT, attention transfer (Zagoruyko & Komodakis 2017): row "Attention transfer" of Table 1.

        Q_i = sum_c |y_c,i|^p,  then Q / |Q|_2 over the N = H W positions of an image
        loss = 1 / (B N)  sum_b sum_i  (Q_i of the student - Q_i of the teacher)^2

    Args:
        p: the power, at least 1; 2 in AT's code.

    Shape:
        student_map [B, C, H, W] and teacher_map [B, C', H, W] to a scalar; `target` is not used.
    """

    def __init__(self, p: float = 2.0) -> None:
        super().__init__()
        if not is_number(p) or not 1 <= p < float("inf"):  # below 1, 0 has an infinite gradient
            raise CwdError(f"p={p} is no power for AT: give a number from 1 on, such as 2.")
        self.p = p

    def forward(self, student_map: Tensor, teacher_map: Tensor, target: Target = None) -> Tensor:
        student_map, teacher_map = matched(student_map, teacher_map, same_channels=False)
        return F.mse_loss(self._attention(student_map), self._attention(teacher_map))

    def _attention(self, x: Tensor) -> Tensor:
        """The attention map Q of [B, C, H, W], flattened and of length 1: [B, N]."""
        # Q ignores an image's scale; with 1 as the largest, powers neither over- nor underflow
        scale = x.detach().abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(SMALLEST)
        return F.normalize((x / scale).abs().pow(self.p).sum(dim=1).flatten(1), dim=1)


class PixelWise(Softened):
    """PI, pixel-wise distillation: eq. 6, row "Pixelwise" of Table 1.

        q_i = softmax over the C classes of y_i / T
        loss = T^2 / (B N)  sum_b sum_i  KL(q_i of the teacher || q_i of the student)

    Equation 6 writes the student first in KL(.||.); the published code, and everyone since Hinton
    et al., has the teacher first, as here; `metric="swapped"` is eq. 6 as printed. With "kl" and
    "l2" this is also the published code's normalisation `spatial`.

    The published code takes `KLDivLoss()` as it is, whose mean is over all elements, the C classes
    too: `norm="released"` divides by C, so that its weight of 10 is 10 / 19 of eq. 6's.

    Args:
        temperature: T, 1 in the paper.
        metric: how the distributions of a pixel are compared, as in `ChannelWise`.
        norm: "paper", the mean over positions of eq. 6, or "released", over classes as well.

    Shape:
        student_map and teacher_map [B, C, H, W] to a scalar; `target` is not used.

    Raises:
        CwdError: as `Softened`; the norm is unknown.
    """

    def __init__(self, temperature: float = 1.0, metric: str = "kl", norm: str = "paper") -> None:
        super().__init__(temperature, metric)
        if norm not in NORMS:
            raise CwdError(f"norm={norm} is unknown: use one of {', '.join(NORMS)}.")
        self.norm = norm

    def forward(self, student_map: Tensor, teacher_map: Tensor, target: Target = None) -> Tensor:
        student_map, teacher_map = matched(student_map, teacher_map)
        tau = self.temperature
        log_s = F.log_softmax(student_map / tau, dim=1)  # [B, C, H, W]
        log_t = F.log_softmax(teacher_map / tau, dim=1)  # [B, C, H, W]
        divergence = tau**2 * METRICS[self.metric](log_t, log_s, 1).mean()
        return divergence / student_map.shape[1] if self.norm == "released" else divergence

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, norm={self.norm}"
