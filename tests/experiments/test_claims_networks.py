"""The claims about Table 6, on results with known answers."""

from dataclasses import replace

import pytest
from invented import Invented

from cwd.experiments.claims.comparisons import Evidence
from cwd.experiments.claims.judging import CLAIMS
from cwd.experiments.profile import Student

RECIPES = {"student": "", "SKDS": "PI + HO + PA_f", "IFVD": "PI + HO + IFV_f",
           "CWD": "PI + HO + CW_f"}  # fmt: skip
OTHERS = ("PSPNet-R18(0.125)", "PSPNet-MBV2(0.35)", "Deeplab-R18(0.125)", "Deeplab-R18(0.25)",
          "Deeplab-MBV2(0.35)")  # fmt: skip


def results(**methods):
    """mIoU by recipe: two seeds, the second 1 higher."""
    return {RECIPES[name]: (value, value + 1.0) for name, value in methods.items()}


def findings(kind, invented):
    (claim, *_) = [claim for claim in CLAIMS if claim.kind == kind]
    return claim.findings(Evidence(invented))


def test_every_student_has_to_win():
    line = results(student=20.0, SKDS=22.0, IFVD=23.0, CWD=24.0)
    found = findings("students", Invented(line, others=dict.fromkeys(OTHERS, line)))
    assert len(found) == 6 * 2
    assert [finding.mean for finding in found[:2]] == [2.0, 1.0]
    papers = {finding.what: finding.paper for finding in found}
    # Table 6, from scratch: 70.04 - 63.20, and 65.60 - 63.12
    assert papers["PSPNet-R18(0.25): CWD - SKDS"] == pytest.approx(6.84)
    assert papers["Deeplab-R18(0.125): CWD - IFVD"] == pytest.approx(2.48)
    assert papers["PSPNet-MBV2(0.35): CWD - SKDS"] is None  # the paper has it from ImageNet only
    # a student without its runs, and the claim was not tested
    fewer = dict.fromkeys(OTHERS[:-1], line)
    assert findings("students", Invented(line, others=fewer)) == []


def test_students_of_the_teachers_kind():
    main, same = results(student=20.0, CWD=26.0), results(student=10.0, CWD=14.0)
    other = results(student=30.0, CWD=31.0)
    others = dict.fromkeys(OTHERS, other) | {"PSPNet-R18(0.125)": same}
    (found,) = findings("kinds", Invented(main, others=others))
    assert list(found.differences) == [4.0, 4.0]  # (6 + 4) / 2 - 1


def test_better_students():
    """Results on a line of slope 0.5: better stays better, and gains half a percent less each."""
    alone = dict(zip(OTHERS, (12.0, 14.0, 18.0, 22.0, 30.0), strict=True))
    others = {name: results(student=a, CWD=20 + a / 2) for name, a in alone.items()}
    main = results(student=20.0, CWD=30.0)
    rising, falling = findings("slopes", Invented(main, others=others))
    assert rising.differences == pytest.approx([0.5, 0.5])
    assert falling.differences == pytest.approx([0.5, 0.5])


def test_imagenet_beside_scratch():
    invented = Invented(results(student=20.0, CWD=24.0))
    assert findings("pretrained", invented) == []  # quick has no student from ImageNet
    profile = invented.profile
    warm = replace(profile.student, init="imagenet")
    profile = replace(profile, students=(*profile.students, Student("PSPNet-R18", warm)))

    class TwoStarts(Invented):
        def metrics(self, run):
            value = 29.0 if run.init == "imagenet" else 24.0
            return {"miou": value + run.seed, "macc": 0.0, "class_iou": {}}

    (found,) = findings("pretrained", TwoStarts({}, profile=profile))
    assert list(found.differences) == [5.0] * len(profile.deciding)
    assert found.paper == pytest.approx(74.87 - 70.04)
