"""Datasets decoded on disk: the same pixels, built once, resumed, checked, read in windows."""

import json
import os

import numpy as np
import pytest
import torch

from cwd.config.run import Data
from cwd.config.schedule import Schedule
from cwd.data import datasets, fake_trees, opening
from cwd.data import decoded as module
from cwd.data.datasets import SegmentationDataset, build_dataset, load_in_memory
from cwd.data.decoded import CachedDataset, load_cached
from cwd.data.loading import Batches
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.tools.bench import loading_speed

COUNT = 40  # more than two chunks of a build


@pytest.fixture
def ade(tmp_path):
    """Images of many sizes."""
    return build_dataset("ade20k", fake_trees.ade20k(tmp_path / "ade20k", train=COUNT), "train")


@pytest.fixture
def decoded(monkeypatch):
    """The images that are decoded from now on, by their paths."""
    seen = []
    original = datasets.decode
    monkeypatch.setattr(datasets, "decode", lambda path, mode: (seen.append(path.name), original(
        path, mode))[1])  # fmt: skip
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


def test_views_are_indexed_like_tensors(ade, tmp_path):
    cached = load_cached(ade, tmp_path / "cache")
    assert torch.equal(cached.images[-1], ade[COUNT - 1].image)
    assert torch.equal(cached.targets[2].long(), ade[2].target)
    assert cached.images[[4, 4]].shape == (2, 3, 10, 24)  # of one size: stacked
    assert [i.shape[2] for i in cached.images[:3]] == [16, 18, 20]  # of several: a list
    assert len(list(cached.targets)) == COUNT
    with pytest.raises(IndexError):
        cached.images[COUNT]


def test_shares_of_classes(ade, tmp_path):
    cached = load_cached(ade, tmp_path / "cache")
    counts = sum(np.bincount(ade[i].target.flatten(), minlength=256) for i in range(COUNT))
    assert cached.label_counts.tolist() == counts.tolist()
    assert cached.class_frequencies() == pytest.approx(counts[:150] / counts[:150].sum())


def test_it_is_decoded_once(ade, tmp_path, decoded):
    load_cached(ade, tmp_path / "cache")
    assert len(decoded) == 2 * COUNT + 2  # images and labels, and the first once more for its size
    load_cached(ade, tmp_path / "cache")
    assert len(decoded) == 2 * COUNT + 2


def test_an_interrupted_build_goes_on(ade, tmp_path, monkeypatch, decoded):
    def broken(self, index):
        if index == 37:
            raise KeyboardInterrupt
        return original(self, index)

    original = SegmentationDataset.__getitem__
    with monkeypatch.context() as patch:
        patch.setattr(SegmentationDataset, "__getitem__", broken)
        with pytest.raises(KeyboardInterrupt):
            load_cached(ade, tmp_path / "cache")
    (folder,) = [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    lines = (folder / module.JOURNAL).read_text().splitlines()
    assert len(lines) == 2 * module.CHUNK
    # the machine went down while the next image and its line were written
    with open(folder / module.IMAGES, "ab") as file:
        file.write(b"torn")
    with open(folder / module.JOURNAL, "a") as file:
        file.write("[10, 4")
    module.clear()
    cached = load_cached(ade, tmp_path / "cache")
    assert len(decoded) == 2 * (COUNT - len(lines))  # nothing twice
    cached.verify()
    assert torch.equal(cached[36].image, ade[36].image)
    assert not (folder / module.JOURNAL).exists()


def test_a_damaged_image_stops_the_build_and_keeps_the_rest(ade, tmp_path):
    path = ade.pairs[20][0]
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.raises(CwdError, match=f"{path.name} can't be decoded"):
        load_cached(ade, tmp_path / "cache")
    (folder,) = [p for p in (tmp_path / "cache").iterdir() if p.is_dir()]
    assert len((folder / module.JOURNAL).read_text().splitlines()) == module.CHUNK


def test_changes_are_seen(ade, tmp_path):
    cached = load_cached(ade, tmp_path / "cache")
    path = cached.folder / module.IMAGES
    with open(path, "r+b") as file:
        file.seek(5)
        file.write(b"\x00" if path.read_bytes()[5] else b"\x01")
    with pytest.raises(CwdError, match="image 0 has changed on disk: delete the folder"):
        load_cached(ade, tmp_path / "cache")
    os.truncate(path, 1000)
    with pytest.raises(CwdError, match=r"images\.bin has 1000 bytes, expected"):
        load_cached(ade, tmp_path / "cache")
    (cached.folder / module.INDEX).write_text("{")
    with pytest.raises(CwdError, match=r"index\.json can't be read"):
        load_cached(ade, tmp_path / "cache")


def test_an_index_with_anything_else(ade, tmp_path):
    cached = load_cached(ade, tmp_path / "cache")
    for content in ("{}", '{"shapes": [[1]], "crc32": []}', '{"shapes": 3, "crc32": 3}'):
        (cached.folder / module.INDEX).write_text(content)
        with pytest.raises(CwdError, match=r"index\.json is damaged .*delete the folder"):
            load_cached(ade, tmp_path / "cache")


@pytest.mark.parametrize("damage", ["short", "line"])
def test_what_an_interrupted_build_lost_is_decoded_again(ade, tmp_path, monkeypatch, damage):
    whole = load_cached(ade, tmp_path / "cache")
    folder = whole.folder
    lines = [[*shape, crc] for shape, crc in zip(whole.shapes.tolist(), whole.checksums,
                                                  strict=True)]  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines[:30])
    if damage == "line":
        text = text.replace(json.dumps(lines[20]), "[10, twenty")
    (folder / module.JOURNAL).write_text(text)
    (folder / module.INDEX).unlink()
    if damage == "short":  # the journal has lines whose pixels never reached the disk
        os.truncate(folder / module.IMAGES, 3 * int(whole.starts[20]) + 5)
    again = load_cached(ade, tmp_path / "cache")
    again.verify()
    assert all(torch.equal(again[i].image, ade[i].image) for i in range(COUNT))


def test_another_dataset_gets_another_cache(ade, tmp_path):
    first = load_cached(ade, tmp_path / "cache")
    fake_trees.save(ade.pairs[0][0], fake_trees.image(99))
    changed = build_dataset("ade20k", ade.root, "train")
    assert load_cached(changed, tmp_path / "cache").folder != first.folder
    assert load_cached(ade.first(3), tmp_path / "cache").folder != first.folder


def test_a_disk_that_is_too_small(ade, tmp_path, monkeypatch):
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(CwdError, match="free some disk space"):
        load_cached(ade, tmp_path / "cache")


def test_large_datasets_go_to_disk_and_small_ones_to_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    fake_trees.cityscapes(tmp_path / "cityscapes", splits=("train", "val"), count=2)
    train, val = opening.open_data(Data("cityscapes", train=2, val=1), tmp_path)
    assert isinstance(train, CachedDataset)
    assert (len(train), len(val)) == (2, 1)
    resized, _ = opening.open_data(Data("cityscapes", size=(5, 8), train=2, val=1), tmp_path)
    assert resized.images.shape == (2, 3, 5, 8)


SCHEDULE = Schedule(steps=9, batch=4, crop=(12, 20), scale=(0.5, 2.0))


def twins(tmp_path):
    """The same images in memory and on disk."""
    names = tuple(f"{i}.png" for i in range(11))
    dataset = build_dataset("camvid", fake_trees.camvid(tmp_path / "camvid", names=names), "train")
    return load_in_memory(dataset), load_cached(dataset, tmp_path / "cache")


def test_batches_from_disk_are_those_from_memory(tmp_path):
    memory, disk = (Batches(d, SCHEDULE, 3, torch.device("cpu")) for d in twins(tmp_path))
    for step in range(SCHEDULE.steps):
        (a, x), (b, y) = memory(step), disk(step)
        torch.testing.assert_close(a, b, atol=2e-4, rtol=0)
        assert torch.equal(x, y)


def test_a_batch_does_not_depend_on_what_was_asked_before(tmp_path):
    _, cached = twins(tmp_path)
    whole = Batches(cached, SCHEDULE, 3, torch.device("cpu"))
    batches = [whole(step) for step in range(SCHEDULE.steps)]
    late = Batches(cached, SCHEDULE, 3, torch.device("cpu"))
    for step in (5, 8, 2):
        assert torch.equal(late(step)[0], batches[step][0])
    other = Batches(cached, SCHEDULE, 4, torch.device("cpu"))
    assert not torch.equal(other(5)[0], batches[5][0])


@pytest.mark.parametrize("photometric", [False, True])
def test_processes_share_a_batch(tmp_path, photometric):
    schedule = Schedule(**(vars(SCHEDULE) | {"photometric": photometric}))
    for dataset in twins(tmp_path):
        whole = Batches(dataset, schedule, 3, torch.device("cpu"))
        halves = [
            Batches(dataset, schedule, 3, torch.device("cpu"), rows)
            for rows in (slice(0, 2), slice(2, 4))
        ]
        for step in range(3):
            expected = whole(step)
            for number in (0, 1):
                joined = torch.cat([half(step)[number] for half in halves])
                assert torch.equal(joined, expected[number])


def test_crops_read_windows_and_decode_nothing(tmp_path, decoded, monkeypatch):
    root = fake_trees.cityscapes(tmp_path / "cityscapes", count=4, size=(64, 128))
    cached = load_cached(build_dataset("cityscapes", root, "train"), tmp_path / "cache")
    module.clear()
    read = []
    original = CachedDataset.window

    def window(self, index, rows, columns):
        found = original(self, index, rows, columns)
        read.append(found[1].size)
        return found

    monkeypatch.setattr(CachedDataset, "window", window)
    schedule = Schedule(steps=20, batch=4, crop=(16, 16), scale=(1.0, 2.0))
    batches = Batches(cached, schedule, 0, torch.device("cpu"))
    for step in range(schedule.steps):
        batches(step)
    assert decoded == []
    assert len(read) == schedule.steps * schedule.batch
    assert max(read) <= 19 * 19  # a crop of 16 at scale 1, and a pixel or two around it


def test_fewer_images_than_a_batch(tmp_path):
    _, cached = twins(tmp_path)
    schedule = Schedule(**(vars(SCHEDULE) | {"batch": 12}))
    with pytest.raises(CwdError, match="camvid has 11 training images, fewer than a batch of 12"):
        Batches(cached, schedule, 0, torch.device("cpu"))


def test_the_journal_is_json(ade, tmp_path):
    cached = load_cached(ade, tmp_path / "cache")
    index = json.loads((cached.folder / module.INDEX).read_text())
    assert index["shapes"][1] == [10, 18]
    assert index["files"][0] == "images/training/ADE_train_00000001.jpg"


def test_the_loaders_race_counts_pixels():
    """What is read a crop: the whole image, or no more than the largest window (scale 0.7)."""
    table = loading_speed(images=8, size=(800, 1200), steps=1)
    whole, window = table["MB a crop"]
    assert whole == round(4 * 800 * 1200 / 1e6, 1)
    assert 4 * (512 / 2.1) ** 2 / 1e6 - 0.1 < window < 4 * (512 / 0.7 + 4) ** 2 / 1e6 + 0.1
    assert (table["images/s"] > 0).all()
