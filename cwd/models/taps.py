"""Any network as teacher or student: the modules whose outputs are its score and feature map."""

import difflib
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwd.losses.maps import whole
from cwd.models.segmentation import SegmentationOutput
from cwd.system.errors import CwdError

PROBE = (64, 64)  # height and width of the image that the maps' channels are found with
# where libraries' outputs keep the scores: ours, Hugging Face's, torchvision's
SCORES = ("score", "logits", "out")


class Taps(nn.Module):
    """A network of torchvision, timm, segmentation_models_pytorch, Hugging Face, or one's own.

    It listens to modules of the network, by their names in `network.named_modules()`; the network
    itself and its weights' names stay as they are, in `.network`.

    Args:
        network: takes normalised images, float32 [B, 3, H, W], as its first argument.
        score: the module that gives the score map [B, K, h, w]; empty for the network's own output,
            which may be a tensor, or an object or mapping with `logits` or `out`.
        feature: the module that gives the feature map [B, C, h, w].
        backbone: the module that gives the backbone's last stage, for losses on it (`MGD_b`).
        aux: a module that gives a second score map, trained with its own cross-entropy.
        num_classes: K, checked; what the score map has if None.
        multiple: the network takes heights and widths that are multiples of it: others are resized
            to the next one, bilinearly, and the maps cover the same image.
        name: for errors; the class's name if empty.

    Shape:
        Images [B, 3, H, W] to a `SegmentationOutput`; maps keep the size that the modules give.

    Raises:
        CwdError: a name is no module's, a module didn't run or ran twice, gives no map, or the
            score map's channels aren't the classes.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        feature: str,
        score: str = "",
        backbone: str = "",
        aux: str = "",
        num_classes: int | None = None,
        multiple: int = 1,
        name: str = "",
    ) -> None:
        super().__init__()
        self.network, self.multiple = network, whole("multiple", multiple)
        self.name = name or type(network).__name__
        others = {"backbone": backbone, "aux": aux}
        self.taps = {"score": score, "feature": feature} | {k: v for k, v in others.items() if v}
        self._check_names()
        maps = self._probe()
        self.num_classes, self.feature_channels = maps["score"].shape[1], maps["feature"].shape[1]
        if backbone:
            self.backbone_channels = maps["backbone"].shape[1]
        self._check_classes(maps, num_classes)

    def _check_names(self) -> None:
        known = [name for name, _ in self.network.named_modules()]
        for role, name in self.taps.items():
            if name in known and (name or role == "score"):
                continue
            near = difflib.get_close_matches(str(name), known, n=4, cutoff=0.3)
            children = [child for child, _ in self.network.named_children()]
            raise CwdError(
                f"{self.name} has no module {name!r} to tap as {role}: use a name of its "
                f"named_modules(), such as {', '.join(filter(None, near)) or ', '.join(children)}."
            )

    @torch.no_grad()
    def _probe(self) -> dict[str, Tensor]:
        """The maps of a blank image, and the network's own output as "own" if it holds a map."""
        like = next(self.network.parameters(), torch.empty(()))
        modes = [(module, module.training) for module in self.network.modules()]
        self.network.eval()
        try:
            return self._run(torch.zeros(1, 3, *PROBE, device=like.device, dtype=like.dtype))
        finally:
            for module, mode in modes:
                module.training = mode

    def _check_classes(self, maps: dict[str, Tensor], num_classes: int | None) -> None:
        found, own = self.num_classes, maps["own"]
        wanted = num_classes or (own.shape[1] if own is not None else found)
        if found != wanted:
            remedy = "build it for as many, or tap its last layer"
            if self.feature_channels == wanted:
                remedy = "the taps of score and feature are exchanged, exchange them"
            place = f"score tap {self.taps['score']!r}" if self.taps["score"] else "output"
            raise CwdError(
                f"{self.name}'s {place} has {found} channels, and there are {wanted} classes: "
                f"{remedy}."
            )

    def forward(self, images: Tensor) -> SegmentationOutput:
        """See the class."""
        high, wide = (-(-side // self.multiple) * self.multiple for side in images.shape[-2:])
        if (high, wide) != tuple(images.shape[-2:]):
            images = F.interpolate(images, (high, wide), mode="bilinear", align_corners=False)
        maps = self._run(images)
        auxiliary = maps.get("aux") if self.training else None
        return SegmentationOutput(maps["score"], maps["feature"], auxiliary, maps.get("backbone"))

    def _run(self, images: Tensor) -> dict[str, Any]:
        """The maps of the taps, and "own"."""
        seen: dict[str, list[Any]] = {role: [] for role in self.taps}
        handles = [
            self.network.get_submodule(name).register_forward_hook(
                lambda module, given, out, role=role: seen[role].append(out)
            )
            for role, name in self.taps.items()
        ]
        try:
            out = self.network(images)
        except RuntimeError as error:
            shown = " ".join(str(error).split())
            raise CwdError(
                f"{self.name} fails on images {list(images.shape)} ({shown}): give it a size that "
                "it takes, or a `multiple`."
            ) from error
        finally:
            for handle in handles:
                handle.remove()
        return {role: self._map(role, outs) for role, outs in seen.items()} | {"own": _scores(out)}

    def _map(self, role: str, outs: list[Any]) -> Tensor:
        place = f"{self.name}'s module {self.taps[role]!r}, its {role} tap,"
        if len(outs) != 1:
            times = f"ran {len(outs)} times" if outs else "did not run"
            raise CwdError(f"{place} {times} in one pass: tap a module that runs once.")
        if (found := _scores(outs[0])) is None:
            shape = getattr(outs[0], "shape", type(outs[0]).__name__)
            shown = list(shape) if isinstance(shape, torch.Size) else shape
            raise CwdError(f"{place} gives {shown}: tap one that gives a map [B, C, h, w].")
        return found


def _scores(out: Any) -> Tensor | None:
    """The map [B, C, h, w] that an output is or holds; None if it holds none."""
    if isinstance(out, list | tuple) and len(out) == 1:
        return _scores(out[0])
    for name in () if isinstance(out, Tensor) else SCORES:
        part = out.get(name) if isinstance(out, Mapping) else getattr(out, name, None)
        if part is not None:
            return _scores(part)
    return out if isinstance(out, Tensor) and out.ndim == 4 else None
