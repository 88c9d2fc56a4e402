"""The figures of the detection appendix; each function returns the matplotlib figure it drew."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from cwd.data.detection.masks import decoded
from cwd.experiments.rows_detection import MEASURES, METHODS
from cwd.figures.images import CHANNEL, INK, STUDENT, bare, gain_panel, method_colour, picture
from cwd.figures.method import overlay
from cwd.models.detection.outputs import Detections, Objects

SURE = 0.5  # score from which on a detection is drawn


def box(axes: Axes, sides: Sequence[float], colour: str, word: str = "") -> None:
    """Draw a box, left, top, right and bottom in pixels, with a word above it."""
    left, top, right, bottom = sides
    corner = (left - 0.5, top - 0.5)  # pixels are areas, matplotlib's are centres
    axes.add_patch(
        Rectangle(corner, right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1)
    )
    if word:
        axes.text(
            left,
            top - 1,
            word,
            color="white",
            fontsize=5.5,
            va="bottom",
            clip_on=True,
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.6, "alpha": 0.8},
        )


def fill(axes: Axes, mask: Tensor, colour: str) -> None:
    """Draw a mask, bool [H, W], so that the image is seen through it."""
    opacity = (0.45 * mask.float()).numpy()
    axes.imshow(np.dstack([np.broadcast_to(to_rgb(colour), (*mask.shape, 3)), opacity]))


def detections(
    images: Sequence[Tensor],
    columns: Mapping[str, Sequence[Objects | Detections]],
    classes: Sequence[str],
    *,
    sure: float = SURE,
) -> Figure:
    """Boxes in images, one image a row, one network a column; masks where there are some.

    Args:
        images: uint8 [3, H, W].
        columns: title to what is in each image; of detections, those with a score of `sure` or
            more are drawn.
        classes: names by label.
        sure: from 0 to 1.
    """
    height, width = images[0].shape[-2:]
    cell = 2.2
    figure, grid = plt.subplots(
        len(images),
        len(columns),
        figsize=(cell * len(columns), (cell * height / width + 0.08) * len(images) + 0.2),
        squeeze=False,
        layout="constrained",
    )
    for column, (title, found) in enumerate(columns.items()):
        for row, (image, things) in enumerate(zip(images, found, strict=True)):
            axes = bare(grid[row, column], title if row == 0 else "")
            axes.imshow(picture(image), interpolation="nearest")
            scored = isinstance(things, Detections)
            chosen = things.scores >= sure if scored else ~things.crowd
            colour = method_colour(title) if scored else INK
            if things.masks is not None:
                whole = decoded(things.masks, image.shape[-2:]) if scored else things.masks
                fill(axes, whole[chosen].any(dim=0), colour)
            for sides, label in zip(things.boxes[chosen], things.labels[chosen], strict=True):
                box(axes, sides.tolist(), colour, classes[int(label)])
    return figure


def precision_recall(curves: Mapping[str, Mapping[str, pd.DataFrame]]) -> Figure:
    """Precision over recall, a panel for each detector.

    Args:
        curves: detector to network ("teacher", "student", ...) to
            `cwd.evaluation.coco_ap.precision_recall`.
    """
    figure, grid = plt.subplots(
        1, len(curves), figsize=(3.1 * len(curves), 3.4), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axes, (detector, networks) in zip(grid[0], curves.items(), strict=True):
        for name, curve in networks.items():
            area = 100 * curve["precision"].mean()
            axes.plot(
                curve["recall"], curve["precision"], color=method_colour(name),
                label=f"{name}, AP50 {area:.1f}",
            )  # fmt: skip
        axes.set(title=detector, xlabel="recall", xlim=(0, 1), ylim=(0, 1))
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.18))
        axes.grid(linewidth=0.4)
    grid[0, 0].set_ylabel("precision, mean over classes")
    sns.despine(figure)
    return figure


def gains(table: pd.DataFrame) -> Figure:
    """Gain in AP over the student alone: the paper's beside ours, a panel for each detector.

    Args:
        table: see `cwd.experiments.rows_detection.detection_table`.
    """
    methods = [method for method in METHODS if method != "student"]
    detectors = list(dict.fromkeys(table.index.get_level_values("detector")))
    figure, grid = plt.subplots(
        1, len(detectors), figsize=(3.1 * len(detectors), 2.6), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axes, detector in zip(grid[0], detectors, strict=True):
        gain_panel(axes, table.loc[detector].reindex(methods), "paper, COCO")
        axes.set(title=detector, xlabel="gain in AP")
    grid[0, 0].legend(frameon=False, fontsize=7, loc="best")
    sns.despine(figure)
    return figure


def by_size(table: pd.DataFrame) -> Figure:
    """AP of small, medium and large objects, the paper's and ours: student alone and with CWD.

    Args:
        table: see `cwd.experiments.rows_detection.detection_table`.
    """
    words = [word for word in MEASURES.values() if "_" in word]
    detectors = list(dict.fromkeys(table.index.get_level_values("detector")))
    figure, grid = plt.subplots(
        2, len(detectors), figsize=(3.1 * len(detectors), 3.6), sharey="row", sharex=True,
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for column, detector in enumerate(detectors):
        for row, whose in enumerate(("paper", "our")):
            axes = grid[row, column]
            for shift, (method, colour) in enumerate((("student", STUDENT), ("CWD", CHANNEL))):
                values = table.loc[(detector, method), [f"{whose} {word}" for word in words]]
                places = [place + 0.36 * (shift - 0.5) for place in range(len(words))]
                axes.bar(places, values.astype(float), 0.34, color=colour, label=method)
            axes.set(xticks=range(len(words)), xticklabels=words)
            if row == 0:
                axes.set_title(detector)
    for axes, whose in zip(grid[:, 0], ("paper, COCO", "ours"), strict=True):
        axes.set_ylabel(whose)
    grid[0, 0].legend(frameon=False, fontsize=7)
    sns.despine(figure)
    return figure


def pyramid_channels(
    image: Tensor, maps: Mapping[str, Tensor], channels: Sequence[int], *, cell: float = 1.8
) -> Figure:
    """Channels of one level of several pyramids as distributions over positions (eq. 3).

    Args:
        image: uint8 [3, H, W].
        maps: network's title to its level, [C, h, w].
        channels: which, one a row.
        cell: width of a picture in inches.
    """
    height, width = image.shape[-2:]
    size = (cell * len(maps), cell * height / width * len(channels) + 0.25)
    figure, grid = plt.subplots(
        len(channels), len(maps), figsize=size, squeeze=False, layout="constrained"
    )
    for row, channel in enumerate(channels):
        for column, (title, level) in enumerate(maps.items()):
            heat = level[channel].flatten().softmax(dim=0).view(level.shape[1:])
            overlay(grid[row, column], image, heat, title if row == 0 else "")
        grid[row, 0].set_ylabel(f"channel {channel}")
    return figure
