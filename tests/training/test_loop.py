"""The loop: what it refuses, that it resumes exactly, and that it teaches."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cwd.config.schedule import chosen_images
from cwd.system import files
from cwd.system.errors import CwdError
from cwd.training import loop
from cwd.training.loop import train
from cwd.training.run_folder import RunFolder
from cwd.training.tasks import segmentation


@pytest.fixture
def go(tmp_path, data_root):
    """Train a run in a folder of this test."""

    def call(run, **options):
        return train(run, runs=call.runs, data_root=data_root, device="cpu", **options)

    call.runs = tmp_path / "runs"
    return call


def distilled(student, teacher, recipe="CW_f", **changes):
    return replace(student, recipe=recipe, teacher=teacher, **changes)


def test_a_run_leaves_everything(go, student, teacher):
    taught = go(teacher)
    folder = go(distilled(student, teacher, "PI + CW_s + CW_f"), allow_weak_teacher=True)
    assert sorted(p.name for p in folder.done.iterdir()) == [
        "checkpoint.pt",
        "config.json",
        "history.csv",
        "metrics.json",
        "provenance.json",
        "student.safetensors",
    ]
    assert 0 <= folder.metrics["miou"] <= 100
    assert len(folder.metrics["class_iou"]) == 19
    history = folder.history()
    assert list(history) == ["step", "lr", "CE", "CE_aux", "PI", "CW_s", "CW_f"]
    assert history["step"].iloc[-1] == 6
    source = folder.read_json("provenance.json")
    assert source["teacher"]["run"] == taught.run.name
    assert source["teacher"]["miou"] == taught.metrics["miou"]
    assert torch.__version__.startswith(source["sessions"][0]["versions"]["torch"])
    assert folder.read_json("config.json") == json.loads(json.dumps(asdict(folder.run)))
    # neither the teacher nor the alignment is in the student's file
    weights = load_file(folder.done / "student.safetensors")
    assert not [name for name in weights if "align" in name or "teacher" in name]


def test_a_finished_run_is_not_trained_again(go, student):
    folder = go(student)
    before = (folder.done / "metrics.json").stat().st_mtime_ns
    assert go(student).done == folder.done
    assert (folder.done / "metrics.json").stat().st_mtime_ns == before


def test_nothing_of_the_teacher_is_learnt(go, student, teacher, monkeypatch):
    weights = load_file(go(teacher).done / "student.safetensors")
    seen = []
    original = loop.Training.finish

    def look(self):
        seen.append(self.teacher.network.state_dict())
        original(self)

    monkeypatch.setattr(loop.Training, "finish", look)
    go(distilled(student, teacher), allow_weak_teacher=True)
    assert all(value.equal(weights[name]) for name, value in seen[0].items())


@pytest.mark.parametrize(("step", "expected"), [(0, 1), (20_000, 0.5**0.9), (40_000, 0)])
def test_poly_schedule(student, step, expected):
    schedule = replace(student.schedule, steps=40_000)
    assert schedule.lr_factor(step) == pytest.approx(expected)


def test_every_epoch_shows_every_image_once():
    epochs = [[chosen_images(12, 4, 7, 3 * e + i) for i in range(3)] for e in range(2)]
    orders = [torch.cat(batches).tolist() for batches in epochs]
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert orders[0] != orders[1]


def test_a_teacher_that_was_never_trained(go, student, teacher):
    with pytest.raises(CwdError, match="never trained"):
        go(distilled(student, teacher))


def test_a_teacher_without_recorded_miou(go, student, teacher):
    folder = go(teacher)
    metrics = folder.metrics
    del metrics["miou"]
    (folder.done / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(CwdError, match="records no mIoU"):
        go(distilled(student, teacher))


def test_a_teacher_worse_than_the_student(go, student, teacher):
    for run, miou in ((teacher, 10.0), (student, 20.0)):
        folder = go(run)
        (folder.done / "metrics.json").write_text(json.dumps(folder.metrics | {"miou": miou}))
    with pytest.raises(CwdError, match=r"\(10.00\) is below the student's own \(20.00\)"):
        go(distilled(student, teacher))
    assert go(distilled(student, teacher), allow_weak_teacher=True).finished


def test_weights_of_another_network(go, student, teacher):
    taught, other = go(teacher), go(student)
    path = taught.done / "student.safetensors"
    path.write_bytes((other.done / "student.safetensors").read_bytes())
    with pytest.raises(CwdError, match=r"student\.safetensors"):
        go(distilled(student, teacher), allow_weak_teacher=True)


def test_a_term_that_is_zero(go, student, teacher, monkeypatch):
    go(teacher)
    monkeypatch.setattr(
        "cwd.losses.ChannelWise.forward", lambda self, s, t, target=None: 0 * s.float().sum()
    )
    with pytest.raises(CwdError, match="CW_f is exactly zero"):
        go(distilled(student, teacher), allow_weak_teacher=True)


def test_a_term_that_is_not_in_the_graph(go, student, teacher, monkeypatch):
    go(teacher)
    monkeypatch.setattr(
        "cwd.losses.ChannelWise.forward", lambda self, s, t, target=None: s.detach().sum()
    )
    with pytest.raises(CwdError, match="CW_f is not in the graph"):
        go(distilled(student, teacher), allow_weak_teacher=True)


def test_a_loss_that_is_not_finite(go, student, teacher, monkeypatch):
    go(teacher)
    calls = []

    def forward(self, s, t, target=None):
        calls.append(0)
        return s.float().mean() * (float("nan") if len(calls) == 5 else 1)

    monkeypatch.setattr("cwd.losses.ChannelWise.forward", forward)
    run = distilled(student, teacher)
    with pytest.raises(CwdError, match="CW_f is nan at step 5") as error:
        go(run, allow_weak_teacher=True)
    assert run.name in str(error.value)
    checkpoint = RunFolder(go.runs, run).partial / "checkpoint.pt"
    state = torch.load(checkpoint, weights_only=True)
    assert state["step"] == 4
    assert all(v.isfinite().all() for v in state["learnt"].values())


def test_fewer_images_than_a_batch(go, student):
    run = replace(student, schedule=replace(student.schedule, batch=16))
    with pytest.raises(CwdError, match="fewer than a batch of 16"):
        go(run)


def test_a_damaged_checkpoint(go, student, tmp_path):
    partial = RunFolder(tmp_path / "runs", student).partial
    partial.mkdir(parents=True)
    (partial / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CwdError, match=r"checkpoint\.pt is damaged"):
        go(student)


def test_a_pickle_in_a_checkpoint_is_not_executed(go, student, tmp_path):
    class Stranger:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    partial = RunFolder(tmp_path / "runs", student).partial
    partial.mkdir(parents=True)
    torch.save({"step": Stranger()}, partial / "checkpoint.pt")
    with pytest.raises(CwdError, match="damaged"):
        go(student)
    assert not (tmp_path / "executed").exists()


def test_a_full_disk_leaves_the_last_checkpoint(go, student, tmp_path, monkeypatch):
    saved = []
    original = torch.save

    def save(state, file):
        if saved:
            original({"half": 1}, file)
            raise OSError(28, "No space left on device")
        saved.append(state["step"])
        original(state, file)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(CwdError, match="free some disk space"):
        go(student)
    partial = RunFolder(tmp_path / "runs", student).partial
    assert [p.name for p in partial.iterdir()] == ["checkpoint.pt"]
    monkeypatch.setattr(torch, "save", original)
    assert torch.load(partial / "checkpoint.pt", weights_only=True)["step"] == 2
    assert go(student).finished


def test_interrupted_between_the_last_step_and_the_end(go, student, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(segmentation, "evaluate", stop)
        with pytest.raises(KeyboardInterrupt):
            go(student)
    folder = go(student)
    assert folder.metrics["images"] == 4
    steps = [session["from_step"] for session in folder.read_json("provenance.json")["sessions"]]
    assert steps == [0, 6]


def test_two_processes_at_once(go, student):
    lock = go.runs / ".locks" / student.name
    with files.exclusive(lock, "the other"), pytest.raises(CwdError, match=student.name):
        go(student)
    assert go(student).finished


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
        return out.strip().splitlines()[-1]

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

    for name in ("metrics.json", "history.csv", "student.safetensors"):
        assert (Path(whole) / name).read_bytes() == (Path(resumed) / name).read_bytes(), name
    sessions = json.loads((Path(resumed) / "provenance.json").read_text())["sessions"]
    assert sessions[-1]["from_step"] > 0
