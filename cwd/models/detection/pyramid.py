"""Backbones of detectors: timm's ResNets and ResNeXts with a feature pyramid (FPN) on them."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import FeaturePyramidNetwork


class Backbone(nn.Module):
    """A residual network whose stages are given before their last ReLU.

    Args:
        body: timm's network with `features_only`.
        pretrained: whether it starts from weights that were trained on ImageNet. Then, as in
            mmdetection's schedules, its stem and first stage stay as they are, and batch norm keeps
            the statistics it came with; from random weights, everything is learnt.

    Shape:
        Normalised images [B, 3, H, W] to C2 to C5, [B, C_l, H / s, W / s] with s = 4, 8, 16, 32.
    """

    def __init__(self, body: nn.Module, *, pretrained: bool = False) -> None:
        super().__init__()
        self.body, self.pretrained = body, pretrained
        for block in self._last_blocks():  # the last ReLU is applied in `forward`
            setattr(block, "act3" if hasattr(block, "act3") else "act2", nn.Identity())
        if pretrained:
            self.freeze()

    def freeze(self) -> None:
        """Leave the stem and the first stage as they are."""
        for name, module in self.body.items():
            module.requires_grad_(name.startswith("layer") and name != "layer1")

    def _last_blocks(self) -> list[nn.Module]:
        return [stage[-1] for name, stage in self.body.items() if name.startswith("layer")]

    def last_norms(self) -> list[nn.BatchNorm2d]:
        """The last norm of the residual branch of each stage's last block."""
        return [getattr(block, "bn3", None) or block.bn2 for block in self._last_blocks()]

    def train(self, mode: bool = True) -> "Backbone":
        """As usual, but batch norm that came with ImageNet weights keeps its statistics."""
        super().train(mode)
        if self.pretrained:
            for module in self.modules():
                if isinstance(module, _BatchNorm):  # or what takes its place in several processes
                    module.eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        stages, x = [], images
        for name, module in self.body.items():
            x = module(x)
            if name.startswith("layer"):
                stages.append(x)
                x = F.relu(x)
        return stages


def _after_conv(block: nn.Sequential, x: Tensor) -> Tensor:
    return block[1](x) if len(block) > 1 else x  # the norm, if there is one


class Pyramid(FeaturePyramidNetwork):
    """FPN with five levels, torchvision's but for its coarsest ones and for what it gives.

    Args:
        inputs: channels of the stages it is built on.
        channels: of every level.
        extra: "pool", a fifth level that is every other position of the fourth (Faster R-CNN's);
            or "conv", P6 and P7 by 3x3 convolutions of stride 2 from the last stage on, without the
            ReLU between that torchvision has (RetinaNet's and RepPoints' in mmdetection).
        norm: after each convolution.

    Shape:
        Stages [B, C_l, h_l, w_l], after their ReLU, to two lists of five maps [B, channels, ., .]:
        as the last convolutions give them, and after their norm.
    """

    def __init__(
        self,
        inputs: tuple[int, ...],
        channels: int,
        *,
        extra: str,
        norm: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__(list(inputs), channels, norm_layer=norm)
        self.coarse = nn.ModuleList()
        for width in (inputs[-1], channels) if extra == "conv" else ():
            conv = nn.Conv2d(width, channels, 3, stride=2, padding=1, bias=norm is None)
            nn.init.kaiming_uniform_(conv.weight, a=1)  # as torchvision's other levels
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
            self.coarse.append(nn.Sequential(conv, *([norm(channels)] if norm else [])))

    def forward(self, stages: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        inner = [block(x) for block, x in zip(self.inner_blocks, stages, strict=True)]
        for fine in reversed(range(len(inner) - 1)):
            size = inner[fine].shape[-2:]
            inner[fine] = inner[fine] + F.interpolate(inner[fine + 1], size=size, mode="nearest")
        convs = [block[0](x) for block, x in zip(self.layer_blocks, inner, strict=True)]
        levels = [_after_conv(block, x) for block, x in zip(self.layer_blocks, convs, strict=True)]
        x = stages[-1]
        for block in self.coarse:
            convs.append(block[0](x))
            x = _after_conv(block, convs[-1])
            levels.append(x)
        if not self.coarse:
            for maps in (convs, levels):
                maps.append(F.max_pool2d(maps[-1], 1, stride=2))
        return convs, levels
