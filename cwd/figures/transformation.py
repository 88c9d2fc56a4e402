"""The figures of notebook A2; each function returns the matplotlib figure it drew."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from torch import Tensor

from cwd.experiments.correlation import Channels, correlations, ordered, varied
from cwd.figures.images import bare, gain_panel, picture

SHOWN = 64  # channels of the teacher that are drawn
HEAT = "magma"


def examples(images: Mapping[str, Sequence[Tensor]]) -> Figure:
    """A few images of each class, a class a column.

    Args:
        images: class to uint8 [3, H, W], of any size.
    """
    count = max(map(len, images.values()))
    figure, grid = plt.subplots(
        count, len(images), figsize=(0.95 * len(images), 1.0 * count + 0.2), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for column, (name, chosen) in enumerate(images.items()):
        for row in range(count):
            axes = bare(grid[row, column], name if row == 0 else "")
            axes.title.set_fontsize(8)
            if row < len(chosen):
                axes.imshow(picture(chosen[row]), interpolation="nearest")
    return figure


def gains(table: pd.DataFrame) -> Figure:
    """Gain over the student alone, a panel for each task that was measured.

    Args:
        table: see `cwd.experiments.rows_transformation.transformation_table`.
    """
    tasks = [
        task
        for task in dict.fromkeys(table.index.get_level_values("task"))
        if table.loc[task, "our gain"].notna().any()
    ]
    figure, grid = plt.subplots(
        1, len(tasks), figsize=(2.5 * len(tasks) + 0.8, 2.4), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axes, task in zip(grid[0], tasks, strict=True):
        lines = table.loc[task].drop(index=["teacher", "student"])
        gain_panel(axes, lines, "abstract, full data")
        measure = table.loc[(task, "student"), "measure"]
        axes.set(title=task, xlabel=f"gain in {measure}")
    grid[0, -1].legend(frameon=False, fontsize=7, loc="best")
    sns.despine(figure)
    return figure


def channel_matches(found: Mapping[str, Channels]) -> Figure:
    """How a student's channels correlate with its teacher's, before and after what aligns them.

    Above, |r| of every channel of the student's map with those 64 channels of the teacher that vary
    most; the student's are sorted by the one that each fits best. Below, r of the map as the loss
    compares it, channel by channel: what was matched is a bright diagonal. Below 0 it is black.

    Args:
        found: recipe, empty for the student alone, to its channels.
    """
    teacher = next(iter(found.values())).teacher
    chosen = teacher.double().std(dim=1).topk(min(SHOWN, len(teacher))).indices.sort().values
    figure, grid = plt.subplots(
        2, len(found), figsize=(2.1 * len(found) + 0.6, 4.2), squeeze=False, layout="constrained"
    )
    for (above, below), (name, channels) in zip(grid.T, found.items(), strict=True):
        goal = channels.teacher[chosen]
        before = ordered(correlations(channels.before, goal).abs())
        drawn = bare(above, name or "student alone").imshow(
            before, cmap=HEAT, vmin=0, vmax=1, aspect="auto", interpolation="nearest"
        )
        bare(below)
        if channels.after is None:
            below.text(0.5, 0.5, "nothing is compared", ha="center", va="center", fontsize=8)
            continue
        after = correlations(channels.after[chosen], goal).clamp(min=0)
        below.imshow(after, cmap=HEAT, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    grid[0, 0].set_ylabel("student's channels,\nas they are, sorted")
    grid[1, 0].set_ylabel("student's channels,\nas compared")
    for axes in grid[1]:
        axes.set_xlabel("teacher's channels")
    figure.colorbar(drawn, ax=grid, label="|r|, below r", shrink=0.6)
    return figure


def matched_channels(found: Mapping[str, Channels]) -> Figure:
    """For every channel of the teacher, how well something of the student's fits it.

    Left, the student's best channel as it is; right, the channel of the same number as compared.

    Args:
        found: recipe, empty for the student alone, to its channels.
    """
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(7.4, 2.6), sharey=True, layout="constrained"
    )
    for number, (name, channels) in enumerate(found.items()):
        colour, word = sns.color_palette("colorblind")[number], name or "student alone"
        alive = varied(channels.teacher)
        teacher = channels.teacher[alive]
        best = correlations(channels.before, teacher).abs().amax(dim=0)
        share = torch.linspace(0, 1, len(best))
        left.plot(share, best.sort().values, color=colour, label=word)
        if channels.after is not None:
            own = correlations(channels.after[alive], teacher).diagonal()
            right.plot(share, own.sort().values, color=colour, label=word)
    left.set(
        xlabel="share of the teacher's channels", ylabel="correlation", title="before: best |r|"
    )
    right.set(xlabel="share of the teacher's channels", title="after: r with its own number")
    left.legend(frameon=False)
    sns.despine(figure)
    return figure
