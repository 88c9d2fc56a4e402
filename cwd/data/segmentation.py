"""Datasets for segmentation: `image` uint8 [3, H, W], `target` int64 [H, W], 255 ignored."""

import functools
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.io import loadmat
from torch import Tensor

from cwd.data import base
from cwd.data.base import WHOLE_CHECKSUM, channels_first, decode
from cwd.system import paths
from cwd.system.errors import CwdError

IGNORED = 255
INVALID = 254  # in a label mapping: a value that no label image may have
PER_PIXEL = 4  # bytes of a decoded pixel: three of the image, one of the target

Pairs = list[tuple[Path, Path]]  # image and label files


@dataclass(frozen=True, kw_only=True)
class Layout(base.Layout):
    """What is known of a dataset for segmentation; its size is None where images differ."""

    classes: tuple[str, ...]  # in the order of train ids
    palette: np.ndarray  # uint8 [K, 3]
    mapping: np.ndarray  # uint8 [256], from the values in label images to train ids
    pairs: Callable[[Path, str], Pairs]  # of the dataset's folder and a split
    size: tuple[int, int] | None = None  # official height and width of every image
    typical: tuple[int, int] | None = None  # about what size they are where they differ
    download: int = 0  # bytes of the official archives
    colours: Mapping[int, int] = field(default_factory=dict)  # 0xRRGGBB to values in label images
    table: bytes = b""  # the file that says the classes, where they are a user's own

    def decoded(self, split: str) -> int:
        """About how many bytes a whole split takes, decoded."""
        size = self.size or self.typical
        return PER_PIXEL * (self.counts or {}).get(split, 0) * prod(size) if size else 0


class Sample(NamedTuple):
    """An image, uint8 [3, H, W], RGB, and its target, int64 [H, W]: train ids, 255 ignored."""

    image: Tensor
    target: Tensor


@dataclass(frozen=True, eq=False)
class SegmentationDataset(base.Dataset):
    """Images and targets on disk; see `cwd.data.datasets.build_dataset`."""

    pairs: Pairs

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of train ids."""
        return self.layout.classes

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Image files, relative to `root`, in the order of indices."""
        return tuple(self._relative(image) for image, _ in self.pairs)

    def _relative(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.root)).as_posix()  # SBD may lie outside of `root`

    def _some(self, count: int) -> "SegmentationDataset":
        return replace(self, pairs=self.pairs[:count])

    def __getitem__(self, index: int) -> Sample:
        label_path = self.pairs[index][1]
        image, label = self._read(index)
        if self.layout.own and label.shape[2:] in ((3,), (4,)):
            label = self._by_colour(label_path, label)
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
        mapping = self.layout.mapping
        target = mapping[label]
        if (bad := label[target == INVALID]).size and self.layout.own:
            raise CwdError(
                f"{label_path} has the label {bad[0]}, which {self.root / 'classes.csv'} hasn't: "
                "add its line, or correct the label."
            )
        if bad.size:
            last = np.flatnonzero(mapping[:IGNORED] != INVALID).max()
            void = " or 255" if mapping[IGNORED] != INVALID else ""
            raise CwdError(
                f"{label_path} has the label {bad[0]}, expected 0 to {last}{void}: get the file "
                "again, as the dataset distributes it."
            )
        return Sample(channels_first(image), torch.from_numpy(target).long())

    @cached_property
    def _read(self) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
        # an image and its label as they are stored; drawn ones, of which the checksum reads the
        # pixels, are decoded once
        def read(index: int) -> tuple[np.ndarray, np.ndarray]:
            image, label = self.pairs[index]
            return decode(image, "RGB", own=self.layout.own), decode_label(label)

        return functools.cache(read) if self.layout.drawn else read

    def _by_colour(self, path: Path, label: np.ndarray) -> np.ndarray:
        """The values of a label image that has colours, from [H, W, 3]; alpha is left out."""
        packed = label[..., :3].astype(np.int64) @ (1 << 16, 1 << 8, 1)
        seen, places = np.unique(packed, return_inverse=True)
        if odd := [colour for colour in seen.tolist() if colour not in self.layout.colours]:
            raise CwdError(
                f"{path} has the colour #{odd[0]:06x}, which {self.root / 'classes.csv'} hasn't: "
                "add its line, or correct the label (its edges may be smoothed)."
            )
        values = [self.layout.colours[colour] for colour in seen.tolist()]
        return np.array(values, np.uint8)[places].reshape(packed.shape)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 over names and contents; over names and sizes for more than 256 MiB of files.

        Of drawn images it is over pixels: their files differ with the library that wrote them. Of a
        user's own the classes belong to it.
        """
        drawn, digest = self.layout.drawn, hashlib.sha256(self.layout.table)
        sizes = [path.stat().st_size for pair in self.pairs for path in pair]
        whole = sum(sizes) <= WHOLE_CHECKSUM
        for index, pair in enumerate(self.pairs):
            for part, path in enumerate(pair):
                digest.update(self._relative(path).encode())
                if drawn:
                    digest.update(self._read(index)[part])
                else:
                    size = sizes[2 * index + part]
                    digest.update(path.read_bytes() if whole else str(size).encode())
        return digest.hexdigest()


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


def complete(pairs: Pairs, labels: Iterable[Path]) -> Pairs:
    """`pairs`, if every label file belongs to one of them; else a `CwdError`."""
    if alone := sorted(set(labels) - {label for _, label in pairs}):
        raise CwdError(
            f"{alone[0]} has no image beside it ({len(alone)} such labels): unpack the images "
            "again, into the folders that data/README.md shows."
        )
    return pairs


def listed(listing: Path, folder: Path, name: str) -> list[str]:
    """The names in a list of files: of each line the first path's last part.

    A list that is missing, is no text or has a name twice is a `CwdError`; the first two say that
    dataset `name` in `folder` is incomplete.
    """
    try:
        lines = listing.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        raise CwdError(
            f"{listing} is {'missing' if missing else f'no list of files ({error})'}: the dataset "
            f"is incomplete, so move {folder} away and run `make data DATASET={name}`, or see "
            "data/README.md."
        ) from error
    names = [Path(line.split()[0]).name for line in lines if line.strip()]
    if len({*names}) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise CwdError(f"{listing} has {twice} in more than one line: leave one of them.")
    return names


def classes_of(name: str) -> dict[str, object]:
    """Class names and palette from `cwd/data/classes/NAME.csv`, as arguments of `Layout`."""
    table = pd.read_csv(paths.PACKAGE / "data" / "classes" / f"{name}.csv")
    colours = table[["red", "green", "blue"]].to_numpy(np.uint8)
    return {"classes": tuple(table["name"]), "palette": colours}
