"""ADE20K, as the scene parsing challenge distributes it."""

from pathlib import Path

import numpy as np

from cwd.data.base import visible
from cwd.data.segmentation import IGNORED, INVALID, Layout, Pairs, classes_of, complete

ARCHIVE = "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip"


def pairs(root: Path, split: str) -> Pairs:
    """Image and label files."""
    part = {"train": "training", "val": "validation", "test": "testing"}[split]
    folder = root / "annotations" / part
    images = visible(root / "images" / part, "*.jpg")
    found = [(path, folder / f"{path.stem}.png") for path in images]
    return complete(found, visible(folder, "*.png"))


LAYOUT = Layout(
    **classes_of("ade20k"),
    mapping=np.array([IGNORED, *range(150)] + [INVALID] * 105, np.uint8),
    pairs=pairs,
    folders=("ADEChallengeData2016", "ade20k", "ade20k/ADEChallengeData2016", "ADE20K"),
    markers=("annotations/training", "annotations/validation"),
    remedy=f"get {ARCHIVE} and unpack it there, see data/README.md.",
    counts={"train": 20_210, "val": 2_000},
    typical=(512, 683),
    download=967_382_037,
)
