"""Runs of all tasks, interrupted or without steps; and one that is killed."""

import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from together import distilled

from cwd.config.run import Data, Run
from cwd.config.schedule import ClassificationSchedule, DetectionSchedule, Schedule
from cwd.training.run_folder import RunFolder
from cwd.training.tasks import task_of

SCENES = Data("scenes", size=(64, 96), train=8, val=3)
CROPS = Data("crops", size=(64, 128), train=8, val=4)
SEGMENTATION = Schedule(steps=2, batch=2, crop=(32, 64), checkpoint_every=1)
DETECTION = DetectionSchedule(steps=2, batch=2, short=64, long=96, warmup=1, checkpoint_every=1)
CLASSIFICATION = ClassificationSchedule(
    steps=2, batch=4, crop=32, short=36, lr=0.05, checkpoint_every=1
)
FILES = ("metrics.json", "history.csv", "student.safetensors")
FASTER = "FasterRCNN-R18({}, fpn=16, anchor=16, regions=16)"
RUNS = {
    "PSPNet": distilled(SCENES, SEGMENTATION, "CT_f", "PSPNet-R18({})"),
    "beyond": distilled(
        SCENES,
        SEGMENTATION,
        "MGD_b + AFDCD_b + CIRKD_f(pixels=50, regions=20) + BPKD_s",
        "PSPNet-R18({})",
    ),
    "MaskRCNN": distilled(SCENES, DETECTION, "CT_fpn", FASTER.replace("Faster", "Mask")),
    "Wang": distilled(SCENES, DETECTION, "Wang", FASTER),
    "CW_fpn": distilled(SCENES, DETECTION, "CW_fpn", FASTER),
    "Classifier": Run(
        CROPS,
        "Classifier-MBV1(0.25, stride=8)",
        CLASSIFICATION,
        recipe="CT_f",
        teacher=Run(CROPS, "Classifier-R18(0.25, stride=8)", CLASSIFICATION),
    ),
}


def beside(path):
    """What was trained with the student, by its names in a checkpoint."""
    learnt = torch.load(path / "checkpoint.pt", weights_only=True)["learnt"]
    return {name: value for name, value in learnt.items() if name.startswith("1.")}


@pytest.mark.parametrize("name", RUNS)
def test_an_interrupted_run_ends_as_if_it_had_not_been(
    go, trained, finished, tmp_path, name, interrupted
):
    run = RUNS[name]
    whole, _ = trained(run), finished(run.teacher)
    with interrupted(after=1):
        go(run)
    halfway = beside(RunFolder(tmp_path / "runs", run).partial)
    again = go(run)
    sessions = again.read_json("provenance.json")["sessions"]
    assert [session["from_step"] for session in sessions] == [0, 1]
    for file in FILES:
        assert (again.done / file).read_bytes() == (whole.done / file).read_bytes()
    ended, expected = beside(again.done), beside(whole.done)
    # two convolutions with biases for each map that is transformed; Wang adapts five; beyond are
    # two generators of three, a projection with batch norm, two banks and their places
    counts = {"MaskRCNN": 20, "Wang": 10, "CW_fpn": 0, "beyond": 2 * 6 + 7 + 2 * 2}
    assert len(ended) == counts.get(name, 4)
    assert ended.keys() == expected.keys() == halfway.keys()
    assert all(value.equal(expected[key]) for key, value in ended.items())
    still = [key for key, value in ended.items() if value.equal(halfway[key])]
    assert len(still) < len(ended) / 2 if name == "Wang" else not still  # no object on a level

    # nothing of what is trained with the student is in what is saved
    built = task_of(run.network).build(
        run.network, 19 if "PSP" in run.network else 8, device="meta"
    )
    weights = load_file(again.done / "student.safetensors")
    assert weights.keys() == built.state_dict().keys()
    own = sum(weights[name].numel() for name, _ in built.named_parameters())
    assert again.metrics["parameters"] == own


def test_a_classifier_without_steps_is_measured_as_it_comes(go):
    first = RUNS["Classifier"].teacher
    run = replace(first, schedule=replace(first.schedule, steps=0))
    folder = go(run)
    assert (folder.done / "history.csv").read_text() == "step,lr\n"
    assert folder.history().empty
    assert not (folder.done / "checkpoint.pt").exists()
    assert 0 <= folder.metrics["top1"] <= folder.metrics["top5"] <= 100
    torch.manual_seed(run.seed)
    fresh = task_of(run.network).build(run.network, 8).state_dict()
    for name, value in load_file(folder.done / "student.safetensors").items():
        assert value.equal(fresh[name])


KILLED = """
import pickle, sys
from cwd.training.loop import train
run, *places = pickle.loads(bytes.fromhex(sys.argv[1]))
train(run, runs=places[0], data_root=places[1], device="cpu", allow_weak_teacher=True)
"""


def test_kill_and_resume_equals_an_uninterrupted_run(
    go, trained, finished, student, teacher, tmp_path, data_root
):
    schedule = replace(student.schedule, steps=16)
    run = replace(student, schedule=schedule, recipe="PI + HO + CW_f", teacher=teacher)
    whole = trained(run)
    place = finished(teacher).root
    words = [sys.executable, "-c", KILLED, pickle.dumps((run, place, data_root)).hex()]
    process, deadline = subprocess.Popen(words), time.monotonic() + 200
    folder = RunFolder(place, run)
    while not (folder.partial / "checkpoint.pt").is_file():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not folder.done.exists()
    go(run)
    for name in FILES:
        assert (whole.done / name).read_bytes() == (folder.done / name).read_bytes(), name
    assert folder.provenance["sessions"][-1]["from_step"] > 0
