"""Tables: rows of runs, and how their results are laid out beside the paper's numbers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pandas as pd

from cwd.config.run import Run
from cwd.experiments.profile import Profile
from cwd.system import paths
from cwd.training.tasks.choice import task_of

# columns that hold no measurements
WORDS = ("complexity", "our network", "our images", "measure", "status")
SCORE = "score"  # each task's own measure, where a table has several tasks


@dataclass(frozen=True)
class Row:
    """A line of a table: its label, what the paper has there, and our runs, one a seed.

    Attributes:
        label: unlike every other row's.
        paper: mIoU on Cityscapes val (Table 9: AP) in percent; None where the paper prints none.
        runs: the same training from different seeds.
        value: the abscissa, for a figure.
        student: label of the row that the gain is over; None for a row that isn't distilled.
        printed: what else the table shows of a row, see `Table.columns`.
    """

    label: str
    paper: float | None
    runs: tuple[Run, ...]
    value: float | None = None
    student: str | None = None
    printed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """What a table of the papers is.

    Attributes:
        rows: of a profile.
        fits: whether a profile has networks for it, or it can be cited as a whole.
        columns: a column's title ({data}: the dataset that was measured on) and what is in it: the
            row's paper, paper gain, seeds, status, or an entry of `printed` or `more`; "our miou"
            or another measure's mean over seeds; of the first measure also sd (sample standard
            deviation), our gain (of the means, over the row's own student), and seed by seed
            paired gain and its gain sd.
        index: the columns that name a row, entries of `printed`; method is the label without one.
        measures: of a run's metrics.
        absent: the status of a row without runs.
        more: what else there is to know of a row, and of one that was measured.
        sparse: columns without any number are left out.
    """

    rows: Callable[[Profile], tuple[Row, ...]]
    fits: Callable[[Profile], bool]
    columns: Mapping[str, str]
    index: tuple[str, ...] = ("method",)
    measures: tuple[str, ...] = ("miou", "macc")
    absent: str = "cited"
    more: Callable[[Row, bool], Mapping[str, Any]] = lambda row, measured: {}
    sparse: bool = False

    def measured(self, run: Run, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """A run's measures."""
        own = {SCORE: task_of(run.network).measure}
        return {name: metrics[own.get(name, name)] for name in self.measures}

    def layout(self, rows: tuple[Row, ...], results: pd.DataFrame) -> pd.DataFrame:
        """One line a row, ours beside the paper's, in percent.

        Args:
            rows: those to show.
            results: one line a run: row, seed and measures.
        """
        found = self._found(rows, results)
        data = next((row.runs[0].data.name for row in rows if row.runs), "none")
        shown = {
            title.format(data=data): found[name]
            for title, name in self.columns.items()
            if name in found
        }
        table = found[list(self.index)].assign(**shown).set_index(list(self.index))
        numbers = [name for name in table if name not in WORDS]
        digits = {name: 4 if name.endswith("(M)") else 2 for name in numbers}
        table = table.astype(dict.fromkeys(numbers, float)).astype({"seeds": int}).round(digits)
        return table.dropna(axis=1, how="all") if self.sparse else table

    def _found(self, rows: tuple[Row, ...], results: pd.DataFrame) -> pd.DataFrame:
        labels, students = [row.label for row in rows], [row.student for row in rows]
        main = self.measures[0]
        by_row = results.groupby("row", sort=False)
        means = by_row[list(self.measures)].mean().add_prefix("our ")
        seeds = by_row[main].count().reindex(labels, fill_value=0)
        by_seed = results.pivot(index="seed", columns="row", values=main)
        paired = by_seed.reindex(columns=labels) - by_seed.reindex(columns=students).to_numpy()
        paper = pd.Series({row.label: row.paper for row in rows}, dtype=float)
        lines = [
            {"method": row.label, **row.printed, **self.more(row, seeds[row.label] > 0)}
            for row in rows
        ]
        columns = {
            "paper": paper,
            "paper gain": paper - paper.reindex(students).to_numpy(),
            **means.reindex(labels),
            "sd": by_row[main].std(),
            "seeds": seeds,
            "our gain": _over(means[f"our {main}"], labels, students),
            "paired gain": paired.mean(),
            "gain sd": paired.std(),
            "status": [
                "measured" if seeds[row.label] else "not run" if row.runs else self.absent
                for row in rows
            ],
        }
        return pd.DataFrame(lines, index=labels).assign(**columns)


def _over(values: pd.Series, labels: list[str], students: list[str | None]) -> pd.Series:
    return values.reindex(labels) - values.reindex(students).to_numpy()


@cache
def paper(name: str, index: int | None = None) -> pd.DataFrame:
    """A CSV of `data/paper`, indexed by one of its columns or not."""
    return pd.read_csv(paths.PAPER / f"{name}.csv", index_col=index)
