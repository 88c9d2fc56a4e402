"""The paper's numbers, typed in here once more, and the layout of ours beside them."""

import math
from collections import defaultdict
from dataclasses import replace

import pytest
from invented import Invented, InventedTasks, TwoStarts

from cwd.experiments import Workspace, every_run, study
from cwd.experiments.profile import Student, load_profile
from cwd.experiments.records import Records
from cwd.experiments.rows_losses import class_comparison, table1
from cwd.experiments.rows_pairs import MEASURES
from cwd.experiments.study import studies_of
from cwd.experiments.table import paper as printed
from cwd.recipes.parse import parse_recipe
from cwd.system import paths
from cwd.system.errors import CwdError


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
    # the same numbers beside the other readings of PI's weight and of CW_s's settings
    expected |= {"PI_f(norm=released)": 70.02, "PI_s(norm=released)": 71.74}
    expected |= {"CW_s(T=1, weight=35)": 72.82}
    assert paper.iloc[2:].to_dict() == expected
    # printed as +3.45; its own numbers say 3.11
    assert tables[2].loc["MIMIC_f", "paper gain"] == 3.11
    assert tables[2].loc["CW_f", "complexity"] == "h*w*c"
    assert third.iloc[1:5].tolist() == [69.10, 73.52, 72.21, 71.60]
    assert math.isnan(third["CW_f(metric=swapped)"])
    assert fourth.iloc[2:].to_dict() == {"PA_f": 71.41, "IFV_f": 71.66, "CW_f": 73.60}
    assert fifth.iloc[:2].tolist() == [78.53, 69.10]
    printed = {
        "PI + HO": 72.77, "PI + HO + PA_f": 74.08, "PI + HO + IFV_f": 74.54,
        "CW_s + CW_f": 73.71, "PI + HO + CW_f": 74.87, "PI + HO + CW_s + CW_f": 75.13,
    }  # fmt: skip
    assert fifth.iloc[2:8].to_dict() == printed
    for label, number in fifth.iloc[8:].items():  # the same with the other readings
        plain = label.replace("(norm=released)", "").replace("(T=1, weight=35)", "")
        assert printed[plain] == number


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
    # whose schedules and teachers differ
    several += ("longer", "schools", "unaugmented", "equal_time")
    decide = ("table2", "table3", "table4")  # claims rest on these
    keys = defaultdict(set)
    for name in [n for n in studies_of(source.profile) if n not in several]:
        teacher, *rows = study(name, source).rows
        assert teacher.runs == (source.profile.teacher,)
        assert len({row.label for row in rows}) == len(rows)
        for row in rows:
            assert len(row.runs) == (5 if name in decide else 3)
            assert [run.seed for run in row.runs] == list(range(len(row.runs)))
            for run in row.runs:
                keys[run.recipe, run.seed].add(run.key)
    assert {len(same) for same in keys.values()} == {1}


def test_ours_beside_the_paper():
    source = Invented({"": (50.0, 52.0, 54.0), "CW_f": (55.0, 56.0, 60.0), "PI": (51.0,)})
    table = study("table2", source).table()
    ours = table["our mIoU (streets)"]
    assert ours["teacher PSPNet-R18(0.5)"] == 90
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


def test_table6_has_the_papers_rows():
    rows = study("table6", Invented({})).table()
    printed = rows[rows["paper val mIoU"].notna() | rows["paper test mIoU"].notna()]
    assert len(printed) == 39  # lines of the paper's table
    at = ("PSPNet-R18", "ImageNet", "CWD")
    columns = ["paper params (M)", "paper MAC (G)", "paper val mIoU", "paper test mIoU"]
    assert rows.loc[at, columns].tolist() == [13.07, 125.8, 74.87, 73.86]
    assert rows.loc[at, "paper gain"] == 5.15  # 74.87 - 69.72
    assert rows.loc[("PSPNet-R18", "scratch", "CWD"), "paper gain"] == 12.54  # 70.04 - 57.50
    assert rows.loc[("ENet", "", "reference"), "paper test mIoU"] == 58.3
    assert math.isnan(rows.loc[("PSPNet-R18", "scratch", "SKDD"), "paper test mIoU"])


def test_tables_7_and_8_leave_pi_and_ho_out():
    voc = Invented({}, profile=load_profile("voc"))
    recipes = {
        row.printed["method"]: row.runs[0].recipe
        for row in study("table7", voc).rows
        if row.runs and row.printed["network"] == "Deeplab-MBV2"
    }
    assert recipes == {"student": "", "SKDS": "PA_f", "IFVD": "IFV_f", "CWD": "CW_f"}
    rows = study("table8", Invented({}, profile=load_profile("ade20k"))).table()
    numbers = rows.loc[("PSPNet-MBV2", "", "CWD"), ["paper val mIoU", "paper mAcc"]]
    assert numbers.tolist() == [27.97, 37.16]
    assert rows.loc[("OCRNet", "", "reference"), "paper val mIoU"] == 43.70


def test_table_9_has_the_papers_rows():
    table = study("table9", InventedTasks({})).table()
    paper = printed("table9_detection").set_index(["detector", "method"])
    assert set(paper.index) < set(table.index)
    students = [key for key in table.index if key[1] != "teacher"]
    assert len(students) == 13
    assert table.loc[students, "paper AP"].tolist() == paper.loc[students, "ap"].tolist()
    assert table.loc[("RetinaNet", "CWD"), "paper gain"] == 3.4
    cited = study("table9", Records(load_profile("camvid"))).table()  # which has no detectors
    assert set(cited["status"]) == {"cited"}
    assert len(cited) == 16


class Detectors(InventedTasks):
    """All of AP's measures are the same, but for large objects, of which there are none."""

    def metrics(self, run):
        found = super().metrics(run)
        return found and dict.fromkeys(MEASURES, *found.values()) | {"ap_l": None}


def test_gains_over_the_same_detectors_student():
    known = {
        ("RetinaNet", ""): (10.0, 12.0),
        ("RetinaNet", "CW_fpn"): (15.0, 15.0),
        ("FasterRCNN", "CW_fpn"): (50.0,),
    }
    source = Detectors(known)
    source.profile = source.profile.seeded((0, 1))
    table = study("table9", source).table()
    row = table.loc[("RetinaNet", "CWD")]
    assert (row["our AP (scenes)"], row["our gain"], row["seeds"], row["sd"]) == (15, 4, 2, 0)
    assert math.isnan(row["our AP_L"])
    assert table.loc[("RetinaNet", "student"), "sd"] == 1.41  # sqrt(2)
    row = table.loc[("Faster R-CNN", "CWD")]
    assert row["seeds"] == 1
    assert math.isnan(row["our gain"])  # its student wasn't measured


def test_the_cityscapes_profile_has_all_of_table_6():
    source = Invented({}, profile=load_profile("cityscapes"))
    rows = study("table6", source).rows
    waiting = {row.printed["method"] for row in rows if not row.runs}
    assert waiting == {"SKDD", "reference"}
    assert sum(bool(row.runs) for row in rows) == 1 + 7 * 4
    inits = {row.label: row.runs[0].init for row in rows if row.runs}
    assert inits["PSPNet-R18, scratch: CWD"] == "random"
    assert inits["PSPNet-R18, ImageNet: CWD"] == "data/weights/resnet18-imagenet.pth"
    assert inits["PSPNet-MBV2, ImageNet: student"] == "imagenet"
    assert {run.schedule.steps for run in every_run(source) if run.teacher} == {40_000}


def test_scratch_never_stands_beside_imagenet():
    source = Invented({}, others={"PSPNet-MBV2(0.35)": {"": (40.0,), "PI + HO + CW_f": (44.0,)}})
    rows = study("table6", source).table()
    measured = rows.loc[("PSPNet-MBV2", "scratch", "CWD")]
    assert measured["our mIoU (streets)"] == 44
    assert measured["our gain"] == 4
    assert measured["our network"] == "PSPNet-MBV2(0.35), scratch"
    assert math.isnan(measured["paper val mIoU"])
    cited = rows.loc[("PSPNet-MBV2", "ImageNet", "CWD")]
    assert cited["paper val mIoU"] == 64.37
    assert (cited["seeds"], cited["status"]) == (0, "cited")


def test_elsewhere_table_7_trains_nothing_of_its_own():
    source = Invented({})
    runs, known = (
        {run for row in study(name, source).rows[1:] for run in row.runs}
        for name in ("table7", "table2")
    )
    assert {run.network for run in runs} == {source.profile.student.network}
    assert runs <= known


def test_torchvisions_networks_can_stand_for_references():
    profile = load_profile("voc")
    run = replace(profile.student, network="FCN-R101", init="imagenet")
    profile = replace(profile, students=(*profile.students, Student("FCN", run)))
    source = Invented({}, profile=profile, others={"FCN-R101": {"": (61.0,)}})
    row = study("table7", source).table().loc[("FCN", "", "reference")]
    assert row["paper val mIoU"] == 69.9
    assert row["our mIoU (voc)"] == 61
    assert row["our network"] == "FCN-R101, ImageNet"
    assert row["status"] == "measured"


def test_two_starts_of_one_network_are_two_rows():
    """Tables 7 and 8 don't say how a student started; ours are told apart all the same."""
    profile = load_profile("voc")
    scratch = Student("PSPNet-R18", replace(profile.student, init="random"))
    profile = replace(profile, students=(*profile.students, scratch))

    rows = study("table7", TwoStarts({}, profile=profile)).table()
    beside = rows.loc[("PSPNet-R18", "", "CWD")]
    assert (beside["our mIoU (voc)"], beside["our network"]) == (70, "PSPNet-R18, ImageNet")
    alone = rows.loc[("PSPNet-R18", "scratch", "CWD")]
    assert alone["our mIoU (voc)"] == 50
    assert math.isnan(alone["paper val mIoU"])


def test_students_are_found_by_name_and_start():
    profile = load_profile("cityscapes")
    assert profile.find("") == profile.student
    assert profile.find("PSPNet-R18, scratch").init == "random"
    assert profile.find("PSPNet-MBV2").network == "PSPNet-MBV2"
    with pytest.raises(CwdError, match="several students 'PSPNet-R18'"):
        profile.find("PSPNet-R18")
    with pytest.raises(CwdError, match="no student 'PSPNet-R50'"):
        profile.find("PSPNet-R50")


def test_missing_weights_are_known_before_the_teacher_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    profile = load_profile("cityscapes")
    with pytest.raises(CwdError, match=r"resnet18-imagenet\.pth does not exist, the first weights"):
        Workspace(profile, tmp_path).train(profile.teacher)
    (tmp_path / "data" / "weights").mkdir(parents=True)
    (tmp_path / "data" / "weights" / "resnet18-imagenet.pth").write_bytes(b"")
    profile.check_weights()
