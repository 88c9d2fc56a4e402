"""Controls: the published code's other normalisations, to see what the softmax of eq. 3 is worth.

The published code takes a normalisation (channel, spatial, channel mean, none) and a divergence
(kl, mse). Channel with kl is CW and with mse `ChannelWise(metric="l2")`; spatial is `PixelWise`,
with the same two metrics; the other two are here.
"""

from torch import Tensor, nn

from cwd.losses.maps import Target, matched
from cwd.system.errors import CwdError

SMALLEST = 1e-6  # a smaller or negative activation counts as this one under a logarithm
DIVERGENCES = ("l2", "kl")


def _divergence(s: Tensor, t: Tensor, metric: str) -> Tensor:
    """Sum over all entries of (s - t)^2 for "l2", of t log(t / s) for "kl".

    The second is no divergence, since its arguments don't sum to one: it falls without end as s
    grows. Negative activations, whose logarithm is NaN in the published code, count as `SMALLEST`.
    """
    if metric == "l2":
        return (s - t).square().sum()
    s, t = s.clamp_min(SMALLEST), t.clamp_min(SMALLEST)
    return (t * (t.log() - s.log())).sum()


class _Control(nn.Module):
    """What the two controls have in common: a metric, "l2", the published code's mse, or "kl"."""

    def __init__(self, metric: str = "l2") -> None:
        super().__init__()
        if metric not in DIVERGENCES:
            raise CwdError(f"metric={metric} is unknown: use one of {', '.join(DIVERGENCES)}.")
        self.metric = metric

    def extra_repr(self) -> str:
        return f"metric={self.metric}"


class ChannelMean(_Control):
    """CD, channel distillation (Zhou et al. 2020), which section 1.1 sets itself apart from.

        m_c = mean over the N = H W positions of y_c
        loss = 1 / (B C)  sum_b sum_c  (m_c of the student - m_c of the teacher)^2

    The published code's normalisation `channel_mean`: a channel becomes one number, and where in
    the image it is active is lost.

    Args:
        metric: "l2" is the formula above; "kl" has t log(t / s) in place of the square.

    Shape:
        student_map and teacher_map [B, C, H, W] to a scalar; `target` is not used.
    """

    def forward(self, student_map: Tensor, teacher_map: Tensor, target: Target = None) -> Tensor:
        s, t = (x.mean(dim=(2, 3)) for x in matched(student_map, teacher_map))  # [B, C]
        return _divergence(s, t, self.metric) / s.numel()


class Unnormalised(_Control):
    """RAW, the activations as they are: the published code's normalisation `none`.

        loss = 1 / (B N)  sum_b sum_c sum_i  (s_c,i - t_c,i)^2

    With "l2" it is C times `Mimic`. The published code compares the first image of a batch only,
    which is a slip (`preds[0]`); here all of them are compared.

    Args:
        metric: "l2" is the formula above; "kl" has t log(t / s) in place of the square.

    Shape:
        student_map and teacher_map [B, C, H, W] to a scalar; `target` is not used.
    """

    def forward(self, student_map: Tensor, teacher_map: Tensor, target: Target = None) -> Tensor:
        s, t = matched(student_map, teacher_map)
        b, _, h, w = s.shape
        return _divergence(s, t, self.metric) / (b * h * w)
