"""What would show a claim: kinds of comparison, with arguments from `claims.yaml`.

One that can't be made has no findings, or one without differences.
"""

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import pandas as pd

from cwd.experiments.claims.interval import Finding, paired
from cwd.experiments.profile import Student
from cwd.experiments.records import Comparable, Records, every_seed, recorded_profiles
from cwd.experiments.rows_losses import BARE
from cwd.experiments.rows_networks import label_of
from cwd.experiments.study import TABLES, studies_of
from cwd.experiments.table import Row, difference
from cwd.system import paths
from cwd.training.tasks import task_of

Names = list[str]  # of recipes, methods, classes or tasks


class Evidence:
    """What is known about a profile's runs, with all seeds that they may have."""

    def __init__(self, records: Records) -> None:
        self.records, self.profile = records, every_seed(records.profile)
        self.known = Comparable(records)
        # of Table 6; its reference networks are never distilled
        self.students = [each for each in self.profile.students if "-" in each.name]

    @cached_property
    def tables(self) -> dict[str, dict[str, Row]]:
        """The rows of every table that the profile has, by label."""
        tables = {name: TABLES[name].rows(self.profile) for name in studies_of(self.profile)}
        return {name: {row.label: row for row in rows} for name, rows in tables.items()}

    @cached_property
    def by_recipe(self) -> dict[str, Row]:
        """The rows of the main student by recipe; Table 2's where others have it too."""
        names = [name for name in reversed(self.tables) if TABLES[name].index[0] == "method"]
        rows = [row for name in names for row in self.tables[name].values()]
        return {row.runs[0].recipe: row for row in rows if row.runs[0] != self.profile.teacher}

    def taught(self, student: Student, method: str) -> Row:
        """The row of a student of Table 6 with a method; the paper's are from the same starts."""
        return self.tables["table6"][label_of(student.name, student.run.start, method)]

    def by_student(self, method: str) -> pd.DataFrame:
        """mIoU of the students of Table 6 with a method, student by seed."""
        return pd.DataFrame([self.measured(self.taught(each, method)) for each in self.students])

    def measured(self, row: Row, classes: Sequence[str] = ()) -> pd.Series:
        """A row's measure by seed; or the mean IoU of some classes, nan where one doesn't occur."""
        values = {}
        for run in row.runs:
            if metrics := self.known.metrics(run):
                known = [metrics["class_iou"].get(name) for name in classes]
                known = known or [metrics[task_of(run.network).measure]]
                values[run.seed] = None if None in known else statistics.mean(known)
        return pd.Series(values, dtype=float)

    def recipes(self, one: str, other: str, classes: Sequence[str] = ()) -> Finding:
        """One recipe's mIoU minus another's, both of the main student, maybe of some classes."""
        what = f"{one or 'student'} - {other or 'student'}"
        rows = [self.by_recipe.get(BARE.get(recipe, recipe)) for recipe in (one, other)]
        if None in rows:
            return Finding(what, [])
        return self.rows(what, *rows, classes)

    def rows(self, what: str, one: Row, other: Row, classes: Sequence[str] = ()) -> Finding:
        """One row's measure minus another's; both are networks of one task."""
        if not one.runs:
            return Finding(what, [])
        about = {"paper": None if classes else difference(one.paper, other.paper)}
        about["unit"] = task_of(one.runs[0].network).unit
        return paired(what, *(self.measured(row, classes) for row in (one, other)), **about)


def greater(evidence: Evidence, better: Names, worse: Names, classes: Names = ()) -> list[Finding]:
    """Each of `better` has a higher mIoU, maybe of some classes, than each of `worse` (recipes)."""
    pairs = itertools.product(better, worse)
    return [evidence.recipes(one, other, classes) for one, other in pairs]


def at_equal_time(evidence: Evidence, better: Names, worse: Names) -> list[Finding]:
    """As `greater`, each recipe trained for as many steps as fit into the time of CWD's."""
    rows = evidence.tables.get("equal_time", {})
    if len(rows) < 3:  # no step was timed
        return []
    pairs = itertools.product(better, worse)
    return [evidence.rows(f"{one} - {other}", rows[one], rows[other]) for one, other in pairs]


def within(evidence: Evidence, recipe: str, others: Names, margin: float) -> list[Finding]:
    """A recipe's mIoU is within `margin` percent of every other's."""
    return [replace(evidence.recipes(recipe, each), margin=margin) for each in others]


def every_dataset(evidence: Evidence, recipe: str) -> list[Finding]:
    """A recipe beats the student alone in every profile that is recorded, this one's first."""
    here, results = evidence.profile, evidence.records.results
    known = recorded_profiles(results) if here.student else []
    others = [each for each in known if each.student and each.name != here.name]
    if all(other.data.name == here.data.name for other in others):
        return []
    sources = [evidence, *(Evidence(Records(other, None, results)) for other in others)]
    made = [(source.profile.name, source.recipes(recipe, "")) for source in sources]
    return [replace(f, what=f"{f.what} ({name})") for name, f in made if f.differences]


def cheaper(
    evidence: Evidence, loss: str, others: Names, margin: float | None = None
) -> list[Finding]:
    """A loss takes less time in the same turns than the others, or the same within exp(margin)."""
    if not (costs := evidence.records.beside(paths.COSTS)):
        return []
    logs = np.log(pd.DataFrame(costs["step"]["seconds"])).reindex(columns=[loss, *others])
    return [
        paired(f"log time of {o} - {loss}", logs[o], logs[loss], margin=margin, unit="log ratio")
        for o in others
    ]


def channels(evidence: Evidence, better: str, worse: Names) -> list[Finding]:
    """A recipe's (or the teacher's) score-map channels mark classes better than others' do."""
    if (table := _by_channel(evidence)) is None:
        return []
    best, *others = (table.loc[name]["auc"] for name in (better, *worse))
    best = best.item() if len(best) == 1 else best  # there is one teacher, for all seeds
    return [
        paired(f"{better} - {name or 'student'}", best, auc, unit="AUC")
        for name, auc in zip(worse, others, strict=True)
    ]


def salience(evidence: Evidence, recipe: str) -> list[Finding]:
    """A recipe brings channels nearer to the teacher's, most where those are salient."""
    if (table := _by_channel(evidence)) is None:
        return []
    nearer = table.loc[""] - table.loc[recipe]
    salient, what = nearer["salient"], f"distance of the student - of {recipe}, salient"
    return [
        paired(what, salient, 0.0, unit="log ratio"),
        paired(f"{what} - background", salient, nearer["background"], unit="log ratio"),
    ]


def _by_channel(evidence: Evidence) -> pd.DataFrame | None:
    measured = evidence.records.beside(paths.CHANNELS)
    return pd.DataFrame(measured["lines"]).set_index(["recipe", "seed"]) if measured else None


def students(evidence: Evidence, others: Names) -> list[Finding]:
    """For every student of Table 6, CWD beats each of some methods."""
    return [
        evidence.rows(
            f"{s.run.network}: CWD - {other}", evidence.taught(s, "CWD"), evidence.taught(s, other)
        )
        for s in evidence.students
        for other in others
    ]


def kinds(evidence: Evidence, prefix: str) -> list[Finding]:
    """CWD's mean gain is larger for students whose name begins with the prefix than for others."""
    gains = evidence.by_student("CWD") - evidence.by_student("student")
    same = np.array([s.name.startswith(prefix) for s in evidence.students], dtype=bool)
    means = (gains[kind].mean(skipna=False) for kind in (same, ~same))
    return [paired(f"mean gain: {same.sum()} {prefix} - {(~same).sum()} others", *means)]


def slopes(evidence: Evidence) -> list[Finding]:
    """Over the students of Table 6, the result with CWD rises with that alone, the gain falls."""
    alone, taught = map(evidence.by_student, ("student", "CWD"))
    if len(alone) < 3:
        return []
    seeds = (taught - alone).dropna(axis=1).columns
    rising = [np.polyfit(alone[seed], taught[seed], 1)[0] for seed in seeds]
    falling = [1 - slope for slope in rising]
    return [
        Finding("slope of the result over the student's", rising, unit="per mIoU"),
        Finding("falling slope of the gain", falling, unit="per mIoU"),
    ]


def pretrained(evidence: Evidence) -> list[Finding]:
    """With CWD, a student that starts from ImageNet beats the same from random weights."""
    known = evidence.students
    warm = [student for student in known if student.run.init != "random"]
    what = "{} with CWD: ImageNet - scratch"
    return [
        evidence.rows(what.format(w.run.network), *(evidence.taught(s, "CWD") for s in (w, c)))
        for w in warm
        for c in known
        if c not in warm and c.name == w.name
    ]


def detectors(evidence: Evidence, others: Names) -> list[Finding]:
    """For every detector of Table 9, CWD has a higher AP than each of some of its methods."""
    rows = evidence.tables.get("table9", {})
    groups = [label.partition(": ") for label, row in rows.items() if row.runs]
    return [
        evidence.rows(f"{name}: CWD - {other}", rows[f"{name}: CWD"], rows[f"{name}: {other}"])
        for name, _, method in groups
        for other in others
        if method == "CWD" and f"{name}: {other}" in rows
    ]


def tasks(evidence: Evidence, better: str, worse: str, tasks: Names) -> list[Finding]:
    """In each of some tasks, one method of the second paper has a higher measure than another."""
    if not (rows := evidence.tables.get("transformation")):
        return []
    found = []
    for task in tasks:
        one, other = (rows[f"{task}: {method}"] for method in (better, worse))
        paper = one.printed["gain"] if worse == "student" else None
        measured = evidence.rows(f"{task}: {better} - {worse}", one, other)
        found.append(replace(measured, paper=paper))
    return found
