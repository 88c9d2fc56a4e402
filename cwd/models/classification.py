"""Classifiers: timm's ResNets and MobileNetV1, with the map that is pooled as their feature map."""

import math
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import timm
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from cwd.models.backbones import build_body, imagenet_weights
from cwd.models.names import Architecture
from cwd.models.weights import TIMM, backbone_keys, is_public, read_weights
from cwd.system.errors import CwdError

# what a file may call its classifier: ours and timm's MobileNets', and any ResNet's
CLASSIFIERS = ("classifier", "fc")


class ClassificationOutput(NamedTuple):
    """What a classifier gives."""

    score: Tensor  # logits [B, K], K classes
    feature: Tensor  # feature map [B, C, h, w], what is averaged over positions and classified


class Classifier(nn.Module):
    """A backbone whose last map is averaged over positions, and a linear classifier.

    Arguments as in `cwd.models.build.build_network`; `feature_channels` is C, and `stride` pixels
    of the image to a side of a position in the feature map.

    Shape:
        Normalised images [B, 3, H, W] to a `ClassificationOutput`.
    """

    def __init__(self, arch: Architecture, num_classes: int, *, init: str = "random") -> None:
        super().__init__()
        self.name, self.num_classes, self.stride = arch.name, num_classes, arch.stride
        if is_public(init):
            _check_normalisation(arch, init)
        # public weights for another number of classes lend their backbone alone
        self.backbone = build_body(
            arch, init=init, num_classes=num_classes, output_stride=arch.stride
        )
        self.classifier = self.backbone.get_classifier()
        self.backbone.reset_classifier(0)
        self.feature_channels = self.backbone.num_features

    def forward(self, images: Tensor) -> ClassificationOutput:
        feature = self.backbone.forward_features(images)  # [B, C, h, w]
        pooled = self.backbone.forward_head(feature, pre_logits=True)  # [B, C]
        # bfloat16 has two or three digits: the first of several equal logits would be the answer
        kind = images.device.type
        with nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False):
            return ClassificationOutput(self.classifier(pooled.float()), feature)


def _check_normalisation(arch: Architecture, init: str) -> None:
    """Refuse public weights for images that are normalised otherwise: they'd only measure worse."""
    weights = imagenet_weights(arch) if init == "imagenet" else init.removeprefix(TIMM)
    try:
        known = weights and timm.models.get_pretrained_cfg(weights)
    except RuntimeError:  # there are none of that name, as `build_body` says
        return
    ours = (*IMAGENET_DEFAULT_MEAN, *IMAGENET_DEFAULT_STD)
    if known and not all(map(math.isclose, (*known.mean, *known.std), ours)):
        raise CwdError(
            f"{arch.name}: timm's weights {weights} take images with the mean {tuple(known.mean)}, "
            f"and here it is {IMAGENET_DEFAULT_MEAN}: use weights with that mean, or init random."
        )


def load_classifier(network: Classifier, path: Path) -> None:
    """Take the classifier itself from a file too, if it is for as many classes."""
    found, own = backbone_keys(read_weights(path)), network.classifier.state_dict()
    report = network.init_report
    for prefix in CLASSIFIERS:
        given = {key: found.get(f"{prefix}.{key}") for key in own}
        if all(x is not None and x.shape == own[key].shape for key, x in given.items()):
            network.classifier.load_state_dict(given)
            taken = [f"{prefix}.{key}" for key in given]
            report["matched"] += taken
            report["ignored"] = [key for key in report["ignored"] if key not in taken]
