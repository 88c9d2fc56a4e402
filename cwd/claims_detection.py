"""The comparisons behind the claims about Table 9: over all detectors of a profile."""

from typing import TYPE_CHECKING

from cwd.claim_list import Detectors
from cwd.detection.tables import label_of, table9
from cwd.finding import Finding

if TYPE_CHECKING:
    from cwd.claims import Evidence


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
                ours, theirs = (
                    {run.seed: m["ap"] for run in row.runs if (m := evidence.records.metrics(run))}
                    for row in (best, other)
                )
                pairs = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
                what = f"{detector}: CWD - {method}"
                finding = Finding(what, pairs, best.paper - other.paper, unit="AP")
                found.append(finding if pairs else None)
    return found
