"""The figures of what the losses cost."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cwd.experiments.loss_costs import MIB
from cwd.figures.images import CHANNEL, INK, method_colour

# CW as in every figure; the others apart from it and from each other
COLOURS = {
    "MIMIC_f": "#98a4b0",
    "AT_f": "#5b6672",
    "PI": "#4fa3c7",
    "LOCAL_f": "#6aa84f",
    "PA_f": "#7d9fd3",
    "PA_f(pool_scale=0)": "#173f7a",
    "IFV_f": "#0b7a5b",
    "HO": "#2b2f36",
    "CW_f": CHANNEL,
}
SHORT = {"PA_f(pool_scale=0)": "PA_f full", "PA_f": "PA_f pooled"}
PANELS = (("positions", "channels", "positions N = h w", "C"), ("channels", "positions", "C", "N"))
COSTS = {"seconds": ("time (ms)", 1e3), "bytes": ("memory (MiB)", 1 / MIB)}
GAP = 0.05  # between two labels, as a share of the panel's height


def growth(costs: pd.DataFrame, cost: str) -> Figure:
    """How a cost grows with N at a fixed C and with C at a fixed N, one line a loss.

    Args:
        costs: see `cwd.experiments.loss_costs.measure_losses`.
        cost: "seconds" or "bytes".
    """
    label, factor = COSTS[cost]
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.4), sharey=True, layout="constrained")
    tables = []
    for panel, (by, other, title, letter) in zip(axes, PANELS, strict=True):
        fixed = costs[other].mode()[0]
        table = costs[costs[other] == fixed].pivot_table(index=by, columns="loss", values=cost)
        table = table[[name for name in COLOURS if name in table]] * factor
        for name, line in table.items():
            width, order = (2.8, 4) if name == "CW_f" else (1.5, 3)
            panel.plot(line, "o-", color=COLOURS[name], markersize=4, lw=width, zorder=order)
        panel.set(xscale="log", yscale="log", title=f"at {letter} = {fixed}")
        panel.set_xlabel(title if by == "positions" else "channels C")
        panel.set_xticks(table.index, [str(size) for size in table.index])
        panel.minorticks_off()
        panel.grid(linewidth=0.3)
        panel.set_xlim(table.index[0] * 0.8, table.index[-1] * 3.4)
        tables.append(table)
    axes[0].set_ylabel(f"{label}, forward and backward")
    low, high = axes[0].get_ylim()
    axes[0].set_ylim(low / 4, high)  # room for the slopes below the lines
    for panel, table in zip(axes, tables, strict=True):
        reference_slopes(panel, table)
        end_labels(panel, table)
    return figure


def reference_slopes(axes: Axes, table: pd.DataFrame) -> None:
    """Dotted lines of slope 1 and 2 at the lower right of a log-log panel, below all losses."""
    x = np.array([table.index[-1] / 3, table.index[-1]])
    low, high = axes.get_ylim()
    for slope in (1, 2):
        y = 1.25 * low * (x / x[0]) ** slope
        axes.plot(x, y, ":", color=INK, linewidth=1, zorder=1)
        axes.annotate(f"slope {slope}", (x[1], y[1]), xytext=(6, -2), textcoords="offset points",
                      fontsize=7, color=INK)  # fmt: skip
    axes.set_ylim(low, high)


def end_labels(axes: Axes, table: pd.DataFrame) -> None:
    """Every line's name at its right end, pushed apart where two would overlap."""
    low, high = np.log(axes.get_ylim())
    names = sorted(table, key=lambda name: table[name].iloc[-1])
    ends = [(np.log(table[name].iloc[-1]) - low) / (high - low) for name in names]
    places = spread(ends, GAP)
    right = axes.transData.transform((table.index[-1], 1))[0]
    x = axes.transAxes.inverted().transform((right, 0))[0]
    for name, end, place in zip(names, ends, places, strict=True):
        axes.annotate(
            SHORT.get(name, name),
            (x, end),
            xytext=(x + 0.05, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            color=COLOURS[name],
            weight="bold" if name == "CW_f" else "normal",
            arrowprops={"arrowstyle": "-", "color": COLOURS[name], "lw": 0.6, "shrinkB": 3},
        )


def spread(places: list[float], gap: float) -> list[float]:
    """Rising numbers moved as little as needed to be `gap` apart.

    Neighbours that are too close form a group, which is laid out around its mean.
    """
    groups = [[place] for place in places]
    while True:
        laid = [np.mean(g) + gap * (np.arange(len(g)) - (len(g) - 1) / 2) for g in groups]
        close = [i for i in range(1, len(laid)) if laid[i][0] - laid[i - 1][-1] < gap - 1e-9]
        if not close:
            return [float(place) for group in laid for place in group]
        groups[close[0] - 1 : close[0] + 1] = [groups[close[0] - 1] + groups[close[0]]]


def shares(table: pd.DataFrame) -> Figure:
    """Share of a training step by loss, the largest on top.

    Args:
        table: see `cwd.experiments.loss_costs.step_shares`.
    """
    share = table["share of a step (%)"].sort_values()
    figure, axes = plt.subplots(figsize=(7, 0.32 * len(share) + 0.8), layout="constrained")
    names = [SHORT.get(name, name) for name in share.index]
    bars = axes.barh(names, share, color=[method_colour(name) for name in share.index], height=0.7)
    axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    axes.set_xlabel("share of a training step with this loss (%)")
    axes.margins(x=0.1)
    return figure
