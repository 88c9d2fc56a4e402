"""RetinaNet from torchvision's parts."""

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection.retinanet import RetinaNetHead

from cwd.models.detection.base import MOST, Anchored, Learnt, Size, anchors_of, as_dicts, stub
from cwd.models.detection.outputs import Detections, Objects
from cwd.models.detection.reppoints import group_norm
from cwd.models.names import Architecture


class RetinaNet(Anchored):
    """One stage: the class of every anchor by focal loss, and its box."""

    def __init__(self, arch: Architecture, num_classes: int, *, init: str = "random") -> None:
        super().__init__(arch, num_classes, init=init)
        sizes = [tuple(arch.anchor * 2**n * 2 ** (i / 3) for i in range(3)) for n in range(5)]
        self.whole = TorchvisionRetinaNet(
            stub(arch.fpn),
            num_classes,
            anchor_generator=anchors_of(sizes),
            head=RetinaNetHead(arch.fpn, 9, num_classes, group_norm if arch.norm else None),
            detections_per_img=MOST,
        )
        self.anchor_generator = self.whole.anchor_generator
        gain = (256 / arch.fpn) ** 0.5  # 1 for the published width
        for module in self.whole.head.modules():
            if isinstance(module, nn.Conv2d):
                with torch.no_grad():  # else four narrow layers in a row give next to nothing
                    module.weight.mul_(gain)

    def answers(self, levels: list[Tensor]) -> dict[str, Tensor]:
        """The head's logits [B, A, K] and deltas [B, A, 4]."""
        return {name: value.float() for name, value in self.whole.head(levels).items()}

    def learn(self, levels: list[Tensor], targets: list[Objects]) -> Learnt:
        """Focal loss of the classes and L1 of the boxes, torchvision's."""
        anchors = self.listed(levels, self.size(levels))
        losses = self.whole.compute_loss(as_dicts(targets, first=0), self.answers(levels), anchors)
        return {"class": losses["classification"], "box": losses["bbox_regression"]}, None

    def read(self, levels: list[Tensor], sizes: list[Size]) -> list[Detections]:
        counts = self.counts(levels)
        answers = {name: value.split(counts, 1) for name, value in self.answers(levels).items()}
        anchors = [image.split(counts) for image in self.listed(levels, self.size(levels))]
        found = self.whole.postprocess_detections(answers, anchors, sizes)
        return [Detections(one["boxes"], one["scores"], one["labels"]) for one in found]
