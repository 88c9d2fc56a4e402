"""Heo et al. 2019: the teacher's features before ReLU, cut at a margin, for the whole backbone."""

import math

import torch
from torch import Tensor, nn

from cwd.models.detection.outputs import DetectionOutput as Output
from cwd.models.detection.outputs import Objects
from cwd.recipes.detection.shared import Rival, normed, paired

RARE = 0.001  # a smaller share of negative values says nothing of their mean
SMALLEST = 1e-12  # a smaller scale of a norm counts as this one


class FeatureOverhaul(Rival):
    """Heo et al. 2019, "A comprehensive overhaul of feature distillation": a row of Table 9.

        T' = max(t, m_c),   m_c = E[x | x < 0] for x ~ N(beta_c, gamma_c^2)
        r = connector(s)
        d = (T' - r)^2, but 0 where r <= T' <= 0
        loss = 1 / B  sum over stages l = 0, ..., 3 of 2^(l - 3) sum of d

    Maps are C2 to C5 before their last ReLU; gamma and beta are weight and bias of the last batch
    norm of the teacher's stage, as they are when the loss is made. Connectors are 1x1 convolutions
    without bias and batch norm. The published codes cover classification and segmentation. The
    weight is 1e-5, that of segmentation, whose maps are about as large.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        for stage, norm in enumerate(teacher.backbone.last_norms()):
            self.register_buffer(f"margin{stage}", margins(norm)[None, :, None, None])
        widths = zip(student.stage_channels, teacher.stage_channels, strict=True)
        self.connectors = nn.ModuleList(connector(*width) for width in widths)

    @property
    def margins(self) -> list[Tensor]:
        """m of the stages, [1, C_l, 1, 1]."""
        return [getattr(self, f"margin{stage}") for stage in range(len(self.connectors))]

    def forward(self, student: Output, teacher: Output, targets: list[Objects]) -> Tensor:
        pairs = paired(student.stages, teacher.stages)
        stages = zip(self.connectors, self.margins, pairs, strict=True)
        total = pairs[0][0].new_zeros(())
        with torch.autocast(total.device.type, enabled=False):
            for (conv, norm), margin, (s, t) in stages:
                cut, connected = t.maximum(margin), normed(norm, conv(s))
                counts = (connected > cut) | (cut > 0)
                total = total / 2 + ((cut - connected).square() * counts).sum()
        return total / len(pairs[0][0])


def connector(student_channels: int, teacher_channels: int) -> nn.Sequential:
    """From the student's channels to the teacher's, with the published initial weights."""
    conv = nn.Conv2d(student_channels, teacher_channels, 1, bias=False)
    nn.init.normal_(conv.weight, std=math.sqrt(2 / teacher_channels))
    return nn.Sequential(conv, nn.BatchNorm2d(teacher_channels))


@torch.no_grad()
def margins(norm: nn.BatchNorm2d) -> Tensor:
    """m of a stage, [C]: the mean of what its last batch norm gives below zero.

        m = beta - |gamma| phi(z) / Phi(-z),   z = beta / |gamma|

    with density phi and distribution Phi of the standard normal. Where Phi(-z), the share of
    negative values, is at most 0.001, it is -3 |gamma|, as published.
    """
    scale, mean = norm.weight.double().abs(), norm.bias.double()
    z = mean / scale.clamp_min(SMALLEST)
    share = torch.special.ndtr(-z)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    inside = mean - scale * density / share.clamp_min(RARE)
    return torch.where(share > RARE, inside, -3 * scale).to(norm.weight.dtype)
