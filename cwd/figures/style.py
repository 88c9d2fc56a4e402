"""How every figure looks: one colour a kind of method, fonts, and the layout of panels."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, TEACHER, STUDENT = "#30343b", "#c1121f", "#1d6996"
SPATIAL, CHANNEL = "#6f7f8f", "#e17c05"
HEAT = "magma"  # of channels
PRINTED = {"marker": "D", "facecolor": "none", "edgecolor": INK}  # the paper's numbers
ABOVE = {"loc": "lower left", "bbox_to_anchor": (0, 1)}  # a legend over a panel's left corner
ALONE = {"color": STUDENT, "linestyle": ":", "label": "student alone"}  # a line

sns.set_theme(
    style="white",
    rc={
        "figure.dpi": 70,
        "image.cmap": HEAT,
        "figure.constrained_layout.use": True,
        "axes.titlesize": 10,
        "axes.labelsize": 9,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.fontsize": 8,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.linewidth": 0.4,
        "text.color": INK,
        "axes.labelcolor": INK,
    },
)


def method_colour(name: str) -> str:
    """One colour for a kind of method in every figure: teacher, student, spatial, channel-wise."""
    kinds = (("teacher", TEACHER), ("CW", CHANNEL), ("CT", CHANNEL), ("student", STUDENT))
    return next((colour for word, colour in kinds if word in name), SPATIAL)


def panels(
    rows: int, columns: int, width: float, height: float, **shared: Any
) -> tuple[Figure, np.ndarray]:
    """A figure of so many inches, and its axes [rows, columns]."""
    return plt.subplots(rows, columns, figsize=(width, height), squeeze=False, **shared)


def bare(axes: Axes, title: str = "") -> Axes:
    """Take ticks and frame off `axes`."""
    axes.set(xticks=[], yticks=[])
    axes.set_title(title)
    sns.despine(ax=axes, left=True, bottom=True)
    return axes


def lines_of(axes: Axes, names: list[str]) -> None:
    """Name the lines of a panel, the first on top, with a grid across them."""
    axes.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    axes.grid(axis="x")
