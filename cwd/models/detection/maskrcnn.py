"""Mask R-CNN: Faster R-CNN, and torchvision's branch that finds the mask of every box."""

from torch import Tensor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import maskrcnn_inference, maskrcnn_loss

from cwd.models.detection.base import Learnt, Size
from cwd.models.detection.fasterrcnn import FasterRCNN
from cwd.models.detection.outputs import Detections, Objects
from cwd.models.names import Architecture
from cwd.system.errors import CwdError

SIDE = 14  # positions to a side of a region; its mask has twice as many
LAYERS = 4  # convolutions on it


class MaskRCNN(FasterRCNN):
    """Two stages as in Faster R-CNN; beside the class and the box a mask of each class."""

    def __init__(self, arch: Architecture, num_classes: int, *, init: str = "random") -> None:
        super().__init__(arch, num_classes, init=init)
        width = arch.fpn
        self.roi_heads.mask_roi_pool = self.pool(arch, SIDE)
        self.roi_heads.mask_head = MaskRCNNHeads(width, (width,) * LAYERS, dilation=1)
        self.roi_heads.mask_predictor = MaskRCNNPredictor(width, width, num_classes + 1)

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
        losses["mask"] = maskrcnn_loss(
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
        masks = maskrcnn_inference(logits, [one.labels + 1 for one in found])
        return [one._replace(masks=mask[:, 0]) for one, mask in zip(found, masks, strict=True)]
