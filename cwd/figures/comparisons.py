"""The figures of results: gains, sweeps, and the intervals behind the verdicts."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from cwd.experiments.claims.interval import PERCENT
from cwd.figures.images import CHANNEL, INK, STUDENT, TEACHER, method_colour

VERDICT_COLOURS = {"supported": "#2a9d5c", "contradicted": TEACHER, "undecided": "#8d99a6"}


def gains(results: pd.DataFrame, paper: Mapping[str, float | None], *, rival: str = "") -> Figure:
    """Gain over the student alone: the paper's and ours, every seed a point (figure 4).

    Args:
        results: one line a run, see `cwd.experiments.study.Study.results`.
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
        panels: the quantity's name to the results (`Study.results`) and the
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
    """The measured difference and 95 % interval behind every verdict in percent.

    Args:
        table: see `cwd.experiments.claims.verdicts`; claims that weren't run or have another
            unit are left out.
    """
    shown = table[(table["verdict"] != "not run") & table["unit"].isin(PERCENT)]
    figure, axes = plt.subplots(figsize=(9.5, 0.42 * len(shown) + 1.1), layout="constrained")
    axes.axvline(0, color=INK, linewidth=0.8)
    limit = 2.2 * max(1.0, shown["ours"].abs().max())
    for line, row in enumerate(shown.itertuples()):
        colour = VERDICT_COLOURS[row.verdict]
        ends = np.clip([row.low, row.high], -limit, limit)
        axes.plot(ends, [line, line], color=colour, linewidth=2)
        axes.scatter(row.ours, line, color=colour, s=40, zorder=3)
        if pd.notna(row.paper):
            axes.scatter(row.paper, line, marker="D", facecolor="none", edgecolor=INK, s=36)
    axes.set(
        yticks=range(len(shown)), yticklabels=shown["claim"], xlim=(-limit, limit),
        xlabel="difference in percent: mean, 95 % interval; cut where it leaves the panel",
    )  # fmt: skip
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.grid(axis="x", linewidth=0.4)
    for name, colour in VERDICT_COLOURS.items():
        axes.scatter([], [], color=colour, label=name)
    axes.scatter([], [], marker="D", facecolor="none", edgecolor=INK, label="paper")
    axes.legend(frameon=False, ncols=4, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def frontier(table: pd.DataFrame, data: str) -> Figure:
    """mIoU over parameters and multiply-adds, every student alone and with CWD; * is ImageNet.

    Args:
        table: see `cwd.experiments.rows_networks.network_table`.
        data: the dataset that was measured on; it has a row of panels of its own.
    """
    ours = f"our mIoU ({data})"
    printed = [f"{n}*" if init == "ImageNet" else n for n, init, _ in table.index]
    paper = ("the paper, Cityscapes", "paper val mIoU", "paper params (M)", "paper MAC (G)")
    rows = [(*paper, pd.Series(printed, table.index))]
    if ours in table and "ours (M)" in table:
        own = table["our network"].str.replace(", scratch", "").str.replace(", ImageNet", "*")
        rows.append((f"ours, {data}", ours, "ours (M)", "ours (G)", own))
    figure, grid = plt.subplots(
        len(rows), 2, figsize=(9.5, 3.6 * len(rows)), sharey="row", layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for axes, (title, miou, parameters, multiply_adds, names) in zip(grid, rows, strict=True):
        for ax, cost, unit in (
            (axes[0], parameters, "parameters (M)"),
            (axes[1], multiply_adds, "multiply-adds at 512x1024 (G)"),
        ):
            climbs(ax, table, cost, miou, names)
            ax.set(xscale="log", xlabel=unit, title=title)
            ax.margins(x=0.22, y=0.12)  # room for the names
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.grid(linewidth=0.4)
        axes[0].set_ylabel("mIoU (%)")
    grid[0, 0].legend(frameon=False, loc="lower right")
    return figure


def climbs(ax: Axes, table: pd.DataFrame, cost: str, miou: str, names: pd.Series) -> None:
    """An arrow from each student alone to the same with CWD, and the teacher."""
    marks = (("student", STUDENT, "o"), ("CWD", CHANNEL, "s"), ("teacher", TEACHER, "*"))
    for method, colour, marker in marks:
        shown = table[table.index.get_level_values("method") == method].dropna(subset=[cost, miou])
        if len(shown):
            label = {"student": "student alone", "CWD": "with CWD (PI + HO + CW_f)"}
            ax.scatter(
                shown[cost], shown[miou], color=colour, marker=marker, s=45, zorder=3,
                label=label.get(method, method),
            )  # fmt: skip
    for _, group in table.groupby(level=["network", "init"], sort=False):
        known = group.droplevel(["network", "init"])[[cost, miou]].dropna()
        if {"student", "CWD"} <= set(known.index):
            start, end = known.loc["student"], known.loc["CWD"]
            ax.annotate("", tuple(end), tuple(start), arrowprops={"arrowstyle": "->", "color": INK})
            name = names.loc[group.index].iloc[0]
            left = name.startswith("Deeplab")  # two networks of one backbone cost about the same
            ax.annotate(
                name,
                tuple(end),
                (-6 if left else 6, 2),
                textcoords="offset points",
                ha="right" if left else "left",
                fontsize=7,
            )
