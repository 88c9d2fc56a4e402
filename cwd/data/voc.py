"""Pascal VOC 2012, and SBD's labels of more of its images (Hariharan et al., ICCV 2011)."""

from pathlib import Path

import numpy as np
from torchvision.datasets import SBDataset
from torchvision.datasets.voc import DATASET_YEAR_DICT

from cwd.data.fetch import fetch
from cwd.data.segmentation import IGNORED, INVALID, Layout, Pairs, classes_of, listed
from cwd.system.errors import CwdError

DEVKIT = "VOCdevkit/VOC2012"
FOLDERS = ("voc", "VOC", "pascal_voc")
SBD_FOLDERS = ("sbd", "SBD", "benchmark_RELEASE/dataset")
SIZES = (1_999_639_040, 1_419_539_633)  # bytes of the two archives


def sbd_folder(root: Path) -> Path | None:
    """SBD's folder in Pascal VOC's or beside it; None if it isn't there."""
    places = [parent / name for parent in (root, root.parent) for name in SBD_FOLDERS]
    return next((place for place in places if (place / "cls").is_dir()), None)


def pairs(root: Path, split: str) -> Pairs:
    """VOC's files, in "train" also SBD's but for VOC's validation set; VOC's labels come first."""
    if split == "test":
        raise CwdError("the test labels of Pascal VOC 2012 aren't public: use the split val.")
    devkit = root / DEVKIT
    names = listed(devkit / f"ImageSets/Segmentation/{split}.txt", root, "voc")
    images, labelled = devkit / "JPEGImages", devkit / "SegmentationClass"
    found = {name: (images / f"{name}.jpg", labelled / f"{name}.png") for name in names}
    if split == "val":
        return list(found.values())
    val = {*listed(devkit / "ImageSets/Segmentation/val.txt", root, "voc")}
    if not (sbd := sbd_folder(root)):
        missing = f"{root} holds no SBD (no {SBD_FOLDERS[0]}/cls/ in it)"
        raise CwdError(f"{missing}: {LAYOUT.remedy}")
    for part in ("train", "val"):
        for name in listed(sbd / f"{part}.txt", sbd, "voc"):
            if name not in val:
                found.setdefault(name, (sbd / "img" / f"{name}.jpg", sbd / "cls" / f"{name}.mat"))
    return [found[name] for name in sorted(found)]


def get(data_root: Path) -> None:
    """Download Pascal VOC 2012 and SBD, or the one of them that isn't there."""
    folder = LAYOUT.find(data_root) or data_root / FOLDERS[0]
    if not (place := folder / DEVKIT).is_dir():
        known = DATASET_YEAR_DICT["2012"]
        fetch("Pascal VOC 2012", known["url"], DEVKIT, place, size=SIZES[0], md5=known["md5"])
    if not sbd_folder(folder):
        source = SBDataset.url, "benchmark_RELEASE/dataset", folder / SBD_FOLDERS[0]
        fetch("SBD", *source, size=SIZES[1], md5=SBDataset.md5)


LAYOUT = Layout(
    **classes_of("voc"),
    mapping=np.array([*range(21)] + [INVALID] * 234 + [IGNORED], np.uint8),
    pairs=pairs,
    folders=FOLDERS,
    markers=(DEVKIT,),
    remedy="run `make data DATASET=voc`, or see data/README.md.",
    counts={"train": 10_582, "val": 1_449},
    typical=(375, 500),
    download=sum(SIZES),
    get=get,
)
