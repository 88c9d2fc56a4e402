"""The detectors by name: Faster and Mask R-CNN, RetinaNet from torchvision's parts, RepPoints."""

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection.retinanet import RetinaNetHead

from cwd.models.detection.base import MOST, Detector, Size
from cwd.models.detection.fasterrcnn import Anchored, FasterRCNN, anchors_of, as_dicts, stub
from cwd.models.detection.maskrcnn import MaskRCNN
from cwd.models.detection.names import CHANNELS, DetectorArchitecture, parse_detector
from cwd.models.detection.outputs import Detections, Objects, Regions
from cwd.models.detection.reppoints import RepPointsHead, group_norm
from cwd.models.segmentation import is_public
from cwd.models.weights import load_backbone
from cwd.system import paths
from cwd.system.errors import CwdError


class RetinaNet(Anchored):
    """One stage: the class of every anchor by focal loss, and its box."""

    def __init__(self, arch: DetectorArchitecture, num_classes: int, *, init: str) -> None:
        super().__init__(arch, num_classes, init=init)
        sides = [arch.anchor * 2**level for level in range(5)]
        sizes = [tuple(side * 2 ** (third / 3) for third in range(3)) for side in sides]
        self.whole = TorchvisionRetinaNet(
            stub(arch.channels),
            num_classes,
            anchor_generator=anchors_of(sizes),
            head=RetinaNetHead(arch.channels, 9, num_classes, group_norm if arch.norm else None),
            detections_per_img=MOST,
        )
        self.anchor_generator = self.whole.anchor_generator
        gain = (CHANNELS / arch.channels) ** 0.5  # 1 for the published width
        for module in self.whole.head.modules():
            if isinstance(module, nn.Conv2d):
                with torch.no_grad():  # else four narrow layers in a row give next to nothing
                    module.weight.mul_(gain)

    def answers(self, levels: list[Tensor]) -> dict[str, Tensor]:
        """The head's logits [B, A, K] and deltas [B, A, 4]."""
        return {name: value.float() for name, value in self.whole.head(levels).items()}

    def learn(
        self, levels: list[Tensor], targets: list[Objects]
    ) -> tuple[dict[str, Tensor], Regions | None]:
        """Focal loss of the classes and L1 of the boxes, torchvision's."""
        anchors = self.listed(levels, self.size(levels))
        losses = self.whole.compute_loss(as_dicts(targets, first=0), self.answers(levels), anchors)
        return {"class": losses["classification"], "box": losses["bbox_regression"]}, None

    def read(self, levels: list[Tensor], sizes: list[Size]) -> list[Detections]:
        """See `Detector.detect`."""
        counts = self.counts(levels)
        answers = {name: value.split(counts, 1) for name, value in self.answers(levels).items()}
        anchors = [image.split(counts) for image in self.listed(levels, self.size(levels))]
        found = self.whole.postprocess_detections(answers, anchors, sizes)
        return [Detections(one["boxes"], one["scores"], one["labels"]) for one in found]


class RepPoints(Detector):
    """No anchors: nine points for each position, whose spread is the box."""

    norm = staticmethod(group_norm)

    def __init__(self, arch: DetectorArchitecture, num_classes: int, *, init: str) -> None:
        super().__init__(arch, num_classes, init=init)
        self.head = RepPointsHead(arch.channels, num_classes, self.strides)

    def learn(
        self, levels: list[Tensor], targets: list[Objects]
    ) -> tuple[dict[str, Tensor], Regions | None]:
        """The losses of `RepPointsHead`."""
        return self.head.losses(self.head(levels), targets), None

    def read(self, levels: list[Tensor], sizes: list[Size]) -> list[Detections]:
        """See `Detector.detect`."""
        return self.head.detect(self.head(levels), sizes, most=MOST)


KINDS = {
    "FasterRCNN": FasterRCNN,
    "RetinaNet": RetinaNet,
    "RepPoints": RepPoints,
    "MaskRCNN": MaskRCNN,
}


def build_detector(
    name: str, num_classes: int, *, init: str = "random", device: str | None = None
) -> Detector:
    """A detector by name.

    Names are "FasterRCNN", "RetinaNet", "RepPoints" or "MaskRCNN", a dash, and timm's backbone:
    "R50" (R18 to R152), "X50-32x4d", "X101-32x4d" or "X101-64x4d"; options in parentheses, see
    `cwd.models.detection.names.parse_detector`.

    Args:
        name: which detector.
        num_classes: K, at least 1.
        init: as for `cwd.models.segmentation.build_network`; only the backbone is initialised.
        device: where to build it, torch's default device if None; "meta" allocates nothing.

    Raises:
        CwdError: the name is unknown, or the weights can't be had or don't cover the backbone.
    """
    arch = parse_detector(name)
    if num_classes < 1:
        raise CwdError(f"{name}: num_classes is {num_classes}, give at least 1.")
    with torch.device(device or torch.get_default_device()):
        detector = KINDS[arch.kind](arch, num_classes, init=init)
    if init != "random" and not is_public(init):
        detector.init_report = load_backbone(detector.backbone, paths.below_root(init), name)
    return detector
