"""BPKD: edges of classes and what lies inside of them are distilled apart."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cwd.losses.channelwise import ChannelWise
from cwd.losses.distances import Softened, kl
from cwd.losses.labels import IGNORED, classes_at
from cwd.losses.maps import Target, matched, weight, whole
from cwd.system.errors import CwdError


class BoundaryPrivileged(Softened):
    """BPKD (Liu et al., WACV 2024): KD on the edges of every class, CW on the rest.

        M_c = how much of a position is edge of class c: dilated less eroded labels, averaged
        phi_i = T^2 KL(softmax_c(t M / T)_i || softmax_c(s M / T)_i)
        edges = mean_b sum_c 2 / n_c  sum_i phi_i M_c,i         n_c positions have M_c > 0
        bodies = CW of s (1 - M) and t (1 - M), eq. 4
        loss = edge edges + body bodies

    The paper's code for training was never published; this is its formula as four ports have it,
    two of them with T = 1. The edges' sum is over classes, so a dataset of more classes has a
    larger term. A border of the image is no edge; ignored pixels are of no class.

    Args:
        temperature: T, of both terms.
        edge, body: their weights.
        window: side of the windows that dilate and erode labels, in pixels, odd.

    Shape:
        student_map and teacher_map [B, C, H, W], target int64 [B, h, w] to a scalar.

    Cost:
        Linear in N and C; labels are pooled as C planes at full size.
    """

    def __init__(
        self, temperature: float = 1.0, edge: float = 50.0, body: float = 20.0, window: int = 7
    ) -> None:
        super().__init__(temperature)
        self.edge, self.body = weight("edge", edge), weight("body", body)
        self.window = whole("window", window)
        if not self.window % 2:
            raise CwdError(f"window={window} has no middle: give an odd number.")
        self.channel_wise = ChannelWise(temperature)

    def forward(self, student_map: Tensor, teacher_map: Tensor, target: Target = None) -> Tensor:
        s, t = matched(student_map, teacher_map)
        b, classes, h, w = t.shape
        labels, known = classes_at(target, b, "BPKD", None, classes, IGNORED)
        m = F.adaptive_avg_pool2d(self.edges(labels, classes).to(t), (h, w))  # [B, C, H, W]
        tau = self.temperature
        log_s, log_t = (F.log_softmax(x * m / tau, dim=1) for x in (s, t))
        phi = tau**2 * kl(log_t, log_s, 1)[:, None]  # [B, 1, H, W]
        count = (m > 0).sum(dim=(2, 3)).clamp_min(1)
        edges = (2 * (phi * m).sum(dim=(2, 3)) / count).sum(dim=1).mean()
        bodies = self.channel_wise(s * (1 - m), t * (1 - m))
        return torch.where(known, self.edge * edges + self.body * bodies, torch.nan)

    def edges(self, labels: Tensor, classes: int) -> Tensor:
        """1 at the edges of every class of [B, h, w], else 0: [B, C, h, w]."""
        planes = torch.arange(classes, device=labels.device)[:, None, None]
        marks = (labels[:, None] == planes).float()
        pooled = {"kernel_size": self.window, "stride": 1, "padding": self.window // 2}
        return F.max_pool2d(marks, **pooled) + F.max_pool2d(-marks, **pooled)
