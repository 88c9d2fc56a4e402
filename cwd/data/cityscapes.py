"""Cityscapes, and its layout under other names: the scenes, and the streets in fewer classes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from torchvision.datasets import Cityscapes

from cwd.data.base import visible
from cwd.data.segmentation import IGNORED, INVALID, Layout, Pairs, complete
from cwd.system.errors import CwdError

REMEDY = (
    "register at cityscapes-dataset.com, unpack leftImg8bit_trainvaltest.zip and "
    "gtFine_trainvaltest.zip there, and see data/README.md."
)
CLASSES = sorted((c for c in Cityscapes.classes if not c.ignore_in_eval), key=lambda c: c.train_id)


def images(root: Path, split: str) -> list[Path]:
    """Image files, which the test split has without labels too."""
    return visible(root / "leftImg8bit" / split, "*/*_leftImg8bit.png")


def pairs(root: Path, split: str) -> Pairs:
    """Image and label files; torchvision's own reader breaks at a stray file."""
    found, folder, suffix = images(root, split), root / "gtFine" / split, "_gtFine_labelIds"
    if found and not folder.is_dir():
        raise CwdError(f"{folder} is missing, the labels of {split}: {REMEDY}")
    both = [(p, folder / p.parent.name / p.name.replace("_leftImg8bit", suffix)) for p in found]
    return complete(both, visible(folder, f"*/*{suffix}.png"))


MAPPING = np.full(256, INVALID, np.uint8)  # label ids to train ids
for one in Cityscapes.classes[:-1]:  # the last is -1, the license plate
    MAPPING[one.id] = IGNORED if one.ignore_in_eval else one.train_id
LAYOUT = Layout(
    classes=tuple(c.name for c in CLASSES),
    palette=np.array([c.color for c in CLASSES], np.uint8),
    mapping=MAPPING,
    pairs=pairs,
    folders=("cityscapes", "Cityscapes"),
    markers=("leftImg8bit",),
    remedy=REMEDY,
    counts={"train": 2975, "val": 500, "test": 1525},
    size=(1024, 2048),
    download=11_592_327_197 + 252_567_705,
)
SCENES = replace(
    LAYOUT,
    folders=("scenes", "Scenes"),
    remedy="they are drawn by themselves when a notebook runs.",
    counts=None,
    drawn=True,
    size=None,
    download=0,
)
# Nine of its classes, each with what is like it: as many as a small network can learn in minutes.
MERGED = {
    "road": ("road",),
    "sidewalk": ("sidewalk",),
    "building": ("building", "wall", "fence"),
    "pole": ("pole", "traffic light", "traffic sign"),
    "vegetation": ("vegetation", "terrain"),
    "sky": ("sky",),
    "person": ("person",),
    "rider": ("rider", "motorcycle", "bicycle"),
    "car": ("car", "truck", "bus", "train"),
}
_NINE = {one: number for number, names in enumerate(MERGED.values()) for one in names}
STREETS = replace(
    SCENES,
    classes=tuple(MERGED),
    palette=np.array([c.color for c in CLASSES if c.name in MERGED], np.uint8),
    mapping=np.array(
        [_NINE[CLASSES[i].name] if i < len(CLASSES) else i for i in MAPPING], np.uint8
    ),
    folders=("streets", "Streets"),
)
