"""Labels as an index: their form and range are checked here, for every loss that looks at them."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cwd.losses.maps import Target
from cwd.system.errors import CwdError

CLASSES = 256  # that a label can name
IGNORED = 255  # the label of positions without a class, unless a loss is told another


def classes_at(
    target: Target,
    images: int,
    name: str,
    size: tuple[int, int] | None = None,
    classes: int = CLASSES,
    ignored: int = IGNORED,
) -> tuple[Tensor, Tensor]:
    """The class of every position of a batch of `images`, and whether all of them are classes.

    The labels, int64 [B, H, W], are brought to the `size` of a map by nearest neighbour, if it is
    given. A position that is `ignored` gets the number `classes`.

    Raises:
        CwdError: there is no target, or it isn't [B, H, W] of labels below `classes`; the sentence
            begins with the `name` of the loss. On a GPU, and compiled, a label out of range is only
            told by the second value: to raise would wait for the device.
    """
    if not isinstance(target, Tensor):
        raise CwdError(f"{name} compares pixels of a class: give it the target [B, H, W].")
    integer = not (target.is_floating_point() or target.is_complex())
    if target.ndim != 3 or len(target) != images or not target.numel() or not integer:
        raise CwdError(
            f"{name}'s target is {tuple(target.shape)} of {target.dtype}: give int64 [B, H, W], "
            f"the classes of the {images} images."
        )
    labels = target.long()
    if size:
        labels = F.interpolate(labels[:, None].float(), size=size, mode="nearest")[:, 0].long()
    nothing = labels == ignored
    known = (nothing | ((labels >= 0) & (labels < classes))).all()
    if target.device.type == "cpu" and not torch.compiler.is_compiling() and not known:
        raise CwdError(
            f"{name}'s target has labels from {target.min()} to {target.max()}: give classes "
            f"from 0 to {classes - 1}, and ignore_index ({ignored}) for none."
        )
    return labels.clamp(0, classes - 1).masked_fill(nothing, classes), known
