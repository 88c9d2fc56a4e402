"""Datasets decoded on disk: the same pixels, built once, resumed, checked, read in windows."""

import os

import numpy as np
import pytest
import torch

from cwd.config.run import Data
from cwd.config.schedule import Schedule
from cwd.data import datasets, decoded, fake_trees, segmentation
from cwd.data.batches import Batches
from cwd.data.datasets import build_dataset
from cwd.data.decoded import CachedDataset, load_cached
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.tools.bench import loading_speed

COUNT = 40  # more than two chunks of a build
SCHEDULE = Schedule(steps=9, batch=4, crop=(12, 20), scale=(0.5, 2.0))
CPU = torch.device("cpu")


@pytest.fixture
def ade(tmp_path):
    """Images of many sizes."""
    return build_dataset("ade20k", fake_trees.ade20k(tmp_path / "ade20k", train=COUNT), "train")


@pytest.fixture
def labels_read(monkeypatch):
    """The labels that are decoded from now on, by their paths."""
    seen = []
    original = segmentation.decode_label
    monkeypatch.setattr(
        segmentation, "decode_label", lambda path: (seen.append(path.name), original(path))[1]
    )
    return seen


def test_the_same_pixels(ade, tmp_path):
    cached = load_cached(ade, tmp_path / "cache")
    assert len(cached) == COUNT
    for index in (0, 7, COUNT - 1):
        for found, expected in zip(cached[index], ade[index], strict=True):
            assert found.dtype == expected.dtype
            assert torch.equal(found, expected)
        assert cached.sizes[index].tolist() == list(ade[index].target.shape)
    image, target = cached.window(3, slice(2, 5), slice(1, 9))
    assert (image == ade[3].image.permute(1, 2, 0).numpy()[2:5, 1:9]).all()
    assert (target == ade[3].target.numpy()[2:5, 1:9]).all()
    cached.verify()
    assert torch.equal(cached.images[-1], ade[COUNT - 1].image)
    assert torch.equal(cached.targets[torch.tensor(2)].long(), ade[2].target)
    assert cached.images[[4, 4]].shape == (2, 3, 10, 24)  # of one size: stacked
    assert [i.shape[2] for i in cached.images[:3]] == [16, 18, 20]  # of several: a list
    assert len(list(cached.targets)) == COUNT
    with pytest.raises(IndexError):
        cached.images[COUNT]
    counts = sum(np.bincount(ade[i].target.flatten(), minlength=256) for i in range(COUNT))
    assert cached.class_frequencies() == pytest.approx(counts[:150] / counts[:150].sum())


def test_an_interrupted_build_goes_on(ade, tmp_path, labels_read):
    path = ade.pairs[37][0]
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.raises(CwdError, match=f"{path.name} can't be decoded"):
        load_cached(ade, tmp_path / "cache")
    path.write_bytes(whole)
    (folder,) = [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    done = list(folder.glob("*.bin"))
    assert COUNT - decoded.CHUNK < len(done) < COUNT
    (folder / ".000037_10x90_00000000.bin.1.tmp").write_bytes(b"torn")
    labels_read.clear()
    cached = load_cached(ade, tmp_path / "cache")
    assert len(labels_read) == COUNT - len(done)  # nothing twice
    cached.verify()
    assert all(torch.equal(cached[i].image, ade[i].image) for i in range(COUNT))
    labels_read.clear()
    load_cached(ade, tmp_path / "cache")
    assert labels_read == []


def test_changes_are_seen(ade, tmp_path):
    cached = load_cached(ade, tmp_path / "cache")
    pixels = bytearray(cached.files[0].read_bytes())
    pixels[0] ^= 1
    cached.files[0].write_bytes(pixels)
    changed = r"000000_10x16_\w+\.bin has changed on disk: delete it, and its image is decoded ag"
    with pytest.raises(CwdError, match=changed):
        load_cached(ade, tmp_path / "cache")
    os.truncate(cached.files[1], 100)  # none of those that are compared
    with pytest.raises(CwdError, match=r"000001_10x18_\w+\.bin has changed on disk"):
        load_cached(ade, tmp_path / "cache")
    cached.files[2].unlink()
    late = CachedDataset(*decoded.known(ade), cached.files)
    for index in (1, 2):
        with pytest.raises(CwdError, match="has changed on disk"):
            late[index]
    for file in cached.files[:2]:
        file.unlink()
    again = load_cached(ade, tmp_path / "cache")
    assert all(torch.equal(again[i].image, ade[i].image) for i in range(3))
    fake_trees.save(ade.pairs[0][0], fake_trees.image(99))
    for other in (build_dataset("ade20k", ade.root, "train"), ade.first(3)):
        assert load_cached(other, tmp_path / "cache").files[0].parent != again.files[0].parent


def test_a_disk_that_is_too_small(ade, tmp_path, monkeypatch):
    monkeypatch.setattr(decoded, "PER_PIXEL", 2**50)
    with pytest.raises(CwdError, match="free some disk space"):
        load_cached(ade, tmp_path / "cache")


def test_large_datasets_go_to_disk_and_small_ones_to_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    fake_trees.cityscapes(tmp_path / "cityscapes", splits=("train", "val"), count=2)
    train, val = datasets.open_data(Data("cityscapes", train=2, val=1), tmp_path)
    assert isinstance(train, CachedDataset)
    assert (len(train), len(val)) == (2, 1)
    resized, _ = datasets.open_data(Data("cityscapes", size=(5, 8), train=2, val=1), tmp_path)
    assert resized.images.shape == (2, 3, 5, 8)


def test_crops_read_windows_and_decode_nothing(tmp_path, labels_read, monkeypatch):
    root = fake_trees.cityscapes(tmp_path / "cityscapes", count=4, size=(64, 128))
    cached = load_cached(build_dataset("cityscapes", root, "train"), tmp_path / "cache")
    labels_read.clear()
    read = []
    original = CachedDataset.window

    def window(self, index, rows, columns):
        found = original(self, index, rows, columns)
        read.append(found[1].size)
        return found

    monkeypatch.setattr(CachedDataset, "window", window)
    schedule = Schedule(steps=20, batch=4, crop=(16, 16), scale=(1.0, 2.0))
    batches = Batches(cached, schedule, 0, CPU)
    for step in range(schedule.steps):
        batches(step)
    assert labels_read == []
    assert len(read) == schedule.steps * schedule.batch
    assert max(read) <= 19 * 19  # a crop of 16 at scale 1, and a pixel or two around it


def test_the_loaders_race_counts_pixels():
    """What is read a crop: the whole image, or what a crop of 512 needs at scales up to 2.1."""
    table = loading_speed(images=8, size=(560, 800), steps=1)
    whole, window = table["MB a crop"]
    assert whole == round(4 * 560 * 800 / 1e6, 1)
    assert 4 * (512 / 2.1) ** 2 / 1e6 - 0.1 < window < 0.7 * whole
    assert (table["images/s"] > 0).all()
