"""What was measured under a profile, as claims ask for it."""

import statistics
from collections.abc import Sequence
from functools import cached_property

import pandas as pd

from cwd.config.run import Run
from cwd.experiments.claims.interval import Finding, paired
from cwd.experiments.records import Records, every_seed
from cwd.experiments.rows_losses import BARE
from cwd.experiments.study import TABLES
from cwd.experiments.table import Row, difference
from cwd.training.tasks import task_of


class Evidence:
    """What is known about a profile's runs, with all seeds that they may have."""

    def __init__(self, records: Records) -> None:
        self.records, self.profile = records, every_seed(records.profile)

    @cached_property
    def printed(self) -> dict[str, float]:
        """The paper's mIoU by recipe; Table 2's value where Table 4 or 5 has another."""
        names = ("table5", "table3", "table2") if self.profile.student else ()
        rows = [row for name in names for row in TABLES[name].rows(self.profile)]
        return {
            row.runs[0].recipe: row.paper
            for row in rows
            if row.paper is not None and row.runs[0] != self.profile.teacher
        }

    def miou(
        self, recipe: str, student: Run | None = None, classes: Sequence[str] = ()
    ) -> pd.Series:
        """mIoU of a recipe by seed; of another student than the main one, or of some classes."""
        found = {}
        for seed in self.profile.student_seeds:
            run = self.profile.run(BARE.get(recipe, recipe), seed, student)
            if metrics := self.records.metrics(run):
                values = [metrics["class_iou"].get(name) for name in classes] or [metrics["miou"]]
                found[seed] = None if None in values else statistics.mean(values)
        return pd.Series(found, dtype=float)

    def recipes(
        self, one: str, other: str, classes: Sequence[str] = (), margin: float | None = None
    ) -> Finding:
        """One recipe's mIoU minus another's, both of the main student."""
        known = [self.printed.get(BARE.get(recipe, recipe)) for recipe in (one, other)]
        paper = None if classes else difference(*known)
        ones, others = (self.miou(recipe, classes=classes) for recipe in (one, other))
        what = f"{one or 'student'} - {other or 'student'}"
        return paired(what, ones, others, paper=paper, margin=margin)

    def rows(self, what: str, one: Row, other: Row, paper: float | None) -> Finding:
        """One row's measure minus another's; both are networks of one task."""
        if not one.runs or not other.runs:
            return Finding(what, [])
        task = task_of(one.runs[0].network)
        ones, others = (
            {run.seed: m[task.measure] for run in row.runs if (m := self.records.metrics(run))}
            for row in (one, other)
        )
        measured = pd.Series(ones, dtype=float), pd.Series(others, dtype=float)
        return paired(what, *measured, paper=paper, unit=task.unit)
