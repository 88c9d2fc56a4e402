"""Zhang and Ma 2021: features weighted by attention, and relations by non-local blocks."""

import math
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.linalg import vector_norm

from cwd.models.detection.outputs import DetectionOutput as Output
from cwd.models.detection.outputs import Objects
from cwd.recipes.detection.shared import Rival, normed, paired

IMAGES = 2  # of a batch of each process, for which the published weights are meant
STRIDES = (8, 4, 2, 2, 2)  # of the non-local blocks' pooling, by level
SHARES = (4, 4, 2, 2, 2)  # channels to one inner channel of the non-local blocks, by level


class Published(NamedTuple):
    """What the published code has for detectors of one or of two stages."""

    temperature: float  # T of the attention
    features: float  # a, the weight of the features and of the relations
    means: float  # b, the weight of the means over positions and over channels
    by_channel: bool  # whether the features are weighted by channel, too


PUBLISHED = {2: Published(0.5, 7e-5, 4e-3, False), 1: Published(0.1, 4.2e-4, 2.4e-2, True)}


class AttentionGuidedNonLocal(Rival):
    """Zhang and Ma 2021, attention-guided and non-local distillation: a row of Table 9.

        M = mean of the two networks' H W softmax over positions of (mean_c |y| / T)
        K = mean of the two networks' C softmax over channels of (mean_hw |y| / T)
        loss = sum over the 5 levels of
               a |M^(1/2) K^(1/2) (t - conv1x1(s))| + a |NL_t(t) - conv1x1(NL_s(s))|
             + b |mean_hw t - linear(mean_hw s)| + b |mean_c t - conv3x3(mean_c s)|

    with |.| the root of the sum of squares over a whole batch, M and K constants in the backward
    pass, and NL non-local blocks that are trained, the teacher's as well, as in the published code.

        two stages    T = 0.5, a = 7e-5,   b = 4e-3,   without K
        one stage     T = 0.1, a = 4.2e-4, b = 2.4e-2

    The paper is said to have the two values of T the other way round; these are the code's. A root
    of a sum grows with the root of the batch. The published weights are for 2 images a process, so
    here the value is multiplied by (2 / B)^(1/2), with B the images of one process, which gives
    every batch size about the same loss.
    Inner channels of the non-local blocks are the published ones for 256 channels and in proportion
    for others. Where the two networks differ in channels, K is the teacher's alone.

    Args:
        student: a detector, whose number of stages decides.
        teacher: a detector with the same levels.
        temperature: T; None is the published one.
    """

    options: ClassVar = {
        "temperature": (
            "no temperature: give a positive number",
            lambda v: v is None or 0 < v < math.inf,
        )
    }

    def __init__(
        self, student: nn.Module, teacher: nn.Module, *, temperature: float | None = None
    ) -> None:
        self.check(temperature=temperature)
        super().__init__()
        settings = PUBLISHED[student.stages_of_detection]
        if temperature is not None:
            settings = settings._replace(temperature=temperature)
        self.levels = nn.ModuleList(
            Level(student.channels, teacher.channels, settings, *shape)
            for shape in zip(STRIDES, SHARES, strict=True)
        )

    def forward(self, student: Output, teacher: Output, targets: list[Objects]) -> Tensor:
        pairs = paired(student.levels, teacher.levels)
        first = pairs[0][0]
        with torch.autocast(first.device.type, enabled=False):
            terms = [level(s, t) for level, (s, t) in zip(self.levels, pairs, strict=True)]
            return torch.stack(terms).sum() * (IMAGES / len(first)) ** 0.5


class Level(nn.Module):
    """All terms of one level: [B, student, H, W] and [B, teacher, H, W] to a scalar.

    `stride` and `share` are one of `STRIDES` and of `SHARES`.
    """

    def __init__(
        self, student: int, teacher: int, settings: Published, stride: int, share: int
    ) -> None:
        super().__init__()
        self.settings = settings
        self.features = nn.Conv2d(student, teacher, 1)
        self.over_positions = nn.Linear(student, teacher)
        self.over_channels = nn.Conv2d(1, 1, 3, padding=1)
        self.relations = nn.Conv2d(student, teacher, 1)
        self.student = NonLocal(student, max(1, student // share), stride)
        self.teacher = NonLocal(teacher, max(1, teacher // share), stride)

    def forward(self, s: Tensor, t: Tensor) -> Tensor:
        # norms rather than roots of sums: their gradient is zero, not NaN, where maps are equal
        features = vector_norm((t - self.features(s)) * self.attention(s, t).sqrt())
        relations = vector_norm(self.teacher(t) - self.relations(self.student(s)))
        positions = vector_norm(t.mean(dim=(2, 3)) - self.over_positions(s.mean(dim=(2, 3))))
        s_mean, t_mean = (x.mean(dim=1, keepdim=True) for x in (s, t))
        channels = vector_norm(t_mean - self.over_channels(s_mean))
        a, b = self.settings.features, self.settings.means
        return a * (features + relations) + b * (positions + channels)

    @torch.no_grad()
    def attention(self, s: Tensor, t: Tensor) -> Tensor:
        """M, times K where it is used: [B, 1, H, W] or [B, teacher, H, W]."""
        temperature = self.settings.temperature
        mask = (over_positions(s, temperature) + over_positions(t, temperature)) / 2
        if not self.settings.by_channel:
            return mask
        channels = over_channels(t, temperature)
        if s.shape[1] == t.shape[1]:
            channels = (channels + over_channels(s, temperature)) / 2
        return mask * channels


class NonLocal(nn.Module):
    """A non-local block (Wang et al. 2018) with dot products: each position sees all others.

        z = y + norm(W(theta^T phi g / N)),   phi and g max-pooled to N positions

    Without a softmax the products may be taken in either order. phi g first is [I, I] for I inner
    channels; theta^T phi first, as published, has H W N entries, at P2 of a large image 70
    million. The norm's weight starts from zero, and the block from the identity. On sides shorter
    than the pooling's stride the windows shrink to the side.

    Shape:
        [B, channels, H, W] in and out.
    """

    def __init__(self, channels: int, inner: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.theta, self.phi, self.g = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        self.outer, self.norm = nn.Conv2d(inner, channels, 1), nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, y: Tensor) -> Tensor:
        window = [min(self.stride, side) for side in y.shape[2:]]
        phi, g = (F.max_pool2d(f(y), window).flatten(2) for f in (self.phi, self.g))  # [B, I, N]
        mixed = g @ phi.mT / phi.shape[2]  # [B, I, I]
        seen = (mixed @ self.theta(y).flatten(2)).unflatten(2, y.shape[2:])  # [B, I, H, W]
        return y + normed(self.norm, self.outer(seen))


def over_positions(y: Tensor, temperature: float) -> Tensor:
    """The spatial attention of [B, C, H, W]: [B, 1, H, W], 1 on average."""
    energy = y.abs().mean(dim=1, keepdim=True)
    shares = (energy.flatten(1) / temperature).softmax(dim=1)
    return shares.view_as(energy) * shares.shape[1]


def over_channels(y: Tensor, temperature: float) -> Tensor:
    """The channels' attention of [B, C, H, W]: [B, C, 1, 1], 1 on average."""
    energy = y.abs().mean(dim=(2, 3), keepdim=True)
    return (energy / temperature).softmax(dim=1) * y.shape[1]
