"""What several tests need: small runs on a handful of scenes."""

import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from cwd.config.run import Data, Run
from cwd.config.schedule import Schedule
from cwd.system import paths
from cwd.training import checkpoint


@pytest.fixture(scope="session")
def data_root(tmp_path_factory) -> Path:
    """A data root for this session's scenes."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def student() -> Run:
    """A student that trains in a second or two."""
    data = Data("scenes", size=(32, 64), train=12, val=4)
    schedule = Schedule(steps=6, batch=4, crop=(32, 64), checkpoint_every=2)
    return Run(data, "PSPNet-R18(0.125)", schedule)


@pytest.fixture
def teacher(student) -> Run:
    """A teacher that is another network than the student."""
    return Run(student.data, "PSPNet-R18(0.25)", student.schedule)


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
    for name in ("BUILD", "RUNS", "CACHE", "RESULTS", "WEIGHTS"):
        monkeypatch.setattr(paths, name, tmp_path / name)
    return tmp_path


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
