"""The papers' claims, each with the runs that test it and a verdict over several seeds.

A claim is a comparison. Its differences are paired: two runs of the same seed start from the same
weights and see the same batches. The interval is Student's t at 95 % over those differences.

- supported: every comparison's interval is on the claim's side;
- contradicted: some comparison's interval, at 95 % for all of them together (Bonferroni), is
  wholly on the other side;
- undecided: neither;
- not run: a run that the claim needs was not measured.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from cwd.data.scenes.draw import DRAWN
from cwd.experiments.claims import comparisons
from cwd.experiments.claims.comparisons import Evidence
from cwd.experiments.claims.interval import Finding
from cwd.experiments.profile import Profile, load_profile
from cwd.experiments.records import Records, recorded_profiles
from cwd.experiments.table import paper
from cwd.experiments.workspace import Workspace
from cwd.system import paths

VERDICTS = ("supported", "contradicted", "undecided", "not run")


@dataclass(frozen=True)
class Claim:
    """A claim in our words, where its paper makes it, and what would show it."""

    text: str
    where: str
    kind: str  # of comparison, a function of `comparisons`
    given: Mapping[str, Any]  # to it
    needs: str  # what is missing where it can't be made
    logs: tuple[str, str] | None = None  # of the authors: one's query, and those it stands against

    def findings(self, evidence: Evidence) -> list[Finding]:
        """One for everything that is compared; none if runs of one of them are missing."""
        made = getattr(comparisons, self.kind)(evidence, **self.given)
        return made if all(finding.differences for finding in made) else []


def _read() -> tuple[Claim, ...]:
    listed = yaml.safe_load(Path(__file__).with_name("claims.yaml").read_text())
    claims = []
    for line in listed["claims"]:
        text, where, needs = line.pop("claim"), line.pop("where"), line.pop("needs", "")
        logs = line.pop("logs", None)
        ((kind, given),) = line.items()
        claims.append(Claim(text, where, kind, given, needs or listed["needs"][kind], logs))
    return tuple(claims)


CLAIMS = _read()


def verdict(findings: Sequence[Finding]) -> str:
    """What the comparisons of a claim say together; see the module."""
    if not findings:
        return "not run"
    if all(finding.slack[0] > 0 for finding in findings):
        return "supported"
    failed = any(finding.fails(len(findings)) for finding in findings)
    return "contradicted" if failed else "undecided"


def verdicts(profile: str | Workspace | Records) -> pd.DataFrame:
    """Every claim of the papers, with what was measured about it; nothing is trained.

    A profile's runs are looked up on disk and then among the recorded results; `Records` as they
    say. Of the columns, `paper` is its own difference, `decided by` the comparison whose interval
    is furthest from the claim, and of how many, `ours` its mean difference, with `sd`, and `low`
    and `high` of its 95 % interval.
    """
    if not isinstance(profile, Records):
        known = load_profile(profile) if isinstance(profile, str) else profile.profile
        profile = Records(known, paths.RUNS)
    evidence = Evidence(profile)
    table = pd.DataFrame([_line(claim, claim.findings(evidence)) for claim in CLAIMS])
    numbers = ["ours", "sd", "low", "high", "margin", "n"]
    columns = ["claim", "where", "paper", "logged", "decided by", *numbers, "unit"]
    return table.reindex(columns=[*columns, "verdict", "why not"])


def verdicts_by_profile(source: Workspace) -> pd.DataFrame:
    """The verdict on every claim in this profile, and in each other one that is recorded.

    Profiles of real images come first. With the verdict stands n, of seeds or of students.
    """
    others = [p for p in recorded_profiles() if p.name != source.profile.name]
    return side_by_side(
        {p: verdicts(Records(p)) for p in others} | {source.profile: verdicts(source)}
    )


def side_by_side(known: Mapping[Profile, pd.DataFrame]) -> pd.DataFrame:
    """The `verdicts` of several profiles as one table, with n; profiles of real images first."""
    shown = {
        profile.name: table["verdict"]
        + table["n"].map(lambda n: f" ({n:.0f})", "ignore").fillna("")
        for profile, table in sorted(known.items(), key=lambda item: _drawn(item[0]))
    }
    return pd.DataFrame(shown).set_index(pd.Index([c.text for c in CLAIMS], name="claim"))


def _drawn(profile: Profile) -> bool:
    return profile.data is not None and profile.data.name in DRAWN


def _line(claim: Claim, findings: Sequence[Finding]) -> dict[str, Any]:
    line = {"claim": claim.text, "where": claim.where, "verdict": verdict(findings)}
    line["logged"] = logged(*claim.logs) if claim.logs else ""
    if not findings:
        return line | {"why not": claim.needs}
    failed = [finding for finding in findings if finding.fails(len(findings))]
    least = min(failed or findings, key=lambda finding: finding.slack)
    low, high = least.interval()
    return line | {
        "paper": least.paper if least.margin is None else None,
        "decided by": least.what + (f", of {len(findings)}" if len(findings) > 1 else ""),
        "ours": least.mean,
        "sd": least.sd,
        "low": low,
        "high": high,
        "margin": least.margin,
        "n": len(least.differences),
        "unit": least.unit,
    }


def logged(ones: str, others: str) -> str:
    """Differences in mIoU of the authors' logs, single runs on Cityscapes, between two queries."""
    values = (paper("authors_logs").query(query)["miou"] for query in (ones, others))
    apart = [one - other for one, other in itertools.product(*values)]
    span = signed(min(apart)) + (f" to {signed(max(apart))}" if len(apart) > 1 else "")
    return f"{span}, {len(apart)} pair{'s' if len(apart) > 1 else ''}"


def layout(table: pd.DataFrame, *, run: bool = True) -> pd.DataFrame:
    """The verdicts as a table for people; if not `run`, the claims that weren't and their needs."""
    shown = table[(table["verdict"] != "not run") == run].set_index("claim")
    if not run:
        return shown[["where", "why not"]].rename(columns={"why not": "needs"})
    printed, ours, low, high = (  # as texts, also where there is no line
        shown[name].map(signed).astype(str) for name in ("paper", "ours", "low", "high")
    )
    columns = {
        "verdict": shown["verdict"],
        "paper": printed,
        "authors' logs": shown["logged"],
        "ours": ours + ["" if pd.isna(sd) else f" ± {sd:.2f}" for sd in shown["sd"]],
        "95 % interval": low + " to " + high,
        "n": shown["n"].astype(int),
    }
    return pd.DataFrame(columns).join(shown[["unit", "decided by", "where"]])


def signed(value: float) -> str:
    """A difference as a cell, empty where there is none."""
    return "" if pd.isna(value) else f"{value:+.2f}"
