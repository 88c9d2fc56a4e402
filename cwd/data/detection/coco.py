"""Pictures with annotated objects: COCO 2017, and the scenes, which have its format."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cwd.data.base import check_count, decode
from cwd.data.detection.annotations import AnnotationFile, read_annotations
from cwd.data.detection.masks import Rle, decoded, encoded
from cwd.data.scenes.draw import THINGS
from cwd.models.detection.outputs import Objects
from cwd.system.errors import CwdError

SMALLEST_SIDE = 32  # pixels; mmdetection trains on no smaller images

OBJECT_CLASSES = {"scenes": len(THINGS), "coco": 80}


class Picture(NamedTuple):
    """An image and what is in it.

    Attributes:
        image: uint8 [3, H, W], RGB.
        objects: its objects, in pixels of the image.
    """

    image: Tensor
    objects: Objects


@dataclass(frozen=True)
class CocoLayout:
    """How a dataset of COCO's format is laid out on disk.

    Attributes:
        images: the folder of a split's images, with {} for the split.
        annotations: the file of a split's annotations.
        splits: those that have annotations.
        markers: paths in the dataset's folder, by any of which it is recognised.
        remedy: what to do where something is missing or damaged.
        folders: what the dataset's folder may be called below a data root.
        counts: official number of images by split.
    """

    images: str
    annotations: str
    splits: tuple[str, ...]
    markers: tuple[str, ...]
    remedy: str
    folders: tuple[str, ...] = ()
    counts: dict[str, int] | None = None


COCO_SITE = "http://images.cocodataset.org"
COCO_REMEDY = (
    f"get {COCO_SITE}/zips/train2017.zip, {COCO_SITE}/zips/val2017.zip and "
    f"{COCO_SITE}/annotations/annotations_trainval2017.zip, unpack them there, and see "
    "data/README.md."
)
COCO_LAYOUTS = {
    "scenes": CocoLayout(
        images="leftImg8bit/{}",
        annotations="annotations/instances_{}.json",
        splits=("train", "val", "test"),
        markers=("leftImg8bit", "annotations"),
        remedy="delete the folder, and the scenes are drawn again when a notebook runs.",
    ),
    "coco": CocoLayout(
        images="{}2017",
        annotations="annotations/instances_{}2017.json",
        splits=("train", "val"),  # the annotations of its test images aren't public
        markers=(
            "train2017",
            "val2017",
            "annotations/instances_train2017.json",
            "annotations/instances_val2017.json",
        ),
        remedy=COCO_REMEDY,
        folders=("coco", "COCO"),
        counts={"train": 118_287, "val": 5_000},
    ),
}


def coco_layout(name: str) -> CocoLayout:
    """A dataset's layout by its name.

    Raises:
        CwdError: the name is unknown.
    """
    if name not in COCO_LAYOUTS:
        raise CwdError(
            f"there is no detection dataset {name!r}: use one of {', '.join(COCO_LAYOUTS)}."
        )
    return COCO_LAYOUTS[name]


def find_coco(name: str, root: Path) -> Path | None:
    """The dataset's folder: `root` itself or one below it; None if it isn't there."""
    layout = coco_layout(name)
    for place in (root, *(root / folder for folder in layout.folders)):
        if any((place / marker).exists() for marker in layout.markers):
            return place
    return None


def build_coco(name: str, root: str | Path, split: str, *, masks: bool = False) -> "CocoDataset":
    """A split of a dataset: its annotations read and checked, its images found but not yet read.

    Args:
        name: "scenes" or "coco".
        root: the dataset's folder, or a data root that holds it.
        split: "train" or "val"; of the scenes "test" too.
        masks: whether the objects' masks are wanted.

    Raises:
        CwdError: the name or the split is unknown, the dataset isn't there, its annotations are
            damaged (see `read_annotations`), or an image is missing.
    """
    layout = coco_layout(name)
    if split not in layout.splits:
        raise CwdError(
            f"{name} has no split {split!r} with annotations: use one of "
            f"{', '.join(layout.splits)}."
        )
    folder = find_coco(name, Path(root))
    if folder is None:
        raise CwdError(f"{Path(root)} holds no {name} (no {layout.markers[0]}/): {layout.remedy}")
    path = folder / layout.annotations.format(split)
    file = read_annotations(path, layout.remedy, masks=masks)
    check_images(folder / layout.images.format(split), file.files, layout.remedy)
    return CocoDataset(name, split, folder, layout, file, tuple(range(len(file.files))))


def check_images(folder: Path, files: Sequence[str], remedy: str) -> None:
    """Refuse a dataset some of whose images are missing.

    Raises:
        CwdError: one is.
    """
    # a folder is listed once: asking for each of 118,287 files takes long on a network's disk
    there: dict[Path, set[str]] = {}
    for path in (folder / file for file in files):
        if path.parent not in there:
            found = os.listdir(path.parent) if path.parent.is_dir() else ()
            there[path.parent] = set(found)
        if path.name not in there[path.parent]:
            raise CwdError(f"{path} is missing, an image that has annotations: {remedy}")


@dataclass(frozen=True, eq=False)
class CocoDataset:
    """Pictures on disk, in the order of their image ids; see `build_coco`.

    Attributes:
        name: the dataset's.
        split: whose pictures.
        root: the dataset's folder.
        layout: how it is laid out.
        file: the split's annotations.
        chosen: which of the file's images these are.
    """

    name: str
    split: str
    root: Path
    layout: CocoLayout
    file: AnnotationFile
    chosen: tuple[int, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of category ids; their places are the labels."""
        return self.file.classes

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.classes)

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The annotation file's number of every class."""
        return self.file.category_ids

    @property
    def masked(self) -> bool:
        """Whether its objects have masks."""
        return self.file.outlines is not None

    @cached_property
    def image_ids(self) -> tuple[int, ...]:
        """The annotation file's number of every image."""
        return tuple(self.file.image_ids[place] for place in self.chosen)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Image files, relative to `root`, in the order of indices."""
        folder = self.layout.images.format(self.split)
        return tuple(f"{folder}/{self.file.files[place]}" for place in self.chosen)

    @cached_property
    def sizes(self) -> Tensor:
        """Height and width of every image in pixels, int64 [N, 2]."""
        return self.file.sizes[list(self.chosen)]

    def first(self, count: int | None) -> "CocoDataset":
        """The first so many images; all if None.

        Raises:
            CwdError: there are fewer.
        """
        check_count(self, count)
        return replace(self, chosen=self.chosen[:count])

    def trainable(self, smallest: int = SMALLEST_SIDE) -> "CocoDataset":
        """The images to train on: neither too small nor without an object to learn.

        Masks aren't looked at, so an image whose objects all turn out to have none may be left.

        Args:
            smallest: pixels that both sides must have.

        Raises:
            CwdError: none is left.
        """
        counts = self.file.starts.diff()
        owner = torch.repeat_interleave(torch.arange(len(counts)), counts)
        learnable, _ = to_learn(self.file.objects, self.file.sizes[owner])
        fit = torch.bincount(owner[learnable], minlength=len(counts)) > 0
        fit &= (self.file.sizes >= smallest).all(dim=1)
        usable = fit.tolist()
        chosen = tuple(place for place in self.chosen if usable[place])
        if not chosen:
            raise CwdError(
                f"{self.file.path} has no object to learn in {len(self)} images of at least "
                f"{smallest}x{smallest} pixels: use more or larger images."
            )
        return replace(self, chosen=chosen)

    def annotated(self, index: int) -> Objects:
        """What the file says of an image, which isn't read; boxes without extent are among it.

        pycocotools counts those as objects that can't be found, and so does our AP.
        """
        place = self.chosen[index]
        start, end = self.file.starts[place : place + 2].tolist()
        return Objects(*(part[start:end] for part in self.file.objects))

    def encodings(self, index: int) -> list[Rle]:
        """The masks of those objects, if they were asked for."""
        place = self.chosen[index]
        start, end = self.file.starts[place : place + 2].tolist()
        height, width = self.file.sizes[place].tolist()
        return [encoded(one, (height, width)) for one in self.file.outlines[start:end]]

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> Picture:
        """Decode one image; its objects are those whose boxes have a width and a height.

        Raises:
            CwdError: the file is missing or damaged, or has another size than its annotation says.
        """
        image, objects = self.image(index), self.annotated(index)
        if self.masked:
            size = tuple(image.shape[1:])
            objects = objects._replace(masks=decoded(self.encodings(index), size))
        solid = (objects.boxes[:, 2:] > objects.boxes[:, :2]).all(dim=1)
        return Picture(image, objects.keep(solid))

    def image(self, index: int) -> Tensor:
        """One image alone, uint8 [3, H, W]; raises as `__getitem__`."""
        path = self.root / self.names[index]
        image = decode(path, "RGB")
        height, width = self.sizes[index].tolist()
        if image.shape[:2] != (height, width):
            raise CwdError(
                f"{path} is {image.shape[1]}x{image.shape[0]} pixels and {self.file.path.name} "
                f"says {width}x{height}: {self.layout.remedy}"
            )
        return torch.from_numpy(image).permute(2, 0, 1).contiguous()

    @cached_property
    def checksum(self) -> str:
        """SHA-256 over the annotation file and the names of the images; no image is read."""
        return hashlib.sha256("\n".join([self.file.digest, *self.names]).encode()).hexdigest()


def to_learn(objects: Objects, size: Tensor) -> tuple[Tensor, Tensor]:
    """Which objects a detector is trained on, and their boxes without what is off the image.

    Left out are, as in mmdetection, crowds, objects without area, and boxes of which less than a
    pixel's width or height is on the image.

    Args:
        objects: N of them.
        size: height and width of their image, or of the image of each: [2] or [N, 2].

    Returns:
        bool [N] and float32 [N, 4].
    """
    limit = size.to(objects.boxes).flip(-1)  # width, height
    limit = torch.cat([limit, limit], dim=-1)
    boxes = objects.boxes.clamp(min=0).minimum(limit)
    large = (boxes[:, 2:] - boxes[:, :2] >= 1).all(dim=1)
    return large & ~objects.crowd & (objects.area > 0), boxes
