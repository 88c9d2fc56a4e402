"""First weights: files are read safely, renamed, and loaded as a whole or not at all."""

import re
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cwd.system.errors import CwdError

# ImageNet statistics in RGB, for pixels from 0 to 1: what networks expect of images
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TIMM = "timm:"  # how `init` says that a name of timm's weights follows
WRAPPERS = ("state_dict", "model_state_dict", "model")  # what checkpoints keep weights under
# the authors' code names the deep stem's layers one by one; timm has them in a sequence
STEM = {"conv1": "conv1.0", "bn1": "conv1.1", "conv2": "conv1.3", "bn2": "conv1.4"}
STEM |= {"conv3": "conv1.6", "bn3": "bn1"}
# stage and block of MobileNetV2's blocks, which torchvision numbers through
BLOCKS = [(stage, n) for stage, blocks in enumerate((1, 2, 3, 4, 3, 3, 1)) for n in range(blocks)]
# torchvision's names in a block without and with an expansion, and timm's
FIRST = {"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"}
OTHERS = {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2", "2": "conv_pwl"}
OTHERS |= {"3": "bn3"}


def is_public(init: str) -> bool:
    """Whether first weights are downloaded by name, neither random nor from a file."""
    return init == "imagenet" or init.startswith(TIMM)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file, by name; no code in the file is executed.

    Raises:
        CwdError: the file is missing, or holds no tensors or what can't be read safely.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        for wrapper in WRAPPERS:
            state = state.get(wrapper, state)
        tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        plain = (x.layout == torch.strided and not x.is_meta for x in tensors.values())
        if not tensors or not all(plain) or not all(isinstance(name, str) for name in tensors):
            raise TypeError
        return tensors
    except FileNotFoundError:
        raise CwdError(
            f"{path} does not exist: give the path of a file with weights; data/README.md says "
            "where those of the profiles come from."
        ) from None
    except Exception as error:  # torch and safetensors raise whatever the damage hits
        raise CwdError(
            f"{path} holds no weights that can be read safely ({type(error).__name__}): get it "
            "again, as a .safetensors file or as a .pth file with tensors only."
        ) from error


def check_values(state: dict[str, Tensor], path: Path) -> None:
    """Refuse what no network learns: not finite, a negative variance, or zeros in all layers."""
    floats = {key: value.float() for key, value in state.items() if value.is_floating_point()}
    odd = [key for key, value in floats.items() if not value.isfinite().all()]
    odd += [key for key, value in floats.items() if key.endswith("running_var") and value.min() < 0]
    if not odd and any(value.ndim > 1 and value.any() for value in floats.values()):
        return
    fault = f"numbers in {odd[0]} that no network learns" if odd else "no layer's weights but zeros"
    raise CwdError(f"{path} holds {fault}: get it again, or train it again.")


def in_order(state: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """A file's tensors under the names of a network that has the same in the same order.

    Batch norm's step counters, which the file may lack, stay as they are in the network. A
    `ValueError` says that the two differ in number or shape.
    """
    counted = "num_batches_tracked"
    names = [name for name in wanted if not name.endswith(counted)]
    values = [value for name, value in state.items() if not name.endswith(counted)]
    pairs = list(zip(names, values, strict=True))
    if odd := [name for name, value in pairs if value.shape != wanted[name].shape]:
        raise ValueError(f"{odd[0]} has another shape")
    return wanted | dict(pairs)


def backbone_keys(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's tensors under timm's names.

    Known are timm's own files, torchvision's ResNets (whose names are timm's) and MobileNetV2, the
    authors' deep-stem ResNets, and whole networks of this package or wrapped in `module.`.
    """
    prefix = r"^(module\.)?(model\.)?((backbone|encoder)\.)?(body\.)?"
    state = {re.sub(prefix, "", key): value for key, value in state.items()}
    if "conv3.weight" in state:
        return {re.sub(r"^\w+", lambda m: STEM.get(m[0], m[0]), k): v for k, v in state.items()}
    if "features.0.0.weight" in state:
        return {_mobilenet_key(key): value for key, value in state.items()}
    return state


def _mobilenet_key(key: str) -> str:
    """timm's name of a tensor of torchvision's MobileNetV2; the classifier's stay as they are."""
    match = re.fullmatch(r"features\.(\d+)\.(?:conv\.)?([\d.]+)\.(\w+)", key)
    number, layer, what = match.groups() if match else ("99", "", "")
    if number == "0":
        return f"{'conv_stem' if layer == '0' else 'bn1'}.{what}"
    if int(number) > len(BLOCKS):
        return key
    stage, block = BLOCKS[int(number) - 1]
    names = FIRST if number == "1" else OTHERS
    return f"blocks.{stage}.{block}.{names.get(layer, layer)}.{what}"


def load_backbone(backbone: nn.Module, path: Path, name: str) -> dict[str, list[str]]:
    """Initialise a backbone of the network `name` from a local file that covers all of it.

    It gives the names of the tensors "matched", and of those of the file that were "ignored": a
    classifier, or the rest of a whole network.

    Raises:
        CwdError: the file can't be read, or lacks a tensor, or has one of another shape.
    """
    backbone = getattr(backbone, "body", backbone)  # torchvision's and the detectors' are wrapped
    state, wanted = read_weights(path), backbone.state_dict()
    found = backbone_keys(state)
    if len(found) < len(state):
        raise CwdError(f"{path} holds several backbones: give a file with the one that is meant.")
    # batch norm's step counter is newer than many files, and nothing depends on it
    required = [key for key in wanted if not key.endswith("num_batches_tracked")]
    floats = {key: value for key, value in found.items() if value.is_floating_point()}
    unfit = [k for k in required if k not in floats or floats[k].shape != wanted[k].shape]
    if unfit:
        remedy = "use a file of the same kind of network, of the same depth, width and stem"
        if "conv1.weight" in found and "conv1.0.weight" in wanted:
            remedy = "its stem is one 7x7 convolution, this network's three 3x3: use such a file"
            remedy += "" if "(" in name else f", or the network {name}(stem=plain)"
        raise CwdError(
            f"{path} covers {len(required) - len(unfit)} of the {len(required)} tensors of "
            f"{name}'s backbone, {len(unfit)} are missing or of another shape or kind, first "
            f"{unfit[0]}: {remedy}."
        )
    check_values({key: found[key] for key in required}, path)
    backbone.load_state_dict({key: found.get(key, value) for key, value in wanted.items()})
    ignored = sorted(found.keys() - wanted.keys())
    return {"matched": [key for key in wanted if key in found], "ignored": ignored}
