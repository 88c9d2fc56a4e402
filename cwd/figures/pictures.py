"""The figures of images: their targets, predictions, and channels laid over them.

Images are uint8 [3, H, W], pictures [H, W, 3] or [H, W], and a palette is uint8 [K, 3].
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from torch import Tensor

from cwd.figures.style import HEAT, INK, bare, panels


def colours(target: Tensor | np.ndarray, palette: np.ndarray) -> np.ndarray:
    """A label map [H, W] as a picture, uint8 [H, W, 3]: ignored pixels (255) are light grey."""
    table = np.full((256, 3), 225, np.uint8)
    table[: len(palette)] = palette
    return table[np.asarray(target)]


def picture(image: Tensor) -> np.ndarray:
    """An image as a picture."""
    return image.permute(1, 2, 0).cpu().numpy()


def columns(
    columns: Mapping[str, Sequence[np.ndarray]],
    classes: Sequence[str] = (),
    palette: np.ndarray | None = None,
    *,
    cell: float | None = None,
    shared: Sequence[str] = (),
) -> Figure:
    """Columns of pictures, one image a row (the arrangement of figures 5 and 7).

    The classes' colours go into a legend. A cell is a picture's width in inches. Maps [H, W] in the
    columns `shared` have one scale, and a colour bar.
    """
    maps = [np.asarray(each) for title in shared for each in columns[title]]
    maps = [each for each in maps if each.ndim == 2]
    scale = {"vmin": min(m.min() for m in maps), "vmax": max(m.max() for m in maps)} if maps else {}
    rows = max(map(len, columns.values()))
    height, width = next(iter(columns.values()))[0].shape[:2]
    cell = cell or {1: 3.2, 2: 3.2, 3: 3.2, 4: 2.3}.get(len(columns), 1.9)
    high = (cell * height / width + 0.12) * rows + 0.2
    figure, grid = panels(rows, len(columns), cell * len(columns), high)
    for line, (title, images) in zip(grid.T, columns.items(), strict=True):
        one = scale if title in shared else {}
        for row, axes in enumerate(line):
            bare(axes, title if row == 0 else "")
            if row < len(images):
                drawn = axes.imshow(images[row], interpolation="nearest", **one)
        if one and title == shared[-1]:
            beside = grid[-1, [name in shared for name in columns]]
            figure.colorbar(drawn, ax=list(beside), shrink=0.8)
    if palette is not None and classes:
        patches = [
            Patch(facecolor=colour / 255, edgecolor=INK, linewidth=0.3, label=name)
            for name, colour in zip(classes, palette, strict=True)
        ]
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0)}
        figure.legend(handles=patches, ncols=max(3, int(1.1 * figure.get_figwidth())), **below)
    return figure


def frequencies(
    shares: Mapping[str, np.ndarray], classes: Sequence[str], palette: np.ndarray
) -> Figure:
    """Share of pixels of every class, one panel a split, on a log axis."""
    high = 0.22 * len(classes) + 0.8
    figure, grid = panels(1, len(shares), 4.5 * len(shares), high, sharex=True)
    for panel, (title, share) in zip(grid[0], shares.items(), strict=True):
        panel.barh(classes, 100 * share, color=palette / 255, edgecolor=INK, linewidth=0.4)
        panel.set(title=title, xscale="log", xlabel="% of labelled pixels")
        panel.invert_yaxis()
        panel.grid(axis="x")
    return figure


def channel_maps(
    image: Tensor, maps: Mapping[str, Tensor], channels: Sequence[int], names: Sequence[str],
    *, cell: float = 1.9, target: Tensor | None = None,
) -> Figure:  # fmt: skip
    """Channels of several networks' maps [C, h, w] over one image (the arrangement of figure 6).

    A channel is a row on one scale, with the name of what it stands for; a `target` [H, W] draws
    that class's border. A cell is a picture's width in inches.
    """
    high = cell * image.shape[1] / image.shape[2] * len(channels) + 0.25
    figure, grid = panels(len(channels), len(maps), cell * len(maps), high)
    for line, channel, name in zip(grid, channels, names, strict=True):
        heats = [level[channel].float() for level in maps.values()]
        ends = torch.quantile(torch.cat([h.flatten() for h in heats]), torch.tensor([0.02, 0.995]))
        for axes, title, heat in zip(line, maps, heats, strict=True):
            drawn = _overlay(axes, image, heat, ends.tolist(), title if axes in grid[0] else "")
            if target is not None:
                axes.contour(target == channel, [0.5], colors="white", linewidths=0.7)
        figure.colorbar(drawn, ax=list(line), shrink=0.85)
        line[0].set_ylabel(name)
    return figure


def _overlay(axes: Axes, image: Tensor, heat: Tensor, ends: list[float], title: str) -> AxesImage:
    height, width = image.shape[-2:]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    bare(axes, title).imshow(picture(image).mean(axis=2), cmap="gray", extent=extent)
    above = {"cmap": HEAT, "alpha": 0.65, "interpolation": "bilinear"}
    return axes.imshow(heat, extent=extent, vmin=ends[0], vmax=ends[1], **above)
