"""CIRKD: how positions relate to those of other images, in the batch and in a memory."""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cwd.losses.dist import in_groups
from cwd.losses.distances import kl
from cwd.losses.labels import IGNORED, classes_at
from cwd.losses.maps import Target, matched, weight, whole
from cwd.losses.pairwise import BLOCK, unit

TAU = 0.1  # by which similarities are divided before their softmax
PIXELS_A_STEP = 16  # positions of a class in an image that enter its memory
PIXEL_DRAW, REGION_DRAW = 4096, 1024  # about so many of a memory's vectors are compared with


class Bank(nn.Module):
    """The last `size` unit vectors of each of K classes: [K, size, C], random at first."""

    def __init__(self, classes: int, size: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("vectors", F.normalize(torch.randn(classes, size, channels), dim=2))
        self.register_buffer("next", torch.zeros(classes, dtype=torch.long))  # to be replaced

    def add(self, vectors: Tensor, labels: Tensor) -> None:
        """Replace the oldest of their classes by `vectors` [M, C] of classes `labels` [M]."""
        size, place = self.vectors.shape[1], ranks(labels)
        new, room = labels[place < size], place[place < size]
        self.vectors[new, (self.next[new] + room) % size] = vectors[place < size].to(self.vectors)
        counts = torch.bincount(new, minlength=len(self.next))
        self.next.copy_((self.next + counts) % size)

    def draw(self, count: int) -> Tensor:
        """The vectors of the same random places of every class, about `count` in all: [C, S]."""
        classes, size = self.vectors.shape[:2]
        places = torch.randperm(size, device=self.vectors.device)[: count // classes + 1]
        return self.vectors[:, places].flatten(0, 1).T


class CrossImageRelations(nn.Module):
    """CIRKD (Yang et al., CVPR 2022): relations to the positions of other images.

        R(x, keys)_i = softmax over keys k of x_i . k / 0.1           x and keys of unit length
        mini = mean over pairs (a, b) of images, a = b too, and positions i
               of KL(R(t_a, t_b)_i || R(s_a, s_b)_i)
        memory = mean over labelled i of KL(R(t, bank)_i || R(z, bank)_i),      z = projection of s
        loss = batch mini + pixel memory(of positions) + region memory(of means of classes)

    The teacher's vectors enter the banks first: of each image and class the mean, and 16 random
    positions. The published code takes these 16 from the image's first positions, as many as the
    class has, so that the bank of a class holds others; here they are of the class. Its pairs are
    of the 2 images of a GPU, and so here in groups of 2. KD at weight 1 belongs to its total.

    Args:
        student_channels, teacher_channels, classes: C_s and C of the maps, K of the labels.
        batch, pixel, region: the weights of the three sums (for VOC, 0.01 for the last two).
        images: how many form pairs with each other, see `ClassRelations`.
        pixels, regions: the sizes of a class's two banks.

    Shape:
        student_map [B, C_s, H, W], teacher_map [B, C, H, W], target int64 [B, h, w] to a scalar.

    Cost:
        B images N^2 and B N 5120 similarities, in blocks of rows that are computed again in the
        backward pass; the banks take 4 K C (pixels + regions) bytes, here and in each checkpoint.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        classes: int,
        batch: float = 1.0,
        pixel: float = 0.1,
        region: float = 0.1,
        images: int = 2,
        pixels: int = 20_000,
        regions: int = 2_000,
    ) -> None:
        super().__init__()
        given = {"batch": batch, "pixel": pixel, "region": region}
        self.weights = {name: weight(name, value) for name, value in given.items()}
        self.images, self.classes = whole("images", images), classes
        self.project = nn.Sequential(
            nn.Conv2d(student_channels, teacher_channels, 1, bias=False),
            nn.BatchNorm2d(teacher_channels),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False),
        )
        self.pixels = Bank(classes, whole("pixels", pixels), teacher_channels)
        self.regions = Bank(classes, whole("regions", regions), teacher_channels)

    def forward(self, student_map: Tensor, teacher_map: Tensor, target: Target = None) -> Tensor:
        student_map, teacher_map = matched(student_map, teacher_map, same_channels=False)
        size, classes = teacher_map.shape[2:], self.classes
        labels, known = classes_at(target, len(teacher_map), "CIRKD", size, classes, IGNORED)
        z, _ = matched(self.transformed(student_map), teacher_map)
        s, t, z = (unit(x).flatten(2) for x in (student_map, teacher_map, z))  # [B, C, N]
        with torch.autocast(t.device.type, enabled=False):
            total = self.memory(z, t, labels.flatten(1))
            if factor := self.weights["batch"]:
                total = total + factor * self.mini(s, t)
        return torch.where(known, total, torch.nan)

    def transformed(self, student_map: Tensor) -> Tensor:
        """The student's map as it is compared with the banks: [B, C_s, H, W] to [B, C, H, W]."""
        return self.project(student_map)

    def mini(self, s: Tensor, t: Tensor) -> Tensor:
        """Relations within groups of images, of unit maps [B, C, N] and [B, C', N]."""
        s, t = (in_groups(x, self.images) for x in (s, t))  # [G, g, C, N]
        groups, images, _, n = t.shape
        rows, keys = [x[:, :, None] for x in (s, t)], [x[:, None] for x in (s, t)]
        pairs = groups * images**2
        return summed(divergence, rows, keys, pairs * n) / (pairs * n)

    def memory(self, z: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Relations to the banks, of unit maps [B, C, N] with classes [B, N], K for none."""
        everywhere = gathered(labels)  # of the images of all processes that share the batch
        self._fill(gathered(t), everywhere)
        count = (everywhere < self.classes).sum().clamp_min(1)
        # where nothing is labelled both relations are flat, and add nothing
        z, t = (  # [C, B N]
            (x * (labels < self.classes)[:, None]).transpose(0, 1).flatten(1) for x in (z, t)
        )
        total = z.new_zeros(())
        banks = {"pixel": (self.pixels, PIXEL_DRAW), "region": (self.regions, REGION_DRAW)}
        for name, (bank, some) in banks.items():
            if factor := self.weights[name]:
                keys = bank.draw(some).to(t)
                total = total + factor * summed(divergence, (z, t), (keys, keys), keys.shape[1])
        return total * (len(everywhere) // len(labels)) / count

    @torch.no_grad()
    def _fill(self, t: Tensor, labels: Tensor) -> None:
        """Put vectors of a whole batch [B, C, N] into the banks of their classes [B, N]."""
        vectors, kinds = t.mT.flatten(0, 1), self.classes + 1
        group = (labels + kinds * torch.arange(len(labels), device=t.device)[:, None]).flatten()
        sums = vectors.new_zeros(len(labels) * kinds, t.shape[1]).index_add(0, group, vectors)
        present = torch.bincount(group, minlength=len(sums)) > 0
        present &= torch.arange(len(sums), device=t.device) % kinds < self.classes
        (seen,) = present.nonzero(as_tuple=True)
        self.regions.add(unit(sums[seen]), seen % kinds)
        order = torch.randperm(len(group), device=t.device)
        order = order[ranks(group[order]) < PIXELS_A_STEP]
        order = order[group[order] % kinds < self.classes]
        self.pixels.add(vectors[order], group[order] % kinds)


def divergence(s_rows: Tensor, t_rows: Tensor, s_keys: Tensor, t_keys: Tensor) -> Tensor:
    """Sum over rows of KL(R(t) || R(s)): rows [..., C, R], keys [..., C, M] of unit length."""
    log_s = F.log_softmax(s_rows.mT @ s_keys / TAU, dim=-1)  # [..., R, M]
    log_t = F.log_softmax(t_rows.mT @ t_keys / TAU, dim=-1)
    return kl(log_t, log_s, -1).sum()


def ranks(groups: Tensor) -> Tensor:
    """How many of the same number come before each of `groups` [M]: [M]."""
    ordered, order = groups.sort(stable=True)
    places = torch.arange(len(groups), device=groups.device)
    return torch.empty_like(groups).scatter(0, order, places - torch.searchsorted(ordered, ordered))


def gathered(x: Tensor) -> Tensor:
    """The rows of all processes that train together, in the order of the batch; no gradient."""
    if not (dist.is_available() and dist.is_initialized()):
        return x
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def summed(
    part: Callable[..., Tensor], rows: Sequence[Tensor], whole: Sequence[Tensor], width: int
) -> Tensor:
    """The sum of `part(*rows, *whole)` over blocks of rows, which are the last axis of `rows`.

    A row has `width` entries, of all images. More than one block are computed again in the
    backward pass, so that one of them is held at a time.
    """
    count, size = rows[0].shape[-1], max(1, BLOCK // width)
    if size >= count:
        return part(*rows, *whole)
    total = rows[0].new_zeros(())
    for start in range(0, count, size):
        block = [x[..., start : start + size] for x in rows]
        total = total + checkpoint(
            part, *block, *whole, use_reentrant=False, preserve_rng_state=False
        )
    return total
