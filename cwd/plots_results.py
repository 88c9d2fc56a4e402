"""The figures of results: gains, sweeps, and the intervals behind the verdicts."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cwd.plots import CHANNEL, INK, STUDENT, TEACHER, method_colour

VERDICT_COLOURS = {"supported": "#2a9d5c", "contradicted": TEACHER, "undecided": "#8d99a6"}


def gains(results: pd.DataFrame, paper: Mapping[str, float | None], *, rival: str = "") -> Figure:
    """Gain over the student alone: the paper's and ours, every seed a point (figure 4).

    Args:
        results: one line a run, see `cwd.experiments.Study.results`.
        paper: the rows to show, with the paper's gain in percent, or None where it prints none.
        rival: a row whose mean is drawn as a line, as figure 4 does with AT's.
    """
    student = results[results["row"].str.startswith("student")].set_index("seed")["miou"]
    ours = results[results["row"].isin(list(paper))]
    ours = ours.assign(gain=ours["miou"] - ours["seed"].map(student))
    order = list(paper)
    figure, axes = plt.subplots(figsize=(7, 0.32 * len(order) + 1.4), layout="constrained")
    axes.axvline(0, color=STUDENT, linestyle=":", linewidth=1.5, label="student alone")
    if rival:
        at = ours.loc[ours["row"] == rival, "gain"].mean()
        axes.axvline(at, color=TEACHER, linestyle=":", linewidth=1.5, label=f"{rival}, mean")
    for line, row in enumerate(order):
        mine = ours.loc[ours["row"] == row, "gain"]
        axes.scatter(mine, [line] * len(mine), color=method_colour(row), s=28, alpha=0.75)
        axes.plot([mine.mean()] * 2, [line - 0.25, line + 0.25], color=method_colour(row), lw=3)
        if paper[row] is not None:
            axes.scatter(paper[row], line, marker="D", facecolor="none", edgecolor=INK, s=45)
    axes.set(
        yticks=range(len(order)), yticklabels=order, xlabel="gain in mIoU over the student (%)"
    )
    axes.set_ylim(len(order) - 0.5, -0.5)
    if any(value is not None for value in paper.values()):
        axes.scatter([], [], marker="D", facecolor="none", edgecolor=INK, label="paper, Cityscapes")
    axes.scatter([], [], color=INK, label="ours, one point a seed (bar: mean)")
    axes.grid(axis="x", linewidth=0.4)
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure


def sweeps(panels: Mapping[str, tuple[pd.DataFrame, Mapping[str, float]]], student: str) -> Figure:
    """mIoU over a quantity, every seed a point, mean and standard deviation (figure 3).

    Args:
        panels: the quantity's name to the results (see `cwd.experiments.Study.results`) and the
            value of every row; a quantity that spans decades gets a log axis.
        student: row of the student alone, drawn as a line with its standard deviation.
    """
    figure, grid = plt.subplots(
        1, len(panels), figsize=(4.6 * len(panels), 3.2), sharey=True, layout="constrained"
    )
    for axes, (name, (results, values)) in zip(grid, panels.items(), strict=True):
        alone = results.loc[results["row"] == student, "miou"]
        axes.axhline(alone.mean(), color=STUDENT, linestyle=":", label="student alone")
        low, high = alone.mean() - alone.std(), alone.mean() + alone.std()
        axes.axhspan(low, high, color=STUDENT, alpha=0.12, linewidth=0)
        ours = results[results["row"].isin(list(values))]
        x = ours["row"].map(values).astype(float)
        axes.scatter(x, ours["miou"], color=CHANNEL, s=22, alpha=0.6, label="one seed")
        by_value = ours["miou"].groupby(x)
        axes.errorbar(
            by_value.mean().index, by_value.mean(), by_value.std(), color=CHANNEL, capsize=3,
            marker="_", markersize=12, label="mean, standard deviation",
        )  # fmt: skip
        if x.max() > 100 * x[x > 0].min():
            axes.set_xscale("log")
        else:
            axes.set_xlim(left=0)
        axes.set(xlabel=name)
        axes.grid(linewidth=0.4)
    grid[0].set_ylabel("mIoU (%)")
    grid[0].legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure


def forest(table: pd.DataFrame) -> Figure:
    """The measured difference and 95 % interval behind every verdict in mIoU.

    Args:
        table: see `cwd.claims.verdicts`; claims that weren't run or have another unit are left out.
    """
    shown = table[(table["verdict"] != "not run") & (table["unit"] == "mIoU")]
    figure, axes = plt.subplots(figsize=(9.5, 0.42 * len(shown) + 1.1), layout="constrained")
    axes.axvline(0, color=INK, linewidth=0.8)
    limit = 2.2 * max(1.0, np.nanmax(shown["ours"].abs()))
    for line, row in enumerate(shown.itertuples()):
        colour = VERDICT_COLOURS[row.verdict]
        ends = np.clip([row.low, row.high], -limit, limit)
        axes.plot(ends, [line, line], color=colour, linewidth=2)
        axes.scatter(row.ours, line, color=colour, s=40, zorder=3)
        if pd.notna(row.paper):
            axes.scatter(row.paper, line, marker="D", facecolor="none", edgecolor=INK, s=36)
    axes.set(
        yticks=range(len(shown)), yticklabels=shown["claim"], xlim=(-limit, limit),
        xlabel="difference in mIoU (%): mean and 95 % interval; cut where it leaves the panel",
    )  # fmt: skip
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.grid(axis="x", linewidth=0.4)
    for name, colour in VERDICT_COLOURS.items():
        axes.scatter([], [], color=colour, label=name)
    axes.scatter([], [], marker="D", facecolor="none", edgecolor=INK, label="paper, Cityscapes")
    axes.legend(frameon=False, ncols=4, loc="lower right", bbox_to_anchor=(1, 1))
    return figure
