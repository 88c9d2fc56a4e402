"""What detectors are given and what they give."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Objects(NamedTuple):
    """The annotated objects of an image.

    Attributes:
        boxes: float32 [N, 4]: left, top, right, bottom in pixels, right > left and bottom > top.
        labels: int64 [N], classes from 0.
        area: float32 [N], pixels of each object's mask, by which COCO calls it small or large.
        crowd: bool [N], a crowd that is neither to be found nor to be missed.
        masks: uint8 [N, H, W], 1 on the object; None where they weren't asked for.
    """

    boxes: Tensor
    labels: Tensor
    area: Tensor
    crowd: Tensor
    masks: Tensor | None = None

    def to(self, device: torch.device | str) -> "Objects":
        """The same on a device."""
        return Objects(*(None if part is None else part.to(device) for part in self))

    def keep(self, chosen: Tensor | slice) -> "Objects":
        """Those that a mask [N], an index [M] or a slice chooses."""
        return Objects(*(None if part is None else part[chosen] for part in self))


class Detections(NamedTuple):
    """What a detector found in an image, the surest first.

    Attributes:
        boxes: float32 [M, 4]: left, top, right, bottom in pixels.
        scores: float32 [M], from 0 to 1.
        labels: int64 [M], classes from 0.
        masks: Mask R-CNN's, where each box is filled, float32 [M, 28, 28] from 0 to 1; once
            evaluated, pycocotools' encodings of the whole image; None of other detectors.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | list[dict[str, Any]] | None = None


class Regions(NamedTuple):
    """What the two stages of Faster or Mask R-CNN said of the regions that they were trained on.

    A anchors over all B images and levels, R sampled proposals over all images, K classes and the
    background, which is class 0 here.
    """

    objectness: Tensor  # float32 [A], logits
    deltas: Tensor  # float32 [A, 4], the first stage's boxes relative to the anchors
    sampled: Tensor  # int64 [S], which anchors were trained on
    positive: Tensor  # int64 [P], those of them that belong to an object
    delta_targets: Tensor  # float32 [A, 4], what the deltas of positive anchors should be
    anchor_labels: Tensor  # float32 [A], 1 for an object, 0 for background, -1 for neither
    proposals: list[Tensor]  # B of float32 [R_b, 4], in pixels
    logits: Tensor  # float32 [R, K + 1]
    box_deltas: Tensor  # float32 [R, K + 1, 4], for every class
    labels: Tensor  # int64 [R], from 1 for objects
    box_targets: Tensor  # float32 [R, 4]
    matched: list[Tensor] | None = None  # B of int64 [R_b], the object nearest to each proposal


class DetectionOutput(NamedTuple):
    """What a detector gives for a batch: maps [B, C_l, h_l, w_l], the finest first, and losses."""

    stages: list[Tensor]  # the backbone's C2 to C5 before their last ReLU
    convs: list[Tensor]  # the pyramid's levels as its convolutions give them: CW_fpn's tap
    levels: list[Tensor]  # as the heads see them, after the norm where the pyramid has one
    losses: dict[str, Tensor]  # the detector's own terms by name; empty without targets
    regions: Regions | None  # those of two stages, if there were targets
    source: nn.Module  # the detector; no part of the output, but some losses ask it for more
