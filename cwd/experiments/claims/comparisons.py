"""What would show a claim: kinds of comparison, each of which computes its own findings."""

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from cwd.experiments.claims.evidence import Evidence
from cwd.experiments.claims.interval import Finding, paired
from cwd.experiments.records import Records, recorded_profiles
from cwd.system import paths

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
    """Each of `better` has a higher mIoU, maybe of some classes, than each of `worse` (recipes)."""

    better: Names
    worse: Names
    classes: Names = ()
    needs: str = Comparison.needs

    def _compare(self, evidence: Evidence) -> list[Finding]:
        pairs = itertools.product(self.better, self.worse)
        return [evidence.recipes(one, other, self.classes) for one, other in pairs]


@dataclass(frozen=True)
class Within(Comparison):
    """A recipe's mIoU is within `margin` percent of every other's."""

    recipe: str
    others: Names
    margin: float

    def _compare(self, evidence: Evidence) -> list[Finding]:
        return [evidence.recipes(self.recipe, each, margin=self.margin) for each in self.others]


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
        if not (costs := evidence.records.beside(paths.COSTS)):
            return []
        logs = np.log(pd.DataFrame(costs["step"]["seconds"]))
        logs = logs.reindex(columns=[self.loss, *self.others])
        about = {"margin": self.margin, "unit": "log ratio"}
        return [
            paired(f"log time of {other} - {self.loss}", logs[other], logs[self.loss], **about)
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
        best = best.item() if len(best) == 1 else best  # there is one teacher, for all seeds
        return [
            paired(f"{self.better} - {name or 'student'}", best, auc, unit="AUC")
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
    measured = evidence.records.beside(paths.CHANNELS)
    return pd.DataFrame(measured["lines"]).set_index(["recipe", "seed"]) if measured else None
