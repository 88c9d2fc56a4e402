"""The figures of the walk-through: what channel-wise distillation compares."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from cwd.figures.images import STUDENT, TEACHER, bare, method_colour, picture
from cwd.models.segmentation import SegmentationOutput

HEAT = "magma"


def channel_distribution(channel: Tensor, temperature: float = 1.0) -> np.ndarray:
    """Equation 3 for one channel: softmax over its positions, [H, W] in and out."""
    flat = torch.softmax(channel.double().flatten() / temperature, dim=0)
    return flat.view(channel.shape).numpy()


def overlay(axes: Axes, image: Tensor, heat: Tensor, title: str) -> None:
    """A channel's activation laid over its image."""
    height, width = image.shape[-2:]
    heat = heat.float()
    low, high = torch.quantile(heat.flatten(), torch.tensor([0.02, 0.995]))
    grey = picture(image).mean(axis=2)
    bare(axes, title).imshow(grey, cmap="gray", extent=(0, width, height, 0))
    axes.imshow(
        heat.clamp(low, high),
        cmap=HEAT,
        alpha=0.65,
        extent=(0, width, height, 0),
        interpolation="bilinear",
    )


def alignments(
    image: Tensor,
    teacher: Tensor,
    student: Tensor,
    *,
    pixel: tuple[int, int],
    channel: int,
    classes: Sequence[str],
) -> Figure:
    """Figure 1: what spatial and what channel-wise distillation lay side by side.

    Args:
        image: uint8 [3, H, W].
        teacher: score map [K, h, w].
        student: score map [K, h, w].
        pixel: row and column in the score map whose class probabilities are shown.
        channel: the channel whose distribution over positions is shown.
        classes: K names.
    """
    figure, (top, bottom) = plt.subplots(2, 3, figsize=(8.4, 3.9), layout="constrained")
    height, width = image.shape[-2:]
    bare(top[0], "one pixel (spatial)").imshow(picture(image))
    scale = height / teacher.shape[1], width / teacher.shape[2]
    x, y = (pixel[1] + 0.5) * scale[1], (pixel[0] + 0.5) * scale[0]
    top[0].plot(x, y, "o", mfc="none", mec="white", mew=2, ms=12)
    for axes, name, score in ((top[1], "teacher", teacher), (top[2], "student", student)):
        shares = score[:, pixel[0], pixel[1]].double().softmax(0)
        axes.bar(range(len(classes)), shares, color=method_colour(name))
        axes.set(title=f"{name}: softmax over classes", ylim=(0, 1), xticks=range(len(classes)))
        axes.set_xticklabels(classes, rotation=90, fontsize=6)
    bare(bottom[0], f"one channel, “{classes[channel]}” (channel-wise)").imshow(picture(image))
    for axes, name, score in ((bottom[1], "teacher", teacher), (bottom[2], "student", student)):
        shares = channel_distribution(score[channel])
        bare(axes, f"{name}: softmax over positions").imshow(shares, cmap=HEAT)
    return figure


def taps(
    image: Tensor,
    outputs: Mapping[str, SegmentationOutput],
    channels: Sequence[int],
    classes: Sequence[str],
) -> Figure:
    """Figure 2, left: where the two losses tap the two networks.

    Args:
        image: uint8 [3, H, W].
        outputs: network's title to its output for this one image.
        channels: channels of the score map to show; of the feature map, whose channels have no
            name, the ones that vary most over the image are shown.
        classes: K names.
    """
    count = len(channels)
    figure, grid = plt.subplots(
        len(outputs),
        1 + 2 * count,
        figsize=(1.75 * (1 + 2 * count), 1.15 * len(outputs)),
        layout="constrained",
    )
    for row, (title, out) in zip(grid, outputs.items(), strict=True):
        bare(row[0]).imshow(picture(image))
        row[0].set_ylabel(title, color=method_colour(title))
        feature = out.feature[0].float()
        varied = feature.flatten(1).std(dim=1).argsort(descending=True)[:count].tolist()
        for axes, channel in zip(row[1 : 1 + count], varied, strict=True):
            bare(axes, f"feature {channel}").imshow(feature[channel], cmap=HEAT)
        for axes, channel in zip(row[1 + count :], channels, strict=True):
            bare(axes, f"score “{classes[channel]}”").imshow(
                out.score[0, channel].float(), cmap=HEAT
            )
    return figure


def divergence(teacher: Tensor, student: Tensor, channel: int, name: str) -> Figure:
    """Figure 2, right: a channel's two distributions and where their divergence comes from.

    Args:
        teacher: score map [K, h, w].
        student: score map [K, h, w].
        channel: which of its channels.
        name: what that channel stands for.
    """
    p, q = channel_distribution(teacher[channel]), channel_distribution(student[channel])
    forward, backward = p * np.log(p / q), q * np.log(q / p)
    figure, grid = plt.subplots(1, 4, figsize=(12, 1.9), layout="constrained")
    for axes, values, title in ((grid[0], p, "teacher $p$"), (grid[1], q, "student $q$")):
        bare(axes, f"{title}, “{name}”").imshow(values, cmap=HEAT)
    limit = max(np.abs(forward).max(), np.abs(backward).max())
    for axes, values, title in (
        (grid[2], forward, f"$p\\,\\log(p/q)$, sum {forward.sum():.2f}"),
        (grid[3], backward, f"$q\\,\\log(q/p)$, sum {backward.sum():.2f}"),
    ):
        shown = bare(axes, title).imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
    figure.colorbar(shown, ax=grid, shrink=0.8)
    return figure


def temperatures(channel: Tensor, image: Tensor, values: Sequence[float]) -> Figure:
    """What T does to one channel: its distribution at several temperatures.

    Args:
        channel: [h, w], a channel of a score or feature map.
        image: uint8 [3, H, W], where it comes from.
        values: the temperatures.
    """
    figure, grid = plt.subplots(
        1, len(values) + 1, figsize=(2.2 * (len(values) + 1), 1.7), layout="constrained"
    )
    bare(grid[0], "image").imshow(picture(image))
    for axes, value in zip(grid[1:], values, strict=True):
        shares = channel_distribution(channel, value)
        top = np.sort(shares.ravel())[::-1].cumsum()
        half = 100 * (np.searchsorted(top, 0.5) + 1) / shares.size
        bare(axes, f"T = {value:g}").imshow(shares, cmap=HEAT)
        axes.set_xlabel(f"half of it on {half:.0f} % of the map", fontsize=8)
    return figure


def fits(results: Mapping[str, tuple[Tensor, Tensor, Tensor]]) -> Figure:
    """A teacher's distribution over a line and the student's that was fitted to it.

    Args:
        results: title to positions, teacher's and student's probabilities, each [N].
    """
    figure, panels = plt.subplots(
        1, len(results), figsize=(4.5 * len(results), 2.2), sharey=True, layout="constrained"
    )
    for panel, (title, (x, p, q)) in zip(panels, results.items(), strict=True):
        panel.fill_between(x, p, color=TEACHER, alpha=0.25, label="teacher")
        panel.plot(x, q, color=STUDENT, lw=2, label="student")
        panel.set(title=title, xlabel="position", yticks=[])
    panels[0].legend(frameon=False)
    return figure


def channel_maps(
    image: Tensor,
    maps: Mapping[str, Tensor],
    channels: Sequence[int],
    names: Sequence[str],
    *,
    cell: float = 1.9,
) -> Figure:
    """The same channels of several networks over one image (the arrangement of figure 6).

    Args:
        image: uint8 [3, H, W].
        maps: network's title to its score map [K, h, w].
        channels: which channels, one a row.
        names: what the channels stand for.
        cell: width of a picture in inches.
    """
    figure, grid = plt.subplots(
        len(channels),
        len(maps),
        figsize=(cell * len(maps), 0.58 * cell * len(channels) + 0.2),
        squeeze=False,
        layout="constrained",
    )
    for row, (channel, name) in enumerate(zip(channels, names, strict=True)):
        for column, (title, score) in enumerate(maps.items()):
            overlay(grid[row, column], image, score[channel], title if row == 0 else "")
        grid[row, 0].set_ylabel(name)
    return figure
