"""A training that is watched: TensorBoard reads what the run's own files say."""

import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cwd.system.errors import CwdError
from cwd.training.run_folder import RunFolder


def curves(folder):
    """The points of each curve in a folder, step and value, as TensorBoard shows them."""
    read = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {
        name: [(e.step, e.value) for e in read.Scalars(name)] for name in read.Tags()["scalars"]
    }


def test_the_curves_are_the_history(go, trained, interrupted, student, tmp_path):
    plain = trained(student)
    assert not (plain.done / "tensorboard").exists()
    with interrupted(after=4):
        go(student, log="tensorboard")
    partial = RunFolder(tmp_path / "runs", student).partial
    assert [step for step, _ in curves(partial)["CE"]] == [2, 4]  # to be seen before the end
    (partial / "checkpoint.pt").unlink()  # steps are made again, and count once
    watched = go(student, log="tensorboard")
    history, found = watched.history().set_index("step"), curves(watched.done)
    ((step, value),) = found.pop("miou")
    assert (step, value) == (6, pytest.approx(watched.metrics["miou"]))
    assert list(found) == list(history)
    for name, points in found.items():
        assert dict(points) == pytest.approx(history[name].to_dict())
        assert len(points) == 3
    for name in ("student.safetensors", "history.csv", "metrics.json"):
        assert (watched.done / name).read_bytes() == (plain.done / name).read_bytes()


def test_what_cannot_be_logged(go, student, monkeypatch, tmp_path):
    with pytest.raises(CwdError, match="log 'wandb' is unknown: use tensorboard"):
        go(student, log="wandb")
    partial = RunFolder(tmp_path / "runs", student).partial
    partial.mkdir(parents=True)
    (partial / "tensorboard").write_text("")
    with pytest.raises(CwdError, match=r"tensorboard could not be written .*: move away what is"):
        go(student, log="tensorboard")
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # not installed
    with pytest.raises(CwdError, match=r"needs tensorboard, .* pip install 'cwd\[log\]'"):
        go(student, log="tensorboard")
    assert go(student).finished
