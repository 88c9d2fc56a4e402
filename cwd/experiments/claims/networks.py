"""The comparisons behind the claims about Table 6: over all students of a profile."""

import statistics
from typing import TYPE_CHECKING

import numpy as np

from cwd.experiments.claims.comparisons import Kinds, Pretrained, Slopes, Students
from cwd.experiments.claims.interval import Finding
from cwd.experiments.profile import Student
from cwd.experiments.rows_networks import WITH_PI_HO, label_of, networks

if TYPE_CHECKING:
    from cwd.experiments.claims.judging import Evidence

Test = Students | Kinds | Slopes | Pretrained
CWD = WITH_PI_HO["CWD"]


class OverStudents:
    """What a profile's students reached, alone and distilled.

    Args:
        evidence: where the results are found.
    """

    def __init__(self, evidence: "Evidence") -> None:
        self.evidence, self.profile = evidence, evidence.profile
        # reference networks are never distilled
        self.students = [s for s in self.profile.students if "-" in s.name]
        rows = networks("table6", self.profile)
        self.printed = {row.label: row.paper for row in rows if row.paper is not None}

    def findings(self, test: Test) -> list[Finding | None]:
        """A claim's comparisons; None for one that lacks runs, none at all without students."""
        if isinstance(test, Students):
            return [self.compare(s, a, b) for s in self.students for a, b in test.pairs]
        if isinstance(test, Kinds):
            return self.kinds(test)
        return self.slopes() if isinstance(test, Slopes) else self.pretrained()

    def miou(self, student: Student, recipe: str) -> dict[int, float]:
        """mIoU by seed."""
        return self.evidence.by_seed(recipe, student=student.run)

    def paper(self, student: Student, method: str) -> float | None:
        """The paper's mIoU of a student and method, from the same start."""
        return self.printed.get(label_of(student.name, student.run.start, method))

    def compare(self, student: Student, one: str, other: str) -> Finding | None:
        """The paired differences of two methods on one student."""
        recipes = {"student": "", **WITH_PI_HO}
        ones, others = self.miou(student, recipes[one]), self.miou(student, recipes[other])
        pairs = [ones[seed] - others[seed] for seed in sorted(ones.keys() & others.keys())]
        printed = self.paper(student, one), self.paper(student, other)
        paper = None if None in printed else printed[0] - printed[1]
        return Finding(f"{student.run.network}: {one} - {other}", pairs, paper) if pairs else None

    def gains(self, student: Student) -> dict[int, float]:
        """CWD's gain over a student alone, by seed."""
        alone, taught = self.miou(student, ""), self.miou(student, CWD)
        return {seed: taught[seed] - alone[seed] for seed in alone.keys() & taught.keys()}

    def kinds(self, test: Kinds) -> list[Finding | None]:
        """Mean gain of the students of the teacher's kind, minus that of the others."""
        same = [s for s in self.students if s.name.startswith(test.prefix)]
        other = [s for s in self.students if not s.name.startswith(test.prefix)]
        if not same or not other:
            return []
        gains = {student: self.gains(student) for student in self.students}
        seeds = sorted(set.intersection(*(set(g) for g in gains.values())))
        means = [
            statistics.mean(gains[s][seed] for s in same)
            - statistics.mean(gains[s][seed] for s in other)
            for seed in seeds
        ]
        what = f"mean gain: {len(same)} {test.prefix} - {len(other)} others"
        return [Finding(what, means) if means else None]

    def slopes(self) -> list[Finding | None]:
        """How a student's result with CWD, and its gain, go with its result alone."""
        if len(self.students) < 3:
            return []
        alone = [self.miou(student, "") for student in self.students]
        taught = [self.miou(student, CWD) for student in self.students]
        seeds = sorted(set.intersection(*(set(values) for values in (*alone, *taught))))
        slopes = [
            np.polyfit([a[seed] for a in alone], [t[seed] for t in taught], 1)[0] for seed in seeds
        ]
        return (
            [
                Finding("slope of the result over the student's", slopes, unit="per mIoU"),
                Finding(
                    "falling slope of the gain", [1 - slope for slope in slopes], unit="per mIoU"
                ),
            ]
            if slopes
            else [None]
        )

    def pretrained(self) -> list[Finding | None]:
        """CWD from ImageNet minus CWD from scratch, for networks that are there twice."""
        pairs = [
            (warm, cold)
            for warm in self.students
            for cold in self.students
            if warm.name == cold.name and warm.run.init != "random" and cold.run.init == "random"
        ]
        found = []
        for warm, cold in pairs:
            ones, others = self.miou(warm, CWD), self.miou(cold, CWD)
            differences = [ones[s] - others[s] for s in sorted(ones.keys() & others.keys())]
            printed = self.paper(warm, "CWD"), self.paper(cold, "CWD")
            paper = None if None in printed else printed[0] - printed[1]
            what = f"{warm.run.network} with CWD: ImageNet - scratch"
            found.append(Finding(what, differences, paper) if differences else None)
        return found
