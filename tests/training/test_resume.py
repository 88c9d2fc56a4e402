"""Runs of all tasks, interrupted or without steps; and one that is killed."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

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
SEGMENTATION = Schedule(steps=4, batch=2, crop=(32, 64), checkpoint_every=2)
DETECTION = DetectionSchedule(steps=4, batch=2, short=64, long=96, warmup=2, checkpoint_every=2)
CLASSIFICATION = ClassificationSchedule(
    steps=4, batch=4, crop=32, short=36, lr=0.05, checkpoint_every=2
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
def test_an_interrupted_run_ends_as_if_it_had_not_been(go, tmp_path, name, interrupted):
    run = RUNS[name]
    for folder in (tmp_path / "whole", tmp_path / "stopped"):
        go(run.teacher, folder)
    whole = go(run, tmp_path / "whole")
    with interrupted(after=2):
        go(run, tmp_path / "stopped")
    halfway = beside(RunFolder(tmp_path / "stopped", run).partial)
    again = go(run, tmp_path / "stopped")
    sessions = again.read_json("provenance.json")["sessions"]
    assert [session["from_step"] for session in sessions] == [0, 2]
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
import sys
from pathlib import Path
from cwd.config.run import Data, Run
from cwd.config.schedule import Schedule
from cwd.training.loop import train
data = Data("scenes", size=(32, 64), train=12, val=4)
schedule = Schedule(steps=40, batch=4, crop=(32, 64), checkpoint_every=2)
teacher = Run(data, "PSPNet-R18(0.25)", Schedule(steps=4, batch=4, crop=(32, 64)))
run = Run(data, "PSPNet-R18(0.125)", schedule, recipe="PI + HO + CW_f", teacher=teacher)
places = {"runs": Path(sys.argv[1]), "data_root": Path(sys.argv[2]), "device": "cpu"}
train(teacher, **places)
print(train(run, allow_weak_teacher=True, **places).done)
"""


def test_kill_and_resume_equals_an_uninterrupted_run(tmp_path, data_root):
    def start(runs):
        words = [sys.executable, "-c", KILLED, str(runs), str(data_root)]
        return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    def finish(process):
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0
        return Path(out.strip().splitlines()[-1])

    whole = finish(start(tmp_path / "whole"))

    process, deadline = start(tmp_path / "killed"), time.monotonic() + 200
    while not list((tmp_path / "killed").glob("*CW_f*.partial/checkpoint.pt")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not [p for p in (tmp_path / "killed").glob("*CW_f*") if p.suffix != ".partial"]
    resumed = finish(start(tmp_path / "killed"))

    for name in FILES:
        assert (whole / name).read_bytes() == (resumed / name).read_bytes(), name
    sessions = json.loads((resumed / "provenance.json").read_text())["sessions"]
    assert sessions[-1]["from_step"] > 0
