"""Faster R-CNN from torchvision's parts, and what detectors with anchors have in common."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import MultiScaleRoIAlign

from cwd.models.detection.base import MOST, Detector, Size
from cwd.models.detection.names import REGIONS, DetectorArchitecture
from cwd.models.detection.outputs import Detections, Objects, Regions

RATIOS = (0.5, 1.0, 2.0)  # heights to widths of anchors
PROPOSALS = 2000  # of an image in training, for 512 regions
CANONICAL = 7  # a region of 7 times the smallest anchor's side is pooled from the third level


def as_dicts(targets: list[Objects], first: int) -> list[dict[str, Tensor]]:
    """Targets in torchvision's form, the classes counted from `first` on."""
    return [
        {"boxes": target.boxes, "labels": target.labels + first}
        | ({} if target.masks is None else {"masks": target.masks})
        for target in targets
    ]


def anchors_of(sizes: list[tuple[float, ...]]) -> AnchorGenerator:
    """torchvision's anchors in three shapes, of the given sizes by level, in pixels."""
    return AnchorGenerator(tuple(sizes), (RATIOS,) * len(sizes))


def stub(channels: int) -> nn.Module:
    """What torchvision's detectors get for their backbone, since only their heads are used."""
    backbone = nn.Identity()
    backbone.out_channels = channels
    return backbone


class Anchored(Detector):
    """A detector with anchors, in `anchor_generator`."""

    anchor_generator: AnchorGenerator

    def anchors(self, levels: list[Tensor], size: Size) -> list[Tensor]:
        """The anchors of an image, by level.

        Args:
            levels: of the pyramid.
            size: height and width of the padded images.

        Returns:
            Float32 [h w k, 4], in pixels, by row, column and shape.
        """
        return list(self.listed(levels, size)[0].split(self.counts(levels)))

    def counts(self, levels: list[Tensor]) -> list[int]:
        """How many anchors each level has."""
        shapes = self.anchor_generator.num_anchors_per_location()
        return [x.shape[-2] * x.shape[-1] * k for x, k in zip(levels, shapes, strict=True)]

    def listed(self, levels: list[Tensor], size: Size) -> list[Tensor]:
        """The anchors of all levels for each of B images, B times float32 [A, 4]."""
        # torchvision looks at shapes only, and gives anchors the levels' format: bfloat16, which
        # autocast makes of them, has whole pixels only from 128 on
        count, blank = len(levels[0]), levels[0].new_empty(1, dtype=torch.float32)
        maps = [blank.expand(level.shape) for level in levels]
        return self.anchor_generator(ImageList(blank.expand(count, 3, *size), [size] * count), maps)


class FasterRCNN(Anchored):
    """Two stages: proposals from anchors, then the class and box of each."""

    stages_of_detection = 2
    finest = 4

    def __init__(self, arch: DetectorArchitecture, num_classes: int, *, init: str) -> None:
        super().__init__(arch, num_classes, init=init)
        hidden = 4 * arch.channels
        heads = TorchvisionFasterRCNN(
            stub(arch.channels),
            rpn_anchor_generator=anchors_of([(arch.anchor * 2**n,) for n in range(5)]),
            box_roi_pool=self.pool(arch, 7),
            box_head=TwoMLPHead(arch.channels * 7**2, hidden),
            box_predictor=FastRCNNPredictor(hidden, num_classes + 1),
            # torchvision's numbers for its 512 regions, and in proportion
            rpn_batch_size_per_image=arch.regions // 2,
            rpn_pre_nms_top_n_train=PROPOSALS * arch.regions // REGIONS,
            rpn_post_nms_top_n_train=PROPOSALS * arch.regions // REGIONS,
            box_batch_size_per_image=arch.regions,
            box_detections_per_img=MOST,
        )
        self.rpn, self.roi_heads = heads.rpn, heads.roi_heads
        self.anchor_generator = self.rpn.anchor_generator

    def pool(self, arch: DetectorArchitecture, side: int) -> MultiScaleRoIAlign:
        """What cuts regions of `side` x `side` positions out of the levels."""
        canonical = CANONICAL * arch.anchor
        return MultiScaleRoIAlign(["0", "1", "2", "3"], side, 2, canonical_scale=canonical)

    def first_stage(self, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Objectness [A] and deltas [A, 4] over images, then levels, then anchors."""
        objectness, deltas = concat_box_prediction_layers(*self.rpn.head(levels))
        return objectness.flatten().float(), deltas.float()

    def propose(
        self,
        levels: list[Tensor],
        objectness: Tensor,
        deltas: Tensor,
        anchors: list[Tensor],
        sizes: list[Size],
    ) -> list[Tensor]:
        """Proposals of each image, float32 [R_b, 4], in pixels."""
        boxes = self.rpn.box_coder.decode(deltas.detach(), anchors).view(len(sizes), -1, 4)
        return self.rpn.filter_proposals(boxes, objectness, sizes, self.counts(levels))[0]

    def second_stage(
        self, levels: list[Tensor], proposals: list[Tensor], size: Size
    ) -> tuple[Tensor, Tensor]:
        """Logits [R, K + 1] and deltas [R, K + 1, 4] of proposals, over all images.

        Args:
            levels: of the pyramid.
            proposals: of each image, [R_b, 4].
            size: height and width of the padded images.
        """
        maps = {str(n): level.float() for n, level in enumerate(levels)}
        regions = self.roi_heads.box_roi_pool(maps, proposals, [size] * len(proposals))
        logits, deltas = self.roi_heads.box_predictor(self.roi_heads.box_head(regions))
        return logits.float(), deltas.float().unflatten(1, (-1, 4))

    def learn(
        self, levels: list[Tensor], targets: list[Objects]
    ) -> tuple[dict[str, Tensor], Regions | None]:
        """The losses of both stages, torchvision's; and what they were computed of."""
        size, wanted = self.size(levels), as_dicts(targets, first=1)  # 0 is the background
        objectness, deltas = self.first_stage(levels)
        anchors = self.listed(levels, size)
        sizes = [size] * len(targets)
        labels, matched = self.rpn.assign_targets_to_anchors(anchors, wanted)
        delta_targets = torch.cat(self.rpn.box_coder.encode(matched, anchors))
        drawn = self.rpn.fg_bg_sampler(labels)
        positive, negative = (torch.cat(part).nonzero()[:, 0] for part in drawn)
        anchor_labels, sampled = torch.cat(labels), torch.cat([positive, negative])
        first_box = F.smooth_l1_loss(
            deltas[positive], delta_targets[positive], beta=1 / 9, reduction="sum"
        )
        first_class = F.binary_cross_entropy_with_logits(
            objectness[sampled], anchor_labels[sampled]
        )

        proposals = self.propose(levels, objectness, deltas, anchors, sizes)
        proposals, matched, classes, box_targets = self.roi_heads.select_training_samples(
            proposals, wanted
        )
        logits, box_deltas = self.second_stage(levels, proposals, size)
        second_class, second_box = fastrcnn_loss(
            logits, box_deltas.flatten(1), classes, box_targets
        )
        losses = {
            "RPN_class": first_class,
            "RPN_box": first_box / len(sampled),
            "class": second_class,
            "box": second_box,
        }
        regions = Regions(
            objectness,
            deltas,
            sampled,
            positive,
            delta_targets,
            anchor_labels,
            proposals,
            logits,
            box_deltas,
            torch.cat(classes),
            torch.cat(box_targets),
            matched,
        )
        return losses, regions

    def read(self, levels: list[Tensor], sizes: list[Size]) -> list[Detections]:
        """See `Detector.detect`."""
        size = self.size(levels)
        anchors = self.listed(levels, size)
        proposals = self.propose(levels, *self.first_stage(levels), anchors, sizes)
        logits, deltas = self.second_stage(levels, proposals, size)
        found = self.roi_heads.postprocess_detections(logits, deltas.flatten(1), proposals, sizes)
        return [
            Detections(boxes, scores, labels - 1)
            for boxes, scores, labels in zip(*found, strict=True)
        ]
