"""What would show a claim: kinds of comparison, each of which computes its own findings."""

import math
from dataclasses import dataclass, replace

import pandas as pd

from cwd.experiments.claims.evidence import Evidence
from cwd.experiments.claims.interval import Finding, paired
from cwd.experiments.records import CHANNELS, COSTS, Records, recorded_profiles

Names = list[str]  # of recipes, methods, classes or tasks


class Comparison:
    """What would show a claim.

    Attributes:
        needs: what is missing where it can't be made.
    """

    needs = "its runs: make reproduce under this profile"

    def findings(self, evidence: Evidence) -> list[Finding]:
        """One for everything that it compares; none if runs of one of them are missing."""
        made = self._compare(evidence)
        return made if all(finding.differences for finding in made) else []

    def _compare(self, evidence: Evidence) -> list[Finding]:
        raise NotImplementedError


@dataclass(frozen=True)
class Greater(Comparison):
    """Each of `better` has a higher mIoU than each of `worse` (recipes)."""

    better: Names
    worse: Names

    def _compare(self, evidence: Evidence) -> list[Finding]:
        return [evidence.recipes(one, other) for one in self.better for other in self.worse]


@dataclass(frozen=True)
class Within(Comparison):
    """A recipe's mIoU is within `margin` percent of every other's."""

    recipe: str
    others: Names
    margin: float

    def _compare(self, evidence: Evidence) -> list[Finding]:
        return [evidence.recipes(self.recipe, each, margin=self.margin) for each in self.others]


@dataclass(frozen=True)
class Classes(Comparison):
    """A recipe has a higher mean IoU over some classes than each of the others."""

    recipe: str
    others: Names
    classes: Names
    needs = "a dataset with these classes"

    def _compare(self, evidence: Evidence) -> list[Finding]:
        return [evidence.recipes(self.recipe, each, self.classes) for each in self.others]


@dataclass(frozen=True)
class EveryDataset(Comparison):
    """A recipe beats the student alone in every profile that is recorded, this one's first."""

    recipe: str
    needs = "recorded results of a second dataset"

    def _compare(self, evidence: Evidence) -> list[Finding]:
        here, results = evidence.profile, evidence.records.results
        known = recorded_profiles(results) if here.student else []
        others = [each for each in known if each.student and each.name != here.name]
        if all(other.data.name == here.data.name for other in others):
            return []
        sources = [evidence, *(Evidence(Records(other, None, results)) for other in others)]
        made = [(source.profile.name, source.recipes(self.recipe, "")) for source in sources]
        return [replace(f, what=f"{f.what} ({name})") for name, f in made if f.differences]


@dataclass(frozen=True)
class Cheaper(Comparison):
    """A loss takes less time than each of the others, or the same within exp(margin).

    What is compared are the logarithms of the times that two losses took in the same turns.
    """

    loss: str
    others: Names
    margin: float | None = None
    needs = "notebook 05"

    def _compare(self, evidence: Evidence) -> list[Finding]:
        costs = evidence.records.beside(COSTS)
        seconds = costs["step"]["seconds"] if costs else {}
        logs = {name: dict(enumerate(map(math.log, taken))) for name, taken in seconds.items()}
        ours, about = logs.get(self.loss, {}), {"margin": self.margin, "unit": "log ratio"}
        return [
            paired(f"log time of {other} - {self.loss}", logs.get(other, {}), ours, **about)
            for other in self.others
        ]


@dataclass(frozen=True)
class Channels(Comparison):
    """A recipe's (or the teacher's) score-map channels mark their classes better than others' do.

    The measure is `cwd.experiments.channels.class_auc`.
    """

    better: str
    worse: Names
    needs = "notebook 04"

    def _compare(self, evidence: Evidence) -> list[Finding]:
        if (table := _by_channel(evidence)) is None:
            return []
        best, *others = (table.loc[name]["auc"] for name in (self.better, *self.worse))
        if len(best) == 1:  # there is one teacher, for all seeds
            best = best.item()
        return [
            Finding(f"{self.better} - {name or 'student'}", list(best - auc), unit="AUC")
            for name, auc in zip(self.worse, others, strict=True)
        ]


@dataclass(frozen=True)
class Salience(Comparison):
    """A recipe brings the channels nearer to the teacher's where those are salient, and more so
    than elsewhere; see `cwd.experiments.channels.salience_gaps`.
    """

    recipe: str
    needs = Channels.needs

    def _compare(self, evidence: Evidence) -> list[Finding]:
        if (table := _by_channel(evidence)) is None:
            return []
        nearer = table.loc[""] - table.loc[self.recipe]
        what = f"distance of the student - of {self.recipe}, salient"
        made = {
            what: nearer["salient"],
            f"{what} - background": nearer["salient"] - nearer["background"],
        }
        return [Finding(what, list(values), unit="log ratio") for what, values in made.items()]


def _by_channel(evidence: Evidence) -> pd.DataFrame | None:
    measured = evidence.records.beside(CHANNELS)
    return pd.DataFrame(measured["lines"]).set_index(["recipe", "seed"]) if measured else None
