"""Files that are no part of a dataset; splits that can't be measured; what was put there later."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from cwd.config.run import Data
from cwd.data import download, fake_trees, segmentation
from cwd.data.classification.folders import build_folders
from cwd.data.datasets import LAYOUTS, build_dataset, open_data
from cwd.data.decoded import load_cached
from cwd.data.detection.coco import build_coco
from cwd.system.errors import CwdError

TREES = {
    "cityscapes": (fake_trees.cityscapes, build_dataset),
    "ade20k": (fake_trees.ade20k, build_dataset),
    "camvid": (fake_trees.camvid, build_dataset),
    "voc": (fake_trees.voc, build_dataset),
    "imagenet": (fake_trees.imagenet, build_folders),
    "coco": (fake_trees.coco, build_coco),
}


@pytest.mark.parametrize("name", TREES)
def test_what_other_programs_leave_behind(tmp_path, name):
    tree, build = TREES[name]
    root = tree(tmp_path / name)
    splits = ("train",) if name == "cityscapes" else ("train", "val")
    before = [build(name, root, split) for split in splits]
    folders = [path for path in root.rglob("*") if path.is_dir()]
    for folder in folders:
        images = [
            path for path in folder.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg")
        ]
        for path in images[:1]:
            (folder / f"._{path.name}").write_bytes(b"\0\5\26\7")  # macOS's
            for other in (".ipynb_checkpoints", "@eaDir"):
                (folder / other).mkdir()
                shutil.copy(path, folder / other / path.name)
        (folder / "Thumbs.db").write_bytes(b"\xd0\xcf")
        (folder / ".ipynb_checkpoints").mkdir(exist_ok=True)
    after = [build(name, root, split) for split in splits]
    for old, new in zip(before, after, strict=True):
        assert (new.names, new.classes, new.checksum) == (old.names, old.classes, old.checksum)


@pytest.mark.parametrize("name", ["imagenet", "coco"])
def test_grey_photographs(tmp_path, name):
    tree, build = TREES[name]
    root = tree(tmp_path / name)
    dataset = build(name, root, "train")
    path = root / dataset.names[0]
    grey = Image.open(path).convert("L")
    grey.save(path, format="PNG")
    image = build(name, root, "train")[0][0]
    assert (image.numpy() == np.asarray(grey)).all()  # alike in all three channels
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(path, format="PNG")
    with pytest.raises(CwdError, match="has more than 8 bits a channel"):
        build(name, root, "train")[0]


@pytest.fixture
def small_city(tmp_path, monkeypatch):
    """A Cityscapes that is complete with a few small images, and one in test with a dummy label."""
    root = fake_trees.cityscapes(tmp_path / "cityscapes")
    for kind in ("leftImg8bit", "gtFine"):
        for split in ("val", "test"):
            shutil.copytree(root / kind / "train", root / kind / split)
    for number, split in enumerate(("val", "test")):
        for path in (root / "leftImg8bit" / split).rglob("*.png"):
            fake_trees.save(path, fake_trees.image(50 + number))
    for label in (root / "gtFine" / "test").rglob("*_labelIds.png"):
        fake_trees.save(label, np.zeros(fake_trees.SIZE, np.uint8))
    monkeypatch.setitem(LAYOUTS, "cityscapes", replace(LAYOUTS["cityscapes"], counts=None))
    return root


def test_labels_that_are_dummies(small_city):
    assert len(open_data(Data("cityscapes"), small_city)[1]) > 0
    with pytest.raises(CwdError, match=r"no labelled pixel in \d+ images of test.*such as val"):
        open_data(Data("cityscapes", split="test"), small_city)


@pytest.mark.parametrize("put", [os.symlink, shutil.copyfile])
def test_images_that_are_trained_and_measured_on(small_city, put):
    with pytest.raises(CwdError, match=r"of train is .* of train, as 1 of 1 images are"):
        open_data(Data("cityscapes", split="train"), small_city)
    (train,), (val,) = (
        [*(small_city / "leftImg8bit" / split).rglob("*.png")] for split in ("train", "val")
    )
    val.unlink()
    put(train, other := val.with_name("aachen_000007_000019_leftImg8bit.png"))
    (label,) = (small_city / "gtFine" / "val").rglob("*_labelIds.png")
    label.rename(label.with_name(label.name.replace("000000", "000007")))
    with pytest.raises(CwdError, match=rf"{other.name} of val is .*{train.name} of train"):
        open_data(Data("cityscapes"), small_city)


def test_labels_that_vanish_when_they_are_resized(tmp_path):
    root = fake_trees.camvid(tmp_path / "camvid")
    few = {"train": 2, "val": 2}
    for path in (root / "trainannot").iterdir():
        thin = np.full(fake_trees.SIZE, 11, np.uint8)  # void
        thin[0, 0] = 3
        fake_trees.save(path, thin)
    assert len(open_data(Data("camvid", **few), root)[0]) == 2
    with pytest.raises(
        CwdError, match=r"no labelled pixel in 2 images of size 5x8 of train, .*size"
    ):
        open_data(Data("camvid", size=(5, 8), **few), root)


@pytest.mark.parametrize("root", ["~nosuchuser/data", 5, "data\0", "x" * 5000, None])
@pytest.mark.parametrize("open_it", [
    lambda root: download.obtain("camvid", root),
    lambda root: build_dataset("camvid", root, "train"),
    lambda root: build_coco("coco", root, "train"),
    lambda root: build_folders("imagenet", root, "train"),
])  # fmt: skip
def test_data_roots_that_are_no_folders(root, open_it):
    with pytest.raises(CwdError, match=r"the data root .* is no folder"):
        open_it(root)


def test_a_label_of_the_same_size_that_was_put_there_later(tmp_path, monkeypatch):
    monkeypatch.setattr(segmentation, "WHOLE_CHECKSUM", 0)  # as of a large dataset
    root = fake_trees.ade20k(tmp_path / "ADEChallengeData2016")
    dataset = build_dataset("ade20k", root, "train")
    label, other = dataset.pairs[0][1], tmp_path / "other.png"
    pixels = np.asarray(Image.open(label)).copy()
    pixels[0, 0] = 7 if pixels[0, 0] != 7 else 8
    Image.fromarray(pixels).save(other)
    size = max(path.stat().st_size for path in (label, other))
    for path in (label, other):  # bytes behind a PNG's end are not looked at
        path.write_bytes(path.read_bytes().ljust(size, b"\0"))
        os.utime(path, (1e9, 1e9))  # as old as where it was copied from
    dataset = build_dataset("ade20k", root, "train")
    first = load_cached(dataset, tmp_path / "cache")[0].target
    other.replace(label)
    again = build_dataset("ade20k", root, "train")
    assert again.checksum == dataset.checksum
    second = load_cached(again, tmp_path / "cache")[0].target
    assert torch.equal(second, again[0].target)
    assert not torch.equal(second, first)
