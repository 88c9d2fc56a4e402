"""The loop: what it refuses, that it resumes exactly, and that it teaches."""

import json
import subprocess
import sys
import threading
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import load_file

from cwd.config.run import Data, Run
from cwd.config.schedule import DetectionSchedule, Schedule, chosen_images
from cwd.system import files
from cwd.system.errors import CwdError
from cwd.system.progress import VARIABLE
from cwd.training.run_folder import FILES, RunFolder
from cwd.training.tasks import segmentation


def distilled(student, teacher, recipe="CW_f", **changes):
    return replace(student, recipe=recipe, teacher=teacher, **changes)


def test_a_run_leaves_everything(go, finished, student, teacher):
    taught = finished(teacher)
    folder = go(distilled(student, teacher, "PI + CW_s + CW_f"))
    assert {path.name for path in folder.done.iterdir()} == {*FILES, "checkpoint.pt"}
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


def test_a_finished_run_is_not_trained_again(go, finished, student):
    folder = finished(student)
    before = (folder.done / "metrics.json").stat().st_mtime_ns
    assert go(student).done == folder.done
    assert (folder.done / "metrics.json").stat().st_mtime_ns == before


def test_poly_schedule(student):
    schedule = replace(student.schedule, steps=40_000)
    shares = [schedule.lr_factor(step) for step in (0, 20_000, 40_000)]
    assert shares == pytest.approx([1, 0.5**0.9, 0])


def test_every_epoch_shows_every_image_once():
    epochs = [[chosen_images(12, 4, 7, 3 * e + i) for i in range(3)] for e in range(2)]
    orders = [torch.cat(batches).tolist() for batches in epochs]
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert orders[0] != orders[1]


def test_a_teacher_that_was_never_trained(go, student, teacher):
    with pytest.raises(CwdError, match="never trained"):
        go(distilled(student, teacher))


def test_a_teacher_worse_than_the_student(go, finished, student, teacher):
    for run, miou in ((teacher, 10.0), (student, 20.0)):
        folder = finished(run)
        (folder.done / "metrics.json").write_text(json.dumps(folder.metrics | {"miou": miou}))
    with pytest.raises(CwdError, match=r"\(10.00\) is below the student's own \(20.00\)"):
        go(distilled(student, teacher), allow_weak_teacher=False)
    assert go(distilled(student, teacher)).finished


def test_a_term_that_cannot_teach(go, finished, student, teacher, monkeypatch):
    finished(teacher)
    for fault, loss in (
        ("is exactly zero", lambda self, s, t, target=None: 0 * s.float().sum()),
        ("is not in the graph", lambda self, s, t, target=None: s.detach().sum()),
    ):
        monkeypatch.setattr("cwd.losses.ChannelWise.forward", loss)
        with pytest.raises(CwdError, match=f"CW_f {fault}"):
            go(distilled(student, teacher))


def test_a_loss_that_is_not_finite(go, finished, student, teacher, tmp_path, monkeypatch):
    finished(teacher)
    calls = []

    def forward(self, s, t, target=None):
        calls.append(0)
        return s.float().mean() * (float("nan") if len(calls) == 5 else 1)

    monkeypatch.setattr("cwd.losses.ChannelWise.forward", forward)
    run = distilled(student, teacher)
    with pytest.raises(CwdError, match="CW_f is nan at step 5") as error:
        go(run)
    assert run.name in str(error.value)
    checkpoint = RunFolder(tmp_path / "runs", run).partial / "checkpoint.pt"
    state = torch.load(checkpoint, weights_only=True)
    assert state["step"] == 4
    assert all(v.isfinite().all() for v in state["learnt"].values())


def test_fewer_images_than_a_batch(go, student):
    run = replace(student, schedule=replace(student.schedule, batch=16))
    with pytest.raises(CwdError, match="fewer than a batch of 16"):
        go(run)


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


def test_two_processes_at_once(go, impatient, student, tmp_path):
    lock = tmp_path / "runs" / ".locks" / student.name
    with files.exclusive(lock, "the other"), pytest.raises(CwdError, match=student.name):
        go(student)
    assert go(student).finished


def test_a_notebook_waits_for_what_another_trains(go, impatient, student, tmp_path, monkeypatch):
    """Both are of one `reproduce`, which shows what is trained."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "said"))
    held, release = threading.Event(), threading.Event()

    def other():
        with files.exclusive(tmp_path / "runs" / ".locks" / student.name, "the other"):
            held.set()
            release.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    held.wait(60)
    threading.Timer(1, release.set).start()  # twenty times as long as others wait here
    assert go(student).finished
    assert release.is_set()
    thread.join()


def test_nothing_but_the_result_is_said(go, student, capsys, caplog):
    go(student)
    assert not caplog.records
    said = capsys.readouterr().err.replace("\r", "\n").splitlines()
    expected = "drawing", f"{student.title}: mIoU", f"{student.title}  "
    assert [line for line in said if line and not line.startswith(expected)] == []


FABRIC = """
import sys
from cwd.system.distributed import open_fabric
open_fabric("cpu", "32-true")
from lightning_fabric.utilities import imports
print("torchmetrics" in sys.modules, imports._TORCHMETRICS_GREATER_EQUAL_1_0_0)
import torchmetrics
print(torchmetrics.Accuracy.__name__)
"""


def test_fabric_is_imported_without_what_it_asks_for_its_version():
    done = subprocess.run(
        [sys.executable, "-c", FABRIC], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False True\nAccuracy\n"


def test_class_weights(go, student):
    """Of every labelled pixel its class's weight, in float64 by hand; of as many as are classes."""
    generator = torch.Generator().manual_seed(0)
    score = torch.randn(2, 3, 5, 7, generator=generator, dtype=torch.float64)
    target = torch.randint(3, (2, 5, 7), generator=generator)
    target[0, 0, :4] = 255
    weights = (0.5, 3, 1.25)
    total = share = 0.0
    for image, y, x in (target != 255).nonzero().tolist():
        label = target[image, y, x].item()
        exponents = score[image, :, y, x].exp()
        total -= weights[label] * (exponents[label] / exponents.sum()).log().item()
        share += weights[label]
    found = segmentation.cross_entropy(score, target, weights)
    assert found.item() == pytest.approx(total / share, rel=1e-6)
    assert segmentation.cross_entropy(score, target).item() != pytest.approx(total / share)
    schedule = replace(student.schedule, class_weights=(1, 2))
    with pytest.raises(CwdError, match="2 class_weights and the images 19 classes: give one a"):
        go(replace(student, schedule=schedule))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"schedule": DetectionSchedule()}, "has a DetectionSchedule, .* needs a Schedule"),
        ({"teacher": Run(Data("camvid"), "PSPNet-R18", Schedule())}, "on camvid can't teach"),
        ({"teacher": Run(Data("scenes"), "RetinaNet-R18", DetectionSchedule())}, "can't teach"),
    ],
)
def test_parts_that_do_not_go_together(go, student, changes, fault):
    recipe = "CW_s" if "teacher" in changes else ""
    with pytest.raises(CwdError, match=fault):
        go(replace(student, recipe=recipe, **changes))
