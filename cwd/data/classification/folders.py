"""Images in a folder for each class: ImageNet, and whatever else is laid out like it."""

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS, is_image_file, make_dataset

from cwd.data.base import (
    SPLITS,
    Dataset,
    Layout,
    Layouts,
    digest_of,
    ours,
    photograph,
    spread,
    visible,
)
from cwd.data.scenes.canvas import THINGS
from cwd.system.errors import CwdError


class Labelled(NamedTuple):
    """An image, uint8 [3, H, W], RGB, and its class, from 0."""

    image: Tensor
    label: int


@dataclass(frozen=True, kw_only=True)
class FolderLayout(Layout):
    """A layout in class folders; in one that is `sparse`, a class may be without an image."""

    num_classes: int
    markers: tuple[str, ...] = SPLITS
    sparse: bool = False


_IMAGENET = FolderLayout(
    remedy="register at image-net.org, get ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, "
    "unpack them there into a folder for each class, and see data/README.md.",
    num_classes=1000,
    folders=("imagenet", "ImageNet", "ILSVRC2012"),
    counts={"train": 1_281_167, "val": 50_000},
)
_CROPS = FolderLayout(
    remedy="delete the folder, and the objects are cut out again when a notebook runs.",
    num_classes=len(THINGS),
    sparse=True,
)
FOLDER_LAYOUTS = Layouts({"imagenet": _IMAGENET, "crops": _CROPS}, kind="classification ")


@dataclass(frozen=True, eq=False)
class FolderDataset(Dataset):
    """Images on disk, class by class; see `build_folders`. Labels are int64 [N]."""

    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: Tensor

    def _some(self, count: int) -> "FolderDataset":
        # at equal distances, so that each class keeps about its share: the first are of one class
        places = spread(len(self), count)
        names = tuple(self.names[place] for place in places)
        return replace(self, names=names, labels=self.labels[places])

    def __getitem__(self, index: int) -> Labelled:
        try:
            pixels = photograph(self.root / self.names[index])
        except CwdError as error:
            raise CwdError(f"{str(error).rstrip('.')}; {self.layout.remedy}") from error
        return Labelled(pixels, int(self.labels[index]))

    @cached_property
    def checksum(self) -> str:
        """See `cwd.data.base.digest_of`."""
        return digest_of(self.names, self.root)


def build_folders(name: str, root: str | Path, split: str) -> FolderDataset:
    """A split of a dataset, its files found but not yet read.

    Labels are the places of the class folders in alphabetical order, which for ImageNet's is the
    order that public weights have. `name` is "imagenet" or "crops", `root` the dataset's folder or
    a data root that holds it, `split` "train" or "val". What isn't there or isn't in class folders
    is a `CwdError`, as are a class without images, and splits that differ in classes.
    """
    layout = FOLDER_LAYOUTS[name]
    folder = layout.folder(name, root)
    classes = _class_folders(folder / "train", layout)
    there = _class_folders(folder / split, layout)
    if odd := sorted({*classes} ^ {*there}):
        where, lacks = ("train", split) if odd[0] in classes else (split, "train")
        raise CwdError(
            f"{folder} has the class folder {odd[0]} in {where} only, and {len(odd)} such folders: "
            f"add them to {lacks} too, or move them out of {where}."
        )
    places = {one: label for label, one in enumerate(classes)}
    start = len(f"{folder}/")
    found = make_dataset(folder / split, places, IMG_EXTENSIONS, allow_empty=True)
    found = [(path, label) for path, label in found if ours(path[start:])]
    labels = torch.tensor([label for _, label in found], dtype=torch.int64)
    empty = (torch.bincount(labels, minlength=len(classes)) == 0).nonzero().flatten().tolist()
    if empty and (not layout.sparse or not found):
        raise CwdError(
            f"{folder / split / classes[empty[0]]} has no images, as {len(empty)} of the "
            f"{len(classes)} class folders of {split}: put images of {classes[empty[0]]} there, or "
            "move the folder out of every split."
        )
    names = tuple(path[start:] for path, _ in found)
    return FolderDataset(name, split, folder, layout, tuple(classes), names, labels)


def _class_folders(folder: Path, layout: FolderLayout) -> list[str]:
    if not folder.is_dir():
        raise CwdError(f"{folder} is missing: {layout.remedy}")
    if found := sorted(one.name for one in os.scandir(folder) if one.is_dir() and ours(one.name)):
        return found
    flat = sum(is_image_file(path.name) for path in visible(folder, "*"))
    # ImageNet's archive of val holds its 50,000 files side by side
    sort = (
        "sort them, as torchvision.datasets.ImageNet(root, split) does by itself with the "
        "archives and ILSVRC2012_devkit_t12.tar.gz, and see data/README.md."
    )
    raise CwdError(
        f"{folder} has {flat} images and no class folders: {sort if flat else layout.remedy}"
    )


def few_of_each(dataset: FolderDataset, count: int, most: int = 8) -> dict[str, list[Tensor]]:
    """The first `count` images of each of the first `most` classes, by the class's name."""
    return {
        name: [dataset[int(i)].image for i in (dataset.labels == label).nonzero()[:count, 0]]
        for label, name in enumerate(dataset.classes[:most])
    }
