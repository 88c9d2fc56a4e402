"""Detectors by name: what "FasterRCNN-R50" and "RetinaNet-R18(0.25, fpn=64)" say."""

import re
from dataclasses import dataclass

from torch import nn

from cwd.models.backbones import DEEP, PLAIN, SHALLOW, STAGES, TIMM, check_width, from_timm
from cwd.system.errors import CwdError

DETECTORS = ("FasterRCNN", "RetinaNet", "RepPoints", "MaskRCNN")
MASKED = ("MaskRCNN",)  # those that find masks too
TWO_STAGES = ("FasterRCNN", *MASKED)
# timm's ResNeXts and their public ImageNet weights
RESNEXTS = {
    "X50-32x4d": "resnext50_32x4d.tv_in1k",
    "X101-32x4d": "resnext101_32x4d.gluon_in1k",
    "X101-64x4d": "resnext101_64x4d.tv_in1k",
}
BACKBONES = (*(f"R{depth}" for depth in (*SHALLOW, *DEEP)), *RESNEXTS)
CHANNELS = 256  # of every level of the pyramid
ANCHOR = 32  # pixels to a side of the smallest anchors, at the finest level
REGIONS = 512  # of an image that a second stage is trained on


@dataclass(frozen=True)
class DetectorArchitecture:
    """What a detector's name says.

    Attributes:
        name: the whole name.
        kind: one of `DETECTORS`.
        backbone: "R50", "X101-32x4d" and so on.
        factor: of the backbone's widths.
        channels: of every level of the pyramid, and of the heads.
        anchor: pixels to a side of the smallest anchors; RepPoints has none.
        regions: of an image that the second stage is trained on, where there is one.
        norm: "group" for group norm in RetinaNet's head, without which it hardly learns from random
            weights; the published one, empty, has none.
    """

    name: str
    kind: str
    backbone: str
    factor: float = 1.0
    channels: int = CHANNELS
    anchor: int = ANCHOR
    regions: int = REGIONS
    norm: str = ""


def is_detector(name: str) -> bool:
    """Whether a network's name is meant to be a detector's."""
    return name.partition("-")[0] in DETECTORS


def has_masks(name: str) -> bool:
    """Whether a network finds masks of objects, by its name."""
    return name.partition("-")[0] in MASKED


def parse_detector(name: str) -> DetectorArchitecture:
    """Read a detector's name.

    In parentheses may stand a factor of the backbone's widths, `fpn=` channels of the pyramid and
    the heads, `anchor=` pixels of the smallest anchors and `regions=`, see the class.

    Raises:
        CwdError: there is no such detector, or not in that width.
    """
    match = re.fullmatch(r"([^-]+)-([^()]+)(?:\(([^()]*)\))?", name)
    kind, backbone, options = match.groups() if match else ("", "", "")
    if kind not in DETECTORS or backbone not in BACKBONES:
        known = f"{', '.join(DETECTORS)} with one of {', '.join(BACKBONES)}"
        raise CwdError(f"there is no detector {name!r}: use {known}, such as RetinaNet-R50.")
    given: dict[str, str] = {}
    for item in filter(None, (piece.strip() for piece in (options or "").split(","))):
        key, equals, value = (piece.strip() for piece in item.partition("="))
        if not equals:
            key, value = "factor", item
        whole = value.isdecimal() and int(value) > 0
        allowed = {
            "factor": backbone not in RESNEXTS,
            "fpn": whole and int(value) % 8 == 0,
            "anchor": whole and kind != "RepPoints",
            "regions": whole and int(value) >= 8 and kind in TWO_STAGES,
            "norm": value == "group" and kind == "RetinaNet",
        }
        if key in given or not allowed.get(key if equals else "factor"):
            raise CwdError(
                f"{name}: {item!r} can't stand in parentheses: a ResNet's width can, such as 0.25, "
                "fpn=64 (a multiple of 8), anchor=16 where there are anchors, regions=64 of "
                "Faster and Mask R-CNN, and RetinaNet's norm=group, each once."
            )
        given[key] = value
    factor = check_width(name, backbone, given["factor"]) if "factor" in given else 1.0
    return DetectorArchitecture(
        name,
        kind,
        backbone,
        factor,
        int(given.get("fpn", CHANNELS)),
        int(given.get("anchor", ANCHOR)),
        int(given.get("regions", REGIONS)),
        given.get("norm", ""),
    )


def build_body(arch: DetectorArchitecture, *, public: str = "") -> nn.Module:
    """timm's residual network, whose four stages are used.

    Full-width networks have the plain stem of torchvision's weights, which mmdetection starts from;
    narrower ones, which no public weights fit, a deep stem that is as narrow.

    Args:
        arch: which.
        public: weights that it starts from: "imagenet", or "timm:" and a name of timm's; random if
            empty.

    Raises:
        CwdError: there are no such weights of this structure, or they can't be had.
    """
    settings = {"features_only": True, "out_indices": (1, 2, 3, 4)}
    known = RESNEXTS.get(arch.backbone) or PLAIN[arch.backbone]
    if arch.factor != 1:
        settings["channels"] = tuple(round(width * arch.factor) for width in STAGES)
        settings |= {"stem_type": "deep", "stem_width": round(64 * arch.factor)}
        known = None
    weights = known if public == "imagenet" else public.removeprefix(TIMM)
    if weights is None or public == TIMM:
        raise CwdError(
            f"{arch.name}: no public ImageNet weights have its structure; give init random, or the "
            "path of a local file."
        )
    model = RESNEXTS.get(arch.backbone, f"resnet{arch.backbone[1:]}").partition(".")[0]
    return from_timm(arch.name, model, weights, **settings)
