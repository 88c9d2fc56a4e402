"""The paper's claims, each with the runs that test it and a verdict over several seeds.

A claim is a comparison. Its differences are paired: two runs of the same seed start from the same
weights and see the same batches. The interval is Student's t at 95 % over those differences.

- supported: every comparison's interval is on the claim's side;
- contradicted: some comparison's interval, at 95 % for all of them together (Bonferroni), is
  wholly on the other side;
- undecided: neither;
- not run: a run that the claim needs was not measured.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import cached_property

import pandas as pd

from cwd.config.run import Run
from cwd.experiments.claims.claim_list import CLAIMS, Claim
from cwd.experiments.claims.comparisons import (
    Channels,
    Cheaper,
    Classes,
    Detectors,
    Greater,
    Kinds,
    OtherData,
    Pretrained,
    Salience,
    Slopes,
    Students,
    Tasks,
    Within,
)
from cwd.experiments.claims.detection import over_detectors
from cwd.experiments.claims.interval import Finding
from cwd.experiments.claims.networks import OverStudents
from cwd.experiments.claims.transformation import over_tasks
from cwd.experiments.profile import load_profile
from cwd.experiments.records import CHANNELS, COSTS, Records, every_seed, recorded_profiles
from cwd.experiments.rows_losses import BARE
from cwd.experiments.study import TABLES
from cwd.experiments.workspace import Workspace
from cwd.system import paths

VERDICTS = ("supported", "contradicted", "undecided", "not run")


def verdict(findings: Sequence[Finding]) -> str:
    """What the comparisons of a claim say together; see the module."""
    if not findings:
        return "not run"
    if all(finding.holds() for finding in findings):
        return "supported"
    failed = any(finding.fails(len(findings)) for finding in findings)
    return "contradicted" if failed else "undecided"


class Evidence:
    """What was measured under a profile, as claims ask for it.

    Args:
        records: where it is found.
    """

    def __init__(self, records: Records) -> None:
        self.records, self.profile = records, every_seed(records.profile)

    @cached_property
    def printed(self) -> dict[str, float]:
        """The paper's mIoU by recipe; Table 2's value where Table 4 or 5 has another."""
        names = ("table5", "table3", "table2")
        rows = [row for name in names for row in TABLES[name].rows(self.profile)]
        return {
            row.runs[0].recipe: row.paper
            for row in rows
            if row.paper is not None and row.runs[0] != self.profile.teacher
        }

    def by_seed(
        self, recipe: str, classes: Sequence[str] = (), student: Run | None = None
    ) -> dict[int, float]:
        """mIoU of a recipe's runs by seed; of some classes only, or of another student."""
        found = {}
        for seed in self.profile.student_seeds:
            run = self.profile.run(BARE.get(recipe, recipe), seed, student)
            metrics = self.records.metrics(run)
            if metrics and classes:
                known = [metrics["class_iou"].get(name) for name in classes]
                values = [value for value in known if value is not None]
                if len(values) == len(classes):
                    found[seed] = statistics.mean(values)
            elif metrics:
                found[seed] = metrics["miou"]
        return found

    def compare(
        self, one: str, other: str, classes: Sequence[str] = (), margin: float | None = None
    ) -> Finding | None:
        """The paired differences of two recipes; None if they share no seed."""
        ones, others = self.by_seed(one, classes), self.by_seed(other, classes)
        pairs = [ones[seed] - others[seed] for seed in sorted(ones.keys() & others.keys())]
        if not pairs:
            return None
        known = [self.printed.get(BARE.get(recipe, recipe)) for recipe in (one, other)]
        paper = known[0] - known[1] if None not in known and not classes else None
        return Finding(f"{one or 'student'} - {other or 'student'}", pairs, paper, margin)

    def findings(self, claim: Claim) -> list[Finding]:
        """A claim's comparisons; empty if one of them could not be made."""
        test = claim.test
        if not self.profile.student and not isinstance(test, Detectors | Tasks):
            return []
        if isinstance(test, Greater):
            pairs = [(a, b) for a in test.better for b in test.worse]
            made = [self.compare(a, b) for a, b in pairs]
        elif isinstance(test, Within):
            made = [self.compare(test.recipe, b, margin=test.margin) for b in test.others]
        elif isinstance(test, Classes):
            made = [self.compare(test.recipe, b, test.classes) for b in test.others]
        elif isinstance(test, Cheaper):
            made = self.cheaper(test)
        elif isinstance(test, OtherData):
            made = self.elsewhere(test)
        elif isinstance(test, Channels | Salience):
            made = self.by_channel(test)
        elif isinstance(test, Students | Kinds | Slopes | Pretrained):
            made = OverStudents(self).findings(test)
        elif isinstance(test, Detectors):
            made = over_detectors(self, test)
        elif isinstance(test, Tasks):
            made = over_tasks(self, test)
        else:
            made = []
        return [] if None in made else made

    def cheaper(self, test: Cheaper) -> list[Finding | None]:
        """Logarithms of the ratios of the times that two losses took in the same turns."""
        costs = self.records.beside(COSTS)
        if not costs:
            return []
        seconds: Mapping[str, Sequence[float]] = costs["step"]["seconds"]
        return [
            Finding(
                f"log time of {other} - {test.loss}",
                [math.log(b / a) for a, b in zip(seconds[test.loss], seconds[other], strict=True)],
                margin=test.margin,
                unit="log ratio",
            )
            if test.loss in seconds and other in seconds
            else None
            for other in test.others
        ]

    def by_channel(self, test: Channels | Salience) -> list[Finding | None]:
        """Differences of what `cwd.experiments.channels` measured, by seed."""
        measured = self.records.beside(CHANNELS)
        if not measured:
            return []
        table = pd.DataFrame(measured["lines"]).set_index(["recipe", "seed"])
        if isinstance(test, Channels):
            aucs = [table.loc[name]["auc"] for name in (test.better, *test.worse)]
            # there is one teacher, for all seeds
            best = aucs[0] if len(aucs[0]) > 1 else aucs[1] * 0 + aucs[0].item()
            return [
                Finding(f"{test.better} - {name or 'student'}", list(best - auc), unit="AUC")
                for name, auc in zip(test.worse, aucs[1:], strict=True)
            ]
        nearer = table.loc[""] - table.loc[test.recipe]  # how much nearer to the teacher
        what = f"distance of the student - of {test.recipe}"
        return [
            Finding(f"{what}, salient", list(nearer["salient"]), unit="log ratio"),
            Finding(
                f"{what}, salient - background",
                list(nearer["salient"] - nearer["background"]),
                unit="log ratio",
            ),
        ]

    def elsewhere(self, test: OtherData) -> list[Finding | None]:
        """The same comparison on every dataset of which results are recorded, this one's first."""
        recorded = [p for p in recorded_profiles(self.records.results) if p.student]
        others = [p for p in recorded if p.name != self.profile.name]
        sources = [self, *(Evidence(Records(p, None, self.records.results)) for p in others)]
        made = []
        for source in sources:
            found = source.compare(test.recipe, "")
            if found:
                what = f"{found.what} ({source.profile.name})"
                made.append(Finding(what, found.differences, found.paper))
        datasets = {source.profile.data.name for source in sources}
        return made if len(datasets) > 1 else []


def verdicts(profile: str | Workspace | Records) -> pd.DataFrame:
    """Every claim of the paper, with what was measured about it; nothing is trained.

    Args:
        profile: a profile's name or an opened one, whose runs are looked up on disk and then among
            the recorded results; or `Records`.

    Returns:
        One line a claim: `claim`, `where` in the paper, `paper` (its own difference), `decided by`
        (the comparison whose interval is furthest from the claim, and of how many), `ours` (its
        mean difference), `sd`, `low` and `high` of its 95 % interval, `n`, `unit`, `verdict`, `why
        not`.
    """
    if isinstance(profile, str):
        profile = Records(load_profile(profile), paths.RUNS)
    elif isinstance(profile, Workspace):
        profile = Records(profile.profile, paths.RUNS)
    evidence = Evidence(profile)
    lines = []
    for claim in CLAIMS:
        findings = evidence.findings(claim)
        line = {"claim": claim.text, "where": claim.where, "verdict": verdict(findings)}
        if findings:
            failed = [finding for finding in findings if finding.fails(len(findings))]
            least = min(failed or findings, key=lambda finding: finding.slack)
            low, high = least.interval()
            line |= {
                "paper": least.paper if least.margin is None else None,
                "decided by": least.what + (f", of {len(findings)}" if len(findings) > 1 else ""),
                "ours": least.mean,
                "sd": least.sd,
                "low": low,
                "high": high,
                "n": len(least.differences),
                "unit": least.unit,
            }
        else:
            line["why not"] = claim.needs
        lines.append(line)
    columns = ["claim", "where", "paper", "decided by", "ours", "sd", "low", "high", "n", "unit"]
    return pd.DataFrame(lines, columns=[*columns, "verdict", "why not"])


def layout(table: pd.DataFrame, *, run: bool = True) -> pd.DataFrame:
    """The verdicts as a table for people.

    Args:
        table: see `verdicts`.
        run: the claims that were tested; False for those that weren't, with what they need.
    """
    shown = table[(table["verdict"] != "not run") == run].set_index("claim")
    if not run:
        return shown[["where", "why not"]].rename(columns={"why not": "needs"})
    measured = zip(shown["ours"], shown["sd"], strict=True)
    ends = zip(shown["low"], shown["high"], strict=True)
    return pd.DataFrame(
        {
            "verdict": shown["verdict"],
            "paper": [signed(value) for value in shown["paper"]],
            "ours": [
                signed(mean) + ("" if pd.isna(sd) else f" ± {sd:.2f}") for mean, sd in measured
            ],
            "95 % interval": [f"{signed(low)} to {signed(high)}" for low, high in ends],
            "n": shown["n"].astype(int),
            "unit": shown["unit"],
            "decided by": shown["decided by"],
            "where": shown["where"],
        }
    )


def signed(value: float) -> str:
    """A difference with its sign and two digits; empty for none."""
    return "" if pd.isna(value) else f"{value:+.2f}"
