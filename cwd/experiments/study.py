"""From a profile to a table beside the paper's: profile -> study -> run -> table."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from cwd.config.run import Run
from cwd.experiments.profile import Profile
from cwd.experiments.records import Comparable
from cwd.experiments.rows_beyond import beyond, equal_time
from cwd.experiments.rows_losses import compared, own
from cwd.experiments.rows_networks import SOURCES, costs, networks
from cwd.experiments.rows_pairs import table9, transformation
from cwd.experiments.rows_why import longer, schools, unaugmented
from cwd.experiments.table import Row, Table, difference
from cwd.experiments.workspace import open_profile
from cwd.system.errors import CwdError
from cwd.training.tasks import task_of


def _tables() -> dict[str, Table]:
    made = {"table9": table9, "transformation": transformation}
    made |= {rows.__name__: rows for rows in (longer, schools, unaugmented, equal_time, own)}
    made |= {name: partial(networks, name) for name in SOURCES}
    tables = {}
    for name, entry in yaml.safe_load(Path(__file__).with_name("tables.yaml").read_text()).items():
        listed = {"beyond": beyond}.get(name, compared)  # of recipes that the file names
        seeds = {"seeds": entry.pop("seeds")} if "seeds" in entry else {}
        rows = made.get(name) or partial(listed, rows=entry["rows"], **seeds)
        more = {"more": partial(costs, SOURCES[name][1])} if name in SOURCES else {}
        tables[name] = Table(**entry | more | {"rows": rows})
    return tables


TABLES = _tables()
STUDIES = tuple(TABLES)


@dataclass(frozen=True)
class Study:
    """A table or figure of the papers: rows of runs, to be laid out beside their numbers."""

    name: str  # the paper's, "table2"
    source: Any  # of the results: a `Workspace` trains what is missing, `Records` don't
    rows: tuple[Row, ...]  # the first two are a teacher and a student alone

    def train(self) -> "Study":
        """Train what is missing; returns the study."""
        self.source.train_all(run for row in self.rows for run in row.runs)
        return self

    def results(self) -> pd.DataFrame:
        """One line a run that was measured: row, seed, the measures of its table, and run."""
        known, lines = Comparable(self.train().source), []
        for row in self.rows:
            for run in row.runs:
                if metrics := known.metrics(run):
                    line = {"row": row.label, "seed": run.seed, "run": run.name} | metrics
                    lines.append(line | {"score": metrics[task_of(run.network).measure]})
        kinds = dict.fromkeys(TABLES[self.name].measures, float)
        return pd.DataFrame(lines, columns=["row", "seed", *kinds, "run"]).astype(kinds)

    def table(self) -> pd.DataFrame:
        """The paper's mIoU (or AP) and ours, each with its gain over its own student, in percent.

        Ours is the mean over seeds, sd the sample standard deviation (empty for one seed). A row
        that wasn't measured has 0 seeds and no mIoU. `tables.yaml` says what is in which table.
        Of a workspace, the last column says which runs were measured here and which are recorded.
        """
        table = TABLES[self.name].layout(self.rows, self.results())
        return table.assign(**self.source.columns(self.rows))

    def sources(self) -> str:
        """How many of a workspace's runs were measured here; see `Workspace.sources`."""
        return self.source.sources(run for row in self.rows for run in row.runs)

    def paper_gains(self) -> dict[str, float | None]:
        """The paper's gain over its own student, in percent, by distilled row; None: no number."""
        printed = {row.label: row.paper for row in self.rows}
        distilled = [row for row in self.rows if row.student]
        return {row.label: difference(row.paper, printed.get(row.student)) for row in distilled}

    def values(self) -> dict[str, float]:
        """The abscissa of every row that has one (figure 3)."""
        return {row.label: row.value for row in self.rows if row.value is not None}

    def class_iou(self) -> pd.DataFrame:
        """IoU in percent of every class (line) and row of the table (column), mean over seeds."""
        known, columns = Comparable(self.source), {}
        for row in self.rows:
            measured = [m["class_iou"] for run in row.runs if (m := known.metrics(run))]
            if measured:
                columns[row.label] = pd.DataFrame(measured, dtype=float).mean()
        return pd.DataFrame(columns).rename_axis("class").round(1)


def study(name: str, profile: Any) -> Study:
    """A table of the papers (one of `STUDIES`) under a profile.

    That is a profile's name, whose runs are trained when they are asked for; or an opened profile;
    or `cwd.experiments.records.Records`, which never train. Raises CwdError if the table is
    unknown, or of networks that the profile has none of.
    """
    source = open_profile(profile) if isinstance(profile, str) else profile
    if name not in TABLES:
        raise CwdError(f"there is no study {name!r}: use one of {', '.join(TABLES)}.")
    if name not in studies_of(source.profile):
        raise CwdError(
            f"profile {source.profile.name} has no networks for {name}: use one of its studies, "
            f"{', '.join(studies_of(source.profile))}, or another profile."
        )
    return Study(name, source, TABLES[name].rows(source.profile))


def studies_of(profile: Profile) -> tuple[str, ...]:
    """The studies whose networks a profile has."""
    return tuple(
        name
        for name, table in TABLES.items()
        if any(all(getattr(profile, part) for part in parts) for parts in table.needs)
    )


def every_run(source: Any, *, optional: bool = True) -> list[Run]:
    """The runs of all studies of a source of results, each once; perhaps not of optional ones."""
    names = [n for n in studies_of(source.profile) if optional or not TABLES[n].optional]
    rows = [row for name in names for row in TABLES[name].rows(source.profile)]
    return list(dict.fromkeys(run for row in rows for run in row.runs))
