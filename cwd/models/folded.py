"""A frozen network without its batch norms: their scale and shift in the convolutions' weights."""

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cwd.models.segmentation import SegmentationNetwork
from cwd.system.sync_layers import beside


def fold_norms(network: nn.Module) -> None:
    """Fold every batch norm into the convolution before it, in place; in eval mode, for good.

    The maps are the same to rounding. Only in our own segmentation networks is a norm known to
    follow the convolution that stands before it; others stay as they are.
    """
    if not isinstance(network, SegmentationNetwork):
        return
    for module in network.modules():
        before = ""  # the convolution whose output comes next
        for name, part in list(module.named_children()):
            if isinstance(part, nn.BatchNorm2d) and before:
                module.set_submodule(before, fuse_conv_bn_eval(module.get_submodule(before), part))
                module.set_submodule(name, beside(part))
            if not isinstance(part, nn.Identity):
                before = _last_convolution(name, part)


def _last_convolution(name: str, part: nn.Module) -> str:
    """The path of the convolution that a part is, or ends with; empty if it doesn't."""
    while isinstance(part, nn.Sequential) and len(part):
        last, part = [*part.named_children()][-1]
        name = f"{name}.{last}"
    return name if isinstance(part, nn.Conv2d) else ""
