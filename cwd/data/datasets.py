"""One contract for every dataset: `image` uint8 [3, H, W], `target` int64 [H, W], 255 ignored."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.io import loadmat
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from cwd.data.base import Dataset
from cwd.data.layouts import IGNORED, INVALID, SPLITS, Layout, Pairs, layout_of
from cwd.system.errors import CwdError

WHOLE_CHECKSUM = 256 * 2**20  # bytes up to which a checksum reads the files' contents
MEMORY = 8 * 2**30  # bytes that decoded images may take


class Sample(NamedTuple):
    """An image and its target.

    Attributes:
        image: uint8 [3, H, W], RGB.
        target: int64 [H, W], train ids from 0, 255 ignored.
    """

    image: Tensor
    target: Tensor


def find_dataset(name: str, root: Path) -> Path | None:
    """The dataset's folder: `root` itself or one below it; None if it isn't there."""
    return layout_of(name).find(root)


def build_dataset(name: str, root: str | Path, split: str) -> "SegmentationDataset":
    """A split of a dataset, its files found but not yet read.

    Args:
        name: a key of `LAYOUTS`.
        root: the dataset's folder, or a data root that holds it.
        split: "train", "val" or "test".

    Raises:
        CwdError: the name or the split is unknown, the dataset isn't there or isn't laid out as
            expected, or an image has no label.
    """
    layout = layout_of(name)
    if split not in SPLITS:
        raise CwdError(f"{name} has no split {split!r}: use one of {', '.join(SPLITS)}.")
    folder = layout.folder(name, root)
    pairs = layout.pairs(folder, split)
    if not pairs:
        raise CwdError(f"{folder} has no images of the split {split!r}: {layout.remedy}")
    for pair in pairs:
        for path, what in zip(pair, ("image", "label"), strict=True):
            if not path.is_file():
                raise CwdError(
                    f"{path} is missing, the {what} that belongs to "
                    f"{pair[0].name if what == 'label' else 'its list'}: get the dataset again; "
                    f"{layout.remedy}"
                )
    return SegmentationDataset(name, split, folder, layout, pairs)


@dataclass(frozen=True, eq=False)
class SegmentationDataset(Dataset):
    """Images and targets on disk; see `build_dataset`."""

    layout: Layout
    pairs: Pairs

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of train ids."""
        return self.layout.classes

    @property
    def palette(self) -> np.ndarray:
        """Colours, uint8 [K, 3]."""
        return self.layout.palette

    @property
    def names(self) -> tuple[str, ...]:
        """Image files, relative to `root`, in the order of indices."""
        return tuple(self.relative(image) for image, _ in self.pairs)

    def relative(self, path: Path) -> str:
        """A file's path from `root`, outside of which SBD may lie."""
        return Path(os.path.relpath(path, self.root)).as_posix()

    def some(self, count: int) -> "SegmentationDataset":
        """The first so many images."""
        return replace(self, pairs=self.pairs[:count])

    def paths(self, index: int) -> tuple[Path, Path]:
        """Image and label file of one index."""
        return self.pairs[index]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Decode one pair.

        Raises:
            CwdError: a file is damaged, the two differ in size, or a label is out of range.
        """
        image_path, label_path = self.pairs[index]
        image, label = decode(image_path, "RGB"), decode_label(label_path)
        if label.ndim != 2 or label.dtype != np.uint8:
            raise CwdError(
                f"{label_path} is no label image (found shape {label.shape} and {label.dtype}, "
                "expected one 8-bit channel): get the file again."
            )
        if image.shape[:2] != label.shape:
            raise CwdError(
                f"{label_path} is {label.shape[1]}x{label.shape[0]} pixels and its image "
                f"{image.shape[1]}x{image.shape[0]}: get both files again, of one size."
            )
        target = self.layout.mapping[label]
        if (bad := label[target == INVALID]).size:
            known = np.flatnonzero(self.layout.mapping[:IGNORED] != INVALID)
            void = " or 255" if self.layout.mapping[IGNORED] != INVALID else ""
            raise CwdError(
                f"{label_path} has the label {bad[0]}, expected 0 to {known.max()}{void}: get the "
                "file again, as the dataset distributes it."
            )
        return Sample(
            torch.from_numpy(image).permute(2, 0, 1).contiguous(),
            torch.from_numpy(target).long(),
        )

    @cached_property
    def checksum(self) -> str:
        """SHA-256 over names and contents; over names and sizes for more than 256 MiB of files."""
        files = [path for pair in self.pairs for path in pair]
        whole = sum(path.stat().st_size for path in files) <= WHOLE_CHECKSUM
        digest = hashlib.sha256()
        for path in files:
            digest.update(self.relative(path).encode())
            digest.update(path.read_bytes() if whole else str(path.stat().st_size).encode())
        return digest.hexdigest()


def decode(path: Path, mode: str | None) -> np.ndarray:
    """Pixels of an image file, [H, W] or [H, W, 3].

    Raises:
        CwdError: the file is truncated or no image, or a label image where "RGB" is asked for.
    """
    try:
        with Image.open(path) as image:
            # a photograph may be a grey JPEG; a PNG without colours is a label in the wrong place
            misplaced = mode == "RGB" and image.format == "PNG" and "RGB" not in image.mode
            pixels = np.array(image.convert(mode) if mode else image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CwdError(
            f"{path} can't be decoded ({error}): the file is truncated or no image, get it again."
        ) from error
    if misplaced:
        raise CwdError(
            f"{path} has no colours, so it is a label image in the place of a photograph: get the "
            "file again, and keep images and labels in their own folders."
        )
    return pixels


def decode_label(path: Path) -> np.ndarray:
    """Label values of an image file, or of one of SBD's .mat files; raises as `decode`."""
    if path.suffix != ".mat":
        return decode(path, None)
    try:
        return np.array(loadmat(path)["GTcls"][0]["Segmentation"][0])
    except Exception as error:  # scipy raises whatever the damage hits
        raise CwdError(
            f"{path} can't be read ({type(error).__name__}): the file is truncated or none of "
            "SBD's, get it again."
        ) from error


@dataclass(frozen=True)
class DecodedDataset(ABC):
    """A dataset decoded once, so that no training step waits for a file to be decoded.

    Attributes:
        name: the dataset's.
        classes: names, in the order of train ids.
        palette: uint8 [K, 3].
        checksum: of the files it was read from.
    """

    name: str
    classes: tuple[str, ...]
    palette: np.ndarray
    checksum: str

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.classes)

    @property
    @abstractmethod
    def label_counts(self) -> Tensor:
        """How many pixels have each value of a target, int64 [256]."""

    def class_frequencies(self) -> np.ndarray:
        """Share of the labelled pixels that each class has, float64 [K]; 0 if there are none."""
        counts = self.label_counts[: self.num_classes].double()
        return (counts / counts.sum().clamp(min=1)).numpy()  # no division by zero


@dataclass(frozen=True)
class InMemoryDataset(DecodedDataset):
    """A dataset decoded into memory.

    Attributes:
        images: uint8 [N, 3, H, W].
        targets: uint8 [N, H, W], 255 ignored.
    """

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.images[index], self.targets[index].long())

    @property
    def sizes(self) -> Tensor:
        """Height and width of every image, int64 [N, 2]."""
        return torch.tensor(self.images.shape[2:]).expand(len(self), 2)

    @property
    def label_counts(self) -> Tensor:
        """How many pixels have each value of a target, int64 [256]."""
        return torch.bincount(self.targets.flatten(), minlength=256)


def load_in_memory(
    dataset: SegmentationDataset, *, size: tuple[int, int] | None = None
) -> InMemoryDataset:
    """Decode a dataset, resizing it if asked to.

    Args:
        dataset: what to read.
        size: height and width to resize to: images bilinearly with antialiasing, targets to the
            nearest pixel.

    Raises:
        CwdError: as `SegmentationDataset`; or the images differ in size or don't fit into memory;
            or `size` isn't positive.
    """
    if size and min(size) < 1:
        raise CwdError(f"{dataset.name} can't be read with size {size}: give positive numbers.")
    count = len(dataset)
    first = dataset[0].target.shape
    height, width = (int(n) for n in size or first)
    if (need := 4 * count * height * width) > MEMORY:
        raise CwdError(
            f"{dataset.root}, decoded, takes {need / 2**30:.0f} GiB and at most "
            f"{MEMORY / 2**30:.0f} are kept in memory: set a smaller data.size or fewer images."
        )
    images = torch.empty(count, 3, height, width, dtype=torch.uint8)
    targets = torch.empty(count, height, width, dtype=torch.uint8)

    def read(index: int) -> None:
        image, target = dataset[index]
        if size:
            image = resize(image, [height, width], antialias=True)
            target = resize(target[None], [height, width], InterpolationMode.NEAREST_EXACT)[0]
        elif target.shape != first:
            raise CwdError(
                f"{dataset.pairs[index][0]} is {tuple(target.shape)} pixels and the first image "
                f"{tuple(first)}: set data.size, so that all are resized to one size."
            )
        images[index], targets[index] = image, target

    with ThreadPoolExecutor() as pool:
        list(pool.map(read, range(count)))
    return InMemoryDataset(
        dataset.name, dataset.classes, dataset.palette, dataset.checksum, images, targets
    )


def describe(parts: Mapping[str, Any]) -> pd.DataFrame:
    """Number of images, their size in pixels, and the share of ignored pixels in percent.

    Args:
        parts: opened datasets by split, see `cwd.data.opening.open_data`.
    """
    lines = {}
    for split, part in parts.items():
        ends = zip(part.sizes.amin(dim=0).tolist(), part.sizes.amax(dim=0).tolist(), strict=True)
        height, width = (low if low == high else f"{low} to {high}" for low, high in ends)
        ignored = part.label_counts[IGNORED] / part.label_counts.sum()
        lines[split] = {
            "images": len(part),
            "height": height,
            "width": width,
            "ignored pixels (%)": round(100 * ignored.item(), 1),
        }
    name = next(iter(parts.values())).name
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis(name)
