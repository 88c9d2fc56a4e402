"""The figures of results: gains, sweeps, classes, and the intervals behind the verdicts."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from cwd.experiments.claims.interval import PERCENT
from cwd.figures import style


def training(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """Loss terms by step, a panel a run."""
    width = 4.5 if len(histories) < 3 else 3.0
    figure, grid = style.panels(1, len(histories), width * len(histories), 2.6, sharey=True)
    for panel, (title, history) in zip(grid[0], histories.items(), strict=True):
        history.drop(columns="lr").plot("step", ax=panel, logy=True, title=title, ylabel="loss")
        panel.grid()
    return figure


def class_bars(table: pd.DataFrame) -> Figure:
    """IoU of every class (line) for a few networks (columns), in percent."""
    long = table.reset_index().melt(id_vars="class", var_name="network", value_name="IoU (%)")
    figure, ((axes,),) = style.panels(1, 1, 10, 3.2)
    colours = list(map(style.method_colour, table.columns))
    sns.barplot(long, x="class", y="IoU (%)", hue="network", palette=colours, saturation=1, ax=axes)
    axes.set(xlabel="")
    plt.setp(axes.get_xticklabels(), rotation=45, ha="right")
    axes.legend(ncols=len(table.columns), **style.ABOVE)
    return figure


def gains(results: pd.DataFrame, paper: Mapping[str, float | None], *, rival: str = "") -> Figure:
    """Gain over the student alone: the paper's and ours, every seed a point (figure 4).

    From `Study.results`, the rows that `paper` has, with its gains in percent or None. The mean of
    the row `rival` is drawn as a line, as figure 4 does with AT's.
    """
    student = results[results["row"].str.startswith("student")].set_index("seed")["miou"]
    order, places = list(paper), np.arange(len(paper))
    ours = results[results["row"].isin(order)]
    ours = ours.assign(gain=ours["miou"] - ours["seed"].map(student))
    means = ours.groupby("row")["gain"].mean().reindex(order)
    width = max(7, 5 + 0.075 * max(map(len, order)))  # room for the longest recipe
    figure, ((axes,),) = style.panels(1, 1, width, 0.32 * len(order) + 1.4)
    axes.axvline(0, **style.ALONE)
    if rival:
        colour = style.method_colour(rival)
        axes.axvline(means[rival], color=colour, linestyle="--", label=f"{rival}, mean")
    for name, seeds in ours.groupby("row"):
        style.dots(axes, seeds["gain"], [order.index(name)] * len(seeds), name, s=28, alpha=0.75)
    bars = means.index.map(style.method_colour)
    axes.vlines(means, places - 0.25, places + 0.25, color=bars, linewidth=3)
    if (printed := pd.Series(paper, dtype=float)).notna().any():
        axes.scatter(printed, places, s=45, label="paper, Cityscapes", **style.PRINTED)
    axes.scatter([], [], color=style.INK, label="ours, one point a seed (bar: mean)")
    axes.set_xlabel("gain in mIoU over the student (%)")
    style.lines_of(axes, order)
    axes.legend(ncols=3, **style.ABOVE)
    return figure


def gain_panels(table: pd.DataFrame, printed: str, width: float = 3.1) -> Figure:
    """Gain over the student alone: the paper's, and ours with its spread, a panel for each network.

    The table is of detectors or tasks; `printed` is the legend's word for the paper's gains.
    """
    names = table.index[table["our gain"].notna()].unique(level=0)
    methods = table.index.unique(level=1).drop(["teacher", "student"])  # some lack some of them
    figure, grid = style.panels(1, len(names), width * len(names), 2.5, sharey=True)
    for axes, name in zip(grid[0], names, strict=True):
        lines = table.loc[name].reindex(methods)
        places = range(len(lines))
        axes.axvline(0, **style.ALONE | {"label": None})
        axes.scatter(lines["paper gain"], places, s=40, label=printed, **style.PRINTED)
        bar = {"xerr": lines["gain sd"].fillna(0), "fmt": "none", "ecolor": style.INK, "lw": 0.8}
        axes.errorbar(lines["our gain"], places, **bar)
        axes.scatter([], [], color=style.INK, label="ours")
        for place, (method, gain) in enumerate(lines["our gain"].items()):
            style.dots(axes, gain, place, method)
        measure = table.loc[(name, "student"), "measure"] if "measure" in table else "AP"
        axes.set(title=name, xlabel=f"gain in {measure}")
        style.lines_of(axes, lines.index)
    grid[0, -1].legend(fontsize=7, loc="best")
    return figure


def sweeps(
    quantities: Mapping[str, tuple[pd.DataFrame, Mapping[str, float]]],
    student: str,
    logged: Mapping[str, pd.Series] | None = None,
) -> Figure:
    """mIoU over a quantity, every seed a point, mean and standard deviation (figure 3).

    Of each quantity, the results (`Study.results`) and the value of every row. The student alone is
    a line with its standard deviation. `logged` are the authors' own values by quantity, on an axis
    of their own.
    """
    figure, (line,) = style.panels(1, len(quantities), 4.6 * len(quantities), 3.2, sharey=True)
    for axes, (name, (results, values)) in zip(line, quantities.items(), strict=True):
        alone = results.loc[results["row"] == student, "miou"]
        axes.axhline(alone.mean(), **style.ALONE)
        band = alone.mean() - alone.std(), alone.mean() + alone.std()
        axes.axhspan(*band, color=style.STUDENT, alpha=0.12, linewidth=0)
        ours = results[results["row"].isin(list(values))]
        x = ours["row"].map(values).astype(float)
        axes.scatter(x, ours["miou"], color=style.CHANNEL, s=22, alpha=0.6, label="one seed")
        mean, sd = ours["miou"].groupby(x).mean(), ours["miou"].groupby(x).std()
        marks = {"marker": "_", "markersize": 12, "label": "mean, standard deviation"}
        axes.errorbar(mean.index, mean, sd, color=style.CHANNEL, capsize=3, **marks)
        decades = x.max() > 100 * x[x > 0].min()
        axes.set(xlabel=name, **{"xscale": "log"} if decades else {"xlim": (0, None)})
        axes.grid()
        if logged:
            own = axes.twinx()
            own.scatter(logged[name].index, logged[name], s=30, **style.PRINTED)
            own.set_ylabel("authors' logs, Cityscapes: mIoU (%)")
            own.spines["right"].set_visible(True)
            axes.scatter([], [], s=30, label="authors' logs", **style.PRINTED)
    line[0].set_ylabel("mIoU (%)")
    line[0].legend(ncols=2, **style.ABOVE)
    return figure


VERDICT_LOOKS = {
    "supported": ("#2a9d5c", "o"),
    "contradicted": (style.TEACHER, "X"),
    "undecided": ("#8d99a6", "s"),
}


def forest(table: pd.DataFrame) -> Figure:
    """The measured difference and 95 % interval behind every one of the `verdicts` in percent.

    Claims that a difference is greater than 0; and, on an axis of their own, that it is within a
    margin, which is shaded.
    """
    shown = table[(table["verdict"] != "not run") & table["unit"].isin(PERCENT)]
    within = shown["margin"].notna()
    kinds = [part for part in (shown[~within], shown[within]) if len(part)]
    heights = [len(part) + 1 for part in kinds]
    figure, grid = style.panels(
        len(kinds), 1, 9.5, 0.42 * sum(heights) + 1.2, height_ratios=heights
    )
    for (axes,), part in zip(grid, kinds, strict=True):
        places = np.arange(len(part))
        limit = 1.2 * max(1.0, part["ours"].abs().max())
        axes.axvline(0, color=style.INK, linewidth=0.8)
        axes.barh(places, 2 * part["margin"], 0.9, -part["margin"], color=style.STUDENT, alpha=0.15)
        for name, (colour, marker) in VERDICT_LOOKS.items():
            lines, at = part[part["verdict"] == name], places[part["verdict"] == name]
            ends = (lines[end].clip(-limit, limit) for end in ("low", "high"))
            axes.hlines(at, *ends, color=colour, linewidth=2)
            axes.scatter(lines["ours"], at, color=colour, marker=marker, s=45, zorder=3, label=name)
        axes.scatter(part["paper"].astype(float), places, s=36, label="paper", **style.PRINTED)
        axes.set(xlim=(-limit, limit))
        style.lines_of(axes, part["claim"])
    grid[0, 0].legend(ncols=4, loc="lower right", bbox_to_anchor=(1, 1))
    grid[0, 0].set_xlabel(
        "difference in percent: mean, 95 % interval; cut where it leaves the panel"
    )
    if len(kinds) > 1:
        grid[-1, 0].set_xlabel("the same; shaded: the claim's margin")
    return figure


def frontier(table: pd.DataFrame, data: str) -> Figure:
    """mIoU over parameters and multiply-adds, every student alone and with CWD; * is ImageNet.

    The table is of Table 6; the dataset that was measured on has a row of panels of its own.
    """
    printed = [f"{n}*" if init == "ImageNet" else n for n, init, _ in table.index]
    paper = ("paper val mIoU", "paper params (M)", "paper MAC (G)")
    rows = {"the paper, Cityscapes": (*paper, pd.Series(printed, table.index))}
    if f"our mIoU ({data})" in table and "ours (M)" in table:
        own = table["our network"].str.replace(", scratch", "").str.replace(", ImageNet", "*")
        rows[f"ours, {data}"] = (f"our mIoU ({data})", "ours (M)", "ours (G)", own)
    figure, grid = style.panels(len(rows), 2, 9.5, 3.6 * len(rows), sharey="row")
    units = ("parameters (M)", "multiply-adds at 512x1024 (G)")
    for line, (title, (miou, *costs, names)) in zip(grid, rows.items(), strict=True):
        for axes, cost, unit in zip(line, costs, units, strict=True):
            _climbs(axes, table, cost, miou, names)
            axes.set(xscale="log", xlabel=unit, title=title)
            axes.margins(x=0.22, y=0.12)  # room for the names
            axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.grid()
        line[0].set_ylabel("mIoU (%)")
    grid[0, 0].legend(loc="lower right")
    return figure


def _climbs(axes: Axes, table: pd.DataFrame, cost: str, miou: str, names: pd.Series) -> None:
    labels = {"student": "student alone", "CWD": "with CWD (PI + HO + CW_f)", "teacher": "teacher"}
    for method, label in labels.items():
        shown = table[table.index.get_level_values("method") == method].dropna(subset=[cost, miou])
        if len(shown):
            style.dots(axes, shown[cost], shown[miou], method, label=label, s=45, zorder=3)
    for _, group in table.groupby(level=["network", "init"], sort=False):
        known = group.droplevel(["network", "init"])[[cost, miou]].dropna()
        if {"student", "CWD"} <= set(known.index):
            start, end = (tuple(known.loc[method]) for method in ("student", "CWD"))
            name = names.loc[group.index].iloc[0]
            axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": style.INK})
            left = name.startswith("Deeplab")  # two networks of one backbone cost about the same
            place = {"ha": "right" if left else "left", "textcoords": "offset points"}
            axes.annotate(name, end, (-6 if left else 6, 2), fontsize=7, **place)
