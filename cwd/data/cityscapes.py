"""Cityscapes, and its layout under another name: the scenes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torchvision.datasets import Cityscapes

from cwd.data.fake_images import SIZE, Size, image, labels, save
from cwd.data.segmentation import IGNORED, INVALID, Layout, Pairs, complete
from cwd.system.errors import CwdError

REMEDY = (
    "register at cityscapes-dataset.com, unpack leftImg8bit_trainvaltest.zip and "
    "gtFine_trainvaltest.zip there, and see data/README.md."
)
CLASSES = sorted((c for c in Cityscapes.classes if not c.ignore_in_eval), key=lambda c: c.train_id)


def images(root: Path, split: str) -> list[Path]:
    """Image files, which the test split has without labels too."""
    return sorted((root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"))


def pairs(root: Path, split: str) -> Pairs:
    """Image and label files; torchvision's own reader breaks at a stray file."""
    found, folder, suffix = images(root, split), root / "gtFine" / split, "_gtFine_labelIds"
    if found and not folder.is_dir():
        raise CwdError(f"{folder} is missing, the labels of {split}: {REMEDY}")
    both = [(p, folder / p.parent.name / p.name.replace("_leftImg8bit", suffix)) for p in found]
    return complete(both, folder.glob(f"*/*{suffix}.png"))


def mapping() -> np.ndarray:
    """Label ids to train ids, uint8 [256]; every id that is not evaluated becomes 255."""
    ids = np.full(256, INVALID, np.uint8)
    for cls in Cityscapes.classes:
        if cls.id >= 0:
            ids[cls.id] = IGNORED if cls.ignore_in_eval else cls.train_id
    return ids


def layout(name: str, remedy: str, **official: object) -> Layout:
    """Cityscapes' layout under a name."""
    return Layout(
        classes=tuple(c.name for c in CLASSES),
        palette=np.array([c.color for c in CLASSES], np.uint8),
        mapping=mapping(),
        pairs=pairs,
        folders=(name, name.capitalize()),
        markers=("leftImg8bit",),
        remedy=remedy,
        **official,
    )


SCENES = layout("scenes", "they are drawn by themselves when a notebook runs.")
LAYOUT = layout(
    "cityscapes",
    REMEDY,
    counts={"train": 2975, "val": 500, "test": 1525},
    size=(1024, 2048),
    download=11_592_327_197 + 252_567_705,
)


def fake(
    root: Path, *, splits: Sequence[str] = ("train",), count: int = 1, size: Size = SIZE
) -> Path:
    """Cityscapes, `count` images a split, of one city."""
    for split in splits:
        for i in range(count):
            stem = f"{split}/aachen/aachen_{i:06}_000019"
            save(root / "leftImg8bit" / f"{stem}_leftImg8bit.png", image(i, size))
            save(root / "gtFine" / f"{stem}_gtFine_labelIds.png", labels(range(34), size))
    return root
