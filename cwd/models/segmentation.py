"""The paper's networks: backbone, head, classifier and auxiliary head."""

from typing import NamedTuple

from torch import Tensor, nn
from torchvision.models import segmentation as torchvisions

from cwd.models.backbones import build_body, unavailable
from cwd.models.heads import AtrousPyramid, PyramidPooling, auxiliary_head
from cwd.models.names import LITES, RESNETS, Architecture
from cwd.models.weights import TIMM
from cwd.system.distributed import processes
from cwd.system.errors import CwdError

OUTPUT_STRIDE = 8  # pixels of the image to a side of a position in the maps
HEADS = {"PSPNet": PyramidPooling, "Deeplab": AtrousPyramid}
TORCHVISION = ("FCN", "DeepLabV3")  # heads that torchvision brings along with their backbone
# channels of the feature map at full width (with Table 6's parameters and multiply-adds)
WIDTHS = {"R18": 128, "R34": 128, "R50": 512, "R101": 512, "R152": 512, "MBV2": 128}
WIDTHS |= {"PSPNet-MBV2": 32} | dict.fromkeys(LITES, 128)
Parts = tuple[nn.Module, nn.Module, nn.Module, nn.Module | None]


class SegmentationOutput(NamedTuple):
    """What a network gives.

    Attributes:
        score: score map [B, K, h, w] at output stride 8, K classes.
        feature: feature map [B, C, h, w], what the classifier sees: CW_f's tap.
        aux_score: the auxiliary head's score map [B, K, h, w]; None in eval mode, and where there
            is no such head.
        backbone: the backbone's last stage [B, C', h, w], which the head sees: the tap of MGD.
    """

    score: Tensor
    feature: Tensor
    aux_score: Tensor | None
    backbone: Tensor | None = None


class SegmentationNetwork(nn.Module):
    """A backbone, a head, a classifier, and mostly an auxiliary head on the third stage.

    Arguments as in `cwd.models.build.build_network`; `feature_channels` is C of the feature map
    and `backbone_channels` C' of the backbone's last stage.

    Shape:
        Normalised images [B, 3, H, W] to a `SegmentationOutput`.
    """

    def __init__(self, arch: Architecture, num_classes: int, *, init: str = "random") -> None:
        super().__init__()
        self.name, self.num_classes = arch.name, num_classes
        parts = _torchvisions if arch.head in TORCHVISION else _ours
        self.backbone, self.head, self.classifier, self.aux_head = parts(arch, num_classes, init)
        self.feature_channels = self.classifier.in_channels
        first = next(layer for layer in self.head.modules() if isinstance(layer, nn.Conv2d))
        self.backbone_channels = first.in_channels

    def forward(self, images: Tensor) -> SegmentationOutput:
        """See the class.

        Raises:
            CwdError: a single image in training, where the pyramid's 1x1 map has no variance.
        """
        if self.training and processes() * len(images) == 1:
            raise CwdError("batch norm can't train on a batch of 1: use a batch of at least 2.")
        third, fourth = self.backbone(images)
        feature = self.head(fourth)  # [B, C, h, w]
        score = self.classifier(feature)  # [B, K, h, w]
        auxiliary = self.aux_head(third) if self.training and self.aux_head else None
        return SegmentationOutput(score, feature, auxiliary, fourth)


def _ours(arch: Architecture, num_classes: int, init: str) -> Parts:
    """PSPNet's or Deeplab's parts; only ResNets have an auxiliary head (Table 6 on MobileNetV2)."""
    backbone = build_body(
        arch, init=init, features_only=True, output_stride=OUTPUT_STRIDE, out_indices=(3, 4)
    )
    if arch.backbone in RESNETS:
        backbone.maxpool.ceil_mode = True  # as the authors': a 512 crop gives 65x65 maps
    third, fourth = backbone.feature_info.channels()
    full = WIDTHS.get(f"{arch.head}-{arch.backbone}", WIDTHS[arch.backbone])
    width = round(full * arch.width)
    head, classifier = HEADS[arch.head](fourth, width), nn.Conv2d(width, num_classes, 1)
    aux = auxiliary_head(third, width, num_classes) if arch.backbone in RESNETS else None
    return backbone, head, classifier, aux


class TorchvisionBackbone(nn.Module):
    """The backbone of one of torchvision's networks, giving the third and fourth stage's maps."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images [B, 3, H, W] to two maps [B, C, H / 8, W / 8]."""
        maps = self.body(images)
        return [maps["aux"], maps["out"]]


def _torchvisions(arch: Architecture, num_classes: int, init: str) -> Parts:
    """The parts of torchvision's FCN or DeepLabV3, whose last layer is our classifier."""
    if init.startswith(TIMM):
        raise unavailable(arch.name, f"init {init}")
    build = getattr(torchvisions, f"{arch.head.lower()}_resnet{arch.backbone[1:]}")
    weights = "IMAGENET1K_V1" if init == "imagenet" else None
    try:
        whole = build(weights_backbone=weights, num_classes=num_classes, aux_loss=True)
    except Exception as error:
        if not weights:
            raise
        raise unavailable(arch.name, f"torchvision's weights {weights}", error) from error
    backbone, (*head, classifier) = TorchvisionBackbone(whole.backbone), whole.classifier
    return backbone, nn.Sequential(*head), classifier, whole.aux_classifier
