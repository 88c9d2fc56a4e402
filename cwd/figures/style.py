"""How every figure looks: a colour and a marker a method, fonts, and the layout of panels."""

import re
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, TEACHER, STUDENT = "#30343b", "#c1121f", "#1d6996"
SPATIAL, CHANNEL = "#6f7f8f", "#e17c05"
LOOKS = {  # of a method, in every figure
    "teacher": (TEACHER, "*"),
    "student": (STUDENT, "s"),
    "CW": (CHANNEL, "o"),
    "MIMIC": ("#98a4b0", "^"),
    "AT": ("#5b6672", "v"),
    "PI": ("#4fa3c7", "P"),
    "LOCAL": ("#6aa84f", "<"),
    "PA": ("#7d9fd3", ">"),
    "IFV": ("#0b7a5b", "X"),
    "HO": ("#2b2f36", "h"),
    "CT": ("#7a4b9a", "d"),
}
HEAT = "magma"  # of channels
PRINTED = {"marker": "D", "facecolor": "none", "edgecolor": INK}  # the paper's numbers
ABOVE = {"loc": "lower left", "bbox_to_anchor": (0, 1)}  # a legend over a panel's left corner
ALONE = {"color": STUDENT, "linestyle": ":", "label": "student alone"}  # a line

sns.set_theme(
    style="white",
    rc={
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


def look_of(name: str) -> tuple[str, str]:
    """Colour and marker of a method, or of the last of several; grey if it has none of its own."""
    known = re.findall(rf"\b({'|'.join(LOOKS)})", name)
    return LOOKS[known[-1]] if known else (SPATIAL, "o")


def method_colour(name: str) -> str:
    """The colour of `look_of`."""
    return look_of(name)[0]


def dots(axes: Axes, x: Any, y: Any, name: str, **more: Any) -> None:
    """Points of one method, as it looks everywhere."""
    colour, marker = look_of(name)
    axes.scatter(x, y, **{"color": colour, "marker": marker, "s": 34} | more)


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
