"""What several tests need: small runs on a handful of scenes."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from invented import elsewhere

from cwd.config.run import Data, Run
from cwd.config.schedule import Schedule
from cwd.system.files import exclusive
from cwd.training import checkpoint
from cwd.training.loop import train
from cwd.training.run_folder import RunFolder


@pytest.fixture(scope="session")
def data_root(tmp_path_factory) -> Path:
    """A data root for this session's scenes."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def student() -> Run:
    """A student that trains in a second or two."""
    data = Data("scenes", size=(32, 64), train=12, val=4)
    schedule = Schedule(steps=6, batch=4, crop=(32, 64), checkpoint_every=2)
    return Run(data, "PSPNet-R18(0.125)", schedule)


@pytest.fixture(scope="session")
def teacher(student) -> Run:
    """A teacher that is another network than the student."""
    return Run(student.data, "PSPNet-R18(0.25)", student.schedule)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, data_root):
    """Runs that are trained once for all tests, alone; nobody changes their folders."""
    place = {"runs": tmp_path_factory.mktemp("trained"), "data_root": data_root, "device": "cpu"}

    def call(run):
        if run.teacher:
            call(run.teacher)
        return train(run, **place, allow_weak_teacher=True)

    return call


@pytest.fixture
def finished(tmp_path, trained):
    """A copy of a trained run in this test's folder of runs."""

    def call(run):
        runs = tmp_path / "runs"
        shutil.copytree(trained(run).done, runs / run.name)
        return RunFolder(runs, run)

    return call


@pytest.fixture
def interrupted(monkeypatch):
    """A block in which a training stops once it has saved a step."""
    original = checkpoint.save

    @contextmanager
    def call(after):
        def stop(student):
            original(student)
            if student.done == after:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "save", stop)
            with pytest.raises(KeyboardInterrupt):
                yield

    return call


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A checkout of which nothing was built, and a data root without data."""
    return elsewhere(monkeypatch, tmp_path)


@pytest.fixture
def impatient(monkeypatch):
    """Who waits for a lock gives up at once."""
    monkeypatch.setattr(exclusive.__wrapped__, "__defaults__", (0.05,))


# read here: tests don't see the variable, which would go before the data roots they name
DATA_ROOT = os.environ.get("CWD_DATA_ROOT")


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch) -> None:
    """A test's profile and data root are those that it names."""
    monkeypatch.delenv("CWD_PROFILE", raising=False)
    monkeypatch.delenv("CWD_DATA_ROOT", raising=False)


@pytest.fixture(scope="session")
def camvid_root() -> Path:
    """The data root that holds CamVid."""
    root = DATA_ROOT
    if not root or not (Path(root) / "camvid").is_dir():
        pytest.skip("CamVid is absent: run `make data DATASET=camvid`, or set DATA_ROOT")
    return Path(root)
