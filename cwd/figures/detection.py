"""The figures of the detection appendix: boxes, masks, precision and pyramids."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from cwd.data.detection.masks import decoded
from cwd.experiments.rows_pairs import MEASURES
from cwd.figures.pictures import picture
from cwd.figures.style import CHANNEL, INK, STUDENT, bare, method_colour, panels
from cwd.models.detection.outputs import Detections, Objects


def detections(
    images: Sequence[Tensor],
    columns: Mapping[str, Sequence[Objects | Detections]],
    classes: Sequence[str],
    *,
    sure: float = 0.5,
) -> Figure:
    """Boxes in images [3, H, W], an image a row, a network a column; masks where there are some.

    A column is what is in each image; of detections, those with a score of `sure` or more.
    """
    height, width = images[0].shape[-2:]
    high = (2.2 * height / width + 0.08) * len(images) + 0.2
    figure, grid = panels(len(images), len(columns), 2.2 * len(columns), high)
    for line, (title, found) in zip(grid.T, columns.items(), strict=True):
        for axes, image, things in zip(line, images, found, strict=True):
            bare(axes, title if axes is line[0] else "")
            axes.imshow(picture(image), interpolation="nearest")
            scored = isinstance(things, Detections)
            chosen = things.scores >= sure if scored else ~things.crowd
            colour = method_colour(title) if scored else INK
            if things.masks is not None:
                whole = decoded(things.masks, image.shape[-2:]) if scored else things.masks
                shown = whole[chosen].any(dim=0)
                flat = np.broadcast_to(to_rgb(colour), (*shown.shape, 3))
                axes.imshow(np.dstack([flat, (0.45 * shown.float()).numpy()]))  # seen through
            for sides, label in zip(things.boxes[chosen], things.labels[chosen], strict=True):
                _box(axes, sides.tolist(), colour, classes[int(label)])
    return figure


def _box(axes: Axes, sides: Sequence[float], colour: str, word: str) -> None:
    left, top, right, bottom = sides
    corner = (left - 0.5, top - 0.5)  # pixels are areas, matplotlib's are centres
    look = {"fill": False, "edgecolor": colour, "linewidth": 1}
    axes.add_patch(Rectangle(corner, right - left, bottom - top, **look))
    behind = {"facecolor": colour, "edgecolor": "none", "pad": 0.6, "alpha": 0.8}
    words = {"color": "white", "fontsize": 5.5, "va": "bottom", "clip_on": True}
    axes.text(left, top - 1, word, bbox=behind, **words)


def precision_recall(curves: Mapping[str, Mapping[str, pd.DataFrame]]) -> Figure:
    """`cwd.evaluation.coco_ap.precision_recall` by detector, a panel each, and network."""
    figure, (line,) = panels(1, len(curves), 3.1 * len(curves), 3.4, sharey=True)
    for axes, (detector, networks) in zip(line, curves.items(), strict=True):
        for name, curve in networks.items():
            label = f"{name}, AP50 {100 * curve['precision'].mean():.1f}"
            axes.plot(curve["recall"], curve["precision"], color=method_colour(name), label=label)
        axes.set(title=detector, xlabel="recall", xlim=(0, 1), ylim=(0, 1))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18))
        axes.grid()
    line[0].set_ylabel("precision, mean over classes")
    return figure


def by_size(table: pd.DataFrame) -> Figure:
    """AP of small, medium and large objects, the paper's and ours: student alone and with CWD."""
    words = [word for word in MEASURES.values() if "_" in word]
    detectors = list(dict.fromkeys(table.index.get_level_values("detector")))
    figure, grid = panels(2, len(detectors), 3.1 * len(detectors), 3.6, sharey="row", sharex=True)
    for column, detector in zip(grid.T, detectors, strict=True):
        for axes, whose in zip(column, ("paper", "our"), strict=True):
            values = table.loc[detector].loc[["student", "CWD"], [f"{whose} {w}" for w in words]]
            bars = values.set_axis(words, axis=1).astype(float).T.plot.bar
            bars(ax=axes, color=[STUDENT, CHANNEL], width=0.7, rot=0, legend=False)
        column[0].set_title(detector)
    for axes, whose in zip(grid[:, 0], ("paper, COCO", "ours"), strict=True):
        axes.set_ylabel(whose)
    grid[0, 0].legend(fontsize=7)
    return figure
