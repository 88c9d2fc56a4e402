"""Comparisons that are made for every network of a table: students, detectors, tasks."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cwd.experiments.claims.comparisons import Comparison, Names
from cwd.experiments.claims.evidence import Evidence
from cwd.experiments.claims.interval import Finding, paired
from cwd.experiments.profile import Student
from cwd.experiments.rows_detection import label_of as detector_label
from cwd.experiments.rows_detection import table9
from cwd.experiments.rows_networks import WITH_PI_HO, difference, label_of, networks
from cwd.experiments.rows_transformation import label_of as task_label
from cwd.experiments.rows_transformation import transformation


@dataclass(frozen=True)
class Students(Comparison):
    """For every student of Table 6, CWD beats each of some methods."""

    others: Names
    needs = "runs of all students: make reproduce under this profile"

    def _compare(self, evidence: Evidence) -> list[Finding]:
        return [
            _minus(evidence, f"{s.run.network}: CWD - {other}", (s, "CWD"), (s, other))
            for s in _students(evidence)
            for other in self.others
        ]


@dataclass(frozen=True)
class Kinds(Comparison):
    """CWD's mean gain is larger for students whose name begins with the prefix than for others."""

    prefix: str
    needs = Students.needs

    def _compare(self, evidence: Evidence) -> list[Finding]:
        gains = _by_student(evidence, "CWD") - _by_student(evidence, "student")
        same = np.array([s.name.startswith(self.prefix) for s in _students(evidence)], dtype=bool)
        means = (gains[kind].mean(skipna=False) for kind in (same, ~same))
        what = f"mean gain: {same.sum()} {self.prefix} - {(~same).sum()} others"
        return [paired(what, *means)]


@dataclass(frozen=True)
class Slopes(Comparison):
    """Over the students of Table 6, the result with CWD rises with that alone, the gain falls."""

    needs = Students.needs

    def _compare(self, evidence: Evidence) -> list[Finding]:
        alone, taught = (_by_student(evidence, method) for method in ("student", "CWD"))
        if len(alone) < 3:
            return []
        seeds = (taught - alone).dropna(axis=1).columns
        slopes = [np.polyfit(alone[seed], taught[seed], 1)[0] for seed in seeds]
        falling = [1 - slope for slope in slopes]
        return [
            Finding("slope of the result over the student's", slopes, unit="per mIoU"),
            Finding("falling slope of the gain", falling, unit="per mIoU"),
        ]


@dataclass(frozen=True)
class Pretrained(Comparison):
    """With CWD, a student that starts from ImageNet beats the same from random weights."""

    needs = "ImageNet weights, and a student with and without them"

    def _compare(self, evidence: Evidence) -> list[Finding]:
        students = _students(evidence)
        warm = [student for student in students if student.run.init != "random"]
        return [
            _minus(
                evidence, f"{w.run.network} with CWD: ImageNet - scratch", (w, "CWD"), (c, "CWD")
            )
            for w in warm
            for c in students
            if c not in warm and c.name == w.name
        ]


@dataclass(frozen=True)
class Detectors(Comparison):
    """For every detector of Table 9, CWD has a higher AP than each of some of its methods."""

    others: Names
    needs = "runs of detectors: make reproduce under a profile that has them"

    def _compare(self, evidence: Evidence) -> list[Finding]:
        rows = {row.label: row for row in table9(evidence.profile) if row.runs}
        found = []
        for detector in dict.fromkeys(row.printed["detector"] for row in rows.values()):
            best = rows[detector_label(detector, "CWD")]
            for method in self.others:
                if other := rows.get(detector_label(detector, method)):
                    paper = best.paper - other.paper
                    found.append(evidence.rows(f"{detector}: CWD - {method}", best, other, paper))
        return found


@dataclass(frozen=True)
class Tasks(Comparison):
    """In each of some tasks, one method of the second paper has a higher measure than another."""

    better: str
    worse: str
    tasks: Names
    needs: str = "such networks: make reproduce under a profile that has them"

    def _compare(self, evidence: Evidence) -> list[Finding]:
        if not evidence.profile.transformation:
            return []
        rows, found = {row.label: row for row in transformation(evidence.profile)}, []
        for task in self.tasks:
            better, worse = (rows[task_label(task, each)] for each in (self.better, self.worse))
            paper = better.printed["gain"] if self.worse == "student" else None
            what = f"{task}: {self.better} - {self.worse}"
            found.append(evidence.rows(what, better, worse, paper))
        return found


def _students(evidence: Evidence) -> list[Student]:
    # reference networks are never distilled
    return [student for student in evidence.profile.students if "-" in student.name]


def _miou(evidence: Evidence, student: Student, method: str) -> pd.Series:
    return evidence.miou({"student": "", **WITH_PI_HO}[method], student.run)


def _by_student(evidence: Evidence, method: str) -> pd.DataFrame:
    # mIoU, student by seed
    return pd.DataFrame([_miou(evidence, student, method) for student in _students(evidence)])


def _minus(
    evidence: Evidence, what: str, one: tuple[Student, str], other: tuple[Student, str]
) -> Finding:
    printed = {row.label: row.paper for row in networks("table6", evidence.profile)}
    # the paper's numbers are from the same starts
    labels = (label_of(s.name, s.run.start, method) for s, method in (one, other))
    paper = difference(*(printed.get(label) for label in labels))
    return paired(what, _miou(evidence, *one), _miou(evidence, *other), paper=paper)
