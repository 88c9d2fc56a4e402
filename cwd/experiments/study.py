"""From a profile to a table beside the paper's: profile -> study -> run -> table."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from cwd.config.run import Run
from cwd.experiments.profile import Profile, load_profile
from cwd.experiments.rows_detection import MEASURES, detection_table, table9
from cwd.experiments.rows_losses import (
    Row,
    normalisations,
    table2,
    table3,
    table4,
    table5,
    temperature,
    weight,
)
from cwd.experiments.rows_networks import TABLES_6_TO_8, difference, network_table
from cwd.experiments.rows_transformation import (
    transformation,
    transformation_table,
    transformations,
)
from cwd.experiments.workspace import Workspace, open_profile
from cwd.system.errors import CwdError
from cwd.training.tasks import task_of

__all__ = ["STUDIES", "Profile", "Run", "Study", "Workspace", "every_run", "load_profile",
           "open_profile", "study"]  # fmt: skip
TABLES: dict[str, Callable[[Profile], tuple[Row, ...]]] = {
    "table2": table2,
    "table3": table3,
    "table4": table4,
    "table5": table5,
    "temperature": temperature,
    "weight": weight,
    "normalisations": normalisations,
    **TABLES_6_TO_8,
    "table9": table9,
    "transformation": transformation,
    "transformations": transformations,
}
STUDIES = tuple(TABLES)


class Source(Protocol):
    """Where a study's results come from: a `Workspace` trains what is missing, `Records` don't."""

    profile: Profile

    def metrics(self, run: Run) -> dict[str, Any] | None:
        """What was measured, see `cwd.evaluation.miou.evaluate`; None if nothing was."""


@dataclass(frozen=True)
class Study:
    """A table or figure of the paper: rows of runs, to be laid out beside the paper's numbers.

    Attributes:
        name: the paper's, "table2".
        source: where the results come from.
        rows: the first two are the teacher and a student alone; in Tables 6 to 9 and the second
            paper's, those of each network.
    """

    name: str
    source: Source
    rows: tuple[Row, ...]

    def train(self) -> "Study":
        """Train what is missing; returns the study."""
        for row in self.rows:
            for run in row.runs:
                self.source.metrics(run)
        return self

    def results(self) -> pd.DataFrame:
        """One line a run that was measured: row, seed, run, and its metrics.

        These are miou and macc; for Table 9, `cwd.experiments.rows_detection.MEASURES`; and for
        the second paper's four tasks `score`, each task's own measure.
        """
        lines = [
            {"row": row.label, "seed": run.seed, "run": run.name} | self.measures(run, metrics)
            for row in self.rows
            for run in row.runs
            if (metrics := self.source.metrics(run))
        ]
        kinds = dict.fromkeys(self.measured, float)
        return pd.DataFrame(lines, columns=["row", "seed", *kinds, "run"]).astype(kinds)

    @property
    def measured(self) -> tuple[str, ...]:
        """The columns of `results` that are measures."""
        if self.name == "table9":
            return tuple(MEASURES)
        return ("score",) if self.name == "transformation" else ("miou", "macc")

    def measures(self, run: Run, metrics: dict[str, Any]) -> dict[str, Any]:
        """What they are for a run."""
        if self.name == "transformation":
            return {"score": metrics[task_of(run.network).measure]}
        return {measure: metrics[measure] for measure in self.measured}

    def table(self) -> pd.DataFrame:
        """The paper's mIoU (or AP) and ours, each with its gain over its own student, in percent.

        Ours is the mean over seeds, sd the sample standard deviation (empty for one seed). A row
        that wasn't measured has 0 seeds and no mIoU. Tables 6 to 8 have more columns, see
        `cwd.experiments.rows_networks.network_table`, Table 9 has AP, see
        `cwd.experiments.rows_detection.detection_table`, and the second paper's has four tasks, see
        `cwd.experiments.rows_transformation.transformation_table`.
        """
        if self.name == "transformation":
            return transformation_table(self.rows, self.results())
        if self.name == "table9":
            data = next((row.runs[0].data.name for row in self.rows if row.runs), "")
            return detection_table(self.rows, self.results(), data)
        if self.name in TABLES_6_TO_8:
            data = self.source.profile.data.name
            return network_table(self.name, self.rows, self.results(), data)
        labels = [row.label for row in self.rows]
        results = self.results().groupby("row", sort=False)["miou"]
        ours, student = results.mean().reindex(labels), self.rows[1].label
        ours_gain = (ours - ours[student]).iloc[2:]
        table = pd.DataFrame(
            {
                "complexity": {row.label: row.complexity for row in self.rows},
                "paper mIoU (Cityscapes)": {row.label: row.paper for row in self.rows},
                "paper gain": self.paper_gains(),
                f"our mIoU ({self.source.profile.data.name})": ours,
                "sd": results.std(),
                "seeds": results.count(),
                "our gain": ours_gain,
            },
            index=labels,
        )
        table["seeds"] = table["seeds"].fillna(0).astype(int)
        if not any(row.complexity for row in self.rows):
            table = table.drop(columns="complexity")
        kinds = {"paper mIoU (Cityscapes)": float, "paper gain": float}
        return table.astype(kinds).rename_axis("method").round(2)

    def paper_gains(self) -> dict[str, float | None]:
        """The paper's gain over its own student, in percent, by distilled row; None: no number."""
        printed = {row.label: row.paper for row in self.rows}
        return {
            row.label: difference(row.paper, printed.get(row.student or self.rows[1].label))
            for row in self.rows[2:]
        }

    def values(self) -> dict[str, float]:
        """The abscissa of every row that has one (figure 3)."""
        return {row.label: row.value for row in self.rows if row.value is not None}

    def class_iou(self) -> pd.DataFrame:
        """IoU in percent of every class (line) and row of the table (column), mean over seeds."""
        columns = {}
        for row in self.rows:
            measured = [m["class_iou"] for run in row.runs if (m := self.source.metrics(run))]
            if measured:
                columns[row.label] = pd.DataFrame(measured, dtype=float).mean()
        return pd.DataFrame(columns).rename_axis("class").round(1)


def study(name: str, profile: "str | Source") -> Study:
    """A table of the paper under a profile.

    Args:
        name: one of `STUDIES`.
        profile: a profile's name, whose runs are trained when they are asked for; or an opened
            profile; or `cwd.experiments.records.Records`, which never train.

    Raises:
        CwdError: the table is unknown, or of networks that the profile has none of, or as
            `open_profile`.
    """
    source = open_profile(profile) if isinstance(profile, str) else profile
    if name not in TABLES:
        raise CwdError(f"there is no study {name!r}: use one of {', '.join(TABLES)}.")
    if not fits(name, source.profile):
        raise CwdError(
            f"profile {source.profile.name} has no networks for {name}: use one of its studies, "
            f"{', '.join(studies_of(source.profile))}, or another profile."
        )
    return Study(name, source, TABLES[name](source.profile))


def fits(name: str, profile: Profile) -> bool:
    """Whether a profile has networks for a study, or it is a table that can be cited as a whole."""
    segments, second = profile.student is not None, profile.transformation is not None
    if name == "table9":
        return segments or profile.detection is not None
    if name == "transformation":
        return second
    return segments and (second or name != "transformations")


def studies_of(profile: Profile) -> tuple[str, ...]:
    """The studies whose networks a profile has."""
    return tuple(name for name in STUDIES if fits(name, profile))


def every_run(source: Source) -> list[Run]:
    """The runs of all studies, each once."""
    names = studies_of(source.profile)
    rows = [row for name in names for row in study(name, source).rows]
    return list(dict.fromkeys(run for row in rows for run in row.runs))
