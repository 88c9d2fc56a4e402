"""What a run's records say is compared with what is there: files, weights, images, formats."""

import json
import math
import os
import re
import shutil
from dataclasses import replace

import invented
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from cwd.config.run import Data
from cwd.models import backbones
from cwd.models.build import build_network
from cwd.system.distributed import open_fabric
from cwd.system.errors import CwdError
from cwd.training import checkpoint, provenance
from cwd.training.run_folder import (
    CONFIG,
    FILES,
    HISTORY,
    METRICS,
    PROVENANCE,
    WEIGHTS,
    RunFolder,
)
from cwd.training.student import Student
from cwd.training.tasks import segmentation


@pytest.fixture
def taught(student, teacher):
    return replace(student, recipe="CW_s", teacher=teacher)


def test_the_weights_that_were_measured(go, finished, teacher, taught):
    folder = finished(teacher)
    path, known = folder.done / WEIGHTS, folder.provenance
    kept, weights = path.read_bytes(), load_file(path)
    save_file({name: value + 1e-3 for name, value in weights.items()}, path)
    with pytest.raises(CwdError, match="holds other weights than those that were measured"):
        go(taught)
    path.write_bytes(kept)
    done = go(taught)
    assert done.provenance["teacher"]["sha256"] == known.pop("sha256")
    # runs recorded before weights had a checksum still teach
    (folder.done / PROVENANCE).write_text(json.dumps(known))
    shutil.rmtree(done.done)
    assert go(taught).finished


def test_a_run_goes_on_with_what_it_began_with(
    go, finished, interrupted, teacher, taught, tmp_path
):
    finished(teacher)
    with interrupted(after=2):
        go(taught)
    path = RunFolder(tmp_path / "runs", taught).partial / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    for keys, word in (
        (("dataset", "train"), "dataset train"),
        (("dataset", "val"), "dataset val"),
        (("teacher", "sha256"), "teacher sha256"),
        (("precision",), "precision"),
        (("init", "from"), "init from"),
    ):
        began = json.loads(json.dumps(state["origin"]))
        part = began
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = "another"
        torch.save(state | {"origin": began}, path)
        with pytest.raises(CwdError, match=f"began with {word} another and would go on with"):
            go(taught)
    torch.save(state, path)
    assert go(taught).finished


class Stranger:
    """A pickle that would do something when it is read."""

    def __reduce__(self):
        return (os.mkdir, ("executed",))


def each(change, tensors):
    return {name: change(value) for name, value in tensors.items()}


CHANGES = {
    "no origin's part": lambda state: state["origin"].pop("init"),
    "another run's": lambda state: state.update(run="another"),
    "another step": lambda state: state.update(step=4),
    "a step as text": lambda state: state.update(step="2"),
    "no weights": lambda state: state["learnt"].clear(),
    "nan": lambda state: state.update(learnt=each(lambda x: x * float("nan"), state["learnt"])),
    "other numbers": lambda state: state.update(learnt=each(lambda x: 2 * x, state["learnt"])),
    "another type": lambda state: state.update(learnt=each(torch.Tensor.double, state["learnt"])),
    "another shape": lambda state: state["learnt"].update({"0.classifier.bias": torch.zeros(3)}),
    "no momentum": lambda state: state["optimizer"]["state"].clear(),
    "another momentum": lambda state: state["optimizer"]["param_groups"][0].update(momentum=0.5),
    "no optimizer": lambda state: state.update(optimizer=None),
    "no sessions": lambda state: state.update(sessions=[]),
    "a longer session": lambda state: state["sessions"][0].update(seconds=1e9),
    "odd history": lambda state: state.update(history=[{"step": "first"}]),
    "something more": lambda state: state.update(more=1),
}


def test_a_checkpoint_is_what_was_saved(go, interrupted, student, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with interrupted(after=2):
        go(student)
    path = RunFolder(tmp_path / "runs", student).partial / "checkpoint.pt"
    kept = path.read_bytes()
    learner = Student(student, path.parent, open_fabric("cpu", "32-true"), 19, None)
    learner.origin = torch.load(path)["origin"]
    checkpoint.load(learner)
    lacking = {f"no {key}": lambda state, key=key: state.pop(key) for key in torch.load(path)}
    for name, change in (CHANGES | lacking).items():
        path.write_bytes(kept)
        state = torch.load(path)
        change(state)
        torch.save(state, path)
        fault = "began with init" if name == "no origin's part" else "is damaged or of another run"
        with pytest.raises(CwdError, match=fault):
            checkpoint.load(learner)
    other = kept[: len(kept) // 2] + bytes([1]) + kept[len(kept) // 2 + 1 :]
    for odd in ([1], torch.zeros(2), {}, {"step": Stranger()}, kept[:-1], kept[:100], b"", other):
        path.write_bytes(odd) if isinstance(odd, bytes) else torch.save(odd, path)
        with pytest.raises(CwdError, match="is damaged"):
            checkpoint.load(learner)
    assert not (tmp_path / "executed").exists()
    path.unlink()
    path.symlink_to("nowhere")  # as on a disk that isn't there now
    with pytest.raises(CwdError, match="is damaged"):
        go(student)
    path.unlink()
    path.write_bytes(kept)
    assert go(student).finished


def repainted(image):
    """An image of which one pixel is another, of the same size."""
    picture = Image.open(image)
    red, green, blue = picture.convert("RGB").getpixel((0, 0))
    picture.putpixel((0, 0), (255 - red, green, blue))
    picture.save(image)


def test_images_changed_after_the_student_alone(go, teacher, student, taught, tmp_path):
    root, data = tmp_path / "data", Data("scenes", (32, 64), 12, 4, seed=3)
    teacher, student = replace(teacher, data=data), replace(student, data=data)
    for run in (teacher, student):
        go(run, data_root=root)
    for image in sorted(root.rglob("*_leftImg8bit.png")):
        repainted(image)
    segmentation.open_data.cache_clear()  # as in another process
    with pytest.raises(CwdError, match=r"train images have the checksum .* and those of .* had"):
        go(replace(taught, data=data, teacher=teacher), data_root=root)


def test_public_first_weights(go, finished, interrupted, student, teacher, monkeypatch):
    run = replace(student, network="PSPNet-EL0", init="imagenet")
    alone = go(run)
    network = build_network("PSPNet-EL0", 19, init="imagenet")
    known = alone.provenance["init"]
    assert known == provenance.first_weights("imagenet", network)
    finished(teacher)
    taught = replace(run, recipe="CW_s", teacher=teacher)
    with interrupted(after=2):
        go(taught)
    with torch.no_grad():
        network.backbone.blocks[0][0].conv_dw.weight[0, 0, 0, 0] += 1e-6
    assert provenance.first_weights("imagenet", network)["sha256"] != known["sha256"]
    other = timm.create_model(backbones.LITE["EL0"])
    monkeypatch.setattr(backbones, "packaged", lambda name: other)
    with pytest.raises(CwdError, match=r"first weights have the checksum .* and those of .* had"):
        go(taught)
    shutil.rmtree(alone.done)
    with pytest.raises(CwdError, match=r"began with init sha256 .* and would go on with"):
        go(taught)


def test_a_folder_that_lacks_a_file(go, finished, student):
    folder = finished(student)
    for name in FILES:
        (folder.done / name).rename(folder.root / name)
        with pytest.raises(CwdError, match=f"{name} is missing: put it back, or delete"):
            go(student)
        (folder.root / name).rename(folder.done / name)
    assert go(student).finished


def test_a_folder_with_the_files_of_another_run(finished, student):
    first, second = (finished(replace(student, seed=seed)) for seed in (0, 1))
    for name in (WEIGHTS, PROVENANCE):
        shutil.copyfile(first.done / name, second.done / name)
    with pytest.raises(CwdError, match=rf"student.* has the weights of run {first.run.name}: put"):
        second.load_into(build_network(student.network, 19))
    shutil.copyfile(first.done / CONFIG, second.done / CONFIG)
    for fault in ("is of another run", "has no schedule"):
        with pytest.raises(CwdError, match=rf"config\.json {fault}: put it back"):
            _ = second.finished
        (second.done / CONFIG).write_text('{"teacher": 3}')


def test_a_file_in_a_folders_place(go, student, tmp_path):
    folder = RunFolder(tmp_path / "runs", student)
    folder.root.mkdir()
    folder.partial.write_text("")
    with pytest.raises(CwdError, match="move away what is in its place"):
        go(student)
    folder.partial.unlink()
    folder.done.write_text("")
    with pytest.raises(CwdError, match="is no folder, as a finished run is: move it away"):
        go(student)
    folder.done.unlink()
    folder.done.symlink_to("nowhere")
    with pytest.raises(CwdError, match="is no folder"):  # before the first step
        go(student)
    assert not folder.partial.exists()


BACK = "put it back, or delete"
SESSION = invented.PROVENANCE["sessions"][0]
# by file: what stands there, or what is changed in it, and what is said of that
ODD = {
    METRICS: [
        *((text, "") for text in ("", "[]", "3", "{" * 10**5)),
        *(({"miou": odd}, f"has .* for miou.*{BACK}") for odd in (
            "high", math.nan, [1], -5, 1e9, int("1" * 400), True, None)),
        *(({"class_iou": odd}, f"has .* for class_iou.*{BACK}") for odd in (
            {}, {"road": 1e9}, {"road": True}, {"road": math.nan}, {"road": "3"}, [])),
        ('{"parameters": 3, "miou": 1, "macc": 1}', f"has no class_iou: {BACK}"),
    ],
    HISTORY: [
        (text, "holds no losses by step") for text in (
            "", "a,b\n1,2\n", "step,lr\n1,high\n", "\x00\x01", 'step\n"', "step,lr\n",
            "step,lr\n1.5,2\n2.1,2\n", "step,lr\n1,nan\n", "step,lr\n2,1\n1,1\n")
    ],
    PROVENANCE: [
        *(({name: odd}, f"has .* for {name}.*{BACK}") for name, odd in (
            ("dataset", 5), ("dataset", ["train", "val"]), ("dataset", {"train": 1, "val": 2}),
            ("pixels", 5), ("sha256", 5), ("sha256", None), ("sessions", [5]), ("sessions", "x"),
            ("sessions", []), ("sessions", [{"commit": "--output=written"}]),
            ("sessions", [{"commit": 5}]), ("seconds", "long"), ("seconds", math.nan),
            ("teacher", 3))),
        *(({"sessions": [{key: value for key, value in SESSION.items() if key != name}]},
           rf"has no sessions.0.{name}: {BACK}") for name in SESSION),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_a_file_that_no_training_writes(finished, student, name):
    folder = finished(student)
    path = folder.done / name
    read = {METRICS: RunFolder.metrics.fget, PROVENANCE: RunFolder.provenance.fget}
    kept = path.read_text()
    for odd, fault in ODD[name]:
        path.write_text(odd if isinstance(odd, str) else json.dumps(json.loads(kept) | odd))
        with pytest.raises(CwdError, match=re.escape(name) + f".*{fault}") as caught:
            read.get(name, RunFolder.history)(folder)
        assert "delete" in str(caught.value)


def test_left_over_files_of_a_killed_write_go(go, interrupted, student, tmp_path):
    with interrupted(after=2):
        go(student)
    left = RunFolder(tmp_path / "runs", student).partial / ".checkpoint.pt.1.tmp"
    left.write_bytes(b"half")
    left.with_name(".kept.tmp").mkdir()  # none of ours
    assert sorted(path.name for path in go(student).done.iterdir()) == sorted(
        (*FILES, checkpoint.NAME, ".kept.tmp")
    )


def test_nothing_to_measure_is_no_result(go, student, monkeypatch, tmp_path):
    nothing = {"miou": float("nan")}
    monkeypatch.setattr("cwd.training.tasks.segmentation.evaluate", lambda *_, **__: nothing)
    with pytest.raises(CwdError, match="its mIoU is nan, so nothing"):
        go(student)
    assert not RunFolder(tmp_path / "runs", student).finished
