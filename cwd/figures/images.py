"""The figures: one function each, every one returns the matplotlib figure it drew."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

INK, TEACHER, STUDENT = "#30343b", "#c1121f", "#1d6996"
SPATIAL, CHANNEL = "#6f7f8f", "#e17c05"
IGNORED_COLOUR = (225, 225, 225)

sns.set_theme(
    style="white",
    rc={
        "figure.dpi": 70,
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
    kinds = (("teacher", TEACHER), ("CW", CHANNEL), ("CT", CHANNEL), ("student", STUDENT))
    for word, colour in kinds:
        if word in name:
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


def gain_panel(axes: Axes, lines: pd.DataFrame, printed: str) -> None:
    """Gains over the student alone, a method a line: the paper's, and ours with their spread.

    Args:
        axes: where to draw.
        lines: by method, with `paper gain`, `our gain` and `gain sd`.
        printed: what the paper's are, for the legend.
    """
    places = range(len(lines))
    axes.axvline(0, color=STUDENT, linestyle=":", linewidth=1.5)
    axes.scatter(
        lines["paper gain"], places, marker="D", facecolor="none", edgecolor=INK, s=40,
        label=printed,
    )  # fmt: skip
    axes.errorbar(
        lines["our gain"], places, xerr=lines["gain sd"].fillna(0), fmt="none", ecolor=INK, lw=0.8
    )
    colours = [method_colour(name) for name in lines.index]
    axes.scatter(lines["our gain"], places, color=colours, s=34, label="ours")
    axes.set(yticks=places, yticklabels=lines.index)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.grid(axis="x", linewidth=0.4)


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
    cell = {1: 3.2, 2: 3.2, 3: 3.2, 4: 2.3}.get(len(columns), 1.9)  # inches
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
    width = 4.5 if len(histories) < 3 else 3.0
    figure, panels = plt.subplots(
        1,
        len(histories),
        figsize=(width * len(histories), 2.6),
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
