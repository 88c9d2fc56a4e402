"""Verdicts against intervals computed by hand, and against results that leave no doubt."""

import json
import math
from dataclasses import replace

import pytest
from invented import Invented, TwoStarts, find, recorded

from cwd.experiments.claims import verdicts
from cwd.experiments.claims.claim_list import CLAIMS
from cwd.experiments.claims.evidence import Evidence
from cwd.experiments.claims.interval import Finding
from cwd.experiments.claims.judging import layout, verdict
from cwd.experiments.claims.networks import Kinds, Pretrained, Slopes, Students
from cwd.experiments.profile import Student, load_profile
from cwd.experiments.records import Records
from cwd.experiments.rows_losses import BARE
from cwd.experiments.study import every_run
from cwd.recipes.parse import parse_recipe

T_2 = 4.30265  # Student's t, two degrees of freedom, 97.5 %


def test_the_interval_by_hand():
    half = T_2 / math.sqrt(3)
    interval = Finding("a - b", [1.0, 2.0, 3.0]).interval()
    assert interval == pytest.approx((2 - half, 2 + half), abs=1e-4)
    assert Finding("a - b", [1.0]).interval() == (-math.inf, math.inf)


YES, NO, PERHAPS = (2.0, 2.1, 1.9), (-2.0, -2.1, -1.9), (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("differences", "margin", "expected"),
    [
        ([YES], None, "supported"),
        ([PERHAPS], None, "undecided"),
        ([NO], None, "contradicted"),
        ([(5.0,)], None, "undecided"),  # one seed proves nothing
        ([YES, PERHAPS], None, "undecided"),
        ([YES, NO], None, "contradicted"),
        ([], None, "not run"),
        # -1 +- 0.4 * 4.30 / sqrt 3 = -1 +- 0.99; the interval is wider for 20 comparisons
        ([(-0.6, -1.0, -1.4)], None, "contradicted"),
        ([(-0.6, -1.0, -1.4), *[YES] * 19], None, "undecided"),
        ([(0.1, 0.0, -0.1)], 1.0, "supported"),
        ([YES], 1.0, "contradicted"),
        ([(0.5, 1.0, 1.5)], 1.0, "undecided"),
        ([NO], 1.0, "contradicted"),
    ],
)
def test_what_several_comparisons_say(differences, margin, expected):
    assert verdict([Finding("a - b", each, margin=margin) for each in differences]) == expected


def test_differences_are_paired_by_seed(tmp_path):
    # the seeds differ by 10, the methods by 1 at every seed
    source = Invented({"CW_f": (11.0, 21.1, 30.9), "CW_s": (10.0, 20.0, 30.0)})
    line = find(verdicts(recorded(tmp_path, source)), "feature map than on the score map")
    assert line.verdict == "supported"
    assert line.ours == pytest.approx(1.0)
    assert line.paper == pytest.approx(73.52 - 72.82)
    assert line.n == 3


def test_the_comparison_furthest_from_the_claim_decides(tmp_path):
    flat = {f"{s}_f": (50.0, 50.1, 49.9) for s in ("MIMIC", "AT", "PI", "LOCAL", "PA", "IFV")}
    source = Invented(flat | {"PA_f": (54.0, 54.1, 53.9), "CW_f": (52.0, 52.1, 51.9)})
    line = find(verdicts(recorded(tmp_path, source)), "on the feature map, CW beats each")
    assert line.verdict == "contradicted"
    assert line._asdict()["_4"] == "CW_f - PA_f, of 6"
    assert line.paper == pytest.approx(73.52 - 71.23)  # the same comparison


def test_a_claim_with_a_missing_run_is_not_run(tmp_path):
    table = verdicts(recorded(tmp_path, Invented({"CW_f": (52.0, 52.1, 51.9)})))
    assert set(table["verdict"]) == {"not run"}
    missing = layout(table, run=False)
    assert len(missing) == len(CLAIMS)
    assert missing["needs"].str.contains("make reproduce|notebook|dataset|weights").all()


def test_classes_are_averaged(tmp_path):
    names = ("traffic light", "terrain", "wall", "truck", "bus", "train")
    low, high = dict.fromkeys(names, 10.0), dict.fromkeys(names, 10.0) | {"bus": 40.0}
    miou = dict.fromkeys(("CW_f", "PA_f", "IFV_f"), (1.0, 1.0, 1.0))
    source = Invented(miou, classes={"CW_f": high, "PA_f": low, "IFV_f": low})
    line = find(verdicts(recorded(tmp_path, source)), "traffic light")
    assert line.ours == pytest.approx(30 / 6)
    lacking = {recipe: {"bus": 1.0} for recipe in miou}
    table = verdicts(recorded(tmp_path, Invented(miou, classes=lacking)))
    assert find(table, "traffic light").verdict == "not run"


def test_costs_are_compared_turn_by_turn(tmp_path):
    records = recorded(tmp_path, Invented({}))
    seconds = {"CW_f": [1.0, 2.0, 4.0], "HO": [10.0, 20.1, 40.0], "PA_f(pool_scale=0)": [5, 10, 20]}
    costs = tmp_path / "results" / "quick" / "costs.json"
    costs.write_text(json.dumps({"step": {"seconds": seconds}}))
    line = find(verdicts(records), "than the critic")
    assert line.verdict == "supported"
    assert line.ours == pytest.approx(math.log(5))  # the nearer of the two
    assert line.unit == "log ratio"


def test_every_dataset_counts(tmp_path):
    here = Invented({"": (50.0, 51.0, 52.0), "CW_f": (53.0, 54.1, 54.9)})
    camvid = load_profile("camvid-cpu")
    there = Invented({"": (50.0, 51.0, 52.0), "CW_f": (47.0, 48.1, 48.9)}, profile=camvid)
    records = recorded(tmp_path, here)
    assert find(verdicts(records), "feature map helps on every").verdict == "not run"
    recorded(tmp_path, there)
    line = find(verdicts(records), "feature map helps on every")
    assert line.verdict == "contradicted"
    assert "camvid-cpu" in line._asdict()["_4"]


def test_claims_ask_for_recipes_that_the_studies_train_and_for_the_papers_numbers():
    trained = {run.recipe for run in every_run(Invented({}))}
    named = ("better", "worse", "recipe", "others", "loss")
    for claim in CLAIMS:
        kind, given = type(claim.test).__name__, vars(claim.test)
        found = [given[name] for name in named if name in given]
        recipes = [r for each in found for r in ([each] if isinstance(each, str) else each)]
        if kind in ("Greater", "Within", "EveryDataset", "Cheaper"):
            bare = {BARE.get(recipe, recipe) for recipe in recipes}
            assert [parse_recipe(recipe) for recipe in bare]
            assert kind == "Cheaper" or bare <= trained
    assert len({claim.text for claim in CLAIMS}) == len(CLAIMS)
    printed = Evidence(Records(load_profile("quick"))).printed
    assert printed[""] == 69.10
    assert printed["CW_f"] == 73.52  # Table 2's, not Table 4's 73.60
    assert printed["PI + HO + CW_f"] == 74.87


RECIPES = {"student": "", "SKDS": "PI + HO + PA_f", "IFVD": "PI + HO + IFV_f",
           "CWD": "PI + HO + CW_f"}  # fmt: skip
OTHERS = ("PSPNet-R18(0.125)", "PSPNet-MBV2(0.35)", "Deeplab-R18(0.125)", "Deeplab-R18(0.25)",
          "Deeplab-MBV2(0.35)")  # fmt: skip


def results(**methods):
    """mIoU by recipe: two seeds, the second 1 higher."""
    return {RECIPES[name]: (value, value + 1.0) for name, value in methods.items()}


def findings(kind, invented):
    (test, *_) = [claim.test for claim in CLAIMS if isinstance(claim.test, kind)]
    return test.findings(Evidence(invented))


def test_every_student_has_to_win():
    line = results(student=20.0, SKDS=22.0, IFVD=23.0, CWD=24.0)
    found = findings(Students, Invented(line, others=dict.fromkeys(OTHERS, line)))
    assert len(found) == 6 * 2
    assert [finding.mean for finding in found[:2]] == [2.0, 1.0]
    papers = {finding.what: finding.paper for finding in found}
    # Table 6, from scratch: 70.04 - 63.20, and 65.60 - 63.12
    assert papers["PSPNet-R18(0.25): CWD - SKDS"] == pytest.approx(6.84)
    assert papers["Deeplab-R18(0.125): CWD - IFVD"] == pytest.approx(2.48)
    assert papers["PSPNet-MBV2(0.35): CWD - SKDS"] is None  # the paper has it from ImageNet only
    # a student without its runs, and the claim was not tested
    fewer = dict.fromkeys(OTHERS[:-1], line)
    assert findings(Students, Invented(line, others=fewer)) == []


def test_students_of_the_teachers_kind():
    main, same = results(student=20.0, CWD=26.0), results(student=10.0, CWD=14.0)
    other = results(student=30.0, CWD=31.0)
    others = dict.fromkeys(OTHERS, other) | {"PSPNet-R18(0.125)": same}
    (found,) = findings(Kinds, Invented(main, others=others))
    assert list(found.differences) == [4.0, 4.0]  # (6 + 4) / 2 - 1


def test_better_students():
    """Results on a line of slope 0.5: better stays better, and gains half a percent less each."""
    alone = dict(zip(OTHERS, (12.0, 14.0, 18.0, 22.0, 30.0), strict=True))
    others = {name: results(student=a, CWD=20 + a / 2) for name, a in alone.items()}
    main = results(student=20.0, CWD=30.0)
    rising, falling = findings(Slopes, Invented(main, others=others))
    assert rising.differences == pytest.approx([0.5, 0.5])
    assert falling.differences == pytest.approx([0.5, 0.5])


def test_imagenet_beside_scratch():
    invented = Invented(results(student=20.0, CWD=24.0))
    assert findings(Pretrained, invented) == []  # quick has no student from ImageNet
    profile = invented.profile
    warm = replace(profile.student, init="imagenet")
    profile = replace(profile, students=(*profile.students, Student("PSPNet-R18", warm)))

    (found,) = findings(Pretrained, TwoStarts({}, profile=profile))
    assert list(found.differences) == [20.0] * len(profile.seeds)
    assert found.paper == pytest.approx(74.87 - 70.04)
