"""Runs that are trained together: each gives, byte for byte, what it gives alone."""

from dataclasses import replace

import pytest
import torch

from cwd.config import ClassificationSchedule, Data, DetectionSchedule
from cwd.config.run import Run
from cwd.losses import ChannelTransformation
from cwd.system.errors import CwdError
from cwd.training import teacher as teaching
from cwd.training.loop import train_together
from cwd.training.order import MOST, groups
from cwd.training.run_folder import RunFolder

FILES = ("student.safetensors", "history.csv", "metrics.json")


@pytest.fixture
def together(tmp_path, data_root):
    def call(runs, folder):
        place = {"runs": tmp_path / folder, "data_root": data_root, "device": "cpu"}
        return train_together(runs, **place, allow_weak_teacher=True)

    return call


@pytest.fixture
def recipes(student, teacher):
    """Students of one teacher, one with a critic, one of another network, one that learns more."""
    taught = replace(student, teacher=teacher, recipe="CW_s")
    smaller = replace(taught, network="Deeplab-R18(0.125)")
    return [taught, *(replace(taught, recipe=r) for r in ("PI + HO + CW_f", "CT_f")), smaller]


def same(one, other, runs):
    for run in runs:
        first, second = RunFolder(one, run).done, RunFolder(other, run).done
        for name in FILES:
            assert (first / name).read_bytes() == (second / name).read_bytes(), (run.title, name)
        states = [torch.load(done / "checkpoint.pt")["learnt"] for done in (first, second)]
        assert all(map(torch.equal, states[0].values(), states[1].values()))


def test_a_run_is_the_same_whoever_it_is_trained_with(go, together, recipes, teacher, tmp_path):
    for run in (teacher, *recipes):
        go(run, tmp_path / "alone")
    for folder, parts in (("all", [recipes]), ("pairs", [recipes[::2], recipes[1::2][::-1]])):
        assert together([teacher], folder) == {}
        for part in parts:
            assert together(part, folder) == {}
        same(tmp_path / "alone", tmp_path / folder, (teacher, *recipes))


def test_killed_at_different_steps(go, together, interrupted, recipes, teacher, tmp_path):
    for run in (teacher, *recipes):
        go(run, tmp_path / "alone")
    together([teacher], "killed")
    first, second, *others = recipes
    with interrupted(after=4):  # alone
        together([first], "killed")
    with interrupted(after=2):  # the second has saved its step, the others haven't
        together([second, *others], "killed")
    assert together(recipes, "killed") == {}
    same(tmp_path / "alone", tmp_path / "killed", recipes)
    sessions = RunFolder(tmp_path / "killed", first).provenance["sessions"]
    assert [session["from_step"] for session in sessions] == [0, 4]


def test_the_teacher_is_asked_once_a_step(together, recipes, teacher, monkeypatch):
    asked = []
    call = teaching.Teacher.__call__
    monkeypatch.setattr(teaching.Teacher, "__call__", lambda *a: asked.append(1) or call(*a))
    together([teacher], "runs")
    together(recipes, "runs")
    assert len(asked) == teacher.schedule.steps


def test_one_that_fails_leaves_the_others(go, together, recipes, teacher, tmp_path, monkeypatch):
    for run in (teacher, *recipes):
        go(run, tmp_path / "alone")
    together([teacher], "runs")
    calls, original = [], ChannelTransformation.forward

    def broken(self, *maps):
        calls.append(1)
        return original(self, *maps) * (float("nan") if len(calls) == 3 else 1)

    monkeypatch.setattr(ChannelTransformation, "forward", broken)
    failed = together(recipes, "runs")
    (run,) = failed
    assert run.recipe == "CT_f"
    assert "CT_f is nan at step 3" in str(failed[run])
    assert not RunFolder(tmp_path / "runs", run).finished
    same(tmp_path / "alone", tmp_path / "runs", [run for run in recipes if run not in failed])


def test_runs_that_are_not_alike(together, recipes):
    for other in (
        replace(recipes[0], seed=1),
        replace(recipes[0], schedule=replace(recipes[0].schedule, lr=0.5)),
        recipes[0].baseline(),
    ):
        with pytest.raises(CwdError, match="see other batches or another teacher"):
            together([recipes[0], other], "runs")
    assert groups([*recipes, replace(recipes[0], seed=1), recipes[0]]) == [
        recipes,
        [replace(recipes[0], seed=1)],
    ]
    many = [replace(recipes[0], recipe=f"CW_s(weight={n})") for n in range(1, MOST + 2)]
    assert list(map(len, groups(many))) == [MOST, 1]


DETECTION = DetectionSchedule(steps=2, batch=2, short=64, long=96, warmup=2, checkpoint_every=2)
CLASSIFICATION = ClassificationSchedule(steps=2, batch=4, crop=32, short=36, checkpoint_every=2)
SCENES, CROPS = Data("scenes", (64, 96), 6, 2), Data("crops", (128, 256), 6, 4)


@pytest.mark.parametrize(
    ("teacher", "student", "recipes"),
    [
        (
            Run(SCENES, "FasterRCNN-R18(0.25, fpn=16)", DETECTION),
            Run(SCENES, "FasterRCNN-R18(0.125, fpn=16)", DETECTION),
            ("CW_fpn", "Chen", "Zhang"),
        ),
        (
            Run(CROPS, "Classifier-R18(0.25, stride=8)", CLASSIFICATION),
            Run(CROPS, "Classifier-MBV1(0.25, stride=8)", CLASSIFICATION),
            ("CW_f", "CT_f"),
        ),
    ],
)
def test_detectors_and_classifiers(go, together, teacher, student, recipes, tmp_path):
    runs = [replace(student, recipe=recipe, teacher=teacher) for recipe in recipes]
    for run in (teacher, *runs):
        go(run, tmp_path / "alone")
    together([teacher], "runs")
    assert together(runs, "runs") == {}
    same(tmp_path / "alone", tmp_path / "runs", runs)


def test_a_training_has_one_thread_and_gives_the_others_back(go, student, monkeypatch, tmp_path):
    before = torch.get_num_threads()
    for variable, expected in ((None, 1), ("2", 2)):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if variable:
            monkeypatch.setenv("OMP_NUM_THREADS", variable)
        try:
            torch.set_num_threads(2)
            session = go(student, tmp_path / str(variable)).provenance["sessions"][0]
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(before)
        assert session["hardware"]["threads"] == expected
