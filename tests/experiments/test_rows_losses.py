"""The paper's numbers, typed in here once more, and the layout of ours beside them."""

import math
from collections import defaultdict

from invented import Invented

from cwd.experiments import STUDIES, study
from cwd.experiments.rows_losses import class_comparison, table1
from cwd.recipes.parse import parse_recipe


def test_table1_has_the_papers_rows_and_a_class_for_each():
    table = table1()
    assert list(table.index[:8]) == ["MIMIC", "AT", "PI", "LOCAL", "PA", "IFV", "HO", "CW"]
    assert table.loc["HO", "weight, f"] == ""  # the paper has no critic of feature maps
    assert table.loc["PA", "distance"] == "L2"
    assert table.loc["HO", "distance"] == "Wasserstein distance"
    assert table.loc["LOCAL", "class"] == "LocalAffinity"
    assert table.loc["CW", ["weight, f", "weight, s"]].tolist() == ["35", "3"]
    # the circled crosses of Table 2; HO has the score map only
    crosses = table.index[:6][table["aligned"].iloc[:6] == "yes"]
    assert list(crosses) == ["MIMIC", "AT", "PI"]


def test_tables_2_to_5_have_the_papers_numbers():
    tables = {n: study(f"table{n}", Invented({})).table() for n in (2, 3, 4, 5)}
    paper, third, fourth, fifth = (t["paper mIoU (Cityscapes)"] for t in tables.values())
    assert paper.iloc[:2].tolist() == [78.56, 69.10]
    feature = {"MIMIC": 72.21, "AT": 72.37, "PI": 70.02, "LOCAL": 69.81, "PA": 71.23, "IFV": 71.35,
               "CW": 73.52}  # fmt: skip
    score = {"MIMIC": 72.10, "AT": 72.32, "PI": 71.74, "LOCAL": 69.75, "PA": 71.41, "IFV": 70.66,
             "HO": 72.13, "CW": 72.82}  # fmt: skip
    expected = {f"{k}_f": v for k, v in feature.items()} | {f"{k}_s": v for k, v in score.items()}
    assert paper.iloc[2:].to_dict() == expected
    # printed as +3.45; its own numbers say 3.11
    assert tables[2].loc["MIMIC_f", "paper gain"] == 3.11
    assert tables[2].loc["CW_f", "complexity"] == "h*w*c"
    assert third.iloc[1:5].tolist() == [69.10, 73.52, 72.21, 71.60]
    assert math.isnan(third["CW_f(metric=swapped)"])
    assert fourth.iloc[2:].to_dict() == {"PA_f": 71.41, "IFV_f": 71.66, "CW_f": 73.60}
    assert fifth.iloc[:2].tolist() == [78.53, 69.10]
    assert fifth.iloc[2:].to_dict() == {
        "PI + HO": 72.77, "PI + HO + PA_f": 74.08, "PI + HO + IFV_f": 74.54,
        "CW_s + CW_f": 73.71, "PI + HO + CW_f": 74.87, "PI + HO + CW_s + CW_f": 75.13,
    }  # fmt: skip


def test_figure_3_spans_what_the_paper_spans():
    values = study("temperature", Invented({})).values()
    assert (min(values.values()), max(values.values())) == (0.01, 1000)
    for row in study("temperature", Invented({})).rows[2:]:
        (term,) = parse_recipe(row.runs[0].recipe)
        assert (term.build().temperature, term.weight) == (row.value, 35)
    for row in study("weight", Invented({})).rows[2:]:
        (term,) = parse_recipe(row.runs[0].recipe)
        assert (term.weight, term.build().temperature) == (row.value, 1)


def test_controls_are_the_four_normalisations_with_two_metrics():
    names = [
        (type(loss).__name__, loss.metric)
        for row in study("normalisations", Invented({})).rows[2:]
        for term in parse_recipe(row.runs[0].recipe)
        for loss in [term.build()]
    ]
    classes = ("ChannelWise", "PixelWise", "ChannelMean", "Unnormalised")
    assert set(names) == {(name, metric) for name in classes for metric in ("kl", "l2")}


def test_a_run_is_trained_once_for_all_tables_and_from_every_seed():
    source = Invented({})
    several = ("table6", "table7", "table8", "table9", "transformation")
    keys = defaultdict(set)
    for name in [name for name in STUDIES if name not in several]:
        teacher, *rows = study(name, source).rows
        assert teacher.runs == (source.profile.teacher,)
        assert len({row.label for row in rows}) == len(rows)
        for row in rows:
            assert [run.seed for run in row.runs] == list(source.profile.seeds)
            for run in row.runs:
                keys[run.recipe, run.seed].add(run.key)
    assert {len(same) for same in keys.values()} == {1}


def test_ours_beside_the_paper():
    source = Invented({"": (50.0, 52.0, 54.0), "CW_f": (55.0, 56.0, 60.0), "PI": (51.0,)})
    table = study("table2", source).table()
    ours = table["our mIoU (scenes)"]
    assert ours["teacher PSPNet-R18"] == 90
    assert ours["student PSPNet-R18(0.25)"] == 52
    assert (ours["CW_f"], table.loc["CW_f", "sd"]) == (57, 2.65)  # sqrt((4 + 1 + 9) / 2)
    assert table.loc["CW_f", "our gain"] == 5
    assert table.loc["PI_s", "seeds"] == 1
    assert math.isnan(table.loc["PI_s", "sd"])
    assert table.loc["AT_f", "seeds"] == 0
    assert math.isnan(table.loc["AT_f", "our gain"])


def test_class_iou_beside_table_4():
    source = Invented({"CW_f": (1.0,)}, classes={"CW_f": {"bus": 80.0, "tram": 10.0}})
    table = class_comparison(study("table4", source).class_iou())
    assert table.loc["bus", "paper CW"] == 84.73
    assert table.loc["bus", "our CW_f"] == 80
    assert math.isnan(table.loc["wall", "our CW_f"])
    assert table.loc["tram", "our CW_f"] == 10
    assert list(table.index[:3]) == ["road", "sidewalk", "building"]
