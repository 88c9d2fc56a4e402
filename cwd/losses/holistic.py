"""Holistic distillation: a critic looks at whole score maps (Liu et al. 2019, SKDS)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import cached

from cwd.losses.maps import Target, matched
from cwd.system.errors import CwdError

PENALTY = 10.0  # factor of the gradient penalty (Gulrajani et al. 2017)
IMAGE_CHANNELS = 3
WIDTHS = (64, 128, 256, 512)  # of the critic's stages
KERNEL = 4  # of all its convolutions; the stages have stride 2


class SelfAttention(nn.Module):
    """Self-attention over positions (SAGAN, Zhang et al. 2019), switched on by a learnt factor.

        out = x + gamma  sum_j softmax_j(q_i . k_j) v_j,   gamma = 0 at first

    Maps are [B, C, H, W]; queries and keys have C / 8 channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels // 8, 1)
        self.key = nn.Conv2d(channels, channels // 8, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).flatten(2) for f in (self.query, self.key, self.value))  # [B, ., N]
        weights = (q.mT @ k).softmax(dim=2)  # [B, N, N], row i over positions j
        return x + self.gamma * (v @ weights.mT).view(x.shape)


class Critic(nn.Module):
    """D of eq. 7: how much a score map Q looks like the teacher's for the image I.

    As published: batch norm; convolutions 4x4 of stride 2 under spectral norm to 64, 128, 256, 512
    channels with leaky ReLU 0.1; self-attention before and after the last of them; a convolution
    4x4 to one channel. Batch norm sees the two networks' maps apart, so the critic can't tell them
    by a channel's mean or scale. All that takes a map of 65x65, from a crop of 512x512; a smaller
    map gets fewer stages, and where less than 4x4 is left, a smaller last kernel. The published
    critic sees the score map alone; eq. 7 conditions on the image, so here it is put beside it.

    Args:
        channels: K, the classes.
        map_size: height and width of the score maps that it will see.

    Shape:
        score map [B, K, H, W] and images [B, 3, h, w] to [B].

    Raises:
        CwdError: the map is smaller than 2x2.
    """

    def __init__(self, channels: int, map_size: tuple[int, int]) -> None:
        super().__init__()
        side = min(map_size)
        if side < 2:
            raise CwdError(f"HO can't look at a score map of {map_size}: use a larger crop.")
        stages = min(max(int(math.log2(side / KERNEL)), 1), len(WIDTHS))
        widths = WIDTHS[:stages]
        self.norm = nn.BatchNorm2d(channels)
        layers: list[nn.Module] = []
        inputs = channels + IMAGE_CHANNELS
        for number, width in enumerate(widths, start=1):
            conv = nn.Conv2d(inputs, width, KERNEL, stride=2, padding=1)
            layers += [spectral_norm(conv), nn.LeakyReLU(0.1)]
            if number >= stages - 1:  # between the last three layers (supplement S4)
                layers.append(SelfAttention(width))
            inputs = width
        self.body = nn.Sequential(*layers)
        self.last = nn.Conv2d(inputs, 1, min(KERNEL, side >> stages))

    def forward(self, score: Tensor, images: Tensor) -> Tensor:
        images = F.adaptive_avg_pool2d(images.to(score.dtype), score.shape[2:])
        x = self.body(torch.cat([self.norm(score), images], dim=1))
        return self.last(x).mean(dim=(1, 2, 3))


class Holistic(nn.Module):
    """HO: eq. 7 and 10, the Wasserstein distance that a critic estimates (WGAN-GP).

        loss = E[D(Q^t | I)] - E[D(Q^s | I)]                          student, minus eq. 7
        critic_loss = E[D(Q^s | I)] - E[D(Q^t | I)] + 10 penalty       critic, eq. 7
        penalty = E[(|grad D(Q)|_2 - 1)^2],  Q on the line from Q^s to Q^t

    Equation 8 subtracts eq. 7 with a weight of 0.1, which is adding this loss with 0.1. The term
    with Q^t has no gradient for the student; with it the value is the distance, zero at equality.
    The two steps of supplement S4 take turns: `forward` holds the critic fixed, `critic_loss`
    teaches it, with an optimiser of its own. Both compute in float32 whatever autocast says: the
    penalty is a gradient of a gradient.

    Args:
        channels: K, the classes.
        map_size: height and width of the score maps.

    Shape:
        student_map and teacher_map [B, K, H, W], images [B, 3, h, w], normalised, to a scalar;
        `target` is not used.

    Raises:
        CwdError: there are no images; the maps are too small.
    """

    def __init__(self, channels: int, map_size: tuple[int, int]) -> None:
        super().__init__()
        self.critic = Critic(channels, map_size)

    def forward(
        self,
        student_map: Tensor,
        teacher_map: Tensor,
        target: Target = None,
        images: Tensor | None = None,
    ) -> Tensor:
        if images is None:
            raise CwdError("HO compares score maps given their image (eq. 7): give it the images.")
        self.critic.requires_grad_(False)
        # cached: both maps are seen by the same weights, not by two steps of the power iteration
        with torch.autocast(student_map.device.type, enabled=False), cached():
            s, t = matched(student_map, teacher_map)
            return self.critic(t, images).mean() - self.critic(s, images).mean()

    def critic_loss(
        self, student_map: Tensor, teacher_map: Tensor, images: Tensor, where: Tensor | None = None
    ) -> Tensor:
        """What the critic minimises; shapes as for the class.

        `where` are the places between the maps at which the penalty looks, [B, 1, 1, 1] in 0 to 1,
        drawn here if None. Processes that share a batch hand in their part of one draw.
        """
        self.critic.requires_grad_(True)
        with torch.autocast(student_map.device.type, enabled=False), cached():
            s, t = matched(student_map.detach(), teacher_map)
            distance = self.critic(s, images).mean() - self.critic(t, images).mean()
            return distance + PENALTY * self.penalty(s, t, images, where)

    def penalty(self, s: Tensor, t: Tensor, images: Tensor, where: Tensor | None = None) -> Tensor:
        """The gradient penalty, at points between the two maps."""
        if where is None:
            where = torch.rand(len(s), 1, 1, 1, dtype=s.dtype, device=s.device)
        between = (where * t + (1 - where) * s).requires_grad_()
        judged = self.critic(between, images).sum()
        (gradient,) = torch.autograd.grad(judged, between, create_graph=True)
        return (gradient.flatten(1).norm(dim=1) - 1).square().mean()
