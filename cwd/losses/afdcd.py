"""Af-DCD: a dense contrast of groups of channels, beside the generation of MGD."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwd.losses.distances import Softened
from cwd.losses.maps import Target, matched, weight, whole
from cwd.losses.mgd import Generator, squared_error
from cwd.system.errors import CwdError


class DenseContrast(nn.Module):
    """Af-DCD (Fan et al., NeurIPS 2023): the generated map told apart from the teacher's elsewhere.

        g = the map that is generated as in MGD, see `mgd.Generator`
        generation = P / (B N)  sum_b sum_c sum_i  (g_c,i - t_c,i)^2
        d(i, m; j, l) = sum of |g - t| over the channels of group m of g at i and group l of t at j
        contrast = mean_i sum_m -log softmax_(j, l) (-d(i, m; j, l) / T)  at (j, l) = (i, m)
        loss = fd generation + ctr contrast

    The softmax is over the place itself and, in i's patch, all other groups at all positions; the
    same group at another position is left out. Maps are max-pooled first. KD at weight 1 belongs to
    its total. Weights are those for Cityscapes, maps of 8192 positions; the published ones for VOC
    are fd 1e-6 at 4096, for CamVid fd 8e-6 and ctr 0.01 at 2025, without pooling.

    The published script for Cityscapes means another mask and a block of twice the size, but
    misspells the flags, and reads "False" as true: here are the mask and block of the other
    scripts. It can't take equal numbers of channels, which here need no alignment, and clips the
    block's gradient at a norm of 15, which a schedule's `clip` does for all that is trained.

    Args:
        student_channels, teacher_channels, masked, positions: as in `mgd.MaskedGeneration`.
        fd, ctr: the weights of the two sums.
        temperature: T.
        pool: side of the windows that are pooled; less where no patch would be left.
        patch: side of a patch, in pooled positions. What is over at a border is cut.
        groups: M, of contiguous channels. What is over is cut.

    Shape:
        student_map [B, C_s, H, W] and teacher_map [B, C, H, W] to a scalar; `target` is not used.

    Cost:
        MGD's, and B N / pool^2 times (patch M)^2 distances.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        fd: float = 2e-6,
        ctr: float = 0.005,
        temperature: float = 0.07,
        pool: int = 4,
        patch: int = 4,
        groups: int = 16,
        masked: float = 0.75,
        positions: float = 8192,
    ) -> None:
        super().__init__()
        self.generator = Generator(student_channels, teacher_channels, masked)
        self.fd, self.ctr = weight("fd", fd), weight("ctr", ctr)
        self.positions = weight("positions", positions)
        self.temperature = Softened(temperature).temperature
        self.pool, self.patch = whole("pool", pool), whole("patch", patch)
        self.groups = min(whole("groups", groups), teacher_channels)

    def forward(self, student_map: Tensor, teacher_map: Tensor, target: Target = None) -> Tensor:
        student_map, teacher_map = matched(student_map, teacher_map, same_channels=False)
        g, t = matched(self.transformed(student_map), teacher_map)
        return self.fd * squared_error(g, t, self.positions) + self.ctr * self.contrast(g, t)

    def transformed(self, student_map: Tensor) -> Tensor:
        """The student's map as it is compared: [B, C_s, H, W] to [B, C, H, W]."""
        return self.generator(student_map)

    def contrast(self, g: Tensor, t: Tensor) -> Tensor:
        """The second sum, of two maps [B, C, H, W]."""
        window = min(self.pool, min(t.shape[2:]) // self.patch)
        if not window:
            raise CwdError(f"AFDCD's patch={self.patch} is larger than a map of {t.shape[2:]}.")
        g, t = (self.patches(F.max_pool2d(x, window)) for x in (g, t))
        with torch.autocast(t.device.type, enabled=False):
            logits = -torch.cdist(g, t, p=1) / self.temperature  # [B patches, n M, n M]
        place = torch.arange(logits.shape[1], device=t.device)
        other = place % self.groups != place[:, None] % self.groups
        allowed = other | torch.eye(len(place), dtype=torch.bool, device=t.device)
        positive = logits.diagonal(dim1=1, dim2=2)
        lost = logits.masked_fill(~allowed, -torch.inf).logsumexp(dim=2) - positive
        return self.groups * lost.mean()

    def patches(self, x: Tensor) -> Tensor:
        """A map's vectors by patch, a group's channels each: [B patches, positions M, C / M]."""
        side, groups = self.patch, self.groups
        c, h, w = x.shape[1] // groups, x.shape[2] // side, x.shape[3] // side
        x = x[:, : c * groups, : h * side, : w * side]
        x = x.reshape(-1, groups, c, h, side, w, side).permute(0, 3, 5, 4, 6, 1, 2)
        return x.reshape(-1, side**2 * groups, c)
