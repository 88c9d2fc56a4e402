"""Runs that are trained together: each gives, byte for byte, what it gives alone."""

import shutil
from dataclasses import replace

import pytest
import torch

from cwd.config import ClassificationSchedule, Data, DetectionSchedule, Schedule
from cwd.config.run import Run
from cwd.losses import ChannelTransformation
from cwd.system.errors import CwdError
from cwd.training import teacher as teaching
from cwd.training.loop import train_together
from cwd.training.order import MOST, groups
from cwd.training.run_folder import RunFolder

FILES = ("student.safetensors", "history.csv", "metrics.json")


@pytest.fixture
def together(tmp_path, data_root, trained):
    """Train runs as a group in a folder, where their teacher is."""

    def call(runs, folder="runs"):
        place = {"runs": tmp_path / folder, "data_root": data_root, "device": "cpu"}
        done = trained(runs[0].teacher).done
        shutil.copytree(done, tmp_path / folder / done.name, dirs_exist_ok=True)
        return train_together(runs, **place, allow_weak_teacher=True)

    return call


@pytest.fixture
def recipes(student, teacher):
    """Students of one teacher, one with a critic, one of another network, one that learns more."""
    taught = replace(student, teacher=teacher, recipe="CW_s")
    smaller = replace(taught, network="Deeplab-R18(0.125)")
    return [taught, *(replace(taught, recipe=r) for r in ("PI + HO + CW_f", "CT_f")), smaller]


@pytest.fixture
def as_alone(trained, tmp_path):
    """Runs in a folder are, byte for byte, those that are trained alone."""

    def call(runs, folder="runs"):
        for run in runs:
            first, second = trained(run).done, RunFolder(tmp_path / folder, run).done
            for name in FILES:
                assert (first / name).read_bytes() == (second / name).read_bytes(), (run, name)
            states = [torch.load(done / "checkpoint.pt")["learnt"] for done in (first, second)]
            assert all(map(torch.equal, states[0].values(), states[1].values()))

    return call


def test_a_run_is_the_same_whoever_it_is_trained_with(together, as_alone, recipes, monkeypatch):
    asked, call = [], teaching.Teacher.__call__
    with monkeypatch.context() as patch:
        patch.setattr(teaching.Teacher, "__call__", lambda *a: asked.append(1) or call(*a))
        assert together(recipes, "all") == {}
    assert len(asked) == recipes[0].schedule.steps  # the teacher is asked once a step
    for part in (recipes[::2], recipes[1::2][::-1]):
        assert together(part, "pairs") == {}
    for folder in ("all", "pairs"):
        as_alone(recipes, folder)


def test_killed_at_different_steps(together, as_alone, interrupted, recipes, tmp_path):
    first, second, *others = recipes
    with interrupted(after=4):  # alone
        together([first])
    with interrupted(after=2):  # the second has saved its step, the others haven't
        together([second, *others])
    assert together(recipes) == {}
    as_alone(recipes)
    sessions = RunFolder(tmp_path / "runs", first).provenance["sessions"]
    assert [session["from_step"] for session in sessions] == [0, 4]


def test_one_that_fails_leaves_the_others(together, as_alone, recipes, tmp_path, monkeypatch):
    calls, original = [], ChannelTransformation.forward

    def broken(self, *maps):
        calls.append(1)
        return original(self, *maps) * (float("nan") if len(calls) == 3 else 1)

    with monkeypatch.context() as patch:
        patch.setattr(ChannelTransformation, "forward", broken)
        failed = together(recipes)
    (run,) = failed
    assert run.recipe == "CT_f"
    assert "CT_f is nan at step 3" in str(failed[run])
    assert not RunFolder(tmp_path / "runs", run).finished
    as_alone([run for run in recipes if run not in failed])


def test_runs_that_are_not_alike(together, recipes):
    for other in (
        replace(recipes[0], seed=1),
        replace(recipes[0], schedule=replace(recipes[0].schedule, lr=0.5)),
        recipes[0].baseline(),
    ):
        with pytest.raises(CwdError, match="see other batches or another teacher"):
            together([recipes[0], other])
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
def test_detectors_and_classifiers(together, as_alone, teacher, student, recipes):
    runs = [replace(student, recipe=recipe, teacher=teacher) for recipe in recipes]
    assert together(runs) == {}
    as_alone(runs)


def test_a_training_has_one_thread_and_gives_the_others_back(go, student, monkeypatch, tmp_path):
    before, run = torch.get_num_threads(), replace(student, schedule=Schedule(1, 4, crop=(32, 64)))
    for variable, expected in ((None, 1), ("2", 2)):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if variable:
            monkeypatch.setenv("OMP_NUM_THREADS", variable)
        try:
            torch.set_num_threads(2)
            session = go(run, tmp_path / str(variable)).provenance["sessions"][0]
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(before)
        assert session["hardware"]["threads"] == expected
