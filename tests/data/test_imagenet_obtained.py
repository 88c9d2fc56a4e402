"""What `make data DATASET=imagenet` says."""

from dataclasses import replace

import pytest

from cwd.data import download, fake_trees
from cwd.data.classification import folders
from cwd.system.errors import CwdError


def test_obtain(tmp_path, monkeypatch):
    with pytest.raises(CwdError, match=r"holds no imagenet .* register at image-net\.org"):
        download.obtain("imagenet", tmp_path)
    assert "need no download" in download.obtain("crops", tmp_path)
    root = fake_trees.imagenet(tmp_path / "ImageNet")
    with pytest.raises(CwdError, match="has 6 images in train, expected 1281167"):
        download.obtain("imagenet", tmp_path)
    small = replace(folders.FOLDER_LAYOUTS["imagenet"], counts={"train": 6, "val": 3})
    monkeypatch.setitem(folders.FOLDER_LAYOUTS, "imagenet", small)
    assert download.obtain("imagenet", tmp_path) == (
        f"imagenet is in {root}: 6 train, 3 val, 3 classes; every file decoded and checked."
    )
    damaged = sorted((root / "val").rglob("*.JPEG"))[-1]
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(CwdError, match=f"{damaged.name} can't be decoded"):
        download.obtain("imagenet", root)
