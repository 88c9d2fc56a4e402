"""The paper's networks by the paper's names: timm backbones at output stride 8, and their heads."""

import copy
import re
from pathlib import Path
from typing import NamedTuple

import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cwd.errors import CwdError

BINS = (1, 2, 3, 6)  # sides of the pyramid's pooled maps
DROPOUT = 0.1
OUTPUT_STRIDE = 8  # pixels of the image to a side of a position in the maps
# depth: timm's architecture, channels of the four stages before expansion, width of the head
RESNETS = {18: 128, 34: 128, 50: 512, 101: 512, 152: 512}
STAGES = (64, 128, 256, 512)
# timm's public weights whose stem is the authors' (three 3x3 convolutions: 64, 64, 128)
IMAGENET = {depth: f"resnet{depth}s.gluon_in1k" for depth in (50, 101, 152)}


class SegmentationOutput(NamedTuple):
    """What a network gives.

    Attributes:
        score: score map [B, K, h, w] at output stride 8, K classes.
        feature: feature map [B, C, h, w], what the classifier sees: CW_f's tap.
        aux_score: the auxiliary head's score map [B, K, h, w]; None in eval mode.
    """

    score: Tensor
    feature: Tensor
    aux_score: Tensor | None


def conv_norm_act(inputs: int, outputs: int, kernel: int, *, bias: bool = False) -> nn.Sequential:
    """Convolution, batch norm, ReLU; the size of the map stays."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class PyramidPooling(nn.Module):
    """PSPNet's head: the map beside its averages over 1, 4, 9 and 36 regions, then a 3x3 conv.

    Shape:
        [B, inputs, h, w] to [B, width, h, w], the feature map.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), *conv_norm_act(inputs, width, 1))
            for side in BINS
        )
        self.bottleneck = conv_norm_act(inputs + len(BINS) * width, width, 3)
        self.dropout = nn.Dropout2d(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        size = x.shape[-2:]
        pooled = [
            F.interpolate(branch(x), size=size, mode="bilinear", align_corners=True)
            for branch in self.branches
        ]  # each [B, width, h, w]
        x = torch.cat([x, *pooled], dim=1)  # [B, inputs + 4 width, h, w]
        return self.dropout(self.bottleneck(x))  # [B, width, h, w]


HEADS = {"PSPNet": PyramidPooling}  # by the first word of a network's name


class SegmentationNetwork(nn.Module):
    """A backbone, a head, and an auxiliary head on the backbone's third stage.

    Args:
        name: what it is called.
        backbone: gives the maps of its third and fourth stage, both at output stride 8.
        head: a class of `HEADS`.
        width: channels C of the feature map and of the auxiliary head.
        num_classes: K.

    Attributes:
        init_report: names of tensors "matched" in a local file and those of the file "ignored".

    Shape:
        Normalised images [B, 3, H, W] to a `SegmentationOutput`.
    """

    def __init__(
        self, name: str, backbone: nn.Module, head: type[nn.Module], width: int, num_classes: int
    ) -> None:
        super().__init__()
        third, fourth = backbone.feature_info.channels()
        self.name, self.num_classes, self.feature_channels = name, num_classes, width
        self.init_report: dict[str, list[str]] = {"matched": [], "ignored": []}
        self.backbone = backbone
        self.head = head(fourth, width)
        self.classifier = nn.Conv2d(width, num_classes, 1)
        self.aux_head = nn.Sequential(
            *conv_norm_act(third, width, 3, bias=True),
            nn.Dropout2d(DROPOUT),
            nn.Conv2d(width, num_classes, 1),
        )

    def forward(self, images: Tensor) -> SegmentationOutput:
        """See the class.

        Raises:
            CwdError: a single image in training, where the pyramid's 1x1 map has no variance.
        """
        if self.training and len(images) == 1:
            raise CwdError("batch norm can't train on a batch of 1: use a batch of at least 2.")
        third, fourth = self.backbone(images)
        feature = self.head(fourth)  # [B, C, h, w]
        score = self.classifier(feature)  # [B, K, h, w]
        return SegmentationOutput(score, feature, self.aux_head(third) if self.training else None)


def build_network(
    name: str, num_classes: int, *, init: str = "random", device: str | None = None
) -> SegmentationNetwork:
    """A network of the paper, by the paper's name (Table 6).

    Names are "PSPNet-R18", or with every width scaled, "PSPNet-R18(0.5)"; depths are those of
    `RESNETS`. Only the backbone is initialised from a file; heads always start from random weights.

    Args:
        name: which network.
        num_classes: K, at least 2.
        init: "random"; "imagenet" for timm's weights; or the path of a local .pth or .safetensors
            file with a backbone of the same structure.
        device: where to build it, torch's default device if None; "meta" allocates nothing.

    Raises:
        CwdError: the name is unknown, a width doesn't give whole channels, or the weights asked
            for can't be had or don't cover the backbone.
    """
    head, depth, factor = parse_name(name)
    if num_classes < 2:
        raise CwdError(f"{name}: num_classes is {num_classes}, give at least 2.")
    with torch.device(device or torch.get_default_device()):
        backbone = build_backbone(name, depth, factor, init)
        width = round(RESNETS[depth] * factor)
        network = SegmentationNetwork(name, backbone, HEADS[head], width, num_classes)
    if init not in ("random", "imagenet"):
        network.init_report = load_backbone(network.backbone, Path(init), name)
    return network


def parse_name(name: str) -> tuple[str, int, float]:
    """Head, depth, width factor of a name like "PSPNet-R18(0.5)"; raises as `build_network`."""
    match = re.fullmatch(rf"({'|'.join(HEADS)})-R([0-9]+)(?:\(([0-9]*\.?[0-9]+)\))?", name)
    if not match or int(match[2]) not in RESNETS:
        known = ", ".join(f"{head}-R{depth}" for head in HEADS for depth in RESNETS)
        example = "PSPNet-R18(0.5)"
        raise CwdError(f"there is no network {name!r}: use {known}, or with a width, {example}.")
    factor = float(match[3] or 1)
    if not 0 < factor <= 8 or (STAGES[0] * factor) % 8:
        raise CwdError(f"{name}: the width {match[3]} must be a multiple of 0.125, 0.125 to 8.")
    return match[1], int(match[2]), factor


def build_backbone(name: str, depth: int, factor: float, init: str) -> nn.Module:
    """timm's ResNet with a deep stem at output stride 8; raises as `build_network`."""
    settings = {
        "features_only": True,
        "output_stride": OUTPUT_STRIDE,
        "out_indices": (3, 4),
        "stem_type": "deep",
        "stem_width": round(64 * factor),
        "channels": tuple(round(c * factor) for c in STAGES),
    }
    if init == "imagenet":
        if factor != 1 or depth not in IMAGENET:
            raise CwdError(
                f"{name}: no public ImageNet weights have its structure; give init the path of a "
                "local file instead, or use one of "
                f"{', '.join(f'PSPNet-R{d}' for d in IMAGENET)}."
            )
        try:
            backbone = timm.create_model(IMAGENET[depth], pretrained=True, **settings)
        except Exception as error:  # each way of not reaching a server has its own exception
            raise CwdError(
                f"{name}: timm's weights {IMAGENET[depth]} can't be had ({type(error).__name__}): "
                "connect to a network, or give init the path of a local file with them."
            ) from error
    else:
        backbone = timm.create_model(f"resnet{depth}", pretrained=False, **settings)
    backbone.maxpool.ceil_mode = True  # as the authors': a 512 crop gives 65x65 maps
    return backbone


# the authors' code names the deep stem's layers one by one; timm has them in a sequence
STEM = {"conv1": "conv1.0", "bn1": "conv1.1", "conv2": "conv1.3", "bn2": "conv1.4"}
STEM |= {"conv3": "conv1.6", "bn3": "bn1"}


def backbone_keys(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's tensors under timm's names."""
    state = {re.sub(r"^(module\.)?(backbone\.)?", "", key): v for key, v in state.items()}
    if "conv3.weight" in state:
        state = {re.sub(r"^\w+", lambda m: STEM.get(m[0], m[0]), k): v for k, v in state.items()}
    return state


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file, by name; no code in the file is executed.

    Raises:
        CwdError: the file is missing, or holds anything but tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
            raise TypeError
        return state
    except FileNotFoundError:
        raise CwdError(f"{path} does not exist: give the path of a file with weights.") from None
    except Exception as error:  # torch and safetensors raise whatever the damage hits
        raise CwdError(
            f"{path} holds no weights that can be read safely ({type(error).__name__}): get it "
            "again, as a .safetensors file or as a .pth file with tensors only."
        ) from error


def load_backbone(backbone: nn.Module, path: Path, name: str) -> dict[str, list[str]]:
    """Initialise a backbone from a local file that covers all of it; gives the `init_report`.

    Raises:
        CwdError: the file can't be read, or lacks a tensor, or has one of another shape.
    """
    found, wanted = backbone_keys(read_weights(path)), backbone.state_dict()
    # batch norm's step counter is newer than many files, and nothing depends on it
    required = [key for key in wanted if not key.endswith("num_batches_tracked")]
    unfit = [k for k in required if k not in found or found[k].shape != wanted[k].shape]
    if unfit:
        raise CwdError(
            f"{path} covers {len(required) - len(unfit)} of the {len(required)} tensors of "
            f"{name}'s backbone, {len(unfit)} are missing or of another shape, first {unfit[0]}: "
            "use the weights of a ResNet of the same depth and width with a deep stem."
        )
    backbone.load_state_dict({k: found.get(k, wanted[k]) for k in wanted})
    ignored = sorted(found.keys() - wanted.keys())  # a classifier, or the rest of a whole network
    return {"matched": [key for key in wanted if key in found], "ignored": ignored}


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
