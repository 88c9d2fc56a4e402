"""The datasets for segmentation by name: what is known of each, where it lies, and its images."""

import functools
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd

from cwd.config.run import OWN, Data
from cwd.data import ade20k, camvid, cityscapes, own, voc
from cwd.data.base import SPLITS, Layouts, both_parts
from cwd.data.decoded import MEMORY, DecodedDataset, load_cached, load_in_memory
from cwd.data.scenes.draw import DRAWN, scenes_root
from cwd.data.segmentation import IGNORED, Layout, SegmentationDataset
from cwd.system import paths
from cwd.system.errors import CwdError

LOOKED_AT = 16  # images of a split, for a labelled pixel
LAYOUTS = Layouts(
    {
        "scenes": cityscapes.SCENES,
        "streets": cityscapes.STREETS,
        "cityscapes": cityscapes.LAYOUT,
        "voc": voc.LAYOUT,
        "ade20k": ade20k.LAYOUT,
        "camvid": camvid.LAYOUT,
        OWN: own.LAYOUT,
    },
    others="; coco is for detectors, imagenet and crops for classifiers",
)


def build_dataset(name: str, root: str | Path, split: str) -> SegmentationDataset:
    """A split ("train", "val" or "test") of a dataset, its files found but not yet read.

    `name` is a key of `LAYOUTS`, `root` the dataset's folder or a data root that holds it. Whatever
    isn't there or isn't laid out as expected is a `CwdError`.
    """
    layout = LAYOUTS[name]
    if split not in SPLITS:
        raise CwdError(f"{name} has no split {split!r}: use one of {', '.join(SPLITS)}.")
    folder = layout.folder(name, root)
    if layout.own:
        layout = replace(layout, **own.read_classes(folder))
    pairs = layout.pairs(folder, split)
    if not pairs:
        raise CwdError(f"{folder} has no images of the split {split!r}: {layout.remedy}")
    for image, label in pairs:
        for path, what in ((image, "image of its list"), (label, f"label of {image.name}")):
            if not os.path.isfile(path):  # of a name that is no file's, too
                raise CwdError(f"{path} is missing, the {what}: {layout.again(folder)}")
    return SegmentationDataset(name, split, folder, layout, pairs)


def large(layout: Layout) -> bool:
    """Whether a dataset's images differ in size, or are too many to be kept in memory."""
    return layout.typical is not None or layout.decoded("train") > MEMORY


@functools.lru_cache(maxsize=4)
def open_data(data: Data, data_root: Path) -> tuple[DecodedDataset, DecodedDataset]:
    """Training images and the images that mIoU is measured on; scenes are drawn first.

    They are decoded once in a process, those that are too large for that once on a machine. A
    dataset that is missing, incomplete or damaged, or too large for the disk, is a `CwdError`.
    """
    root = scenes_root(data, data_root) if data.name in DRAWN else data.place(data_root)
    train, val = both_parts(data, lambda split: build_dataset(data.name, root, split))
    return _decoded(train, data), _decoded(val, data)


def _decoded(dataset: SegmentationDataset, data: Data) -> DecodedDataset:
    """A split in memory or on disk; one without a labelled pixel is a `CwdError`.

    That a whole large split is dummies, as the test labels of Cityscapes, is known by a few.
    """
    if data.size or not large(dataset.layout):
        part = load_in_memory(dataset, size=data.size)
        targets, how = part.targets, f" of size {data.size[0]}x{data.size[1]}" if data.size else ""
    else:
        few = range(0, len(dataset), max(1, len(dataset) // LOOKED_AT))
        part, targets, how = None, [dataset[index].target for index in few], ""
    if all((target == IGNORED).all() for target in targets):
        raise CwdError(
            f"{dataset.root} has no labelled pixel in {len(targets)} images{how} of "
            f"{dataset.split}, so there is nothing to learn or to measure: use another split, such "
            f"as val{', or a larger data.size' if how else ''}."
        )
    return part or load_cached(dataset, paths.CACHE)


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
