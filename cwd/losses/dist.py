"""DIST: predictions shall be correlated with the teacher's, not equal to them."""

import math

from torch import Tensor, nn

from cwd.losses.maps import Target, matched, whole
from cwd.losses.pairwise import unit


class ClassRelations(nn.Module):
    """DIST (Huang et al., NeurIPS 2022): Pearson's correlation r in the place of a divergence.

        p, q = softmax over the C classes of s, t at every position
        between = 1 - mean_b mean_i r(p_b,i, q_b,i)      r over classes
        within  = 1 - mean_c r(p_c, q_c)                 r over the positions of some images at once
        loss = between + within                          (the paper's inter and intra)

    `within` depends on how many images are looked at together; the published runs had 2 on each
    GPU. The published code adds 1e-8 to the product of the two lengths; here a vector without
    length has no correlation and no gradient, see `pairwise.unit`. It also compares the auxiliary
    heads' scores, with a weight of 0.4, which needs a teacher in training mode and is left out.

    Args:
        images: how many are looked at together; of a batch that isn't a multiple, the largest
            divisor that both have.

    Shape:
        student_map and teacher_map [B, C, H, W] to a scalar; `target` is not used.

    Cost:
        Linear in N and C; nothing is trained.
    """

    def __init__(self, images: int = 2) -> None:
        super().__init__()
        self.images = whole("images", images)

    def forward(self, student_map: Tensor, teacher_map: Tensor, target: Target = None) -> Tensor:
        student_map, teacher_map = matched(student_map, teacher_map)
        p, q = (x.softmax(dim=1).flatten(2) for x in (student_map, teacher_map))  # [B, C, N]
        together = [in_groups(x, self.images).mT.flatten(1, 2) for x in (p, q)]  # [G, g N, C]
        return 2 - correlation(p, q).mean() - correlation(*together).mean()


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """Pearson's r of x and y [A, D, M] along D: [A, M]."""
    x, y = (unit(v - v.mean(dim=1, keepdim=True)) for v in (x, y))
    return (x * y).sum(dim=1)


def in_groups(x: Tensor, images: int) -> Tensor:
    """A batch [B, ...] in groups of `images`, or of a divisor that both have: [G, g, ...]."""
    return x.unflatten(0, (-1, math.gcd(len(x), images)))
