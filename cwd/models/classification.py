"""Classifiers: timm's ResNets and MobileNetV1, with the map that is pooled as their feature map."""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import timm
import torch
from timm.models.efficientnet import _gen_mobilenet_v1  # no public function takes a width
from torch import Tensor, nn

from cwd.models.backbones import PLAIN, STAGES, TIMM, from_timm
from cwd.models.classifier_names import MOBILENET, ClassifierArchitecture, parse_classifier
from cwd.models.segmentation import is_public
from cwd.models.weights import MEAN, STD, backbone_keys, load_backbone, read_weights
from cwd.system import paths
from cwd.system.errors import CwdError

# what a file may call its classifier: ours and timm's MobileNets', and any ResNet's
CLASSIFIERS = ("classifier", "fc")


class ClassificationOutput(NamedTuple):
    """What a classifier gives.

    Attributes:
        score: logits [B, K], K classes.
        feature: feature map [B, C, h, w], what is averaged over positions and then classified.
    """

    score: Tensor
    feature: Tensor


class Classifier(nn.Module):
    """A backbone whose last map is averaged over positions, and a linear classifier.

    Args:
        arch: what the network's name says.
        num_classes: K.
        public: weights that it starts from, see `build_body`.

    Attributes:
        feature_channels: C.
        stride: pixels of the image to a side of a position in the feature map.
        init_report: names of tensors "matched" in a local file and those of the file "ignored".

    Shape:
        Normalised images [B, 3, H, W] to a `ClassificationOutput`.
    """

    def __init__(self, arch: ClassifierArchitecture, num_classes: int, *, public: str = "") -> None:
        super().__init__()
        self.name, self.num_classes, self.stride = arch.name, num_classes, arch.stride
        self.init_report: dict[str, list[str]] = {"matched": [], "ignored": []}
        self.backbone = build_body(arch, num_classes, public=public)
        self.classifier = self.backbone.get_classifier()
        self.backbone.reset_classifier(0)
        self.feature_channels = self.backbone.num_features

    def forward(self, images: Tensor) -> ClassificationOutput:
        """See the class."""
        feature = self.backbone.forward_features(images)  # [B, C, h, w]
        pooled = self.backbone.forward_head(feature, pre_logits=True)  # [B, C]
        # bfloat16 has two or three digits: the first of several equal logits would be the answer
        with full_precision(images.device):
            return ClassificationOutput(self.classifier(pooled.float()), feature)


def full_precision(device: torch.device) -> AbstractContextManager:
    """No autocast while the block runs; on the meta device there is none."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def build_classifier(
    name: str, num_classes: int, *, init: str = "random", device: str | None = None
) -> Classifier:
    """A classifier by its name.

    Names are "Classifier-R50" (or R18, R34, R101, R152) and "Classifier-MBV1"; with every width
    scaled, "Classifier-MBV1(0.25)"; with a finer feature map, "Classifier-R50(stride=8)". Weights
    of the classifier itself are taken over where they are for as many classes.

    Args:
        name: which.
        num_classes: K, at least 2.
        init: "random"; "imagenet" for torchvision's weights, as timm has them; "timm:" and the name
            of timm's weights, "timm:resnet50.a1_in1k"; or the path, from the checkout's root if
            relative, of a .pth or .safetensors file with a backbone of the same structure.
        device: where to build it, torch's default device if None; "meta" allocates nothing.

    Raises:
        CwdError: the name is unknown, or the weights asked for can't be had, are for images that
            are normalised otherwise, or don't cover the backbone.
    """
    arch = parse_classifier(name)
    if num_classes < 2:
        raise CwdError(f"{name}: num_classes is {num_classes}, give at least 2.")
    public = init if is_public(init) else ""
    with torch.device(device or torch.get_default_device()):
        network = Classifier(arch, num_classes, public=public)
    if init != "random" and not public:
        load_file(network, init)
    return network


def build_body(arch: ClassifierArchitecture, num_classes: int, *, public: str = "") -> nn.Module:
    """timm's network with its classifier.

    Full-width ResNets have the plain stem of torchvision's weights; narrower ones, which no public
    weights fit, a deep stem that is as narrow, as the detectors' have.

    Args:
        arch: which.
        num_classes: K; the classifier of public weights for another number is left out.
        public: weights that it starts from: "imagenet", or "timm:" and a name of timm's; random if
            empty.

    Raises:
        CwdError: there are no such weights of this structure, or they can't be had.
    """
    settings = {"num_classes": num_classes, "output_stride": arch.stride}
    weights = ""
    if public:
        known = PLAIN.get(arch.backbone, "") if public == "imagenet" else public.removeprefix(TIMM)
        weights = known if arch.factor == 1 else ""
        if not weights:
            raise CwdError(
                f"{arch.name}: init {public} names no weights with its structure that take images "
                "as they are normalised here; give init random, or the path of a local file."
            )
        check_normalisation(arch.name, weights)
    if arch.backbone == MOBILENET and arch.factor != 1:
        return _gen_mobilenet_v1("mobilenetv1_100", arch.factor, **settings)
    model = "mobilenetv1_100" if arch.backbone == MOBILENET else f"resnet{arch.backbone[1:]}"
    if arch.factor != 1:
        settings["channels"] = tuple(round(width * arch.factor) for width in STAGES)
        settings |= {"stem_type": "deep", "stem_width": round(64 * arch.factor)}
    return from_timm(arch.name, model, weights, **settings)


def check_normalisation(name: str, weights: str) -> None:
    """Refuse public weights for images that are normalised otherwise than ours.

    Raises:
        CwdError: they are; nothing else would tell, since such weights only measure worse.
    """
    try:
        known = timm.models.get_pretrained_cfg(weights)
    except RuntimeError:  # there are none of that name, and `from_timm` says so
        return
    if known and not all(map(math.isclose, (*known.mean, *known.std), (*MEAN, *STD))):
        raise CwdError(
            f"{name}: timm's weights {weights} take images with the mean {tuple(known.mean)}, and "
            f"here it is {MEAN}: use weights with that mean, or init random."
        )


def load_file(network: Classifier, init: str) -> None:
    """Initialise a classifier from a local file: its backbone, and the rest if it fits.

    Raises:
        CwdError: the file can't be read or doesn't cover the backbone.
    """
    path = paths.below_root(init)
    report = load_backbone(network.backbone, path, network.name)
    found, own = backbone_keys(read_weights(path)), network.classifier.state_dict()
    for prefix in CLASSIFIERS:
        given = {key: found.get(f"{prefix}.{key}") for key in own}
        if all(x is not None and x.shape == own[key].shape for key, x in given.items()):
            network.classifier.load_state_dict(given)
            taken = [f"{prefix}.{key}" for key in given]
            report["matched"] += taken
            report["ignored"] = [key for key in report["ignored"] if key not in taken]
    network.init_report = report
