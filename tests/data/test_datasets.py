"""CamVid and Cityscapes in their official layouts, and every way in which they can be broken."""

import hashlib
import shutil

import numpy as np
import pytest
import torch
from torchvision.datasets import Cityscapes

from cwd.config.run import Data
from cwd.data import datasets, decoded, fake_trees, segmentation
from cwd.data.datasets import build_dataset
from cwd.data.decoded import load_in_memory
from cwd.data.fake_trees import SIZE, image, labels, save
from cwd.system.errors import CwdError

FIRST, SECOND = "0001TP_006690.png", "0001TP_006720.png"


@pytest.fixture
def camvid(tmp_path):
    return fake_trees.camvid(tmp_path / "camvid")


@pytest.fixture
def cityscapes(tmp_path):
    return fake_trees.cityscapes(tmp_path / "cityscapes")


def test_camvid(camvid):
    dataset = build_dataset("camvid", camvid.parent, "train")
    assert len(dataset) == 2
    assert dataset.num_classes == len(dataset.layout.palette) == 11
    assert (dataset.classes[0], dataset.classes[10]) == ("sky", "bicyclist")
    assert dataset.names == (f"train/{FIRST}", f"train/{SECOND}")
    sample = dataset[0]
    assert sample.image.dtype == torch.uint8
    assert (sample.image.permute(1, 2, 0).numpy() == image(0)).all()
    assert sample.target.dtype == torch.int64
    assert sample.target[0].tolist() == [*range(11), 255, 3, 3, 3, 3]  # 11 is void


def test_cityscapes_ids(cityscapes):
    dataset = build_dataset("cityscapes", cityscapes, "train")
    target = dataset[0].target.flatten()[:34].tolist()
    evaluated = [7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]
    assert target == [evaluated.index(i) if i in evaluated else 255 for i in range(34)]
    assert dataset.classes[:3] == ("road", "sidewalk", "building")
    assert dataset.classes[18] == "bicycle"
    assert len(Cityscapes(cityscapes, target_type="semantic", mode="fine")) == len(dataset)


def test_in_memory(camvid):
    loaded = load_in_memory(build_dataset("camvid", camvid, "train"))
    assert loaded.images.shape == (2, 3, *SIZE)
    assert loaded.targets.dtype == torch.uint8
    assert loaded[1].target.dtype == torch.int64
    counts = np.array([1] * 11) * 2.0
    counts[3] += 2 * (16 * 10 - 12)
    assert loaded.class_frequencies() == pytest.approx(counts / counts.sum())
    small = load_in_memory(build_dataset("camvid", camvid, "train").first(1), size=(5, 8))
    assert small.images.shape == (1, 3, 5, 8)
    assert set(small.targets.unique().tolist()) <= {*range(11), 255}
    with pytest.raises(CwdError, match="give two pixels or more"):
        load_in_memory(build_dataset("camvid", camvid, "train"), size=(1, 1))
    del loaded.__dict__["label_counts"]
    loaded.targets[0] = 255
    line = decoded.describe({"train": loaded}).loc["train"]
    assert line.tolist() == [2, 10, 16, round(100 * (160 + 1) / 320, 1)]  # and one void pixel
    loaded.targets.fill_(255)
    del loaded.__dict__["label_counts"]
    assert (loaded.class_frequencies() == 0).all()


@pytest.mark.parametrize("count", [0, -1, 3])
def test_more_images_than_there_are(camvid, count):
    with pytest.raises(CwdError, match=f"has 2 images in train and {count} are asked for"):
        build_dataset("camvid", camvid, "train").first(count)


def test_checksums(camvid, monkeypatch):
    """Recorded results name their data by them, so they stay what they were."""
    path = camvid / "train" / FIRST
    content = path.read_bytes()

    def checksum(now=content):
        path.write_bytes(now)
        return build_dataset("camvid", camvid, "train").checksum

    digest = hashlib.sha256()
    for name in (FIRST, SECOND):
        for folder in ("train", "trainannot"):
            digest.update(f"{folder}/{name}".encode() + (camvid / folder / name).read_bytes())
    assert checksum() == digest.hexdigest() != checksum(content[:-1] + b"x")
    monkeypatch.setattr(segmentation, "WHOLE_CHECKSUM", 100)
    assert checksum(content + b"x") != checksum() == checksum(content[:-1] + b"x")


@pytest.mark.parametrize(
    ("name", "split", "word"),
    [
        ("camvids", "train", "no dataset 'camvids': use one of scenes, streets, cityscapes"),
        ("camvid", "training", "no split 'training'"),
        ("camvid", "test", r"test\.txt is missing"),
        ("ade20k", "train", "holds no ade20k .*ADEChallengeData2016.zip and unpack it there"),
        ("voc", "train", r"holds no voc .* `make data DATASET=voc`"),
        ("cityscapes", "val", "no images of the split 'val'"),
    ],
)
def test_what_is_not_there(tmp_path, camvid, cityscapes, name, split, word):
    with pytest.raises(CwdError, match=word):
        build_dataset(name, tmp_path, split)


@pytest.mark.parametrize(
    ("tree", "damage", "word"),
    [
        ("camvid", lambda image, label: cut_short(image), "can't be decoded"),
        ("camvid", lambda image, label: cut_short(label), "can't be decoded"),
        ("camvid", lambda image, label: label.write_bytes(b""), "can't be decoded"),
        ("camvid", lambda image, label: label.unlink(), "is missing, the label of"),
        ("camvid", lambda image, label: image.unlink(), "is missing, the image of its list"),
        ("camvid", lambda _, label: save(label, labels([12])), "label 12, expected 0 to 11:"),
        ("camvid", lambda _, label: save(label, labels([0], (10, 15))), "15x10 .* its image 16x10"),
        ("camvid", lambda _, label: save(label, image()), "is no label image"),
        ("camvid", lambda image, _: save(image, np.zeros(SIZE, np.uint16)), "more than 8 bits"),
        ("camvid", lambda image, _: listed(image, b"\xff\xfe"), "no list of"),
        ("camvid", lambda image, _: listed(image, f"{FIRST}\na/{FIRST} b".encode()),
         f"train.txt has {FIRST} in more than one line"),
        ("cityscapes", lambda _, label: save(label, labels([40])), "label 40, expected 0 to 33"),
        ("cityscapes", lambda _, label: shutil.rmtree(label.parents[2]),
         "gtFine/train is missing, the labels of train: register"),
        ("cityscapes", lambda image, _: image.parent.rename(image.parents[1] / "bochum"),
         r"labelIds\.png has no image beside it"),
        ("voc", lambda _, label: save(label, labels([21], (10, 16)), palette=True),
         "has the label 21, expected 0 to 20 or 255"),
        ("ade20k", lambda _, label: save(label, labels([151])), "label 151, expected 0 to 150"),
        ("ade20k", lambda _, label: label.rename(label.with_name("ADE_train_00000009.png")),
         r"ADE_train_00000009\.png has no image beside it"),
    ],
)  # fmt: skip
def test_a_damaged_dataset(tmp_path, tree, damage, word):
    root = getattr(fake_trees, tree)(tmp_path / tree)
    damage(*build_dataset(tree, root, "train").pairs[0])
    with pytest.raises(CwdError, match=word):
        [*map(build_dataset(tree, root, "train").__getitem__, range(2))]


def listed(image, content):
    (image.parents[1] / "train.txt").write_bytes(content)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-30])


def test_stray_files_of_cityscapes(cityscapes):
    (cityscapes / "leftImg8bit/train/.DS_Store").write_text("")
    (cityscapes / "leftImg8bit/train/aachen/Thumbs.db").write_text("")
    (cityscapes / "gtFine/train/aachen/aachen_000000_000019_gtFine_color.png").write_text("")
    cityscapes = cityscapes.rename(cityscapes.with_name("Cityscapes"))
    assert len(build_dataset("cityscapes", cityscapes.parent, "train")) == 1


def test_images_of_several_sizes_or_too_many(camvid, monkeypatch):
    save(camvid / "train" / SECOND, image(1, (12, 16)))
    save(camvid / "trainannot" / SECOND, np.zeros((12, 16), np.uint8))
    with pytest.raises(CwdError, match=r"set data\.size"):
        load_in_memory(build_dataset("camvid", camvid, "train"))
    resized = load_in_memory(build_dataset("camvid", camvid, "train"), size=SIZE)
    assert resized.images.shape == (2, 3, *SIZE)
    monkeypatch.setattr(decoded, "MEMORY", 1000)
    with pytest.raises(CwdError, match="GiB"):
        load_in_memory(build_dataset("camvid", camvid, "train"))


def test_part_of_a_dataset_is_not_taken_for_the_whole(tmp_path):
    fake_trees.cityscapes(tmp_path / "cityscapes", splits=("train", "val"))
    with pytest.raises(CwdError, match=r"has 1 images in train, expected 2975: .*set data\.train"):
        datasets.open_data(Data("cityscapes"), tmp_path)


def test_facts_are_the_official_ones():
    facts = datasets.facts()
    counts = {name: facts.loc[name, ["train", "val", "test"]].tolist() for name in facts.index}
    assert counts == {
        "cityscapes": ["2,975", "500", "1,525"],
        "voc": ["10,582", "1,449", "0"],
        "ade20k": ["20,210", "2,000", "0"],
        "camvid": ["367", "101", "233"],
    }
    assert facts["classes"].to_dict() == {"cityscapes": 19, "voc": 21, "ade20k": 150, "camvid": 11}
    # 3,475 images of 2048x1024, four bytes a pixel
    assert facts.loc["cityscapes", "decoded (GB)"] == f"{3475 * 2048 * 1024 * 4 / 1e9:.1f}"
