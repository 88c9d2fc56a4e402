"""Training a run in a folder of the test's own."""

import pytest

from cwd.training.loop import train


@pytest.fixture
def go(tmp_path, data_root):
    def call(run, folder=tmp_path / "runs", allow_weak_teacher=True, data_root=data_root, **more):
        place = {"runs": folder, "data_root": data_root, "device": "cpu"}
        return train(run, allow_weak_teacher=allow_weak_teacher, **place, **more)

    return call
