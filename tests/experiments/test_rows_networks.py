"""Tables 6, 7 and 8: the paper's numbers, and which of our runs stand beside them."""

import math
from dataclasses import replace

import pytest
from invented import Invented, TwoStarts

from cwd.experiments import Workspace, every_run, study
from cwd.experiments.profile import Student, load_profile
from cwd.system import paths
from cwd.system.errors import CwdError


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
    assert measured["our mIoU (scenes)"] == 44
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
