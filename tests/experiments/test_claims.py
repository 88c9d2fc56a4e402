"""Verdicts against intervals computed by hand, and against results that leave no doubt."""

import json
import math

import pytest
from invented import Invented, find, recorded

from cwd.experiments.claims import judging
from cwd.experiments.claims.claim_list import CLAIMS
from cwd.experiments.claims.comparisons import Cheaper, Classes, Greater, OtherData, Within
from cwd.experiments.claims.judging import Evidence, Finding, layout, verdict, verdicts
from cwd.experiments.profile import load_profile
from cwd.experiments.records import Records
from cwd.experiments.rows_losses import BARE
from cwd.recipes.parse import parse_recipe

T_2 = 4.30265  # Student's t, two degrees of freedom, 97.5 %


def test_the_interval_by_hand():
    finding = Finding("a - b", [1.0, 2.0, 3.0])
    low, high = finding.interval()
    assert low == pytest.approx(2 - T_2 / math.sqrt(3), abs=1e-4)
    assert high == pytest.approx(2 + T_2 / math.sqrt(3), abs=1e-4)
    assert Finding("a - b", [1.0]).interval() == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([(2.0, 2.1, 1.9)], "supported"),
        ([(1.0, 2.0, 3.0)], "undecided"),
        ([(-2.0, -2.1, -1.9)], "contradicted"),
        ([(5.0,)], "undecided"),  # one seed proves nothing
        ([(2.0, 2.1, 1.9), (1.0, 2.0, 3.0)], "undecided"),
        ([(2.0, 2.1, 1.9), (-2.0, -2.1, -1.9)], "contradicted"),
        ([], "not run"),
    ],
)
def test_verdicts_on_greater(differences, expected):
    assert verdict([Finding("a - b", values) for values in differences]) == expected


def test_many_comparisons_need_more_to_contradict_one():
    # alone: -1 +- 0.4 * 4.30 / sqrt 3 = -1 +- 0.99; for 20 comparisons the interval is wider
    weak = Finding("a - b", [-0.6, -1.0, -1.4])
    assert verdict([weak]) == "contradicted"
    assert verdict([weak] + [Finding("a - c", [2.0, 2.1, 1.9])] * 19) == "undecided"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.1, 0.0, -0.1), "supported"),
        ((3.0, 3.1, 2.9), "contradicted"),
        ((0.5, 1.0, 1.5), "undecided"),
        ((-3.0, -3.1, -2.9), "contradicted"),
    ],
)
def test_verdicts_on_no_difference(values, expected):
    assert verdict([Finding("a - b", values, margin=1.0)]) == expected


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
    assert missing["needs"].str.len().min() > 0


def test_classes_are_averaged(tmp_path):
    names = ("traffic light", "terrain", "wall", "truck", "bus", "train")
    low, high = dict.fromkeys(names, 10.0), dict.fromkeys(names, 10.0) | {"bus": 40.0}
    miou = {"CW_f": (1.0, 1.0, 1.0), "PA_f": (1.0, 1.0, 1.0), "IFV_f": (1.0, 1.0, 1.0)}
    source = Invented(miou, classes={"CW_f": high, "PA_f": low, "IFV_f": low})
    line = find(verdicts(recorded(tmp_path, source)), "traffic light")
    assert line.ours == pytest.approx(30 / 6)
    lacking = {"CW_f": {"bus": 1.0}, "PA_f": {"bus": 1.0}, "IFV_f": {"bus": 1.0}}
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


def test_every_claim_names_recipes_that_exist():
    for claim in CLAIMS:
        test = claim.test
        recipes = []
        if isinstance(test, Greater):
            recipes = [*test.better, *test.worse]
        elif isinstance(test, Within | Classes):
            recipes = [test.recipe, *test.others]
        elif isinstance(test, OtherData):
            recipes = [test.recipe]
        elif isinstance(test, Cheaper):
            recipes = [test.loss, *test.others]
        for recipe in recipes:
            parse_recipe(BARE.get(recipe, recipe))


def test_claims_ask_for_runs_that_the_studies_train():
    from cwd.experiments.study import STUDIES, study

    source = Invented({})
    trained = {r.recipe for n in STUDIES for row in study(n, source).rows for r in row.runs}
    for claim in CLAIMS:
        if isinstance(claim.test, Greater):
            for recipe in (*claim.test.better, *claim.test.worse):
                assert BARE.get(recipe, recipe) in trained
        elif isinstance(claim.test, Within):
            assert {claim.test.recipe, *claim.test.others} <= trained


def test_the_papers_numbers_behind_the_claims():
    printed = Evidence(Records(load_profile("quick"))).printed
    assert printed[""] == 69.10
    assert printed["CW_f"] == 73.52  # Table 2's, not Table 4's 73.60
    assert printed["PI + HO + CW_f"] == 74.87


def test_a_claim_is_listed_once():
    assert len({claim.text for claim in CLAIMS}) == len(CLAIMS)
    assert judging.VERDICTS == ("supported", "contradicted", "undecided", "not run")
