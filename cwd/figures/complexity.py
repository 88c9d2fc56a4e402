"""The figures of what the losses cost."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from cwd.experiments.loss_costs import LOSSES, MIB
from cwd.figures.style import INK, look_of, method_colour, panels

SHORT = {"PA_f(pool_scale=0)": "PA_f full", "PA_f": "PA_f pooled"}
COSTS = {"seconds": ("time (ms)", 1e3), "bytes": ("memory (MiB)", 1 / MIB)}


def growth(costs: pd.DataFrame, cost: str) -> Figure:
    """How a cost, "seconds" or "bytes", grows with N at a fixed C and with C at a fixed N.

    A line a loss, from `cwd.experiments.loss_costs.measure_losses`.
    """
    label, factor = COSTS[cost]
    figure, (line,) = panels(1, 2, 10.5, 4.4, sharey=True)
    tables = []
    sizes = (("positions", "positions N = h w", "channels", "C"),
             ("channels", "channels C", "positions", "N"))  # fmt: skip
    for panel, (by, axis, other, letter) in zip(line, sizes, strict=True):
        fixed = costs[other].mode()[0]
        table = costs[costs[other] == fixed].pivot_table(index=by, columns="loss", values=cost)
        table = table[[name for name in LOSSES if name in table]] * factor
        for name, values in table.items():
            width, order = (2.8, 4) if name == "CW_f" else (1.5, 3)
            colour, marker = look_of(name)
            dash = "--" if "(" in name else "-"  # PA at full resolution
            look = {"color": colour, "marker": marker, "ls": dash, "markersize": 4}
            panel.plot(values, **look, lw=width, zorder=order)
        panel.set(xscale="log", yscale="log", title=f"at {letter} = {fixed}", xlabel=axis)
        panel.set_xticks(table.index, [str(size) for size in table.index])
        panel.minorticks_off()
        panel.grid(linewidth=0.3)
        panel.set_xlim(table.index[0] * 0.8, table.index[-1] * 3.4)
        tables.append(table)
    line[0].set_ylabel(f"{label}, forward and backward")
    low, high = line[0].get_ylim()
    line[0].set_ylim(low / 4, high)  # room for the slopes below the lines
    for panel, table in zip(line, tables, strict=True):
        _reference_slopes(panel, table)
        _end_labels(panel, table)
    return figure


def _reference_slopes(axes: Axes, table: pd.DataFrame) -> None:
    # dotted lines at the lower right, below all losses
    x = np.array([table.index[-1] / 3, table.index[-1]])
    low, high = axes.get_ylim()
    for slope in (1, 2):
        y = 1.25 * low * (x / x[0]) ** slope
        axes.plot(x, y, ":", color=INK, linewidth=1, zorder=1)
        shift = {"xytext": (6, -2), "textcoords": "offset points"}
        axes.annotate(f"slope {slope}", (x[1], y[1]), fontsize=7, color=INK, **shift)
    axes.set_ylim(low, high)


def _end_labels(axes: Axes, table: pd.DataFrame) -> None:
    # every line's name at its right end, pushed apart where two would overlap
    low, high = np.log(axes.get_ylim())
    last = table.iloc[-1].sort_values()
    ends = ((np.log(last) - low) / (high - low)).tolist()
    x = (axes.transData - axes.transAxes).transform((table.index[-1], 1))[0]
    share = {"xycoords": "axes fraction", "textcoords": "axes fraction", "va": "center"}
    for name, end, place in zip(last.index, ends, spread(ends, 0.05), strict=True):
        arrow = {"arrowstyle": "-", "color": method_colour(name), "lw": 0.6, "shrinkB": 3}
        weight = "bold" if name == "CW_f" else "normal"
        words = {"fontsize": 8, "color": method_colour(name), "weight": weight, "arrowprops": arrow}
        axes.annotate(SHORT.get(name, name), (x, end), (x + 0.05, place), **words, **share)


def spread(places: list[float], gap: float) -> list[float]:
    """Rising numbers moved as little as needed, by least squares, to be `gap` apart."""
    steps = gap * np.arange(len(places))
    return (isotonic_regression(np.array(places) - steps).x + steps).round(12).tolist()


def shares(table: pd.DataFrame) -> Figure:
    """`cwd.experiments.loss_costs.step_shares`, the largest on top."""
    share = table["share of a step (%)"].sort_values()
    figure, ((axes,),) = panels(1, 1, 7, 0.32 * len(share) + 0.8)
    names = [SHORT.get(name, name) for name in share.index]
    bars = axes.barh(names, share, color=[method_colour(name) for name in share.index], height=0.7)
    axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    axes.set_xlabel("share of a training step with this loss (%)")
    axes.margins(x=0.1)
    return figure
