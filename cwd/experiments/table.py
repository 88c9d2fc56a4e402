"""Tables: rows of runs, and how their results are laid out beside the paper's numbers."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import PIL.Image

from cwd.config.run import Run
from cwd.experiments.profile import Profile
from cwd.system import paths

# columns that hold no measurements
WORDS = ("complexity", "our network", "our images", "measure", "status", "recipe")


@dataclass(frozen=True)
class Row:
    """A line of a table: its label, what the paper has there, and our runs, one a seed."""

    label: str  # unlike every other row's
    paper: float | None  # mIoU on Cityscapes val (Table 9: AP) in percent; None: none is printed
    runs: tuple[Run, ...]
    value: float | None = None  # the abscissa, for a figure
    student: str | None = None  # the row that the gain is over; None: the row isn't distilled
    printed: Mapping[str, Any] = field(default_factory=dict)  # more, for columns of the table


@dataclass(frozen=True)
class Table:
    """A table of the papers: its rows of a profile, and what `tables.yaml` says of it."""

    title: str
    rows: Callable[[Profile], tuple[Row, ...]]
    columns: Mapping[str, str]
    needs: list[list[str]]
    index: tuple[str, ...] = ("method",)
    measures: tuple[str, ...] = ("miou", "macc")
    absent: str = "cited"
    sparse: bool = False
    optional: bool = False  # not trained by `make reproduce` where the profile is recorded
    # what is to be counted for a row, and for one that was measured
    more: Callable[[Row, bool], Mapping[str, Any]] = lambda row, measured: {}

    def layout(self, rows: tuple[Row, ...], results: pd.DataFrame) -> pd.DataFrame:
        """One line a row, ours beside the paper's, in percent; `results`: see `Study.results`."""
        found = self._summary(rows, results)
        data = next((row.runs[0].data.name for row in rows if row.runs), "none")
        shown = {title: name for title, name in self.columns.items() if name in found}
        table = found.set_index(list(self.index))[list(shown.values())]
        table.columns = [title.format(data=data) for title in shown]
        numbers = {name: float for name in table if name not in WORDS} | {"seeds": int}
        digits = {name: 4 if name.endswith("(M)") else 2 for name in numbers}
        table = table.fillna({"complexity": ""}).astype(numbers).round(digits)
        return table.dropna(axis=1, how="all") if self.sparse else table

    def _summary(self, rows: tuple[Row, ...], results: pd.DataFrame) -> pd.DataFrame:
        labels, main = [row.label for row in rows], self.measures[0]
        by_row = results.groupby("row", sort=False)
        seeds = by_row[main].count().reindex(labels, fill_value=0)
        known = [{"method": r.label, **r.printed, **self.more(r, seeds[r.label] > 0)} for r in rows]
        status = ["not run" if row.runs else self.absent for row in rows]

        def gains(values: pd.DataFrame) -> pd.DataFrame:
            return values.reindex(labels) - values.reindex([r.student for r in rows]).to_numpy()

        paper = pd.Series([row.paper for row in rows], labels, dtype=float)
        means = by_row[list(self.measures)].mean()
        paired = gains(results.pivot(index="row", columns="seed", values=main))
        columns = {
            "paper": paper,
            "paper gain": gains(paper),
            "sd": by_row[main].std(),
            "seeds": seeds,
            "our gain": paired.mean(axis=1),
            "gain sd": paired.std(axis=1),
            "status": pd.Series(status, labels).where(seeds == 0, "measured"),
            **means.add_prefix("our ").reindex(labels),
        }
        return pd.DataFrame(known, labels).assign(**columns)


def shown(table: pd.DataFrame) -> str:
    """A table as HTML, as a notebook shows it: measured rows, no empty column, no NaN.

    What was saved has all of it.
    """
    if "seeds" in table and table["seeds"].any():
        table = table[table["seeds"] > 0]
    return table.dropna(axis=1, how="all").to_html(na_rep="", border=0)


def show_tables() -> None:
    """Let the kernel, if this is one, show every table as `shown` does."""
    if (kernel := sys.modules.get("IPython")) and (shell := kernel.get_ipython()):
        shell.display_formatter.formatters["text/html"].for_type(pd.DataFrame, shown)


def show_figure(figure: Any, path: Path) -> None:
    """Show a figure's file, two thirds as wide, in the kernel if this is one; and close it."""
    if (kernel := sys.modules.get("IPython")) and kernel.get_ipython():
        width = round(PIL.Image.open(path).width / 1.5)
        kernel.display.display(kernel.display.Image(str(path), width=width))
        sys.modules["matplotlib.pyplot"].close(figure)


def method_row(
    group: str, method: str, runs: tuple[Run, ...], number: float | None, **known: Any
) -> Row:
    """The row of a method on one network (or in one task): "RetinaNet: CWD"."""
    student = None if method in ("teacher", "student", "reference") else f"{group}: student"
    number, known["method"] = None if pd.isna(number) else number, method
    return Row(f"{group}: {method}", number, runs, student=student, printed=known)


def difference(value: float | None, other: float | None) -> float | None:
    """`value - other`; None if either is missing."""
    return None if pd.isna(value) or pd.isna(other) else value - other


@cache
def paper(name: str, index: int | None = None) -> pd.DataFrame:
    """A CSV of `data/paper`, indexed by one of its columns or not."""
    return pd.read_csv(paths.PAPER / f"{name}.csv", index_col=index)
