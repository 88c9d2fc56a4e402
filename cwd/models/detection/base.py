"""What the detectors of Table 9 have in common."""

from abc import abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwd.models.detection.names import DetectorArchitecture, build_body
from cwd.models.detection.outputs import DetectionOutput, Detections, Objects, Regions
from cwd.models.detection.pyramid import Backbone, Pyramid
from cwd.models.segmentation import is_public

MOST = 100  # detections of an image, as COCO's evaluation takes them
Size = tuple[int, int]


class Detector(nn.Module):
    """A backbone, a pyramid of five levels, and what a subclass puts on it.

    Args:
        arch: what the detector's name says.
        num_classes: K.
        init: see `cwd.models.detection.detectors.build_detector`.

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

    def __init__(self, arch: DetectorArchitecture, num_classes: int, *, init: str) -> None:
        super().__init__()
        self.name, self.num_classes, self.channels = arch.name, num_classes, arch.channels
        self.init_report: dict[str, list[str]] = {"matched": [], "ignored": []}
        body = build_body(arch, public=init if is_public(init) else "")
        self.backbone = Backbone(body, pretrained=init != "random")
        self.stage_channels = tuple(body.feature_info.channels())
        self.strides = tuple(self.finest * 2**level for level in range(5))
        self.begin = (4, 8).index(self.finest)  # the pyramid stands on C2 or C3 and the rest
        extra = "pool" if self.begin == 0 else "conv"
        used = self.stage_channels[self.begin :]
        self.pyramid = Pyramid(used, arch.channels, extra=extra, norm=self.norm)

    def forward(self, images: Tensor, targets: list[Objects] | None = None) -> DetectionOutput:
        """See the class; the detector's own losses are computed where targets are given."""
        stages = self.backbone(images)
        convs, levels = self.pyramid([F.relu(x) for x in stages[self.begin :]])
        losses, regions = self.learn(levels, targets) if targets is not None else ({}, None)
        return DetectionOutput(stages, convs, levels, losses, regions, self)

    @torch.no_grad()
    def detect(self, images: Tensor, sizes: list[Size]) -> list[Detections]:
        """What is in each image.

        Args:
            images: float32 [B, 3, H, W], normalised and padded.
            sizes: height and width of each before it was padded.
        """
        levels = [level.float() for level in self(images).levels]
        return self.read(levels, sizes)

    def size(self, levels: list[Tensor]) -> Size:
        """Height and width of the padded images that levels belong to."""
        height, width = levels[0].shape[-2:]
        return height * self.strides[0], width * self.strides[0]

    @abstractmethod
    def learn(
        self, levels: list[Tensor], targets: list[Objects]
    ) -> tuple[dict[str, Tensor], Regions | None]:
        """The detector's own losses, and Faster R-CNN's regions."""

    @abstractmethod
    def read(self, levels: list[Tensor], sizes: list[Size]) -> list[Detections]:
        """Detections from the levels."""
