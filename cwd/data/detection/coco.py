"""Pictures with annotated objects: COCO 2017, and the scenes, which have its format."""

import hashlib
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cwd.config.run import OWN
from cwd.data.base import SPLITS, Dataset, Layout, Layouts, digest_of, photograph
from cwd.data.detection.annotations import AnnotationFile, read_annotations
from cwd.data.detection.masks import Rle, decoded, encoded
from cwd.data.fetch import fetch
from cwd.data.scenes.draw import THINGS
from cwd.models.detection.outputs import Objects
from cwd.system.errors import CwdError

SMALLEST_SIDE = 32  # pixels; mmdetection trains on no smaller images


class Archive(NamedTuple):
    """One of COCO's archives."""

    url: str
    size: int  # bytes
    inside: str  # the folder in it
    markers: tuple[str, ...]  # paths that show that it was unpacked


_SITE = "http://images.cocodataset.org"
_LISTS = ("annotations/instances_train2017.json", "annotations/instances_val2017.json")
_LISTED = f"{_SITE}/annotations/annotations_trainval2017.zip"
ARCHIVES = (
    Archive(_LISTED, 252_907_541, "annotations", _LISTS),
    Archive(f"{_SITE}/zips/val2017.zip", 815_585_330, "val2017", ("val2017",)),
    Archive(f"{_SITE}/zips/train2017.zip", 19_336_861_798, "train2017", ("train2017",)),
)


class Picture(NamedTuple):
    """An image and its objects, in its pixels."""

    image: Tensor  # uint8 [3, H, W], RGB
    objects: Objects


@dataclass(frozen=True, kw_only=True)
class CocoLayout(Layout):
    """What is known of a dataset in COCO's format."""

    images: str  # the folder of a split's images, with {} for the split
    annotations: str  # the file of a split's annotations, likewise
    splits: tuple[str, ...]  # that have annotations
    num_classes: int

    @property
    def mend(self) -> str:
        """What to do about a file that is there and says something wrong."""
        return "correct it, or get the dataset's own file again." if self.get else self.remedy


def missing_archives(root: Path) -> list[Archive]:
    """The archives that weren't unpacked into COCO's folder."""
    return [a for a in ARCHIVES if not all((root / marker).exists() for marker in a.markers)]


def get_coco(data_root: Path) -> None:
    """Download those of COCO's archives that aren't there; see `cwd.data.fetch.fetch`."""
    folder = COCO_LAYOUTS["coco"].find(data_root) or data_root / "coco"
    for what, size, inside, _ in missing_archives(folder):
        fetch(f"COCO's {Path(what).name}", what, inside, folder / inside, size=size)


_SCENES = CocoLayout(
    images="leftImg8bit/{}",
    annotations="annotations/instances_{}.json",
    splits=SPLITS,
    num_classes=len(THINGS),
    drawn=True,
    markers=("leftImg8bit", "annotations"),
    remedy="delete the folder, and the scenes are drawn again when a notebook runs.",
)
_COCO = CocoLayout(
    images="{}2017",
    annotations="annotations/instances_{}2017.json",
    splits=("train", "val"),  # the annotations of its test images aren't public
    num_classes=80,
    markers=("train2017", "val2017", *_LISTS),
    remedy=f"run `make data DATASET=coco`, or get {', '.join(one.url for one in ARCHIVES)}, "
    "unpack them there, and see data/README.md.",
    folders=("coco", "COCO"),
    counts={"train": 118_287, "val": 5_000},
    get=get_coco,
)
_OWN = CocoLayout(
    images="images/{}",
    annotations="annotations/instances_{}.json",
    splits=SPLITS,
    num_classes=0,  # as many as its annotations say
    own=True,
    markers=("annotations",),
    folders=("folder",),
    remedy="put images into images/{train,val}/ and their annotations in COCO's format into "
    "annotations/instances_{train,val}.json, see data/README.md.",
)
COCO_LAYOUTS = Layouts({"scenes": _SCENES, "coco": _COCO, OWN: _OWN}, kind="detection ")


def build_coco(name: str, root: str | Path, split: str, *, masks: bool = False) -> "CocoDataset":
    """A split of a dataset: its annotations read and checked, its images found but not yet read.

    `name` is a key of `COCO_LAYOUTS`, `root` the dataset's folder or a data root that holds it. A
    dataset that isn't there, or whose annotations are damaged, is a `CwdError`.
    """
    layout = COCO_LAYOUTS[name]
    if split not in layout.splits:
        splits = ", ".join(layout.splits)
        raise CwdError(f"{name} has no split {split!r} with annotations: use one of {splits}.")
    folder = layout.folder(name, root)
    path = folder / layout.annotations.format(split)
    remedy = layout.mend if path.is_file() else layout.again(folder)
    file = read_annotations(path, remedy, masks=masks)
    images = folder / layout.images.format(split)
    # a folder is listed once: asking for each of 118,287 files takes long on a network's disk
    folders = {(images / name).parent for name in file.files}
    there = {path for place in folders if os.path.isdir(place) for path in place.iterdir()}
    for path in (images / name for name in file.files):
        if path not in there:
            raise CwdError(
                f"{path} is missing, an image that has annotations: {layout.again(folder)}"
            )
    known = file.classes, file.category_ids, masks
    return CocoDataset(name, split, folder, layout, file, tuple(range(len(file.files))), *known)


@dataclass(frozen=True, eq=False)
class CocoDataset(Dataset):
    """Pictures on disk, in the order of their image ids; see `build_coco`."""

    file: AnnotationFile
    chosen: tuple[int, ...]  # which of the file's images these are
    classes: tuple[str, ...]  # in the order of category ids; their places are the labels
    category_ids: tuple[int, ...]  # the annotation file's number of every class
    masked: bool  # whether its objects have masks

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

    @cached_property
    def checksum(self) -> str:
        """SHA-256 over the annotation file and the names of the images; no image is read."""
        return hashlib.sha256("\n".join([self.file.digest, *self.names]).encode()).hexdigest()

    @cached_property
    def pixels(self) -> str:
        """SHA-256 of the images, which `checksum` doesn't look at."""
        return digest_of(self.names, self.root, drawn=self.layout.drawn)

    def _some(self, count: int) -> "CocoDataset":
        return replace(self, chosen=self.chosen[:count])

    def trainable(self, smallest: int = SMALLEST_SIDE) -> "CocoDataset":
        """The images with an object to learn, of `smallest` sides or more; none is a `CwdError`."""
        counts = self.file.starts.diff()
        owner = torch.repeat_interleave(torch.arange(len(counts)), counts)
        learnable, _ = to_learn(self.file.objects, self.file.sizes[owner])
        fit = torch.bincount(owner[learnable], minlength=len(counts)) > 0
        usable = (fit & (self.file.sizes >= smallest).all(dim=1)).tolist()
        if chosen := tuple(place for place in self.chosen if usable[place]):
            return replace(self, chosen=chosen)
        raise CwdError(
            f"{self.file.path} has no object to learn in {len(self)} images of at least "
            f"{smallest}x{smallest} pixels: use more or larger images."
        )

    def _objects(self, index: int) -> slice:
        return slice(*self.file.starts[self.chosen[index] :][:2].tolist())

    def annotated(self, index: int) -> Objects:
        """What the file says of an image; boxes without extent are among it, as AP counts them."""
        return self.file.objects.keep(self._objects(index))

    def encodings(self, index: int) -> list[Rle]:
        """The masks of those objects, if they were asked for."""
        size = tuple(self.sizes[index].tolist())
        return [encoded(outline, size) for outline in self.file.outlines[self._objects(index)]]

    def __getitem__(self, index: int) -> Picture:
        """Decode one image; its objects are those whose boxes have a width and a height."""
        image, objects = self.image(index), self.annotated(index)
        if self.masked:
            size = tuple(image.shape[1:])
            objects = objects._replace(masks=decoded(self.encodings(index), size))
        solid = (objects.boxes[:, 2:] > objects.boxes[:, :2]).all(dim=1)
        return Picture(image, objects.keep(solid))

    def image(self, index: int) -> Tensor:
        """One image alone, uint8 [3, H, W]; damaged or of another size, it is a `CwdError`."""
        image = photograph(path := self.root / self.names[index], own=self.layout.own)
        (_, height, width), (h, w) = image.shape, self.sizes[index].tolist()
        if (height, width) != (h, w):
            found = f"{width}x{height} pixels and {self.file.path.name} says {w}x{h}"
            raise CwdError(f"{path} is {found}: {self.layout.mend}")
        return image


def to_learn(objects: Objects, size: Tensor) -> tuple[Tensor, Tensor]:
    """Which objects a detector learns, bool [N], and their boxes clipped to the image, [N, 4].

    Left out are, as in mmdetection, crowds, objects without area, and boxes of which less than a
    pixel's width or height is on the image. The size is that of all images, or of each, [N, 2].
    """
    limit = size.to(objects.boxes)[..., [1, 0, 1, 0]]  # width and height, twice
    boxes = objects.boxes.clamp(min=0).minimum(limit)
    large = (boxes[:, 2:] - boxes[:, :2] >= 1).all(dim=1)
    return large & ~objects.crowd & (objects.area > 0), boxes
