"""Profiles, runs' names, and tables beside the paper's."""

import functools
import json
import math
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from invented import QUICK

from cwd.config import Data, DetectionSchedule, Schedule
from cwd.experiments import load_profile, open_profile, study
from cwd.experiments.profile import profile_names
from cwd.experiments.records import recorded_profiles
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.tools.record import record
from cwd.training.run_folder import RunFolder

NETWORK = "pairs", 0, "teacher", "network"


def task(teacher, student, **changes):
    """A section of the second paper with one pair of classifiers or detectors."""
    pair = {"teacher": {"network": teacher}, "student": {"network": student}}
    part = {"data": QUICK["data"], "schedule": {"steps": 2}, **pair, **changes}
    return {"transformation": {"seeds": [0], "classification": part}}


def detectors(value, *path):
    """The smoke profile's detectors with a mistake in one place."""
    section = yaml.safe_load((paths.PROFILES / "smoke.yaml").read_text())["detection"]
    *outer, last = path
    functools.reduce(lambda part, key: part[key], outer, section)[last] = value
    return {"detection": section}


@pytest.fixture
def write(tmp_path):
    """A profile's file: with these changes, or of this text."""

    def call(text="", name="mine.yaml", **changes):
        path = tmp_path / name
        path.write_text(text or yaml.safe_dump(QUICK | changes))
        return str(path)

    return call


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_loads(name):
    profile = load_profile(name)
    assert profile.student or profile.pairs
    if profile.student:
        assert profile.teacher.network != profile.student.network
        assert profile.run("CW_f", 3).teacher == profile.teacher
    for pair in profile.detection.pairs if profile.detection else ():
        assert pair.teacher.network != pair.student.network
        assert profile.run("CW_fpn", 3, pair.student).teacher == pair.teacher


def test_the_papers_schedule_is_the_default(write):
    profile = load_profile(write(schedule={}))
    schedule = profile.student.schedule
    assert (schedule.steps, schedule.batch, schedule.crop) == (40_000, 8, (512, 512))
    assert (schedule.lr, schedule.momentum, schedule.weight_decay) == (0.01, 0.9, 5e-4)
    assert (schedule.power, schedule.aux_weight, schedule.scale) == (0.9, 0.4, (0.7, 2.1))
    assert profile.teacher.schedule == replace(schedule, steps=3)  # it has its own


def test_class_weights_of_real_images():
    """From each class's share of CamVid's labelled training pixels at 240x320."""
    shares = [0.1754, 0.2422, 0.0102, 0.3296, 0.0467, 0.1013, 0.0122, 0.0117, 0.0611, 0.0067, 0.003]
    weights = load_profile("camvid-cpu").student.schedule.class_weights
    expected = [(statistics.median(shares) / share) ** 0.75 for share in shares]
    assert weights == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text": "name: mine"}, "mine.yaml has the unknown key 'name'"),
        ({"sede": 1}, "mine.yaml has the unknown key 'sede', write one of name, about"),
        ({"recipes": ["CW_s", " "]}, "mine.yaml has an empty recipe: leave it out"),
        ({"seeds": []}, "mine.yaml: seeds is [], expected different whole numbers"),
        ({"seeds": [0, 0]}, "seeds is [0, 0]"),
        ({"seeds": "one"}, "seeds is 'one'"),
        ({"seeds": [1.5]}, "seeds is [1.5]"),
        ({"seeds": True}, "seeds is True"),
        ({"seeds": ""}, "seeds is ''"),
        ({"data": {"name": "scenes", "sise": [1, 2]}}, "data has the unknown key 'sise'"),
        ({"data": {"name": 3}}, "data: name is 3, expected a text"),
        ({"data": {"size": [32, 64]}}, "data: name is missing"),
        ({"data": {"name": "scenes", "size": 64}}, "size is 64, expected two positive whole"),
        ({"data": "scenes"}, "data is 'scenes', expected a mapping"),
        ({"data": None}, "teacher needs data and schedule"),
        ({"schedule": {"stepps": 3}}, "schedule has the unknown key 'stepps'"),
        ({"schedule": {"steps": "many"}}, "student: schedule: steps is 'many', expected a whole"),
        ({"schedule": {"steps": 2.5}}, "steps is 2.5"),
        ({"schedule": {"steps": 0}}, "steps is 0, give at least 1"),
        ({"schedule": {"lr": "1e-3"}}, "write 1.0e-3"),
        ({"schedule": {"lr": math.inf}}, "lr is inf, expected a number above 0"),
        ({"schedule": {"lr": math.nan}}, "lr is nan, expected a number above 0"),
        ({"schedule": {"lr": True}}, "lr is True, expected a number above 0"),
        ({"schedule": {"precision": "fp16"}}, "precision is 'fp16'"),
        ({"schedule": {"crop": [32]}}, "crop is [32]"),
        ({"schedule": {"scale": [2, 1]}}, "scale is [2, 1]"),
        ({"schedule": {"flip": 1}}, "flip is 1"),
        ({"schedule": {"class_weights": [1, 0]}}, "class_weights is [1, 0], expected positive"),
        ({"schedule": {"class_weights": []}}, "class_weights is [], expected positive numbers"),
        ({"schedule": None}, "needs data and schedule"),
        ({"student": None}, "has no student"),
        ({"student": {"network": "PSPNet-R19"}}, "student: there is no network 'PSPNet-R19'"),
        ({"student": {"net": "PSPNet-R18"}}, "student has the unknown key 'net'"),
        ({"students": [{}]}, "students: number 1: network is missing"),
        ({"students": {"network": "PSPNet-R18"}}, "students is {'network'"),
        ({"teacher": {"network": "PSPNet-R18", "schedule": {"step": 1}}}, "unknown key 'step'"),
        ({"transformation": {}}, "transformation: seeds is missing"),
        ({"transformation": {"seeds": [-1]}}, "transformation: seeds is [-1]"),
        ({"transformation": {"instances": {}}}, "transformation has the unknown key 'instances'"),
        (
            {"transformation": {"seeds": [0], "instance": {"data": {"name": "scenes"}}}},
            "transformation: instance: teacher is missing",
        ),
        (task("Classifier-R18", "PSPNet-R18"), "no pair of one kind: use two of Classifier"),
        (task("Classifier-R18", "Classifier-VGG"), "no network 'Classifier-VGG'"),
        (task("Classifier-R18", "Classifier-MBV1", schedule={"steps": 0}), "random weights"),
        ({"transformation": "seeds"}, "transformation is 'seeds', expected a mapping"),
        (detectors("RetinaNet-R18", *NETWORK), "no pair of one kind: use two of FasterRCNN"),
        (detectors("PSPNet-R18", *NETWORK), "no pair of one kind"),
        (detectors("FasterRCNN-R99", *NETWORK), "R99"),
        (detectors({"student": {"network": "RetinaNet-R18"}}, "pairs", 0), "teacher is missing"),
        (detectors([], "pairs"), "pairs"),
        (detectors([64, 64], "schedule", "crop"), "unknown key 'crop'"),
        (detectors("wide", "schedule", "short"), "short is 'wide'"),
        (detectors([0, 0], "seeds"), "detection: seeds is [0, 0]"),
        (detectors(64, "data", "size"), "size is 64"),
        ({"text": "about: one\nabout: two\n"}, "the key 'about' stands twice: keep one"),
        ({"text": "a: " + "[" * 5000}, "is no valid YAML (maximum recursion depth exceeded"),
        ({"text": "about: ["}, "is no valid YAML"),
        ({"student_seeds": [0]}, "has student_seeds and no students"),
        ({"student": {"network": "PSPNet-R18", "stands_for": "x"}}, "unknown key 'stands_for'"),
        ({"student": {"network": "PSPNet-R18", "init": ""}}, "init is '', expected a text that"),
        ({"student": {"network": "PSPNet-R18", "init": "a\0b"}}, "is no path"),
        ({"student": {"network": "PSPNet-R18", "init": "~nosuchuser/x"}}, "is no path"),
        ({"student": QUICK["teacher"]}, "as teacher and as student, trained alike"),
        ({"schedule": {"lr": 0}}, "lr is 0, expected a number above 0"),
        ({"seeds": ["1_0"]}, "expected different whole numbers"),
        *(({"name": name}, "has a name that its results can't have") for name in (
            "runs.yaml", "cache.yml", "report.yaml", "..yaml", "...yaml")),
    ],
)  # fmt: skip
def test_mistakes_in_a_profile(write, changes, words):
    path = write(**changes)
    with pytest.raises(CwdError) as error:
        load_profile(path)
    assert words in str(error.value)
    assert path.rpartition("/")[2] in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        (Schedule, {"lr": math.inf}, "lr is inf"),
        (Schedule, {"steps": True}, "steps is True"),
        (Data, {"name": 3}, "name is 3"),
        (Data, {"name": ""}, "name is '', expected a text that isn't empty"),
        (DetectionSchedule, {"short": 800, "long": 300}, "short 800 and long 300"),
    ],
)
def test_settings_made_in_code_are_checked(kind, given, words):
    with pytest.raises(CwdError, match=words):
        kind(**given)


def test_numbers_stay_as_they_were_written(write):
    schedule = load_profile(write(schedule={"clip": 10, "lr": 1.0})).student.schedule
    assert (repr(schedule.clip), repr(schedule.lr)) == ("10", "1.0")  # a key tells them apart


def test_names_of_profiles(write):
    assert open_profile(write(name="Mine.YAML")).profile.name == "Mine"
    with pytest.raises(CwdError, match=r"no profile 'quik': use one of .*quick"):
        load_profile("quik")


def test_seeds_of_the_command_line(write):
    assert open_profile(write(), seeds="2,5").profile.seeds == (2, 5)
    for text in ("2,x", "1_0", "-0", "\u0661", "+1", "1e3", "0,,1", "9" * 20):
        with pytest.raises(CwdError, match=r"SEEDS is .*expected different whole numbers"):
            open_profile(write(), seeds=text)


def test_a_device_that_is_not_there(write):
    for device in ("gpu", "cuda:0"):
        with pytest.raises(CwdError, match="use auto, cpu or cuda"):
            open_profile(write(), device=device)
    if not torch.cuda.is_available():
        with pytest.raises(CwdError, match="DEVICE=cpu"):
            open_profile(write(), device="cuda")


def test_the_key_changes_with_what_changes_the_result(write):
    run = load_profile(write()).run("CW_f", 0)
    same = replace(run, schedule=replace(run.schedule, checkpoint_every=7))
    assert same.key == run.key
    others = [
        replace(run, seed=1),
        replace(run, recipe="CW_s"),
        replace(run, network="PSPNet-R18(0.25)"),
        replace(run, schedule=replace(run.schedule, lr=0.02)),
        replace(run, data=replace(run.data, seed=1)),
        replace(run, teacher=replace(run.teacher, seed=1)),
        run.baseline(),
    ]
    assert len({run.key, *(other.key for other in others)}) == len(others) + 1


def test_a_recipe_needs_a_teacher(write):
    profile = load_profile(write())
    with pytest.raises(CwdError, match="a recipe needs a teacher"):
        replace(profile.student, recipe="CW_f")
    with pytest.raises(CwdError, match="a recipe needs a teacher"):
        replace(profile.student, teacher=profile.teacher)


def test_a_study_trains_what_is_missing(write, data_root, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    study("table3", open_profile(write(seeds=[0]), data_root=str(data_root))).train()
    # a changed setting trains the runs that it touches, and no other
    before = set((tmp_path / "runs").iterdir())
    table3 = study("table3", open_profile(write(), data_root=str(data_root))).train()
    new = set((tmp_path / "runs").iterdir()) - before
    assert sorted(path.name.split("-s")[-1][0] for path in new) == ["1"] * 5
    table = table3.table()
    assert table["seeds"].tolist() == [1, 2, 2, 2, 2, 2]
    results = table3.results().set_index(["row", "seed"])["miou"]
    for row in table3.rows:
        mean = sum(results[row.label]) / len(row.runs)
        assert table.loc[row.label, "our mIoU (scenes)"] == pytest.approx(mean, abs=0.006)
    assert table3.class_iou().shape == (19, 6)


def test_an_unknown_study(write):
    with pytest.raises(CwdError, match="use one of table2"):
        study("table3000", open_profile(write()))


def test_results_are_recorded_with_their_provenance(write, data_root, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    path = write(seeds=[0])
    place = open_profile(path, data_root=str(data_root))
    place.train(place.profile.student)
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    kept, own = record(path, results=tmp_path / "results")  # what isn't trained isn't recorded
    assert own.read_text() == Path(path).read_text()
    (again,) = recorded_profiles(tmp_path / "results")
    assert again.student == place.profile.student
    found = json.loads(kept.read_text())
    assert found["run"]["network"] == "PSPNet-R18(0.125)"
    assert found["metrics"]["images"] == 4
    assert found["provenance"]["sessions"][0]["versions"].keys() >= {"torch", "timm"}
    assert str(tmp_path) not in kept.read_text()
    folder = RunFolder(paths.RUNS, place.profile.student)
    (folder.done / "metrics.json").write_text("{")
    with pytest.raises(CwdError, match=r"metrics\.json can't be read"):
        folder.metrics  # noqa: B018
