"""From a name to a network, and what the network costs."""

import copy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cwd.models.classification import Classifier, load_classifier
from cwd.models.detection.fasterrcnn import FasterRCNN, MaskRCNN
from cwd.models.detection.reppoints import RepPoints
from cwd.models.detection.retinanet import RetinaNet
from cwd.models.names import DETECTOR, kind_of, parse_name
from cwd.models.segmentation import SegmentationNetwork
from cwd.models.weights import check_values, is_public, load_backbone, read_weights
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.own_code import load_function, named, running

OTHERS = {kind.__name__: kind for kind in (FasterRCNN, MaskRCNN, RetinaNet, RepPoints, Classifier)}


def build_network(
    name: str, num_classes: int, *, init: str = "random", device: str | None = None
) -> nn.Module:
    """A network by its name, such as the paper's "PSPNet-R18(0.5)" (Table 6).

    Args:
        name: a head and a backbone, "Deeplab-MBV2", "RetinaNet-R50" or "Classifier-R50", and in
            parentheses what differs from the published network; see `cwd.models.names`. Or a
            function of one's own, "my_net.py:build", called with the number of classes.
        num_classes: K, at least 2; of a detector, which has a background besides, at least 1.
        init: "random"; "imagenet" for public weights (timm's, or torchvision's for its own
            networks); "timm:" and the name of timm's weights, "timm:resnet101s.gluon_in1k"; or the
            path, from the checkout's root if relative, of a .pth or .safetensors file with a
            backbone of the same structure (see `cwd.models.weights.backbone_keys`). Heads start
            random, but a classifier's own weights are taken if they are for as many classes.
        device: where to build it, torch's default device if None; "meta" allocates nothing.

    Returns:
        A `SegmentationNetwork`, `Detector` or `Classifier`, or one's own. Its `init_report` has the
        names of the tensors "matched" in a local file and of those in it that were "ignored".

    Raises:
        CwdError: there is no such network, or the weights can't be had or don't cover the backbone.
    """
    if named(name):
        return _own(name, num_classes, init, device)
    arch, least = parse_name(name), 1 if kind_of(name) == DETECTOR else 2
    if num_classes < least:
        raise CwdError(f"{name}: num_classes is {num_classes}, give at least {least}.")
    with torch.device(device or torch.get_default_device()):
        network = OTHERS.get(arch.head, SegmentationNetwork)(arch, num_classes, init=init)
    network.init_report = {"matched": [], "ignored": []}
    if init != "random" and not is_public(init):
        path = paths.below_root(init)
        network.init_report = load_backbone(network.backbone, path, name)
        if isinstance(network, Classifier):
            load_classifier(network, path)
    return network


def _own(name: str, num_classes: int, init: str, device: str | None) -> nn.Module:
    """What a function of one's own builds, if it is a network as ours are."""
    if init != "random":
        raise CwdError(f"{name}: init {init} is for our networks: load weights in the function.")
    build, _ = load_function(name)
    with torch.device(device or torch.get_default_device()), running(name):
        network = build(num_classes)
    found = getattr(network, "num_classes", None)
    if not isinstance(network, nn.Module) or found is None:
        raise CwdError(
            f"{name} gives a {type(network).__name__}, no network that can be distilled: return "
            'Taps(network, score="...", feature="..."), from cwd.models.'
        )
    if found != num_classes:
        raise CwdError(
            f"{name} gives a network with {found} classes, and there are {num_classes}: build it "
            "for the number that the function is given."
        )
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise CwdError(f"{name} gives a network with nothing to learn: leave its layers trainable.")
    network.name, network.init_report = name, {"matched": [], "ignored": []}
    return network


def whole_tensors(network: nn.Module) -> dict[str, Tensor]:
    """A network's tensors as safetensors takes them: on the CPU, and none in another's memory.

    A layer that a network has under two names has its tensors under both.
    """
    whole = {"memory_format": torch.contiguous_format}
    return {name: value.cpu().clone(**whole) for name, value in network.state_dict().items()}


def load_network_weights(network: nn.Module, path: Path) -> None:
    """Load a whole network, as a run saves its student.

    Raises:
        CwdError: the file can't be read, or belongs to another network, or holds another number
            format, values that aren't finite, or zeros alone.
    """
    state = read_weights(Path(path))
    found, wanted = (
        {key: (tuple(value.shape), value.dtype) for key, value in tensors.items()}
        for tensors in (state, network.state_dict())
    )
    odd = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
    if odd:
        kinds = [_described(side.get(odd[0])) for side in (found, wanted)]
        raise CwdError(
            f"{path} belongs to another network than {network.name} with {network.num_classes} "
            f"classes ({odd[0]}: found {kinds[0]}, expected {kinds[1]}): load it into its own."
        )
    check_values(state, path)
    network.load_state_dict(state)


def _described(kind: tuple[tuple[int, ...], torch.dtype] | None) -> str:
    return f"{kind[0]} of {kind[1]}" if kind else "no such tensor"


def count_parameters(network: nn.Module) -> int:
    """All parameters, those of the auxiliary head included, as Table 6 counts them."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_multiply_adds(network: nn.Module | str, size: tuple[int, int] = (512, 1024)) -> int:
    """Multiply-adds of the convolutions for one image, as Table 6 counts them.

    The auxiliary head counts too, although it is only used in training: with it the numbers are the
    paper's. Nothing is computed and the network, which may be a name, stays as it is; `size` is
    height and width in pixels.
    """
    if isinstance(network, str):
        network = build_network(network, 19, device="meta")
    copied = copy.deepcopy(network).to("meta").train()
    images = torch.empty(2, 3, *size, device="meta")  # batch norm wants two
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        copied(images)
    return counter.get_total_flops() // (2 * len(images))  # a multiply-add is two operations
