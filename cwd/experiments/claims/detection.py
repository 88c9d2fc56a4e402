"""The comparisons behind the claims about Table 9: over all detectors of a profile."""

from typing import TYPE_CHECKING

from cwd.experiments.claims.comparisons import Detectors
from cwd.experiments.claims.interval import Finding
from cwd.experiments.records import Records
from cwd.experiments.rows_detection import label_of, table9
from cwd.experiments.rows_losses import Row
from cwd.training.tasks.base import Task
from cwd.training.tasks.detection import DETECTION

if TYPE_CHECKING:
    from cwd.experiments.claims.judging import Evidence


def over_detectors(evidence: "Evidence", test: Detectors) -> list[Finding | None]:
    """CWD minus each of some methods, in AP, for every detector that the table has it for.

    Args:
        evidence: where the results are found.
        test: which methods.

    Returns:
        None for a comparison that lacks runs; none at all where the profile has no detectors.
    """
    rows = {row.label: row for row in table9(evidence.profile) if row.runs}
    found: list[Finding | None] = []
    for detector in dict.fromkeys(row.printed["detector"] for row in rows.values()):
        best = rows[label_of(detector, "CWD")]
        for method in test.others:
            other = rows.get(label_of(detector, method))
            if other:
                paper = best.paper - other.paper
                what = f"{detector}: CWD - {method}"
                found.append(paired(what, evidence.records, best, other, DETECTION, paper))
    return found


def paired(
    what: str, records: Records, better: Row, worse: Row, task: Task, paper: float | None
) -> Finding | None:
    """One row's measure minus another's, seed by seed; None if they share no seed.

    Args:
        what: for people.
        records: where the results are found.
        better: the row that shall be.
        worse: the other one.
        task: of both, which says what is measured.
        paper: the paper's difference.
    """
    ones, others = (
        {run.seed: m[task.measure] for run in row.runs if (m := records.metrics(run))}
        for row in (better, worse)
    )
    pairs = [ones[seed] - others[seed] for seed in sorted(ones.keys() & others.keys())]
    return Finding(what, pairs, paper, unit=task.unit) if pairs else None
