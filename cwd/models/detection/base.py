"""What the detectors of Table 9 have in common, and what those with anchors have besides."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from cwd.models.backbones import build_body
from cwd.models.detection.outputs import DetectionOutput, Detections, Objects, Regions
from cwd.models.detection.pyramid import Backbone, Pyramid
from cwd.models.names import Architecture

MOST = 100  # detections of an image, as COCO's evaluation takes them
Size = tuple[int, int]  # height and width in pixels, of a whole padded batch where there is one
Learnt = tuple[dict[str, Tensor], Regions | None]


class Detector(nn.Module):
    """A backbone, a pyramid of five levels, and what a subclass puts on it.

    Arguments as in `cwd.models.build.build_network`. A subclass has `learn(levels, targets)`, its
    own losses by name and, of two stages, the regions; and `read(levels, sizes)`, the detections.

    Attributes:
        strides: pixels of the image to a side of a position, by level.
        channels: of every level.
        stage_channels: of C2 to C5.
        stages_of_detection: 2 where proposals are made first, else 1.

    Shape:
        Normalised images [B, 3, H, W], H and W multiples of 32, to a `DetectionOutput`.
    """

    stages_of_detection = 1
    finest = 8  # stride of the first level
    norm: Callable[[int], nn.Module] | None = None  # of the pyramid

    def __init__(self, arch: Architecture, num_classes: int, *, init: str = "random") -> None:
        super().__init__()
        self.name, self.num_classes, self.channels = arch.name, num_classes, arch.fpn
        body = build_body(arch, init=init, features_only=True, out_indices=(1, 2, 3, 4))
        self.backbone = Backbone(body, pretrained=init != "random")
        self.stage_channels = tuple(body.feature_info.channels())
        self.strides = tuple(self.finest * 2**level for level in range(5))
        self.begin = (4, 8).index(self.finest)  # the pyramid stands on C2 or C3 and the rest
        used, extra = self.stage_channels[self.begin :], ("pool", "conv")[self.begin]
        self.pyramid = Pyramid(used, arch.fpn, extra=extra, norm=self.norm)

    def forward(self, images: Tensor, targets: list[Objects] | None = None) -> DetectionOutput:
        """See the class; the detector's own losses are computed where targets are given."""
        stages = self.backbone(images)
        convs, levels = self.pyramid([F.relu(x) for x in stages[self.begin :]])
        losses, regions = self.learn(levels, targets) if targets is not None else ({}, None)
        return DetectionOutput(stages, convs, levels, losses, regions, self)

    @torch.no_grad()
    def detect(self, images: Tensor, sizes: list[Size]) -> list[Detections]:
        """What is in each of padded images [B, 3, H, W]; `sizes` are those without padding."""
        return self.read([level.float() for level in self(images).levels], sizes)

    def size(self, levels: list[Tensor]) -> Size:
        """Height and width of the padded images that levels belong to."""
        height, width = levels[0].shape[-2:]
        return height * self.strides[0], width * self.strides[0]


class Anchored(Detector):
    """A detector with anchors, in `anchor_generator`."""

    anchor_generator: AnchorGenerator

    def anchors(self, levels: list[Tensor], size: Size) -> list[Tensor]:
        """The anchors of an image by level, float32 [h w k, 4] by row, column and shape."""
        return list(self.listed(levels, size)[0].split(self.counts(levels)))

    def counts(self, levels: list[Tensor]) -> list[int]:
        """How many anchors each level has."""
        shapes = self.anchor_generator.num_anchors_per_location()
        return [x.shape[-2] * x.shape[-1] * k for x, k in zip(levels, shapes, strict=True)]

    def listed(self, levels: list[Tensor], size: Size) -> list[Tensor]:
        """The anchors of all levels for each of B images, B times float32 [A, 4], in pixels."""
        # torchvision looks at shapes only, and gives anchors the levels' format: bfloat16, which
        # autocast makes of them, has whole pixels only from 128 on
        count, blank = len(levels[0]), levels[0].new_empty(1, dtype=torch.float32)
        maps = [blank.expand(level.shape) for level in levels]
        return self.anchor_generator(ImageList(blank.expand(count, 3, *size), [size] * count), maps)


def as_dicts(targets: list[Objects], first: int) -> list[dict[str, Tensor]]:
    """Targets in torchvision's form, the classes counted from `first` on."""
    return [{"boxes": t.boxes, "labels": t.labels + first, "masks": t.masks} for t in targets]


def anchors_of(sizes: list[tuple[float, ...]]) -> AnchorGenerator:
    """torchvision's anchors in three shapes, of the given sizes by level, in pixels."""
    return AnchorGenerator(tuple(sizes), ((0.5, 1.0, 2.0),) * len(sizes))


def stub(channels: int) -> nn.Module:
    """What torchvision's detectors get for their backbone, since only their heads are used."""
    backbone = nn.Identity()
    backbone.out_channels = channels
    return backbone
