"""One grammar for the names of all networks.

    name = head "-" backbone [ "(" item { "," item } ")" ]
    item = a factor of the backbone's widths, or an option, "=" and its value

"PSPNet-R18(0.5)", "FasterRCNN-R50(0.25, fpn=16, anchor=16)" and "Classifier-MBV1(stride=8)" are
such names. A name is part of a run's key, so that it stays as it was written.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cwd.system.errors import CwdError
from cwd.system.own_code import named

SEGMENTATION, DETECTOR, CLASSIFIER = "a segmentation network", "a detector", "a classifier"
RESNETS = ("R18", "R34", "R50", "R101", "R152")
LITES = ("EL0", "EL1", "EL2")  # EfficientNet-Lites
RESNEXTS = ("X50-32x4d", "X101-32x4d", "X101-64x4d")
MOBILENET_WIDTHS = {
    "MBV1": (0.25, 0.5, 0.75, 1.0),  # Table 6 of the MobileNet paper
    "MBV2": (0.35, 0.5, 0.75, 1.0, 1.4),  # timm's
}
# head: its kind, its backbones, and what may stand in parentheses
HEADS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "PSPNet": (SEGMENTATION, (*RESNETS, "MBV2", *LITES), ("width", "stem")),
    "Deeplab": (SEGMENTATION, (*RESNETS, "MBV2", *LITES), ("width", "stem")),
    "FCN": (SEGMENTATION, ("R50", "R101"), ()),
    "DeepLabV3": (SEGMENTATION, ("R50", "R101"), ()),
    "FasterRCNN": (DETECTOR, (*RESNETS, *RESNEXTS), ("width", "fpn", "anchor", "regions")),
    "MaskRCNN": (DETECTOR, (*RESNETS, *RESNEXTS), ("width", "fpn", "anchor", "regions")),
    "RetinaNet": (DETECTOR, (*RESNETS, *RESNEXTS), ("width", "fpn", "anchor", "norm")),
    "RepPoints": (DETECTOR, (*RESNETS, *RESNEXTS), ("width", "fpn")),
    "Classifier": (CLASSIFIER, (*RESNETS, "MBV1"), ("width", "stride")),
}


def _whole(text: str) -> int:
    return int(text) if text.isdecimal() else 0


# option: how it is written, for people, and whether it may have a value
OPTIONS: dict[str, tuple[str, Callable[[str], bool]]] = {
    "width": ("a width such as 0.5", bool),  # see `_width`
    "stem": ("stem=plain", lambda text: text in ("deep", "plain")),
    "stride": ("stride=8, 16 or 32", lambda text: _whole(text) in (8, 16, 32)),
    "fpn": ("fpn=64 (a multiple of 8)", lambda text: _whole(text) > 0 and _whole(text) % 8 == 0),
    "anchor": ("anchor=16", lambda text: _whole(text) > 0),
    "regions": ("regions=64 (at least 8)", lambda text: _whole(text) >= 8),
    "norm": ("norm=group", lambda text: text == "group"),
}


@dataclass(frozen=True)
class Architecture:
    """What a network's name says; an option that isn't written has the value given here."""

    name: str  # as it was written
    head: str  # of `HEADS`
    backbone: str
    width: float = 1.0  # a factor of the backbone's widths, and of a segmentation network's head's
    # "deep", three 3x3 convolutions as the authors', or "plain", one 7x7 as torchvision's, which
    # detectors and classifiers have at full width
    stem: str = "deep"
    stride: int = 32  # a classifier's: pixels of the image to a side of a position in its map
    fpn: int = 256  # channels of every level of a detector's pyramid, and of its heads
    anchor: int = 32  # pixels to a side of a detector's smallest anchors
    regions: int = 512  # of an image that a detector's second stage is trained on
    norm: str = (
        ""  # "group": RetinaNet's published head, without, hardly learns from random weights
    )


def kind_of(name: str) -> str:
    """A network's kind, in the words that errors use; an unknown name is a segmentation network.

    So is "my_net.py:build", what a function in a file of one's own gives.
    """
    if named(name):
        return SEGMENTATION
    return HEADS.get(name.partition("-")[0], (SEGMENTATION,))[0]


def has_masks(name: str) -> bool:
    """Whether a network finds masks of objects."""
    return name.partition("-")[0] == "MaskRCNN"


def parse_name(name: str) -> Architecture:
    """Read a network's name.

    Raises:
        CwdError: there is no such head or backbone, or not with what stands in parentheses.
    """
    match = re.fullmatch(r"([^-]+)-([^()]+)(?:\(([^()]*)\))?", name)
    head, backbone, items = match.groups() if match else (name.partition("-")[0], "", "")
    kind, backbones, options = HEADS.get(head, ("", (), ()))
    if backbone not in backbones:
        known = f"{head} stands on one of {', '.join(backbones)}"
        if head not in HEADS:
            known = f"its name begins with one of {', '.join(HEADS)}, then comes a backbone"
        example = f"{head}-{backbones[0]}" if backbones else "PSPNet-R18(0.5)"
        raise CwdError(f"there is no network {name!r}: {known}, as in {example}.")
    # ResNeXts and EfficientNet-Lites have one width, and all but ResNets one stem
    closed = {"width"} if backbone in (*RESNEXTS, *LITES) else set()
    closed |= set() if backbone in (*RESNETS, *RESNEXTS) else {"stem"}
    given = _options(name, items or "", [o for o in options if o not in closed])
    width = _width(name, backbone, given.pop("width")) if "width" in given else 1.0
    if given.get("stem") == "plain" and width != 1:
        raise CwdError(f"{name}: timm's plain stem has one width: leave the width out.")
    if kind != SEGMENTATION:
        given["stem"] = "plain" if width == 1 else "deep"
    values: dict[str, Any] = {key: _whole(text) or text for key, text in given.items()}
    return Architecture(name, head, backbone, width, **values)


def _options(name: str, items: str, allowed: list[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for item in filter(None, (piece.strip() for piece in items.split(","))):
        key, equals, value = (piece.strip() for piece in item.partition("="))
        key, value = (key, value) if equals else ("width", item)
        key = "width" if key == "factor" else key  # as detectors' widths were once written
        if key not in allowed or key in given or not OPTIONS[key][1](value):
            known = ", ".join(OPTIONS[option][0] for option in allowed)
            can = f"{known} can, each once" if allowed else "nothing can"
            raise CwdError(f"{name}: {item!r} can't stand in parentheses; {can}.")
        given[key] = value
    return given


def _width(name: str, backbone: str, text: str) -> float:
    width = float(text) if re.fullmatch(r"[0-9]*\.?[0-9]+", text, re.ASCII) else 0.0
    known = MOBILENET_WIDTHS.get(backbone)
    if known and width not in known:
        raise CwdError(
            f"{name}: {backbone} has no width {text}: use one of {', '.join(map(str, known))}."
        )
    if not known and (not 0 < width <= 8 or width * 8 % 1):
        raise CwdError(f"{name}: the width {text} must be a multiple of 0.125, 0.125 to 8.")
    return width
