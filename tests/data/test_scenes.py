"""The embedded dataset: Cityscapes' layout, the same bytes from the same seed, all classes."""

import hashlib
import json
import shutil
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from torchvision.datasets import Cityscapes

from cwd.config.run import Data
from cwd.data import segmentation
from cwd.data.datasets import build_dataset
from cwd.data.decoded import load_in_memory
from cwd.data.detection.coco import build_coco
from cwd.data.scenes import draw
from cwd.data.scenes.draw import draw_scene, scenes_root, write_dataset
from cwd.system.errors import CwdError

SPLITS = {"train": 5, "val": 3}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("scenes") / "a", splits=SPLITS, seed=3)


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_same_seed_same_bytes(root, tmp_path):
    assert digests(root) == digests(write_dataset(tmp_path / "b", splits=SPLITS, seed=3))
    other = write_dataset(tmp_path / "c", splits=SPLITS, seed=4)
    assert digests(root).keys() == digests(other).keys()
    assert digests(root) != digests(other)


def test_torchvision_reads_it(root):
    dataset = Cityscapes(root, split="train", mode="fine", target_type=["semantic", "instance"])
    assert len(dataset) == 5
    image, (semantic, instance) = dataset[0]
    assert image.size == semantic.size == instance.size == (128, 64)
    ids, instances = np.array(semantic), np.array(instance).astype(int)
    assert (np.where(instances >= 1000, instances // 1000, instances) == ids).all()


def test_coco_annotations_are_the_instances(root):
    coco = COCO(root / "annotations" / "instances_val.json")
    assert len(coco.imgs) == 3
    names = {c["id"]: c["name"] for c in coco.cats.values()}
    ids = {c.name: c.id for c in Cityscapes.classes}
    for image_id, image in coco.imgs.items():
        stem = image["file_name"].replace("_leftImg8bit", "_gtFine_instanceIds")
        pixels = np.array(Image.open(root / "gtFine" / "val" / stem)).astype(int)
        assert (root / "leftImg8bit" / "val" / image["file_name"]).is_file()
        annotations = coco.loadAnns(coco.getAnnIds(image_id))
        assert len(annotations) == len(np.unique(pixels[pixels >= 1000]))
        for annotation in annotations:
            mask = coco.annToMask(annotation).astype(bool)
            (value,) = np.unique(pixels[mask])
            assert ids[names[annotation["category_id"]]] == value // 1000
            assert (mask == (pixels == value)).all()
            rows, columns = np.nonzero(mask)
            left, top, width, height = annotation["bbox"]
            assert (left, top) == (columns.min(), rows.min())
            assert (left + width, top + height) == (columns.max() + 1, rows.max() + 1)
            assert annotation["area"] == mask.sum()


@pytest.mark.parametrize("size", [(32, 32), (32, 64), (64, 128), (90, 160)])
def test_every_class_appears_and_no_other(size):
    valid = {c.id for c in Cityscapes.classes if not c.ignore_in_eval}
    seen = set()
    for seed in range(120 if size == (64, 128) else 30):
        scene = draw_scene(np.random.default_rng(seed), size)
        assert scene.image.shape == (*size, 3)
        assert scene.label_ids.shape == scene.instances.shape == size
        assert scene.image.dtype == scene.label_ids.dtype == np.uint8
        seen |= set(np.unique(scene.label_ids).tolist())
    assert seen <= valid | {1}  # 1 is the hood of the camera's own car
    assert seen >= valid or size != (64, 128)


def test_an_interrupted_dataset_is_not_taken_for_a_whole_one(tmp_path, monkeypatch):
    scene = draw_scene(np.random.default_rng(0))
    monkeypatch.setattr(draw, "draw_scene", mock.Mock(side_effect=[scene, KeyboardInterrupt]))
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "d", splits=SPLITS)
    assert not (tmp_path / "d").exists()
    monkeypatch.undo()
    write_dataset(tmp_path / "d", splits=SPLITS)
    assert json.loads((tmp_path / "d" / "dataset.json").read_text())["splits"] == SPLITS


def test_what_is_there_is_kept(root):
    before = (root / "dataset.json").stat().st_mtime_ns
    assert write_dataset(root, splits=SPLITS, seed=3) == root
    assert (root / "dataset.json").stat().st_mtime_ns == before
    with pytest.raises(CwdError, match="something else"):
        write_dataset(root, splits=SPLITS, seed=4)


@pytest.mark.parametrize(
    "wrong",
    [{"size": (16, 64)}, {"splits": {"training": 2}}, {"splits": {"train": -1}}, {"seed": -1}],
)
def test_bad_arguments(tmp_path, wrong):
    with pytest.raises(CwdError):
        write_dataset(tmp_path / "e", **({"splits": SPLITS} | wrong))
    assert not (tmp_path / "e").exists()


def test_scenes_of_another_split_lie_beside(tmp_path):
    data = Data("scenes", size=(32, 64), train=1, val=2)
    roots = [scenes_root(replace(data, split=split), tmp_path) for split in ("val", "test")]
    assert roots[0].name == "32x64-1-2-seed0"  # as before there was another
    assert roots[1] != roots[0]
    for root, split in zip(roots, ("val", "test"), strict=True):
        assert [len(build_coco("scenes", root, part)) for part in ("train", split)] == [1, 2]


def test_checksums_are_over_pixels(root, tmp_path):
    copy = shutil.copytree(root, tmp_path / "scenes")
    for path in copy.rglob("*.png"):
        Image.open(path).save(path, compress_level=9)  # as another library would write them
    before, after = (build_coco("scenes", one, "val") for one in (root, copy))
    assert before.pixels == after.pixels
    first, second = (build_dataset("scenes", one, "val") for one in (root, copy))
    assert first.checksum == second.checksum
    Image.fromarray(np.zeros((64, 128, 3), np.uint8)).save(copy / after.names[0])
    assert before.pixels != build_coco("scenes", copy, "val").pixels


def test_drawn_images_are_decoded_once(root, monkeypatch):
    seen = []
    original = segmentation.decode
    monkeypatch.setattr(
        segmentation, "decode", lambda path, *_, **__: (seen.append(path), original(path, None))[1]
    )
    dataset = build_dataset("scenes", root, "train")
    loaded = load_in_memory(dataset)
    assert loaded.checksum == dataset.checksum
    assert sorted(seen) == sorted(path for pair in dataset.pairs for path in pair)
