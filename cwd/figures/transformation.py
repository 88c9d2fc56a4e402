"""How a student's channels match its teacher's, by recipe; empty for the student alone."""

from collections.abc import Mapping

import torch
from matplotlib.figure import Figure

from cwd.experiments.correlation import Channels, correlations
from cwd.figures.style import HEAT, bare, method_colour, panels


def channel_matches(found: Mapping[str, Channels]) -> Figure:
    """How a student's channels correlate with its teacher's, before and after what aligns them.

    Above, |r| of every channel of the student's map with those 64 channels of the teacher that vary
    most; the student's are sorted by the one that each fits best. Below, r of the map as the loss
    compares it, channel by channel: what was matched is a bright diagonal. Below 0 it is black.
    """
    teacher = next(iter(found.values())).teacher
    chosen = teacher.double().std(dim=1).topk(min(64, len(teacher))).indices.sort().values
    figure, grid = panels(2, len(found), 2.1 * len(found) + 0.6, 4.2)
    matrix = {"cmap": HEAT, "vmin": 0, "vmax": 1, "aspect": "auto", "interpolation": "nearest"}
    for (above, below), (name, channels) in zip(grid.T, found.items(), strict=True):
        goal = channels.teacher[chosen]
        before = correlations(channels.before, goal).abs()
        before = before[before.argmax(dim=1).argsort(stable=True)]
        drawn = bare(above, name or "student alone").imshow(before, **matrix)
        bare(below).set_xlabel("teacher's channels")
        if channels.after is None:
            below.text(0.5, 0.5, "nothing is compared", ha="center", va="center", fontsize=8)
        else:
            below.imshow(correlations(channels.after[chosen], goal).clamp(min=0), **matrix)
    grid[0, 0].set_ylabel("student's channels,\nas they are, sorted")
    grid[1, 0].set_ylabel("student's channels,\nas compared")
    figure.colorbar(drawn, ax=grid, label="|r|, below r", shrink=0.6)
    return figure


def matched_channels(found: Mapping[str, Channels]) -> Figure:
    """For every channel of the teacher, how well something of the student's fits it.

    Left, the student's best channel as it is; right, the channel of the same number as compared.
    """
    figure, ((left, right),) = panels(1, 2, 7.4, 2.6, sharey=True)
    for name, channels in found.items():
        look = {"color": method_colour(name or "student"), "ls": "--" if "(" in name else "-"}
        curves = [(left, channels.best())]
        if channels.after is not None:
            curves.append((right, channels.own()))
        for axes, values in curves:
            share = torch.linspace(0, 1, len(values))
            axes.plot(share, values.sort().values, **look, label=name or "student alone")
    left.set(ylabel="correlation", title="before: best |r|")
    right.set_title("after: r with its own number")
    for axes in (left, right):
        axes.set_xlabel("share of the teacher's channels")
    left.legend()
    return figure
