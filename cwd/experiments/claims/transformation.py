"""The comparisons behind the claims of the second paper: in each of its tasks."""

from typing import TYPE_CHECKING

from cwd.experiments.claims.comparisons import Tasks
from cwd.experiments.claims.detection import paired
from cwd.experiments.claims.interval import Finding
from cwd.experiments.rows_transformation import label_of, transformation
from cwd.training.tasks import task_of

if TYPE_CHECKING:
    from cwd.experiments.claims.judging import Evidence


def over_tasks(evidence: "Evidence", test: Tasks) -> list[Finding | None]:
    """One method minus another in each of a claim's tasks, in the task's own measure.

    Args:
        evidence: where the results are found.
        test: which methods and tasks.

    Returns:
        None for a task that lacks runs; none at all where nothing is compared in the profile.
    """
    if not evidence.profile.transformation:
        return []
    rows = {row.label: row for row in transformation(evidence.profile)}
    found: list[Finding | None] = []
    for name in test.tasks:
        better, worse = (rows[label_of(name, method)] for method in (test.better, test.worse))
        if not better.runs:
            found.append(None)
            continue
        task = task_of(better.runs[0].network)
        paper = better.printed["gain"] if test.worse == "student" else None
        what = f"{name}: {test.better} - {test.worse}"
        found.append(paired(what, evidence.records, better, worse, task, paper))
    return found
