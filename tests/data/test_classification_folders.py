"""Images in class folders: found as torchvision finds them, and every way to be broken."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from torchvision.datasets import ImageFolder

from cwd.config.run import Data
from cwd.data import base, download, fake_trees
from cwd.data.classification import crops
from cwd.data.classification.folders import FOLDER_LAYOUTS, build_folders
from cwd.data.detection.coco import build_coco
from cwd.data.scenes.draw import scenes_folder
from cwd.system.errors import CwdError
from cwd.training.tasks.classification import open_data

REMEDY = r"register at image-net\.org, get ILSVRC2012_img_train\.tar and ILSVRC2012_img_val\.tar"
CROPS = Data("crops", size=(96, 160), train=6, val=4, seed=3)
WNID = "n01440764"


@pytest.fixture
def imagenet(tmp_path):
    return fake_trees.imagenet(tmp_path / "imagenet", train=5, val=2, classes=4)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    top = tmp_path_factory.mktemp("drawn")
    return top, crops.crops_root(CROPS, top)


@pytest.mark.parametrize("split", ["train", "val"])
def test_as_torchvision_reads_it(imagenet, split):
    dataset = build_folders("imagenet", imagenet.parent, split)
    theirs = ImageFolder(str(imagenet / split))
    assert dataset.classes == tuple(theirs.classes)
    assert (dataset.num_classes, len(dataset)) == (4, len(theirs))
    assert [str(imagenet / name) for name in dataset.names] == [path for path, _ in theirs.samples]
    for index in range(len(dataset)):
        image, label = theirs[index]
        assert dataset[index].label == label
        assert dataset[index].image.dtype == torch.uint8
        assert (dataset[index].image.permute(1, 2, 0).numpy() == np.asarray(image)).all()


def test_odd_files_of_imagenet(imagenet):
    """CMYK, and a PNG that is called JPEG; both are among the 1,281,167."""
    pixels = fake_trees.image(7, (20, 30))
    odd = imagenet / "train" / WNID
    Image.fromarray(pixels).convert("CMYK").save(odd / "a_1.JPEG")
    Image.fromarray(pixels).save(odd / "a_2.JPEG", format="PNG")
    (odd / "notes.txt").write_text("no image")
    dataset = build_folders("imagenet", imagenet, "train")
    assert dataset.names[5:7] != tuple(f"train/{WNID}/a_{n}.JPEG" for n in (1, 2))
    assert len(dataset) == 22
    found = {name[-8:]: dataset[i].image for i, name in enumerate(dataset.names[:7])}
    assert (found["a_2.JPEG"].permute(1, 2, 0).numpy() == pixels).all()
    assert found["a_1.JPEG"].shape == (3, 20, 30)


def test_find(imagenet, tmp_path):
    find = FOLDER_LAYOUTS["imagenet"].find
    assert find(imagenet) == find(tmp_path) == imagenet
    for name in ("ImageNet", "ILSVRC2012"):
        imagenet = imagenet.rename(tmp_path / name)
        assert find(tmp_path) == imagenet
    assert find(tmp_path / "nowhere") is None
    with pytest.raises(CwdError, match="no classification dataset 'coco': use one of imagenet, cr"):
        build_folders("coco", tmp_path, "val")


def test_the_first_images_are_of_all_classes(imagenet):
    dataset = build_folders("imagenet", imagenet, "train")  # 4 classes of 5
    assert dataset.first(4).labels.tolist() == [0, 1, 2, 3]
    assert dataset.first(8).labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert dataset.first(3).names == tuple(dataset.names[i] for i in (0, 6, 13))
    assert dataset.first(None) is dataset
    assert dataset.first(20).names == dataset.names
    assert len(set(dataset.first(19).names)) == 19
    with pytest.raises(CwdError, match="has 20 images in train and 21 are asked for"):
        dataset.first(21)


def test_checksum(imagenet, monkeypatch):
    path = imagenet / "train" / WNID / f"{WNID}_1.JPEG"
    content = path.read_bytes()

    def checksum(now=content):
        path.write_bytes(now)
        return build_folders("imagenet", imagenet, "train").checksum

    before = checksum()
    files = sorted((imagenet / "train").rglob("*.JPEG"))
    digest = hashlib.sha256("\n".join(str(file.relative_to(imagenet)) for file in files).encode())
    for file in files:
        digest.update(file.read_bytes())
    assert before == digest.hexdigest()
    same_size, longer = content[:-1] + b"x", content + b"x"
    assert checksum(same_size) != before
    monkeypatch.setattr(base, "WHOLE_CHECKSUM", 100)
    assert checksum(same_size) == checksum() != checksum(longer)
    monkeypatch.setattr(base, "SIZED", 10)  # every second of 20: the file is the second
    by_some = checksum()
    assert checksum(longer) == by_some
    path.rename(path.with_name("other.JPEG"))
    assert build_folders("imagenet", imagenet, "train").checksum != by_some


def flatten(root):
    (root / "val").rename(root / "sorted")
    (root / "val").mkdir()
    for path in (root / "sorted").glob("*/*"):
        path.rename(root / "val" / path.name)


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (shutil.rmtree, rf"holds no imagenet .*: {REMEDY}.*see data/README\.md"),
        (lambda root: shutil.rmtree(root / "val"), rf"imagenet/val is missing: {REMEDY}"),
        (lambda root: shutil.rmtree(root / "train"), rf"imagenet/train is missing: {REMEDY}"),
        (flatten, r"imagenet/val has 8 images and no class folders.*torchvision\.datasets\.ImageN"),
        (lambda root: shutil.rmtree(root / "val" / WNID), f"class folder {WNID} in train only"),
        (lambda root: (root / "val" / "n9").mkdir(), "class folder n9 in val only"),
        (
            lambda root: [path.unlink() for path in (root / "val" / WNID).iterdir()],
            rf"val/{WNID} has no images, as 1 of the 4 class folders of val: put images of",
        ),
    ],
)
def test_a_damaged_dataset(imagenet, damage, word):
    damage(imagenet)
    with pytest.raises(CwdError, match=word):
        build_folders("imagenet", imagenet.parent, "val")


def test_a_truncated_image(imagenet):
    path = imagenet / "val" / WNID / f"{WNID}_1.JPEG"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(CwdError, match=rf"{WNID}_1\.JPEG can't be decoded .*; {REMEDY}"):
        build_folders("imagenet", imagenet, "val")[1]
    with pytest.raises(CwdError, match=r"imagenet/test is missing"):  # its labels aren't public
        build_folders("imagenet", imagenet, "test")


def test_a_part_is_not_the_whole(imagenet):
    with pytest.raises(CwdError, match=rf"20 images in train, expected 1281167: {REMEDY}"):
        open_data(Data("imagenet"), imagenet.parent)
    train, val = open_data(Data("imagenet", train=12, val=6), imagenet.parent)
    assert (len(train), len(val)) == (12, 6)
    with pytest.raises(CwdError, match="size is for crops"):
        open_data(Data("imagenet", size=(64, 64), train=12, val=6), imagenet.parent)
    with pytest.raises(CwdError, match="no classification dataset 'camvid'"):
        open_data(Data("camvid", train=12, val=6), imagenet.parent)


@pytest.mark.parametrize("split", ["train", "val"])
def test_crops_are_the_boxes_of_the_annotation_file(drawn, split):
    top, root = drawn
    scenes = scenes_folder(CROPS, top)  # that of detectors
    coco = COCO(str(scenes / "annotations" / f"instances_{split}.json"))
    expected = {}
    for image_id in sorted(coco.getImgIds()):
        file = scenes / "leftImg8bit" / split / coco.imgs[image_id]["file_name"]
        pixels = np.asarray(Image.open(file))
        for number, one in enumerate(coco.imgToAnns[image_id]):
            left, top_, width, height = one["bbox"]
            if min(width, height) < 12:
                continue
            rows = [y for y in range(96) if top_ - 0.1 * height < y + 1 - 1e-6
                    and y < top_ + 1.1 * height - 1e-6]  # fmt: skip
            columns = [x for x in range(160) if left - 0.1 * width < x + 1 - 1e-6
                       and x < left + 1.1 * width - 1e-6]  # fmt: skip
            name = coco.cats[one["category_id"]]["name"]
            expected[f"{split}/{name}/{image_id:06}_{number:02}.png"] = pixels[rows][:, columns]
    dataset = build_folders("crops", root, split)
    assert len(expected) >= 5
    assert set(dataset.names) == set(expected)
    assert dataset.classes == tuple(sorted(one["name"] for one in coco.cats.values()))
    for index, name in enumerate(dataset.names):
        image, label = dataset[index]
        assert dataset.classes[label] == name.split("/")[1]
        assert np.array_equal(image.permute(1, 2, 0).numpy(), expected[name])


def test_crops_are_cut_once(drawn, monkeypatch):
    top, root = drawn
    train, val = open_data(CROPS, top)
    assert {name.split("/")[0] for name in train.names} == {"train"}
    assert val.root == root
    assert train.num_classes == val.num_classes == 8
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert crops.crops_root(CROPS, top) == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    monkeypatch.setattr(crops, "VERSION", 0)
    with pytest.raises(CwdError, match="holds something else than the objects of"):
        crops.crops_root(CROPS, top)


def test_crops_that_cannot_be(tmp_path):
    with pytest.raises(CwdError, match="size, train and val must say what to draw"):
        crops.crops_root(Data("crops", size=(64, 96)), tmp_path)
    with pytest.raises(CwdError, match=r"no object of 12x12 pixels in the 1 scenes of train"):
        crops.crops_root(Data("crops", size=(32, 32), train=1, val=1), tmp_path)
    assert [p.name for p in (tmp_path / "crops").iterdir() if not p.name.startswith(".")] == [
        "32x32-1-1-seed0.lock"
    ]


def test_no_crowds(drawn, tmp_path):
    top, root = drawn
    scenes = shutil.copytree(scenes_folder(CROPS, top), tmp_path / "scenes")
    path = scenes / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    whole = build_folders("crops", root, "val")
    image, number = Path(whole.names[0]).stem.split("_")
    of_image = [one for one in content["annotations"] if one["image_id"] == int(image)]
    of_image[int(number)]["iscrowd"] = 1
    path.write_text(json.dumps(content))
    crops.write_split(build_coco("scenes", scenes, "val"), tmp_path / "val")
    left = {f"val/{p.relative_to(tmp_path / 'val')}" for p in (tmp_path / "val").rglob("*.png")}
    assert left == set(whole.names[1:])


def test_make_data(tmp_path, monkeypatch):
    with pytest.raises(CwdError, match=r"holds no imagenet .* register at image-net\.org"):
        download.obtain("imagenet", tmp_path)
    assert "need no download" in download.obtain("crops", tmp_path)
    fake_trees.imagenet(tmp_path / "ImageNet")
    small = replace(FOLDER_LAYOUTS["imagenet"], counts={"train": 6, "val": 3})
    monkeypatch.setitem(FOLDER_LAYOUTS, "imagenet", small)
    assert "ImageNet: 6 train, 3 val, 3 classes; every" in download.obtain("imagenet", tmp_path)
