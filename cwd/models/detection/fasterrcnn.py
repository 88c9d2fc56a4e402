"""Faster and Mask R-CNN from torchvision's parts."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection import roi_heads
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import MultiScaleRoIAlign

from cwd.models.detection.base import MOST, Anchored, Learnt, Size, anchors_of, as_dicts, stub
from cwd.models.detection.outputs import Detections, Objects, Regions
from cwd.models.names import Architecture
from cwd.system.errors import CwdError

PROPOSALS = 2000  # of an image in training, for 512 regions
Stage = tuple[Tensor, Tensor]  # a stage's logits, and the boxes relative to what it looked at
CANONICAL = 7  # a region of 7 times the smallest anchor's side is pooled from the third level
MASK_SIDE = 14  # positions to a side of a region for its mask, which has twice as many
MASK_LAYERS = 4  # convolutions on it


class FasterRCNN(Anchored):
    """Two stages: proposals from anchors, then the class and box of each."""

    stages_of_detection = 2
    finest = 4

    def __init__(self, arch: Architecture, num_classes: int, *, init: str = "random") -> None:
        super().__init__(arch, num_classes, init=init)
        hidden, proposals = 4 * arch.fpn, PROPOSALS * arch.regions // 512
        heads = TorchvisionFasterRCNN(
            stub(arch.fpn),
            rpn_anchor_generator=anchors_of([(arch.anchor * 2**n,) for n in range(5)]),
            box_roi_pool=self.pool(arch, 7),
            box_head=TwoMLPHead(arch.fpn * 7**2, hidden),
            box_predictor=FastRCNNPredictor(hidden, num_classes + 1),
            # torchvision's numbers for its 512 regions, and in proportion
            rpn_batch_size_per_image=arch.regions // 2,
            rpn_pre_nms_top_n_train=proposals,
            rpn_post_nms_top_n_train=proposals,
            box_batch_size_per_image=arch.regions,
            box_detections_per_img=MOST,
        )
        self.rpn, self.roi_heads = heads.rpn, heads.roi_heads
        self.anchor_generator = self.rpn.anchor_generator

    def pool(self, arch: Architecture, side: int) -> MultiScaleRoIAlign:
        """What cuts regions of `side` x `side` positions out of the levels."""
        canonical = CANONICAL * arch.anchor
        return MultiScaleRoIAlign(["0", "1", "2", "3"], side, 2, canonical_scale=canonical)

    def first_stage(self, levels: list[Tensor]) -> Stage:
        """Objectness [A] and deltas [A, 4] over images, then levels, then anchors."""
        objectness, deltas = concat_box_prediction_layers(*self.rpn.head(levels))
        return objectness.flatten().float(), deltas.float()

    def propose(
        self, levels: list[Tensor], first: Stage, anchors: list[Tensor], sizes: list[Size]
    ) -> list[Tensor]:
        """Proposals of each image, float32 [R_b, 4], in pixels, from the first stage's answer."""
        objectness, deltas = first
        boxes = self.rpn.box_coder.decode(deltas.detach(), anchors).view(len(sizes), -1, 4)
        return self.rpn.filter_proposals(boxes, objectness, sizes, self.counts(levels))[0]

    def second_stage(self, levels: list[Tensor], proposals: list[Tensor], size: Size) -> Stage:
        """Logits [R, K + 1] and deltas [R, K + 1, 4] of each image's [R_b, 4] in padded images."""
        maps = {str(n): level.float() for n, level in enumerate(levels)}
        regions = self.roi_heads.box_roi_pool(maps, proposals, [size] * len(proposals))
        logits, deltas = self.roi_heads.box_predictor(self.roi_heads.box_head(regions))
        return logits.float(), deltas.float().unflatten(1, (-1, 4))

    def learn(self, levels: list[Tensor], targets: list[Objects]) -> Learnt:
        """The losses of both stages, torchvision's; and what they were computed of."""
        size, wanted = self.size(levels), as_dicts(targets, first=1)  # 0 is the background
        (objectness, deltas), anchors = self.first_stage(levels), self.listed(levels, size)
        labels, nearest = self.rpn.assign_targets_to_anchors(anchors, wanted)
        delta_targets = torch.cat(self.rpn.box_coder.encode(nearest, anchors))
        drawn = self.rpn.fg_bg_sampler(labels)
        positive, negative = (torch.cat(part).nonzero()[:, 0] for part in drawn)
        anchor_labels, sampled = torch.cat(labels), torch.cat([positive, negative])
        found = F.binary_cross_entropy_with_logits(objectness[sampled], anchor_labels[sampled])
        moved = F.smooth_l1_loss(
            deltas[positive], delta_targets[positive], beta=1 / 9, reduction="sum"
        )
        losses = {"RPN_class": found, "RPN_box": moved / len(sampled)}
        first = objectness, deltas, sampled, positive, delta_targets, anchor_labels

        proposals = self.propose(levels, (objectness, deltas), anchors, [size] * len(targets))
        proposals, matched, classes, box_targets = self.roi_heads.select_training_samples(
            proposals, wanted
        )
        logits, box_deltas = self.second_stage(levels, proposals, size)
        losses["class"], losses["box"] = roi_heads.fastrcnn_loss(
            logits, box_deltas.flatten(1), classes, box_targets
        )
        second = logits, box_deltas, torch.cat(classes), torch.cat(box_targets)
        return losses, Regions(*first, proposals, *second, matched)

    def read(self, levels: list[Tensor], sizes: list[Size]) -> list[Detections]:
        size = self.size(levels)
        first, anchors = self.first_stage(levels), self.listed(levels, size)
        proposals = self.propose(levels, first, anchors, sizes)
        logits, deltas = self.second_stage(levels, proposals, size)
        found = self.roi_heads.postprocess_detections(logits, deltas.flatten(1), proposals, sizes)
        return [Detections(box, score, label - 1) for box, score, label in zip(*found, strict=True)]


class MaskRCNN(FasterRCNN):
    """Two stages as in Faster R-CNN; beside the class and the box a mask of each class."""

    def __init__(self, arch: Architecture, num_classes: int, *, init: str = "random") -> None:
        super().__init__(arch, num_classes, init=init)
        self.roi_heads.mask_roi_pool = self.pool(arch, MASK_SIDE)
        self.roi_heads.mask_head = MaskRCNNHeads(arch.fpn, (arch.fpn,) * MASK_LAYERS, dilation=1)
        self.roi_heads.mask_predictor = MaskRCNNPredictor(arch.fpn, arch.fpn, num_classes + 1)

    def mask_logits(self, levels: list[Tensor], boxes: list[Tensor], size: Size) -> Tensor:
        """Logits, float32 [R, K + 1, 28, 28], of each image's boxes [R_b, 4] in padded images."""
        heads, maps = self.roi_heads, {str(n): level.float() for n, level in enumerate(levels)}
        regions = heads.mask_roi_pool(maps, boxes, [size] * len(boxes))
        return heads.mask_predictor(heads.mask_head(regions)).float()

    def learn(self, levels: list[Tensor], targets: list[Objects]) -> Learnt:
        """Faster R-CNN's losses, and the masks' on those proposals that belong to an object.

        Raises:
            CwdError: the targets have no masks.
        """
        if any(target.masks is None for target in targets):
            raise CwdError(
                f"{self.name} learns masks and there are none in its targets: open the dataset "
                "with masks=True."
            )
        losses, regions = super().learn(levels, targets)
        counts = [len(boxes) for boxes in regions.proposals]
        positive = [labels > 0 for labels in regions.labels.split(counts)]
        boxes, matched = (
            [part[chosen] for part, chosen in zip(parts, positive, strict=True)]
            for parts in (regions.proposals, regions.matched)
        )
        losses["mask"] = roi_heads.maskrcnn_loss(
            self.mask_logits(levels, boxes, self.size(levels)),
            boxes,
            [target.masks for target in targets],
            [target.labels + 1 for target in targets],
            matched,
        )
        return losses, regions

    def read(self, levels: list[Tensor], sizes: list[Size]) -> list[Detections]:
        """See `Detector.detect`; the masks are those of the boxes' classes."""
        found = super().read(levels, sizes)
        logits = self.mask_logits(levels, [one.boxes for one in found], self.size(levels))
        masks = roi_heads.maskrcnn_inference(logits, [one.labels + 1 for one in found])
        return [one._replace(masks=mask[:, 0]) for one, mask in zip(found, masks, strict=True)]
