"""Pair-wise spatial distillation: how positions relate to each other, the lower half of Table 1."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwd.losses.fused import SquaredErrors
from cwd.losses.labels import CLASSES, IGNORED, classes_at
from cwd.losses.maps import Target, is_number, matched
from cwd.system.errors import CwdError

SHORTEST = 1e-6  # a shorter feature counts as one without direction
FEW = 9  # positions of a map that is pooled by halves, at most
BLOCK = 2**24  # entries of a [B, rows, N] block of similarities: 64 MiB in float32, a few at a time


def unit(x: Tensor) -> Tensor:
    """`x` [B, C, ...] with every position's feature of length 1.

    A feature shorter than `SHORTEST` becomes zero and gets no gradient. Dividing by |x| + 1e-8, as
    the published codes do, multiplies its gradient by up to 10^8, and behind a ReLU zero features
    do occur.
    """
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x * (length > SHORTEST) / length.clamp_min(SHORTEST)


class LocalAffinity(nn.Module):
    """LOCAL, local similarity (Xie et al. 2018): row "Local similarity" of Table 1.

        L_i = sum over the 8 neighbours j of position i of |y_j - y_i|_2
        loss = 1 / (B N)  sum_b sum_i  (L_i of the student - L_i of the teacher)^2

    Positions at the border have fewer neighbours.

    Shape:
        student_map [B, C, H, W] and teacher_map [B, C', H, W] to a scalar; `target` is not used.
    """

    # right, below, below right, below left: the other four are these, seen from the neighbour
    steps = ((0, 1), (1, 0), (1, 1), (1, -1))

    def forward(self, student_map: Tensor, teacher_map: Tensor, target: Target = None) -> Tensor:
        student_map, teacher_map = matched(student_map, teacher_map, same_channels=False)
        return F.mse_loss(self.distances(student_map), self.distances(teacher_map))

    def distances(self, x: Tensor) -> Tensor:
        """L of [B, C, H, W]: [B, H, W]."""
        height, width = x.shape[2:]
        total = x.new_zeros(x.shape[0], height, width)
        for down, right in self.steps:
            left = -min(right, 0)  # columns that have no neighbour on their left
            here = x[:, :, : height - down, left : width - max(right, 0)]
            there = x[:, :, down:, left + right : width + min(right, 0)]
            gap = torch.linalg.vector_norm(there - here, dim=1)  # [B, H - down, W - |right|]
            total = total + F.pad(gap, (left, max(right, 0), 0, down))
            total = total + F.pad(gap, (max(right, 0), left, down, 0))
        return total


class PairwiseAffinity(nn.Module):
    """PA, pair-wise affinity (Liu et al. 2019, SKDS): row "Pairwise affinity" of Table 1.

        a_ij = y_i . y_j / (|y_i|_2 |y_j|_2)   for all pairs of the N positions
        loss = 1 / (B N^2)  sum_b sum_i sum_j  (a_ij of the student - a_ij of the teacher)^2

    The published code first max-pools with windows of half the map, so that N is 4, or 6 or 9 where
    sides are odd; it also takes the norms as constants in the backward pass, which here they
    aren't. At full resolution the N x N matrices are computed in blocks of rows, each with its part
    of the gradient, so that memory doesn't grow with N^2. The products stay in float32 under
    autocast: bfloat16 has three digits, and similarities differ in the third.

    Args:
        pool_scale: windows' sides as a share of the map's, 0 to 1; 0 is full resolution.

    Shape:
        student_map [B, C, H, W] and teacher_map [B, C', H, W] to a scalar; `target` is not used.
    """

    def __init__(self, pool_scale: float = 0.5) -> None:
        super().__init__()
        if not is_number(pool_scale) or not 0 <= pool_scale <= 1:
            remedy = "give a number from 0 (full resolution) to 1"
            raise CwdError(f"pool_scale={pool_scale} is no share of the map: {remedy}.")
        self.pool_scale = pool_scale

    def forward(self, student_map: Tensor, teacher_map: Tensor, target: Target = None) -> Tensor:
        student_map, teacher_map = matched(student_map, teacher_map, same_channels=False)
        window = [max(1, int(side * self.pool_scale)) for side in teacher_map.shape[2:]]
        s, t = (
            unit(F.max_pool2d(x, window, ceil_mode=True)).flatten(2)  # [B, C, N]
            for x in (student_map, teacher_map)
        )
        b, n = t.shape[0], t.shape[2]
        with torch.autocast(t.device.type, enabled=False):
            if n <= FEW:  # in the order in which recorded results were added up
                errors = squared_errors(s, t)
            else:
                errors = SquaredErrors.apply(s, t, max(1, BLOCK // (b * n)))
            return errors / (b * n**2)


def squared_errors(s: Tensor, t: Tensor) -> Tensor:
    """What `SquaredErrors` computes, as the equation reads."""
    return (s.mT @ s - t.mT @ t).square().sum()  # of [B, N, N]


class IntraClassVariation(nn.Module):
    """IFVD, intra-class feature variation (Wang et al. 2020): row "IFVD" of Table 1.

        m_i = mean of y_j over S_i, the positions of the same image with the same label as i
        v_i = cos(y_i, m_i)
        loss = 1 / (B N)  sum_b sum_i  (v_i of the student - v_i of the teacher)^2

    The label map is brought to the size of the maps by nearest neighbour. Ignored positions belong
    to no class and add nothing; as in the published code the mean is still over all N. One pass
    over the positions adds each to its class, whatever the number of classes.

    Args:
        ignore_index: the label of positions without a class, 255 or another number, such as -100.

    Shape:
        student_map [B, C, h, w], teacher_map [B, C', h', w'], target int64 [B, H, W] to a scalar.

    Raises:
        CwdError: there is no target, or it isn't [B, H, W] of classes from 0 to 255. On a GPU, and
            compiled, a label out of range makes the loss NaN: to raise would wait for the device.
    """

    def __init__(self, ignore_index: int = IGNORED) -> None:
        super().__init__()
        if not isinstance(ignore_index, int) or isinstance(ignore_index, bool):
            raise CwdError(f"ignore_index={ignore_index!r} is no label: give a whole number.")
        self.ignore_index = ignore_index

    def forward(self, student_map: Tensor, teacher_map: Tensor, target: Target = None) -> Tensor:
        student_map, teacher_map = matched(student_map, teacher_map, same_channels=False)
        size = teacher_map.shape[2:]
        labels, known = classes_at(
            target, len(teacher_map), "IFVD", size, ignored=self.ignore_index
        )
        labels = labels.flatten(1)  # [B, N]
        s, t = self.similarity(student_map, labels), self.similarity(teacher_map, labels)
        loss = ((s - t).square() * (labels != CLASSES)).mean()
        return torch.where(known, loss, torch.nan)

    def similarity(self, x: Tensor, labels: Tensor) -> Tensor:
        """v of a map [B, C, H, W] with labels [B, N]: [B, N]."""
        b, c = x.shape[:2]
        features = x.flatten(2).mT  # [B, N, C]
        rows = CLASSES + 1  # one for each class, and ignored positions
        group = (labels + rows * torch.arange(b, device=x.device)[:, None]).flatten()
        sums = x.new_zeros(b * rows, c).index_add(0, group, features.flatten(0, 1))
        # the direction of a class's sum is that of its mean
        means = unit(sums).index_select(0, group).view(b, -1, c)  # [B, N, C]
        return (unit(features.mT).mT * means).sum(dim=2)
