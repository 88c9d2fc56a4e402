"""The figures of the walk-through: what channel-wise distillation compares.

Images are uint8 [3, H, W], score maps [K, h, w], and `classes` names the K classes.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from cwd.figures.pictures import picture
from cwd.figures.style import HEAT, STUDENT, TEACHER, bare, method_colour, panels
from cwd.models.segmentation import SegmentationOutput

Names = Sequence[str]


def distribution(channel: Tensor, temperature: float = 1.0) -> np.ndarray:
    """Equation 3 for one channel, [H, W] in and out."""
    flat = torch.softmax(channel.double().flatten() / temperature, dim=0)
    return flat.view(channel.shape).numpy()


def alignments(
    image: Tensor,
    teacher: Tensor,
    student: Tensor,
    *,
    pixel: tuple[int, int],
    channel: int,
    classes: Names,
) -> Figure:
    """Figure 1: what spatial and what channel-wise distillation lay side by side.

    Of two score maps, the class probabilities at a pixel (row and column in the map), and a
    channel's distribution over positions.
    """
    figure, (top, bottom) = panels(2, 3, 8.4, 3.9)
    bare(top[0], "one pixel (spatial)").imshow(picture(image))
    bare(bottom[0], f"one channel, “{classes[channel]}” (channel-wise)").imshow(picture(image))
    sizes = zip(pixel, image.shape[1:], teacher.shape[1:], strict=True)
    y, x = ((place + 0.5) * large / small for place, large, small in sizes)
    top[0].plot(x, y, "o", mfc="none", mec="white", mew=2, ms=12)
    networks = {"teacher": teacher, "student": student}
    most = max(distribution(score[channel]).max() for score in networks.values())
    for above, below, (name, score) in zip(top[1:], bottom[1:], networks.items(), strict=True):
        shares = score[:, pixel[0], pixel[1]].double().softmax(0)
        above.bar(range(len(classes)), shares, color=method_colour(name))
        above.set(title=f"{name}: softmax over classes", ylim=(0, 1))
        above.set_xticks(range(len(classes)), classes, rotation=90, fontsize=6)
        shares = distribution(score[channel])
        lit = bare(below, f"{name}: softmax over positions").imshow(shares, HEAT, vmin=0, vmax=most)
    figure.colorbar(lit, ax=list(bottom[1:]), shrink=0.8)
    return figure


def taps(
    image: Tensor, outputs: Mapping[str, SegmentationOutput], channels: list[int], classes: Names
) -> Figure:
    """Figure 2, left: where the two losses tap the networks, by their title.

    The channels are the score map's; of the feature map, whose channels have no name, as many are
    shown that vary most over the image.
    """
    count = len(channels)
    figure, grid = panels(len(outputs), 1 + 2 * count, 1.75 * (1 + 2 * count), 1.15 * len(outputs))
    scores = torch.stack([out.score[0].float().flatten(1) for out in outputs.values()])
    low, high = scores.amin(dim=(0, 2)).tolist(), scores.amax(dim=(0, 2)).tolist()
    for row, (title, out) in zip(grid, outputs.items(), strict=True):
        bare(row[0]).imshow(picture(image))
        row[0].set_ylabel(title, color=method_colour(title))
        feature, score = out.feature[0].float(), out.score[0].float()
        varied = feature.flatten(1).std(dim=1).argsort(descending=True)[:count].tolist()
        shown = [(f"feature {c}", feature[c], None, None) for c in varied]
        shown += [(f"score “{classes[c]}”", score[c], low[c], high[c]) for c in channels]
        for axes, (name, values, *ends) in zip(row[1:], shown, strict=True):
            bare(axes, name).imshow(values, HEAT, vmin=ends[0], vmax=ends[1])
    for column in grid.T[1 + count :]:
        figure.colorbar(column[0].images[0], ax=list(column), location="bottom", shrink=0.8)
    return figure


def divergence(teacher: Tensor, student: Tensor, channel: int, name: str) -> Figure:
    """Figure 2, right: a channel's two distributions and where their divergence comes from."""
    p, q = distribution(teacher[channel]), distribution(student[channel])
    forward, backward = p * np.log(p / q), q * np.log(q / p)
    limit = max(np.abs(forward).max(), np.abs(backward).max())
    signed = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    figure, (line,) = panels(1, 4, 12, 1.9)
    one = {"cmap": HEAT, "vmin": 0, "vmax": max(p.max(), q.max())}
    bare(line[0], f"teacher $p$, “{name}”").imshow(p, **one)
    shown = bare(line[1], f"student $q$, “{name}”").imshow(q, **one)
    figure.colorbar(shown, ax=list(line[:2]), shrink=0.8)
    bare(line[2], f"$p\\,\\log(p/q)$, sum {forward.sum():.2f}").imshow(forward, **signed)
    shown = bare(line[3], f"$q\\,\\log(q/p)$, sum {backward.sum():.2f}").imshow(backward, **signed)
    figure.colorbar(shown, ax=list(line[2:]), shrink=0.8)
    return figure


def temperatures(channel: Tensor, image: Tensor, values: Sequence[float]) -> Figure:
    """What T does to one channel [h, w] of an image: its distribution at several temperatures."""
    figure, (line,) = panels(1, len(values) + 1, 2.2 * (len(values) + 1), 1.7)
    bare(line[0], "image").imshow(picture(image))
    for axes, value in zip(line[1:], values, strict=True):
        shares = distribution(channel, value)
        top = np.sort(shares.ravel())[::-1].cumsum()
        half = 100 * (np.searchsorted(top, 0.5) + 1) / shares.size
        bare(axes, f"T = {value:g}").imshow(shares, cmap=HEAT)
        axes.set_xlabel(f"half of it on {half:.0f} % of the map", fontsize=8)
    return figure


def fits(results: Mapping[str, tuple[Tensor, Tensor, Tensor]]) -> Figure:
    """A teacher's distribution over a line and the student's that was fitted to it, by title.

    Each result has the positions, the teacher's and the student's probabilities, [N].
    """
    figure, (line,) = panels(1, len(results), 4.5 * len(results), 2.2, sharey=True)
    for panel, (title, (x, p, q)) in zip(line, results.items(), strict=True):
        panel.fill_between(x, p, color=TEACHER, alpha=0.25, label="teacher")
        panel.plot(x, q, color=STUDENT, lw=2, label="student")
        panel.set(title=title, xlabel="position", yticks=[])
    line[0].legend()
    return figure
