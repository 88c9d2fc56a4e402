"""The figures: one function each, every one returns the matplotlib figure it drew."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

INK, TEACHER, STUDENT = "#30343b", "#c1121f", "#1d6996"
HEAT = "magma"
SPATIAL, CHANNEL = "#6f7f8f", "#e17c05"
IGNORED_COLOUR = (225, 225, 225)

sns.set_theme(
    style="white",
    rc={
        "figure.dpi": 80,
        "axes.titlesize": 10,
        "axes.labelsize": 9,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.fontsize": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.color": INK,
        "axes.labelcolor": INK,
    },
)


def method_colour(name: str) -> str:
    """One colour for a kind of method in every figure: teacher, student, spatial, channel-wise."""
    for start, colour in (("teacher", TEACHER), ("student", STUDENT), ("CW", CHANNEL)):
        if name.startswith(start):
            return colour
    return SPATIAL


def colours(target: Tensor | np.ndarray, palette: np.ndarray) -> np.ndarray:
    """A label map as a picture.

    Args:
        target: [H, W], train ids, 255 ignored.
        palette: uint8 [K, 3].

    Returns:
        uint8 [H, W, 3]; ignored pixels are light grey.
    """
    table = np.full((256, 3), IGNORED_COLOUR, np.uint8)
    table[: len(palette)] = palette
    return table[np.asarray(target)]


def picture(image: Tensor) -> np.ndarray:
    """uint8 [3, H, W] as [H, W, 3]."""
    return image.permute(1, 2, 0).cpu().numpy()


def bare(axes: Axes, title: str = "") -> Axes:
    """Take ticks and frame off `axes`."""
    axes.set(xticks=[], yticks=[])
    axes.set_title(title)
    sns.despine(ax=axes, left=True, bottom=True)
    return axes


def class_legend(figure: Figure, classes: Sequence[str], palette: np.ndarray) -> None:
    """The classes' colours, below the figure."""
    patches = [
        Patch(facecolor=colour / 255, edgecolor=INK, linewidth=0.3, label=name)
        for name, colour in zip(classes, palette, strict=True)
    ]
    figure.legend(
        handles=patches,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=max(3, int(1.1 * figure.get_figwidth())),
        frameon=False,
        fontsize=8,
    )


def pictures(
    columns: Mapping[str, Sequence[np.ndarray]],
    classes: Sequence[str] = (),
    palette: np.ndarray | None = None,
) -> Figure:
    """Columns of pictures, one image a row (the arrangement of figures 5 and 7).

    Args:
        columns: title to pictures, [H, W, 3] or [H, W], as many in every column.
        classes: names for the legend; none for no legend.
        palette: uint8 [K, 3], the legend's colours.
    """
    rows = len(next(iter(columns.values())))
    height, width = next(iter(columns.values()))[0].shape[:2]
    cell = 2.3 if len(columns) > 3 else 3.2
    figure, grid = plt.subplots(
        rows,
        len(columns),
        figsize=(cell * len(columns), (cell * height / width + 0.12) * rows + 0.2),
        squeeze=False,
        layout="constrained",
    )
    for column, (title, images) in enumerate(columns.items()):
        for row, image in enumerate(images):
            bare(grid[row, column], title if row == 0 else "").imshow(
                image, interpolation="nearest"
            )
    if palette is not None and classes:
        class_legend(figure, classes, palette)
    return figure


def frequencies(
    shares: Mapping[str, np.ndarray], classes: Sequence[str], palette: np.ndarray
) -> Figure:
    """Share of pixels of every class, one panel a split, on a log axis."""
    figure, panels = plt.subplots(
        1,
        len(shares),
        figsize=(4.5 * len(shares), 0.22 * len(classes) + 0.8),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for panel, (title, share) in zip(panels[0], shares.items(), strict=True):
        panel.barh(classes, 100 * share, color=palette / 255, edgecolor=INK, linewidth=0.4)
        panel.set(title=title, xscale="log", xlabel="% of labelled pixels")
        panel.invert_yaxis()
        panel.grid(axis="x", linewidth=0.4)
    return figure


def training(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """Loss terms by step, a panel a run."""
    figure, panels = plt.subplots(
        1,
        len(histories),
        figsize=(4.5 * len(histories), 2.6),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for panel, (title, history) in zip(panels[0], histories.items(), strict=True):
        for term in history.columns.drop(["step", "lr"]):
            panel.plot(history["step"], history[term], label=term)
        panel.set(title=title, xlabel="step", ylabel="loss", yscale="log")
        panel.grid(linewidth=0.4)
        panel.legend(frameon=False)
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


def class_bars(table: pd.DataFrame, title: str = "") -> Figure:
    """IoU of every class (line) for a few networks (columns), in percent."""
    long = table.reset_index().melt(id_vars="class", var_name="network", value_name="IoU (%)")
    figure, axes = plt.subplots(figsize=(10, 3.2), layout="constrained")
    shades = dict(zip(table.columns, sns.color_palette("deep", len(table.columns)), strict=True))
    sns.barplot(long, x="class", y="IoU (%)", hue="network", palette=shades, ax=axes)
    axes.set(xlabel="", title=title)
    axes.tick_params(axis="x", rotation=45)
    plt.setp(axes.get_xticklabels(), ha="right")
    axes.legend(frameon=False, ncols=len(table.columns), loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def gains(results: pd.DataFrame, paper: Mapping[str, float]) -> Figure:
    """Gain over the student alone: the paper's and ours, every seed a point (as figure 4).

    Args:
        results: one line a run, see `cwd.experiments.Study.results`.
        paper: the paper's gain in percent by row; rows without one are left out.
    """
    student = results[results["row"].str.startswith("student")].set_index("seed")["miou"]
    ours = results[results["row"].isin(list(paper))]
    ours = ours.assign(gain=ours["miou"] - ours["seed"].map(student))
    order = list(paper)
    figure, axes = plt.subplots(figsize=(7, 0.6 * len(order) + 1.2), layout="constrained")
    axes.axvline(0, color=STUDENT, linestyle="--", linewidth=1)
    for line, row in enumerate(order):
        mine = ours.loc[ours["row"] == row, "gain"]
        axes.scatter(mine, [line] * len(mine), color=method_colour(row), s=28, alpha=0.75)
        axes.plot([mine.mean()] * 2, [line - 0.25, line + 0.25], color=method_colour(row), lw=3)
        axes.scatter(paper[row], line, marker="D", facecolor="none", edgecolor=INK, s=45)
    axes.set(
        yticks=range(len(order)), yticklabels=order, xlabel="gain in mIoU over the student (%)"
    )
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.scatter([], [], marker="D", facecolor="none", edgecolor=INK, label="paper, Cityscapes")
    axes.scatter([], [], color=INK, label="ours, one point a seed (bar: mean)")
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure


def channel_distribution(channel: Tensor, temperature: float = 1.0) -> np.ndarray:
    """Equation 3 for one channel: softmax over its positions, [H, W] in and out."""
    flat = torch.softmax(channel.double().flatten() / temperature, dim=0)
    return flat.view(channel.shape).numpy()


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


def channel_maps(
    image: Tensor, maps: Mapping[str, Tensor], channels: Sequence[int], names: Sequence[str]
) -> Figure:
    """The same channels of several networks over one image (the arrangement of figure 6).

    Args:
        image: uint8 [3, H, W].
        maps: network's title to its score map [K, h, w].
        channels: which channels, one a row.
        names: what the channels stand for.
    """
    figure, grid = plt.subplots(
        len(channels),
        len(maps),
        figsize=(2.6 * len(maps), 1.45 * len(channels) + 0.2),
        squeeze=False,
        layout="constrained",
    )
    for row, (channel, name) in enumerate(zip(channels, names, strict=True)):
        for column, (title, score) in enumerate(maps.items()):
            overlay(grid[row, column], image, score[channel], title if row == 0 else "")
        grid[row, 0].set_ylabel(name)
    return figure


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
    figure, (top, bottom) = plt.subplots(2, 3, figsize=(10, 4.4), layout="constrained")
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
