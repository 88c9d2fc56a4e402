"""The figures of notebook 07: where each loss pulls, and what a gain costs in time."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from cwd.figures.complexity import spread
from cwd.figures.pictures import picture
from cwd.figures.style import ALONE, HEAT, bare, dots, panels


def pulls(image: Tensor, found: Mapping[str, Tensor]) -> Figure:
    """An image, and the length of each loss's gradient at every position, by its own largest."""
    columns = -(-(1 + len(found)) // 2)
    figure, grid = panels(2, columns, 2.4 * columns, 3.2)
    for axes in grid.flat:
        bare(axes)
    bare(grid[0, 0], "image").imshow(picture(image))
    for axes, (recipe, pull) in zip(grid.flat[1:], found.items(), strict=False):
        bare(axes, recipe).imshow(pull, cmap=HEAT, vmin=0)
    return figure


def gains_over_time(gains: pd.Series, seconds: pd.Series) -> Figure:
    """Gain in mIoU by recipe over the time of a training step."""
    known = pd.DataFrame({"gain": gains, "ms": 1e3 * seconds}).dropna()
    figure, ((axes,),) = panels(1, 1, 8.5, 4)
    axes.axhline(0, **ALONE)
    gap = 0.04 * (known["gain"].max() - known["gain"].min())
    for _, near in known.sort_values("gain").groupby((known["ms"] / 20).round()):
        for (recipe, (gain, ms)), place in zip(
            near.iterrows(), spread(near["gain"].tolist(), gap), strict=True
        ):
            dots(axes, ms, gain, recipe)
            beside = (near["ms"].max() + 2, place)  # names of points that are close are apart
            axes.annotate(recipe, (ms, gain), beside, fontsize=7, va="center")
    axes.set(xlabel="a training step (ms)", ylabel="gain in mIoU over the student (%)")
    axes.margins(x=0.15)
    axes.legend()
    return figure
