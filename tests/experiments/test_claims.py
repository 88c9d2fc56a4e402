"""Verdicts against intervals computed by hand, and against results that leave no doubt."""

import json
import math

import pytest
from invented import Invented, find, recorded

from cwd.experiments import rows_beyond
from cwd.experiments.beside import PARTS
from cwd.experiments.claims import verdicts
from cwd.experiments.claims.interval import Finding
from cwd.experiments.claims.judging import CLAIMS, layout, verdict
from cwd.experiments.profile import load_profile
from cwd.experiments.records import Records
from cwd.experiments.rows_losses import BARE
from cwd.experiments.study import studies_of, study
from cwd.recipes.parse import parse_recipe

T_2 = 4.30265  # Student's t, two degrees of freedom, 97.5 %


def test_the_interval_by_hand():
    finding = Finding("a - b", [1.0, 2.0, 3.0])
    low, high = finding.interval()
    assert low == pytest.approx(2 - T_2 / math.sqrt(3), abs=1e-4)
    assert high == pytest.approx(2 + T_2 / math.sqrt(3), abs=1e-4)
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
    table = verdicts(recorded(tmp_path, source))
    assert table["claim"].is_unique
    line = find(table, "on the score map (there as released)")
    assert line.verdict == "supported"
    assert line.ours == pytest.approx(1.0)
    assert line.paper == pytest.approx(73.52 - 72.82)  # Table 2's, not Table 4's 73.60
    assert line.n == 3


def test_the_comparison_furthest_from_the_claim_decides(tmp_path):
    rivals = "MIMIC_f", "AT_f", "PI_f(norm=released)", "LOCAL_f", "PA_f", "IFV_f"
    flat = dict.fromkeys(rivals, (50.0, 50.1, 49.9))
    source = Invented(flat | {"PA_f": (54.0, 54.1, 53.9), "CW_f": (52.0, 52.1, 51.9)})
    line = find(verdicts(recorded(tmp_path, source)), "on the feature map, CW beats each")
    assert line.verdict == "contradicted"
    assert line._asdict()["_5"] == "CW_f - PA_f, of 6"
    assert line.paper == pytest.approx(73.52 - 71.23)  # the same comparison


def test_the_authors_logs_stand_beside_the_verdict(tmp_path):
    table = verdicts(recorded(tmp_path, Invented({})))
    # 73.03 at T = 1, from 72.86 (T = 2) to 73.99 (T = 8) at the others
    assert find(table, "T = 1 is the best").logged == "-0.96 to +0.17, 9 pairs"
    assert find(table, "not sensitive to the loss weight").logged == "+0.80, 1 pair"  # 72.23 at 40
    assert find(table, "KL beats L2").logged == ""


def test_a_claim_with_a_missing_run_is_not_run(tmp_path):
    table = verdicts(recorded(tmp_path, Invented({"CW_f": (52.0, 52.1, 51.9)})))
    assert set(table["verdict"]) == {"not run"}
    missing = layout(table, run=False)
    assert len(missing) == len(CLAIMS)
    assert missing["needs"].str.contains("make reproduce|notebook|dataset|weights").all()


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
    seconds |= {part: [1.0, 1.0, 1.0] for part in PARTS}
    point = {"loss": "CW_f", "positions": 4, "channels": 2, "seconds": 1.0, "bytes": 8}
    costs = {"grid": {"costs": [point]}, "slopes": [{"loss": "CW_f"}], "step": {"seconds": seconds}}
    (tmp_path / "results" / "quick" / "costs.json").write_text(json.dumps(costs))
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
    assert "camvid-cpu" in line._asdict()["_5"]


def test_claims_ask_for_recipes_that_the_studies_train():
    source = Invented({})
    rows = [row for name in studies_of(source.profile) for row in study(name, source).rows]
    trained = {run.recipe for row in rows for run in row.runs}
    named = ("better", "worse", "recipe", "others", "loss")
    for claim in CLAIMS:
        found = [claim.given[name] for name in named if name in claim.given]
        recipes = [r for each in found for r in ([each] if isinstance(each, str) else each)]
        if claim.kind in ("greater", "within", "every_dataset", "cheaper"):
            bare = {BARE.get(recipe, recipe) for recipe in recipes}
            assert [parse_recipe(recipe) for recipe in bare]
            assert claim.kind == "cheaper" or bare <= trained


def test_later_papers_at_equal_steps_and_at_equal_time(tmp_path, monkeypatch):
    miou = {
        "CW_s": (50.0, 51.0, 52.0),
        "CW_s + MGD_b": (52.0, 53.1, 53.9),
        "PI": (60.0, 61.0, 62.0),
    }
    rest = ("", "CW_f", "MIMIC_f", "DIST_s", "PI(weight=1) + CIRKD_f", "PI(weight=1) + AFDCD_b")
    others = dict.fromkeys((*rest, "BPKD_s"), (40.0, 41.0, 42.2))
    records = recorded(tmp_path, Invented(miou | others))
    words = "MGD beats the CW on scores"
    table = verdicts(records)
    line = find(table, words)
    assert (line.verdict, line.ours) == ("supported", pytest.approx(2.0))
    # a profile without these runs
    assert find(verdicts(Records(load_profile("camvid-cpu"))), words).verdict == "not run"
    # nothing was timed, so nobody knows for how many steps to train
    assert find(table, "at equal time").verdict == "not run"
    rows = {name: 2.0 for name in (*miou, *others)} | {"CW_s + MGD_b": 4.0, "PI": 1.0}
    monkeypatch.setattr(rows_beyond, "step_times", lambda profile: {"seconds": rows})
    study = rows_beyond.equal_time(records.profile)
    steps = {row.label: row.printed["steps"] for row in study[2:]}
    assert steps["PI"] == 800  # twice as fast as CWD, whose 400 are the budget
    assert (steps["CW_s + MGD_b"], steps["CW_f"], steps["student"]) == (200, 400, 400)
    pi = next(row for row in study if row.label == "PI")
    assert ({run.schedule.steps for run in pi.runs}, pi.student) == ({800}, "student")
