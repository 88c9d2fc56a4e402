"""A dataset of one's own: found, read right or refused, checked by `make data`, trained on."""

import json

import numpy as np
import pytest
from PIL import Image

from cwd.config.run import Data
from cwd.data import download
from cwd.data.datasets import build_dataset, open_data
from cwd.data.detection.coco import build_coco
from cwd.data.fake_trees import image, labels, save
from cwd.system import paths
from cwd.system.errors import CwdError

TABLE = """index,name,colour,ignored
7,road,#804080,no
0,nothing,,yes
9,car,#00008e,no
200,blurred,#ffffff,yes
"""
ROAD, CAR, BLURRED = (128, 64, 128), (0, 0, 142), (255, 255, 255)


@pytest.fixture
def own(tmp_path):
    """Two images to train on, of two sizes and in folders of their own, and one to measure on."""
    root = tmp_path / "own"
    for number, (stem, size) in enumerate(
        {"train/a/1": (10, 16), "train/2": (12, 8), "val/1": (10, 16)}.items()
    ):
        save(root / "images" / f"{stem}.png", image(number, size))
        save(root / "labels" / f"{stem}.png", labels([7, 9, 9, 0, 200, 255], size))
    (root / "classes.csv").write_text(TABLE)
    return root


def test_labels_by_index(own):
    dataset = build_dataset("folder", own, "train")
    assert dataset.names == ("images/train/2.png", "images/train/a/1.png")
    assert (dataset.classes, dataset.num_classes) == (("road", "car"), 2)
    assert dataset.layout.palette.tolist() == [[*ROAD], [*CAR]]
    assert dataset[1].target.flatten()[:6].tolist() == [0, 1, 1, 255, 255, 255]
    assert (dataset[1].image.permute(1, 2, 0).numpy() == image(0)).all()
    path = own / "labels" / "train" / "2.png"
    save(path, labels([9, 7], (12, 8)), palette=True)
    assert dataset[0].target.flatten()[:2].tolist() == [1, 0]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_labels_by_colour(own, mode):
    pixels = np.array([[ROAD, CAR], [BLURRED, ROAD]], np.uint8).repeat(6, 0).repeat(4, 1)
    path = own / "labels" / "train" / "2.png"
    Image.fromarray(pixels).convert(mode).save(path)
    found = build_dataset("folder", own, "train")[0].target
    assert found[::6, ::4].tolist() == [[0, 1], [255, 0]]
    pixels[3, 3] += 1  # smoothed
    Image.fromarray(pixels).convert(mode).save(path)
    with pytest.raises(CwdError, match=r"labels/train/2\.png has the colour #814181, which .*csv"):
        build_dataset("folder", own, "train")[0]


def test_images_as_cameras_and_programs_write_them(own):
    path, pixels = own / "images" / "train" / "2.png", image(5, (12, 8))

    def read(changed, **options):
        changed.save(path, **options)
        return build_dataset("folder", own, "train")[0].image.permute(1, 2, 0).numpy()

    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter to the right when it is shown
    rotated = Image.fromarray(np.rot90(pixels).copy())
    assert (read(rotated, exif=turned) == pixels).all()
    assert (read(Image.fromarray(pixels).convert("RGBA")) == pixels).all()
    reduced = Image.fromarray(pixels).quantize(16)
    assert (read(reduced) == np.asarray(reduced.convert("RGB"))).all()
    path.unlink()
    path = path.with_suffix(".JPG")
    inks = Image.fromarray(np.full((12, 8, 4), (0, 255, 255, 0), np.uint8), "CMYK")
    assert np.abs(read(inks, format="JPEG").astype(int) - (255, 0, 0)).max() < 8
    path.unlink()
    path = path.with_suffix(".webp")
    assert (read(Image.fromarray(pixels), lossless=True) == pixels).all()


def test_images_that_could_be_meant_in_several_ways(own):
    path, pixels = own / "images" / "train" / "2.png", image(5, (12, 8))
    frames = [Image.fromarray(p) for p in (pixels, 255 - pixels)]
    clear = frames[0].convert("RGBA")
    clear.putpixel((3, 3), (0, 0, 0, 0))
    deep = Image.fromarray(np.zeros((12, 8), np.uint16))
    for changed, options, words in (
        (clear, {}, "has transparent pixels"),
        (frames[0], {"save_all": True, "append_images": frames[1:]}, "has several frames"),
        (deep, {}, "has more than 8 bits"),
    ):
        changed.save(path, **options)
        with pytest.raises(CwdError, match=rf"2\.png {words}"):
            build_dataset("folder", own, "train")[0]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (TABLE, "", "can't be read"),
        ("colour", "color", "has the columns index,name,color,ignored, not index,name,colour"),
        ("9,car", "7,car", "the index 7 twice"),
        ("9,car", "9,road", "the name road twice"),
        ("#00008e", "#804080", "the colour #804080 twice"),
        ("#00008e", "blue", "the colour 'blue' for car"),
        ("#00008e", "", "the colour '' for car"),
        ("9,car", "-1,car", "the index '-1', expected 0 to 255"),
        ("9,car", "300,car", "has 300,car"),
        ("8e,no", "8e,perhaps", "car,#00008e,perhaps"),
        ("8e,no", "8e,yes", "1 classes that aren't ignored, expected 2 to"),
        ("9,car,#00008e,no", "", None),
        ("9,car", "9,", "has 9,,#00008e,no"),
        ("8e,no", "8e,no,yes", "classes.csv can't be read"),
    ],
)
def test_tables_that_say_nothing(own, old, new, words):
    (own / "classes.csv").write_text(TABLE.replace(old, new))
    with pytest.raises(CwdError, match=words or "1 classes"):
        build_dataset("folder", own, "train")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda at: (at / "labels/train/2.png").unlink(),
            r"2.png has no label .*1 such images of 2",
        ),
        (lambda at: (at / "images/train/2.png").unlink(), r"2.png has no image beside it"),
        (lambda at: save(at / "images/train/2.jpg", image(1, (12, 8))), "the label of 2 images"),
        (lambda at: save(at / "labels/train/2.png", labels([8], (12, 8))), "label 8, which .*csv"),
        (lambda at: save(at / "labels/train/2.png", labels([7], (8, 12))), "12x8 pixels and its"),
        (
            lambda at: save(at / "labels/val/1.png", labels([255], (10, 16))),
            "nothing labelled in val",
        ),
        (lambda at: save(at / "images/val/1.png", image(0, (10, 16))), "measure on images that"),
        (lambda at: (at / "classes.csv").unlink(), "classes.csv can't be read"),
        (lambda at: (at / "labels").rename(at / "masks"), "holds no folder .*put images into"),
    ],
)
def test_what_does_not_fit(own, damage, words):
    damage(own)
    with pytest.raises(CwdError, match=words):
        download.obtain("folder", own)


def test_the_table_belongs_to_the_checksum(own):
    known = build_dataset("folder", own, "train").checksum
    assert build_dataset("folder", own, "train").checksum == known
    (own / "classes.csv").write_text(TABLE.replace("9,car", "9,van"))
    assert build_dataset("folder", own, "train").checksum != known


def test_what_make_data_says(own):
    said = download.obtain("folder", own.parent / "own").splitlines()
    assert said[0].startswith(f"folder is in {own}: 2 train, 1 val, 2 classes")
    # from the smallest to the largest; of 160 + 96 pixels 27 + 16 are road and twice as many car
    assert said[1] == "train: 8x12 to 16x10 pixels; road 33.3%, car 66.7%"
    assert len(said) == 3


def test_a_profile_says_where_it_lies(own, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    with pytest.raises(CwdError, match="has no root: the dataset folder is yours"):
        Data("folder")
    train, val = open_data(Data("folder", root=str(own)), tmp_path / "elsewhere")
    assert (len(train), len(val), train.classes) == (2, 1, ("road", "car"))
    assert train.palette.tolist() == [[*ROAD], [*CAR]]
    assert [tuple(one.shape) for one in train.targets] == [(12, 8), (10, 16)]


def test_own_boxes(own):
    categories = [{"id": 5, "name": "mug"}, {"id": 2, "name": "plate"}]
    for split in ("train", "val"):
        one = {"id": 1, "image_id": 3, "category_id": 5, "bbox": [1, 1, 5, 5]}
        listed = {"id": 3, "file_name": "1.png", "width": 16, "height": 10}
        listed["file_name"] = "a/1.png" if split == "train" else "1.png"
        content = {"images": [listed], "annotations": [one], "categories": categories}
        (own / "annotations").mkdir(exist_ok=True)
        (own / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    dataset = build_coco("folder", own, "train")
    assert dataset.classes == ("plate", "mug")
    assert dataset[0].objects.labels.tolist() == [1]
    said = download.obtain("folder", own).splitlines()
    assert said[1].startswith("train: 8x12 to 16x10")
    assert said[4] == "train: 16x10 pixels; plate 0.0%, mug 100.0%"
