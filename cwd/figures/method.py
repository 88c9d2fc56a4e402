"""The figures of the walk-through: what channel-wise distillation compares."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from cwd.figures.pictures import picture
from cwd.figures.style import HEAT, STUDENT, TEACHER, bare, method_colour, panels
from cwd.models.segmentation import SegmentationOutput


def _distribution(channel: Tensor, temperature: float = 1.0) -> np.ndarray:
    # equation 3 for one channel, [H, W] in and out
    flat = torch.softmax(channel.double().flatten() / temperature, dim=0)
    return flat.view(channel.shape).numpy()


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
    figure, (top, bottom) = panels(2, 3, 8.4, 3.9)
    bare(top[0], "one pixel (spatial)").imshow(picture(image))
    bare(bottom[0], f"one channel, “{classes[channel]}” (channel-wise)").imshow(picture(image))
    sizes = zip(pixel, image.shape[1:], teacher.shape[1:], strict=True)
    y, x = ((place + 0.5) * large / small for place, large, small in sizes)
    top[0].plot(x, y, "o", mfc="none", mec="white", mew=2, ms=12)
    networks = {"teacher": teacher, "student": student}
    for above, below, (name, score) in zip(top[1:], bottom[1:], networks.items(), strict=True):
        shares = score[:, pixel[0], pixel[1]].double().softmax(0)
        above.bar(range(len(classes)), shares, color=method_colour(name))
        above.set(title=f"{name}: softmax over classes", ylim=(0, 1))
        above.set_xticks(range(len(classes)), classes, rotation=90, fontsize=6)
        shares = _distribution(score[channel])
        bare(below, f"{name}: softmax over positions").imshow(shares, cmap=HEAT)
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
    figure, grid = panels(len(outputs), 1 + 2 * count, 1.75 * (1 + 2 * count), 1.15 * len(outputs))
    for row, (title, out) in zip(grid, outputs.items(), strict=True):
        bare(row[0]).imshow(picture(image))
        row[0].set_ylabel(title, color=method_colour(title))
        feature, score = out.feature[0].float(), out.score[0].float()
        varied = feature.flatten(1).std(dim=1).argsort(descending=True)[:count].tolist()
        shown = [(f"feature {c}", feature[c]) for c in varied]
        shown += [(f"score “{classes[c]}”", score[c]) for c in channels]
        for axes, (name, values) in zip(row[1:], shown, strict=True):
            bare(axes, name).imshow(values, cmap=HEAT)
    return figure


def divergence(teacher: Tensor, student: Tensor, channel: int, name: str) -> Figure:
    """Figure 2, right: a channel's two distributions and where their divergence comes from.

    Args:
        teacher: score map [K, h, w].
        student: score map [K, h, w].
        channel: which of its channels.
        name: what that channel stands for.
    """
    p, q = _distribution(teacher[channel]), _distribution(student[channel])
    forward, backward = p * np.log(p / q), q * np.log(q / p)
    figure, (line,) = panels(1, 4, 12, 1.9)
    for axes, values, title in ((line[0], p, "teacher $p$"), (line[1], q, "student $q$")):
        bare(axes, f"{title}, “{name}”").imshow(values, cmap=HEAT)
    limit = max(np.abs(forward).max(), np.abs(backward).max())
    for axes, values, title in (
        (line[2], forward, "$p\\,\\log(p/q)$"),
        (line[3], backward, "$q\\,\\log(q/p)$"),
    ):
        about = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
        shown = bare(axes, f"{title}, sum {values.sum():.2f}").imshow(values, **about)
    figure.colorbar(shown, ax=line, shrink=0.8)
    return figure


def temperatures(channel: Tensor, image: Tensor, values: Sequence[float]) -> Figure:
    """What T does to one channel: its distribution at several temperatures.

    Args:
        channel: [h, w], a channel of a score or feature map.
        image: uint8 [3, H, W], where it comes from.
        values: the temperatures.
    """
    figure, (line,) = panels(1, len(values) + 1, 2.2 * (len(values) + 1), 1.7)
    bare(line[0], "image").imshow(picture(image))
    for axes, value in zip(line[1:], values, strict=True):
        shares = _distribution(channel, value)
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
    figure, (line,) = panels(1, len(results), 4.5 * len(results), 2.2, sharey=True)
    for panel, (title, (x, p, q)) in zip(line, results.items(), strict=True):
        panel.fill_between(x, p, color=TEACHER, alpha=0.25, label="teacher")
        panel.plot(x, q, color=STUDENT, lw=2, label="student")
        panel.set(title=title, xlabel="position", yticks=[])
    line[0].legend()
    return figure
