"""Runs of the second paper's loss, which learns along: interrupted, saved, and without steps."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from cwd.config.run import Data, Run
from cwd.config.schedule import ClassificationSchedule, DetectionSchedule, Schedule
from cwd.training import loop
from cwd.training.run_folder import RunFolder
from cwd.training.tasks import task_of

SCENES = Data("scenes", size=(64, 96), train=8, val=3)
CROPS = Data("crops", size=(64, 128), train=8, val=4)
SEGMENTATION = Schedule(steps=4, batch=2, crop=(32, 64), checkpoint_every=2)
DETECTION = DetectionSchedule(steps=4, batch=2, short=64, long=96, warmup=2, checkpoint_every=2)
CLASSIFICATION = ClassificationSchedule(
    steps=4, batch=4, crop=32, short=36, lr=0.05, checkpoint_every=2
)


def pair(data, schedule, recipe, teacher, student):
    """A student with its teacher."""
    return Run(data, student, schedule, recipe=recipe, teacher=Run(data, teacher, schedule))


RUNS = {
    "PSPNet": pair(SCENES, SEGMENTATION, "CT_f", "PSPNet-R18(0.25)", "PSPNet-R18(0.125)"),
    "MaskRCNN": pair(
        SCENES,
        DETECTION,
        "CT_fpn",
        "MaskRCNN-R18(0.25, fpn=16, anchor=16, regions=16)",
        "MaskRCNN-R18(0.125, fpn=16, anchor=16, regions=16)",
    ),
    "Classifier": pair(
        CROPS,
        CLASSIFICATION,
        "CT_f",
        "Classifier-R18(0.25, stride=8)",
        "Classifier-MBV1(0.25, stride=8)",
    ),
}


@pytest.fixture
def go(data_root):
    def call(run, folder):
        return loop.train(
            run, runs=folder, data_root=data_root, device="cpu", allow_weak_teacher=True
        )

    return call


def transformation(path):
    """The weights of a run's transformations in a checkpoint, by their names there."""
    learnt = torch.load(path / "checkpoint.pt", weights_only=True)["learnt"]
    return {name: value for name, value in learnt.items() if ".transform." in name}


@pytest.mark.parametrize("name", RUNS)
def test_an_interrupted_run_ends_as_if_it_had_not_been(go, tmp_path, name, interrupted):
    run = RUNS[name]
    for folder in (tmp_path / "whole", tmp_path / "stopped"):
        go(run.teacher, folder)
    whole = go(run, tmp_path / "whole")
    with interrupted(after=2):
        go(run, tmp_path / "stopped")
    halfway = transformation(RunFolder(tmp_path / "stopped", run).partial)
    again = go(run, tmp_path / "stopped")
    sessions = again.read_json("provenance.json")["sessions"]
    assert [session["from_step"] for session in sessions] == [0, 2]
    for file in ("metrics.json", "history.csv", "student.safetensors"):
        assert (again.done / file).read_bytes() == (whole.done / file).read_bytes()
    ended, expected = transformation(again.done), transformation(whole.done)
    # two convolutions with biases for each map
    assert len(ended) == 4 * (5 if name == "MaskRCNN" else 1)
    assert ended.keys() == expected.keys() == halfway.keys()
    for key, value in ended.items():
        assert value.equal(expected[key])
        assert not value.equal(halfway[key])  # it went on learning

    # nothing of the transformation is in what is saved
    built = task_of(run.network).build(run.network, 8, device="meta")
    weights = load_file(again.done / "student.safetensors")
    assert weights.keys() == built.state_dict().keys()
    own = sum(weights[name].numel() for name, _ in built.named_parameters())
    assert again.metrics["parameters"] == own


def test_a_classifier_without_steps_is_measured_as_it_comes(go, tmp_path):
    first = RUNS["Classifier"].teacher
    run = replace(first, schedule=replace(first.schedule, steps=0))
    folder = go(run, tmp_path)
    assert (folder.done / "history.csv").read_text() == "step,lr\n"
    assert folder.history().empty
    assert not (folder.done / "checkpoint.pt").exists()
    assert 0 <= folder.metrics["top1"] <= folder.metrics["top5"] <= 100
    torch.manual_seed(run.seed)
    fresh = task_of(run.network).build(run.network, 8).state_dict()
    for name, value in load_file(folder.done / "student.safetensors").items():
        assert value.equal(fresh[name])
