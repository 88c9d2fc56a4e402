"""Datasets decoded once: a PNG of Cityscapes takes longer to decode than a step on a crop of it.

Small ones are kept in memory. Large ones go to a disk, a file of raw pixels an image, of which a
crop reads its own rows and columns. A file's name says its image's number, size and CRC-32, so an
interrupted build goes on.
"""

import functools
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from cwd.data.base import ahead
from cwd.data.segmentation import IGNORED, PER_PIXEL, Sample, SegmentationDataset
from cwd.system.errors import CwdError
from cwd.system.files import exclusive, write_atomic
from cwd.system.progress import report

MEMORY = 8 * 2**30  # bytes that decoded images may take
CHUNK = 16  # images that may wait to be written, and so the memory that a build takes
CHECKED = 16  # images whose checksums are compared whenever a cache is opened
PATIENCE = 24 * 3600.0  # seconds to wait for another process that builds the same cache
NAME = re.compile(r"(\d{6})_(\d+)x(\d+)_([0-9a-f]{8})\.bin")  # number, height, width, CRC-32


@dataclass(frozen=True, eq=False)
class DecodedDataset:
    """A dataset decoded, of which it has the name, classes, palette and checksum.

    `images` (uint8 [3, H, W] each) and `targets` (uint8 [H, W], 255 ignored) are indexed as tensors
    are; `sizes` is the height and width of every image, int64 [N, 2].
    """

    name: str
    classes: tuple[str, ...]
    palette: np.ndarray
    checksum: str

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.classes)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.images[index], self.targets[index].long())

    @cached_property
    def label_counts(self) -> Tensor:
        """How many pixels have each value of a target, int64 [256]."""
        return sum(torch.bincount(target.flatten(), minlength=256) for target in self.targets)

    def class_frequencies(self) -> np.ndarray:
        """Share of the labelled pixels that each class has, float64 [K]; 0 if there are none."""
        counts = self.label_counts[: self.num_classes].double()
        return (counts / counts.sum().clamp(min=1)).numpy()  # no division by zero

    def telling(self, label: int) -> int:
        """An image for pictures: of those with 2 % of a class, the first with the most classes."""
        shares = [(target == label).float().mean().item() for target in self.targets]
        varied = [len(target.unique()) for target in self.targets]
        return max(range(len(self)), key=lambda i: varied[i] * (shares[i] > 0.02))


@dataclass(frozen=True, eq=False)
class InMemoryDataset(DecodedDataset):
    """A dataset in memory: images uint8 [N, 3, H, W] and targets uint8 [N, H, W], 255 ignored."""

    images: Tensor
    targets: Tensor

    @property
    def sizes(self) -> Tensor:
        """Height and width of every image, int64 [N, 2]."""
        return torch.tensor(self.images.shape[2:]).expand(len(self.images), 2)


def known(dataset: SegmentationDataset) -> tuple[str, tuple[str, ...], np.ndarray, str]:
    """The fields of `DecodedDataset`."""
    return dataset.name, dataset.classes, dataset.layout.palette, dataset.checksum


def load_in_memory(
    dataset: SegmentationDataset, *, size: tuple[int, int] | None = None
) -> InMemoryDataset:
    """Decode a dataset; resize images bilinearly and targets to the nearest pixel, if asked for.

    Images that differ in size or don't fit into memory are a `CwdError`.
    """
    if size and min(size) < 2:  # torch resizes to no single pixel
        raise CwdError(f"{dataset.name} can't be read with size {size}: give two pixels or more.")
    count, first = len(dataset), dataset[0].target.shape
    height, width = (int(n) for n in size or first)
    if (need := PER_PIXEL * count * height * width) > MEMORY:
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
    return InMemoryDataset(*known(dataset), images, targets)


@dataclass(frozen=True, eq=False)
class CachedDataset(DecodedDataset):
    """A dataset decoded on disk, a file an image: [H, W, 3], and then [H, W] of the target."""

    files: tuple[Path, ...]

    @cached_property
    def sizes(self) -> Tensor:
        """Height and width of every image, int64 [N, 2]."""
        named = (NAME.fullmatch(path.name) for path in self.files)
        return torch.tensor([[int(name[2]), int(name[3])] for name in named])

    @cached_property
    def _mapped(self) -> Callable[[int], np.ndarray]:
        return functools.cache(lambda index: np.memmap(self.files[index], np.uint8, "r"))

    images = property(lambda self: View(self, 0), doc="The images, read when they are indexed.")
    targets = property(lambda self: View(self, 1), doc="The targets, likewise.")

    def window(
        self, index: int, rows: slice = slice(None), columns: slice = slice(None)
    ) -> tuple[np.ndarray, np.ndarray]:
        """Part of an image and its target: uint8 [h, w, 3], [h, w]; these rows alone are read."""
        height, width = self.sizes[index].tolist()
        try:
            image, target = np.split(self._mapped(index), [3 * height * width])
            image, target = image.reshape(height, width, 3), target.reshape(height, width)
        except (OSError, ValueError) as error:
            raise self._changed(index) from error
        return image[rows, columns], target[rows, columns]

    def verify(self, count: int | None = None) -> None:
        """Compare `count` images, spread over the dataset, with their checksums; all if None.

        One that differs, or any of another length than it was written with, is a `CwdError`.
        """
        for index, (path, pixels) in enumerate(zip(self.files, self.sizes.prod(1), strict=True)):
            if path.stat().st_size != PER_PIXEL * pixels:
                raise self._changed(index)
        for index in np.linspace(0, len(self) - 1, min(count or len(self), len(self))).astype(int):
            if zlib.crc32(self.files[index].read_bytes()) != int(self.files[index].stem[-8:], 16):
                raise self._changed(index)

    def _changed(self, index: int) -> CwdError:
        return CwdError(
            f"{self.files[index]} has changed on disk: delete it, and its image is decoded again."
        )


class View(Sequence):
    """The images (part 0) or targets (part 1) of a `CachedDataset`, indexed as a tensor is."""

    def __init__(self, dataset: CachedDataset, part: int) -> None:
        self.dataset, self.part = dataset, part

    def __len__(self) -> int:
        return len(self.dataset.files)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Tensor | list[Tensor]:
        """One, or several: stacked if they are of one size, else as a list."""
        chosen = np.arange(len(self))[index]
        if chosen.ndim:
            found = [self[one] for one in chosen]
            return torch.stack(found) if len({one.shape for one in found}) == 1 else found
        pixels = torch.from_numpy(self.dataset.window(int(chosen))[self.part].copy())
        return pixels if self.part else pixels.permute(2, 0, 1).contiguous()


def _cache_of(dataset: SegmentationDataset, root: Path) -> tuple[Path, dict[int, Path]]:
    # a dataset's folder in `root`, and the decoded images that lie in it, by number
    folder = root / f"{dataset.name}-{dataset.split}-{len(dataset)}-{dataset.checksum[:12]}"
    files = (path for path in sorted(folder.glob("*.bin")) if NAME.fullmatch(path.name))
    found = {int(path.name[:6]): path for path in files}
    # an image or a label that was put there later, under the same name, is decoded again
    return folder, {n: path for n, path in found.items() if not _older(path, dataset.pairs[n])}


def _older(path: Path, sources: Iterable[Path]) -> bool:
    return path.stat().st_mtime < max(source.stat().st_ctime for source in sources)


def is_cached(dataset: SegmentationDataset, root: Path) -> bool:
    """Whether all of a dataset is decoded on disk."""
    return len(_cache_of(dataset, root)[1]) == len(dataset)


def load_cached(dataset: SegmentationDataset, root: Path) -> CachedDataset:
    """The decoded dataset in `root`; it is decoded now, or the rest of it, if it isn't there.

    An image that is damaged, a disk that is too small, or a changed cache is a `CwdError`.
    """
    folder, files = _cache_of(dataset, root)
    if len(files) < len(dataset):
        with exclusive(folder.with_suffix(".lock"), f"the cache {folder}", PATIENCE):
            files = _build(dataset, root)
    cached = CachedDataset(*known(dataset), tuple(files.values()))
    cached.verify(CHECKED)
    return cached


def _build(dataset: SegmentationDataset, root: Path) -> dict[int, Path]:
    folder, done = _cache_of(dataset, root)
    what = f"{dataset.name} {dataset.split}"

    def write(index: int) -> None:
        image, target = dataset[index]
        parts = image.permute(1, 2, 0).contiguous(), target.to(torch.uint8)
        pixels = b"".join(part.numpy().tobytes() for part in parts)
        height, width = target.shape
        path = folder / f"{index:06}_{height}x{width}_{zlib.crc32(pixels):08x}.bin"
        write_atomic(path, lambda temporary: temporary.write_bytes(pixels))

    if not done:
        need = PER_PIXEL * dataset[0].target.numel() * len(dataset)  # about: sizes may differ
        free = shutil.disk_usage(root).free  # it has the lock
        if need > free:
            raise CwdError(
                f"{what}, decoded, takes about {need / 2**30:.1f} GiB and {root} has "
                f"{free / 2**30:.1f} GiB free: free some disk space, or set data.size to resize "
                "the images."
            )
    missing = [index for index in range(len(dataset)) if index not in done]
    for count, _ in enumerate(ahead(write, missing, CHUNK), 1 + len(done)):
        report(f"decoding {what}  {count}/{len(dataset)}", transient=True)
    report(f"decoding {what}: {len(dataset)} images")
    return _cache_of(dataset, root)[1]


def describe(parts: Mapping[str, DecodedDataset]) -> pd.DataFrame:
    """Number of images by split, their size in pixels, and the share of ignored pixels in %."""
    lines = {}
    for split, part in parts.items():
        ends = torch.stack(part.sizes.aminmax(dim=0), dim=1).tolist()
        height, width = (low if low == high else f"{low} to {high}" for low, high in ends)
        ignored = part.label_counts[IGNORED] / part.label_counts.sum()
        lines[split] = {"images": len(part), "height": height, "width": width}
        lines[split]["ignored pixels (%)"] = round(100 * ignored.item(), 1)
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis(part.name)
