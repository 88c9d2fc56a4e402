"""Classifiers by name: what "Classifier-R50" and "Classifier-MBV1(0.25, stride=8)" say."""

import re
from dataclasses import dataclass

from cwd.models.backbones import DEEP, SHALLOW, check_width
from cwd.system.errors import CwdError

CLASSIFIER = "Classifier"
MOBILENET = "MBV1"
BACKBONES = (*(f"R{depth}" for depth in (*SHALLOW, *DEEP)), MOBILENET)
MOBILENET_WIDTHS = (0.25, 0.5, 0.75, 1.0)  # Table 6 of the MobileNet paper
STRIDES = (8, 16, 32)
WIDTH, STRIDE = "width", "stride"


@dataclass(frozen=True)
class ClassifierArchitecture:
    """What a classifier's name says.

    Attributes:
        name: the whole name.
        backbone: "R50" and so on, or "MBV1".
        factor: of every width.
        stride: pixels of the image to a side of a position in the feature map.
    """

    name: str
    backbone: str
    factor: float = 1.0
    stride: int = 32


def is_classifier(name: str) -> bool:
    """Whether a network's name is meant to be a classifier's."""
    return name.partition("-")[0] == CLASSIFIER


def parse_classifier(name: str) -> ClassifierArchitecture:
    """Read a classifier's name.

    In parentheses may stand a factor of all widths, and `stride=16` or `stride=8`: as much dilation
    instead of the last strides, for feature maps of more positions.

    Raises:
        CwdError: there is no such classifier, or not in that width or at that stride.
    """
    match = re.fullmatch(rf"{CLASSIFIER}-([^()]+)(?:\(([^()]*)\))?", name)
    backbone, options = match.groups() if match else ("", "")
    if backbone not in BACKBONES:
        raise CwdError(
            f"there is no classifier {name!r}: use {CLASSIFIER} with one of "
            f"{', '.join(BACKBONES)}, such as {CLASSIFIER}-R50 or {CLASSIFIER}-MBV1(0.25)."
        )
    given: dict[str, str] = {}
    for item in filter(None, (piece.strip() for piece in (options or "").split(","))):
        key, equals, value = (piece.strip() for piece in item.partition("="))
        key, value = (key, value) if equals else (WIDTH, item)
        allowed = {WIDTH: not equals, STRIDE: value in map(str, STRIDES)}
        if key in given or not allowed.get(key):
            raise CwdError(
                f"{name}: {item!r} can't stand in parentheses: a width can, such as 0.25, and "
                f"stride= with one of {', '.join(map(str, STRIDES))}, each once."
            )
        given[key] = value
    factor = width_of(name, backbone, given[WIDTH]) if WIDTH in given else 1.0
    return ClassifierArchitecture(name, backbone, factor, int(given.get(STRIDE, 32)))


def width_of(name: str, backbone: str, text: str) -> float:
    """The factor of all widths; raises as `parse_classifier`."""
    if backbone != MOBILENET:
        return check_width(name, backbone, text)
    widths = {f"{width:g}": width for width in MOBILENET_WIDTHS}
    if text not in widths:
        raise CwdError(f"{name}: MobileNetV1 has no width {text}: use one of {', '.join(widths)}.")
    return widths[text]
