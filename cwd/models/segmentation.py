"""The paper's networks by the paper's names, and what they cost."""

import copy
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cwd.models.backbones import OUTPUT_STRIDE, TIMM, Architecture, build_parts, parse_name
from cwd.models.weights import load_backbone, read_weights
from cwd.system import paths
from cwd.system.distributed import processes
from cwd.system.errors import CwdError

__all__ = ["OUTPUT_STRIDE", "SegmentationNetwork", "SegmentationOutput", "build_network",
           "count_multiply_adds", "count_parameters", "load_network_weights"]  # fmt: skip


class SegmentationOutput(NamedTuple):
    """What a network gives.

    Attributes:
        score: score map [B, K, h, w] at output stride 8, K classes.
        feature: feature map [B, C, h, w], what the classifier sees: CW_f's tap.
        aux_score: the auxiliary head's score map [B, K, h, w]; None in eval mode, and where there
            is no such head.
    """

    score: Tensor
    feature: Tensor
    aux_score: Tensor | None


class SegmentationNetwork(nn.Module):
    """A backbone, a head, a classifier, and mostly an auxiliary head on the third stage.

    Args:
        arch: what the network's name says.
        num_classes: K.
        public: weights that the backbone starts from, see `cwd.models.backbones.build_backbone`.

    Attributes:
        init_report: names of tensors "matched" in a local file and those of the file "ignored".

    Shape:
        Normalised images [B, 3, H, W] to a `SegmentationOutput`.
    """

    def __init__(self, arch: Architecture, num_classes: int, *, public: str = "") -> None:
        super().__init__()
        self.name, self.num_classes, self.feature_channels = arch.name, num_classes, arch.width
        self.init_report: dict[str, list[str]] = {"matched": [], "ignored": []}
        parts = build_parts(arch, num_classes, public=public)
        self.backbone, self.head, self.classifier, self.aux_head = parts

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
        return SegmentationOutput(score, feature, auxiliary)


def is_public(init: str) -> bool:
    """Whether first weights are downloaded by name, neither random nor from a file."""
    return init == "imagenet" or init.startswith(TIMM)


def build_network(
    name: str, num_classes: int, *, init: str = "random", device: str | None = None
) -> SegmentationNetwork:
    """A network of the paper, by the paper's name (Table 6).

    Names are "PSPNet" or "Deeplab", a dash, and "R18" (or R34, R50, R101, R152) or "MBV2"; with
    every width scaled, "PSPNet-R18(0.5)"; with torchvision's stem instead of the authors' deep one,
    "PSPNet-R18(stem=plain)". torchvision's own networks are "FCN-R50", "FCN-R101",
    "DeepLabV3-R50" and "DeepLabV3-R101". Only the backbone is initialised from a file; heads always
    start from random weights.

    Args:
        name: which network.
        num_classes: K, at least 2.
        init: "random"; "imagenet" for public weights (timm's, or torchvision's for its own
            networks); "timm:" and the name of timm's weights, "timm:resnet101s.gluon_in1k"; or the
            path, from the checkout's root if relative, of a .pth or .safetensors file with a
            backbone of the same structure (see `cwd.models.weights.backbone_keys`).
        device: where to build it, torch's default device if None; "meta" allocates nothing.

    Raises:
        CwdError: the name is unknown, a width doesn't give whole channels, or the weights asked
            for can't be had or don't cover the backbone.
    """
    arch = parse_name(name)
    if num_classes < 2:
        raise CwdError(f"{name}: num_classes is {num_classes}, give at least 2.")
    with torch.device(device or torch.get_default_device()):
        public = init if is_public(init) else ""
        network = SegmentationNetwork(arch, num_classes, public=public)
    if init != "random" and not public:
        path = paths.below_root(init)
        network.init_report = load_backbone(network.backbone, path, name)
    return network


def load_network_weights(network: SegmentationNetwork, path: Path) -> None:
    """Load a whole network, as a run saves its student.

    Raises:
        CwdError: the file can't be read, or belongs to another network.
    """
    found, wanted = read_weights(Path(path)), network.state_dict()
    odd = sorted(found.keys() ^ wanted.keys()) or [
        key for key in wanted if found[key].shape != wanted[key].shape
    ]
    if odd:
        shape = tuple(found[odd[0]].shape) if odd[0] in found else "missing"
        expected = tuple(wanted[odd[0]].shape) if odd[0] in wanted else "no such tensor"
        raise CwdError(
            f"{path} belongs to another network than {network.name} with {network.num_classes} "
            f"classes ({odd[0]}: found {shape}, expected {expected}): load it into its own."
        )
    network.load_state_dict(found)


def count_parameters(network: nn.Module) -> int:
    """All parameters, those of the auxiliary head included, as Table 6 counts them."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_multiply_adds(network: nn.Module | str, size: tuple[int, int] = (512, 1024)) -> int:
    """Multiply-adds of the convolutions for one image, as Table 6 counts them.

    The auxiliary head counts too, although it is only used in training: with it the numbers are the
    paper's. Nothing is computed and the network stays as it is.

    Args:
        network: a `SegmentationNetwork`, or a name for `build_network` (19 classes, as Cityscapes).
        size: height and width in pixels.
    """
    if isinstance(network, str):
        network = build_network(network, 19, device="meta")
    copied = copy.deepcopy(network).to("meta").train()
    images = torch.empty(2, 3, *size, device="meta")  # batch norm wants two
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        copied(images)
    return counter.get_total_flops() // (2 * len(images))  # a multiply-add is two operations
