"""Backbones: timm's ResNets, ResNeXts and MobileNets, random or with public weights."""

from typing import Any

import timm
from timm.models.efficientnet import _gen_mobilenet_v1  # no public function takes a width
from torch import nn

from cwd.models.names import RESNETS, Architecture
from cwd.models.weights import TIMM, is_public
from cwd.system.errors import CwdError

STAGES = (64, 128, 256, 512)  # channels of a ResNet's four stages before expansion
MOBILENET2 = {0.35: "035", 0.5: "050", 0.75: "075", 1.0: "100", 1.4: "140"}  # in timm's names
# public ImageNet weights, by backbone: with the authors' stem (three 3x3 convolutions: 64, 64, 128)
DEEP = {f"R{depth}": f"resnet{depth}s.gluon_in1k" for depth in (50, 101, 152)}
# with a plain 7x7 stem: torchvision's, which mmdetection starts from
PLAIN = {backbone: f"resnet{backbone[1:]}.tv_in1k" for backbone in RESNETS} | {
    "X50-32x4d": "resnext50_32x4d.tv_in1k",
    "X101-32x4d": "resnext101_32x4d.gluon_in1k",
    "X101-64x4d": "resnext101_64x4d.tv_in1k",
}
MOBILENET2_WEIGHTS = {0.5: "lamb_in1k", 1.0: "ra_in1k", 1.4: "ra_in1k"}  # by width


def imagenet_weights(arch: Architecture) -> str | None:
    """timm's name of public ImageNet weights with this structure; None if there are none."""
    if arch.backbone == "MBV2":
        training = MOBILENET2_WEIGHTS.get(arch.width)
        return training and f"mobilenetv2_{MOBILENET2[arch.width]}.{training}"
    known = PLAIN if arch.stem == "plain" else DEEP
    return known.get(arch.backbone) if arch.width == 1 else None


def build_body(arch: Architecture, *, init: str = "random", **settings: Any) -> nn.Module:
    """timm's network, random or with the public weights that `init` names.

    Args:
        arch: which; only its backbone, width and stem matter.
        init: see `cwd.models.build.build_network`; with a file's path it starts random.
        settings: for `timm.create_model`.

    Raises:
        CwdError: there are no such weights of this structure, or they can't be had.
    """
    weights = ""
    if is_public(init):
        weights = imagenet_weights(arch) if init == "imagenet" else init.removeprefix(TIMM)
        if not weights or (arch.width != 1 and arch.backbone != "MBV2"):
            raise unavailable(arch.name, f"init {init}", "names no weights of its structure")
    if arch.backbone == "MBV1" and arch.width != 1:
        return _gen_mobilenet_v1("mobilenetv1_100", arch.width, **settings)
    if arch.backbone == "MBV1":
        model = "mobilenetv1_100"
    elif arch.backbone == "MBV2":
        model = f"mobilenetv2_{MOBILENET2[arch.width]}"
    else:
        model = PLAIN[arch.backbone].partition(".")[0]
        settings["channels"] = tuple(round(channels * arch.width) for channels in STAGES)
        if arch.stem == "deep":
            settings |= {"stem_type": "deep", "stem_width": round(64 * arch.width)}
    body = timm.create_model(model, pretrained=False, **settings)
    if weights:
        try:
            pretrained = timm.create_model(weights, pretrained=True, **settings)
            body.load_state_dict(pretrained.state_dict())  # of this structure, all of it
        except Exception as error:  # each way of not reaching a server has its own exception
            raise unreachable(arch.name, f"timm's weights {weights}", error) from error
    return body


def unavailable(name: str, weights: str, problem: str) -> CwdError:
    """The sentence for public weights that a network can't start from."""
    return CwdError(
        f"{name}: {weights} {problem}: give init random, or the path of a local file with weights "
        "that fit (see data/README.md)."
    )


def unreachable(name: str, weights: str, error: Exception) -> CwdError:
    """The same for those that couldn't be downloaded or loaded."""
    why = f"({type(error).__name__}; is there a network?)"
    return unavailable(name, weights, f"can't be had, or have another structure {why}")
