"""Backbones by name: timm's at output stride 8, and torchvision's two whole networks."""

import re
from dataclasses import dataclass
from typing import Any

import timm
import torchvision
from torch import Tensor, nn

from cwd.models.heads import AtrousPyramid, PyramidPooling, auxiliary_head
from cwd.system.errors import CwdError

OUTPUT_STRIDE = 8  # pixels of the image to a side of a position in the maps
STAGES = (64, 128, 256, 512)  # channels of a ResNet's stages before expansion
HEADS = {"PSPNet": PyramidPooling, "Deeplab": AtrousPyramid}  # by a name's first word
# channels of the feature map by head and backbone (Table 6's parameters and multiply-adds)
SHALLOW, DEEP = (18, 34), (50, 101, 152)
WIDTHS = {
    **{f"R{depth}": {"PSPNet": 128, "Deeplab": 128} for depth in SHALLOW},
    **{f"R{depth}": {"PSPNet": 512, "Deeplab": 512} for depth in DEEP},
    "MBV2": {"PSPNet": 32, "Deeplab": 128},
}
# heads that torchvision brings along with their backbone, and the channels of their feature map
TORCHVISION = {"FCN": ("fcn", 512), "DeepLabV3": ("deeplabv3", 256)}
TORCHVISION_DEPTHS = (50, 101)
# ImageNet weights: public ones whose stem is the authors' (three 3x3 convolutions: 64, 64, 128)
IMAGENET = {f"R{depth}": f"resnet{depth}s.gluon_in1k" for depth in DEEP}
# and those with a plain 7x7 stem
PLAIN = {f"R{depth}": f"resnet{depth}.tv_in1k" for depth in (*SHALLOW, *DEEP)}
# timm's MobileNetV2 by width, and the training of its ImageNet weights
MOBILENETS = {0.35: "035", 0.5: "050", 0.75: "075", 1.0: "100", 1.4: "140"}
TIMM = "timm:"  # how `init` says that a name of timm's follows
MOBILENET_WEIGHTS = {0.5: "lamb_in1k", 1.0: "ra_in1k", 1.4: "ra_in1k"}


@dataclass(frozen=True)
class Architecture:
    """What a network's name says.

    Attributes:
        name: the whole name.
        head: "PSPNet", "Deeplab", "FCN" or "DeepLabV3".
        backbone: "R18" and so on, or "MBV2".
        factor: of every width.
        stem: a ResNet's: "deep", as the authors', or "plain", as torchvision's.
    """

    name: str
    head: str
    backbone: str
    factor: float = 1.0
    stem: str = "deep"

    @property
    def width(self) -> int:
        """Channels of the feature map, and of the auxiliary head."""
        if self.head in TORCHVISION:
            return TORCHVISION[self.head][1]
        return round(WIDTHS[self.backbone][self.head] * self.factor)


def parse_name(name: str) -> Architecture:
    """Read a name such as "PSPNet-R18", "Deeplab-MBV2(0.5)" or "PSPNet-R18(0.5, stem=plain)".

    Raises:
        CwdError: there is no such network, or not in that width.
    """
    match = re.fullmatch(r"(\w+)-(R[0-9]+|MBV2)(?:\(([^()]*)\))?", name)
    head, backbone, options = match.groups() if match else ("", "", "")
    whole = head in TORCHVISION and backbone in [f"R{d}" for d in TORCHVISION_DEPTHS]
    if not whole and (head not in HEADS or backbone not in WIDTHS):
        known = [f"{h}-{b}" for h in HEADS for b in WIDTHS]
        known += [f"{h}-R{d}" for h in TORCHVISION for d in TORCHVISION_DEPTHS]
        raise CwdError(
            f"there is no network {name!r}: use {', '.join(known)}, or with a width, "
            "PSPNet-R18(0.5)."
        )
    given: dict[str, str] = {}
    for item in filter(None, (piece.strip() for piece in (options or "").split(","))):
        key, equals, value = item.partition("=")
        key, value = (key.strip(), value.strip()) if equals else ("width", item)
        allowed = () if whole else ("width", "stem") if backbone != "MBV2" else ("width",)
        if key not in allowed or key in given:
            can = " or ".join({"width": "a width", "stem": "stem=plain"}[k] for k in allowed)
            raise CwdError(f"{name}: {item!r} can't stand in parentheses; {can or 'nothing'} can.")
        given[key] = value
    if given.get("stem", "plain") not in ("deep", "plain"):
        raise CwdError(
            f"{name}: the stem {given['stem']} is unknown: write stem=plain or leave it."
        )
    factor = check_width(name, backbone, given["width"]) if "width" in given else 1.0
    return Architecture(name, head, backbone, factor, given.get("stem", "deep"))


def check_width(name: str, backbone: str, text: str) -> float:
    """The factor of all widths; raises as `parse_name`."""
    factor = float(text) if re.fullmatch(r"[0-9]*\.?[0-9]+", text, re.ASCII) else 0.0
    if backbone == "MBV2" and factor not in MOBILENETS:
        known = ", ".join(map(str, MOBILENETS))
        raise CwdError(f"{name}: MobileNetV2 has no width {text}: use one of {known}.")
    if backbone != "MBV2" and (not 0 < factor <= 8 or (STAGES[0] * factor) % 8):
        raise CwdError(f"{name}: the width {text} must be a multiple of 0.125, 0.125 to 8.")
    return factor


def imagenet_weights(arch: Architecture) -> str | None:
    """timm's name of public ImageNet weights with this structure; None if there are none."""
    if arch.backbone == "MBV2":
        training = MOBILENET_WEIGHTS.get(arch.factor)
        return training and f"mobilenetv2_{MOBILENETS[arch.factor]}.{training}"
    weights = PLAIN if arch.stem == "plain" else IMAGENET
    return weights.get(arch.backbone) if arch.factor == 1 else None


def build_backbone(arch: Architecture, *, public: str = "") -> nn.Module:
    """timm's backbone at output stride 8; its third and fourth stage come out.

    Args:
        arch: which; not one of torchvision's.
        public: weights that it starts from: "imagenet", or "timm:" and a name of timm's; random if
            empty.

    Raises:
        CwdError: there are no such weights of this structure, or they can't be had.
    """
    settings = {
        "features_only": True,
        "output_stride": OUTPUT_STRIDE,
        "out_indices": (3, 4),
    }
    if arch.backbone == "MBV2":
        model = f"mobilenetv2_{MOBILENETS[arch.factor]}"
    else:
        model = f"resnet{arch.backbone[1:]}"
        settings["channels"] = tuple(round(c * arch.factor) for c in STAGES)
        if arch.stem == "deep":
            settings |= {"stem_type": "deep", "stem_width": round(64 * arch.factor)}
        elif arch.factor != 1:
            raise CwdError(f"{arch.name}: timm's plain stem has one width: leave the factor out.")
    weights = imagenet_weights(arch) if public == "imagenet" else public.removeprefix(TIMM)
    if weights is None:
        raise CwdError(
            f"{arch.name}: no public ImageNet weights have its structure; give init the path of a "
            "local file instead (see data/README.md)."
        )
    backbone = from_timm(arch.name, model, weights, **settings)
    if arch.backbone != "MBV2":
        backbone.maxpool.ceil_mode = True  # as the authors': a 512 crop gives 65x65 maps
    return backbone


def from_timm(name: str, model: str, weights: str, **settings: Any) -> nn.Module:
    """One of timm's models, with public weights that fit all of it or, if empty, random ones.

    Args:
        name: of the network that it is for.
        model: timm's name of the model.
        weights: timm's name of the weights.
        settings: for `timm.create_model`.

    Raises:
        CwdError: the weights can't be had, or are of another structure.
    """
    backbone = timm.create_model(model, pretrained=False, **settings)
    if weights:
        try:
            pretrained = timm.create_model(weights, pretrained=True, **settings)
            backbone.load_state_dict(pretrained.state_dict())  # of this structure, all of it
        except Exception as error:  # each way of not reaching a server has its own exception
            raise unreachable(name, f"timm's weights {weights}", error) from error
    return backbone


def unreachable(name: str, what: str, error: Exception) -> CwdError:
    """The sentence for weights that could not be downloaded."""
    return CwdError(
        f"{name}: {what} can't be had, or have another structure ({type(error).__name__}): "
        "connect to a network, or give init the path of a local file with weights that fit."
    )


class TorchvisionBackbone(nn.Module):
    """The backbone of one of torchvision's segmentation networks, in timm's manner.

    Args:
        body: torchvision's, gives its last two stages by name.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps of the third and fourth stage, both at output stride 8."""
        maps = self.body(images)
        return [maps["aux"], maps["out"]]


Parts = tuple[nn.Module, nn.Module, nn.Module, nn.Module | None]


def build_parts(arch: Architecture, num_classes: int, *, public: str = "") -> Parts:
    """Backbone, head, classifier and auxiliary head (MobileNetV2 has none).

    Arguments and errors are `build_backbone`'s.
    """
    if public == TIMM or (public.startswith(TIMM) and arch.head in TORCHVISION):
        raise CwdError(
            f"{arch.name}: init {public} names no weights for it: use imagenet, or the path of a "
            "local file."
        )
    if arch.head in TORCHVISION:
        return torchvision_parts(arch, num_classes, pretrained=public == "imagenet")
    backbone = build_backbone(arch, public=public)
    third, fourth = backbone.feature_info.channels()
    head = HEADS[arch.head](fourth, arch.width)
    classifier = nn.Conv2d(arch.width, num_classes, 1)
    aux = None if arch.backbone == "MBV2" else auxiliary_head(third, arch.width, num_classes)
    return backbone, head, classifier, aux


def torchvision_parts(arch: Architecture, num_classes: int, *, pretrained: bool) -> Parts:
    """The same of torchvision's FCN or DeepLabV3; the feature map is what its classifier sees."""
    prefix = TORCHVISION[arch.head][0]
    build = getattr(torchvision.models.segmentation, f"{prefix}_resnet{arch.backbone[1:]}")
    weights = "IMAGENET1K_V1" if pretrained else None
    try:
        whole = build(
            weights=None, weights_backbone=weights, num_classes=num_classes, aux_loss=True
        )
    except Exception as error:
        if not pretrained:
            raise
        raise unreachable(arch.name, f"torchvision's weights {weights}", error) from error
    *head, classifier = whole.classifier
    return (
        TorchvisionBackbone(whole.backbone),
        nn.Sequential(*head),
        classifier,
        (whole.aux_classifier),
    )
