"""Large datasets, decoded once into two files on disk, of which training reads windows.

Decoding a PNG of Cityscapes takes longer than training on a crop of it, and 3,000 of them don't fit
into memory. So every image is decoded once and its pixels are appended to `images.bin` and
`targets.bin`; a crop then reads its own rows and columns, and the operating system keeps in memory
what it has room for. A journal says which images are complete: an interrupted build goes on.
"""

import json
import os
import shutil
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, overload

import numpy as np
import torch
from torch import Tensor

from cwd.data.datasets import DecodedDataset, Sample, SegmentationDataset
from cwd.data.layouts import PER_PIXEL
from cwd.system.errors import CwdError
from cwd.system.files import exclusive, read_json, unwritable, write_json
from cwd.system.progress import report

CHUNK = 16  # images that are decoded before they are written, and so the memory that a build takes
CHECKED = 16  # images whose checksums are compared whenever a cache is opened
PATIENCE = 24 * 3600.0  # seconds to wait for another process that builds the same cache
IMAGES, TARGETS, JOURNAL, INDEX = "images.bin", "targets.bin", "journal.jsonl", "index.json"


@dataclass(frozen=True)
class CachedDataset(DecodedDataset):
    """A dataset decoded on disk; see the module.

    Attributes:
        folder: where the cache lies.
        shapes: height and width of every image, int64 [N, 2].
        checksums: CRC-32 of every image and its target.
    """

    folder: Path
    shapes: np.ndarray
    checksums: tuple[int, ...]

    @property
    def sizes(self) -> Tensor:
        """Height and width of every image, int64 [N, 2]."""
        return torch.from_numpy(self.shapes)

    @property
    def images(self) -> "View":
        """The images, read when they are indexed: uint8 [3, H, W] each."""
        return View(self, 0)

    @property
    def targets(self) -> "View":
        """The targets, read when they are indexed: uint8 [H, W] each."""
        return View(self, 1)

    @cached_property
    def starts(self) -> np.ndarray:
        """Pixels before each image, and after the last: int64 [N + 1]."""
        return np.concatenate([[0], self.shapes.prod(axis=1).cumsum()])

    @cached_property
    def maps(self) -> tuple[np.ndarray, np.ndarray]:
        """The two files, mapped into memory: uint8 [pixels, 3] and [pixels]."""
        images = np.memmap(self.folder / IMAGES, np.uint8, mode="r").reshape(-1, 3)
        return images, np.memmap(self.folder / TARGETS, np.uint8, mode="r")

    def __len__(self) -> int:
        return len(self.shapes)

    def window(self, index: int, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        """Part of an image and of its target; no more than these rows is read from the disk.

        Args:
            index: which image.
            rows: of the image.
            columns: of the image.

        Returns:
            uint8 [h, w, 3] and [h, w].
        """
        height, width = self.shapes[index]
        part = slice(self.starts[index], self.starts[index + 1])
        image, target = (array[part].reshape(height, width, -1) for array in self.maps)
        return image[rows, columns], target[rows, columns, 0]

    def __getitem__(self, index: int) -> Sample:
        image, target = self.window(index, slice(None), slice(None))
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1).contiguous()
        return Sample(pixels, torch.from_numpy(target.copy()).long())

    @cached_property
    def label_counts(self) -> Tensor:
        """How many pixels have each value of a target, int64 [256]."""
        counts = torch.zeros(256, dtype=torch.int64)
        for index in range(len(self)):
            counts += torch.bincount(self[index].target.flatten(), minlength=256)
        return counts

    def verify(self, count: int | None = None) -> None:
        """Compare `count` images, spread over the dataset, with their checksums; all if None.

        Raises:
            CwdError: one differs, or a file has another length than it was written with.
        """
        remedy = f"delete the folder {self.folder}, and it is decoded again"
        for name, depth in ((IMAGES, 3), (TARGETS, 1)):
            path, expected = self.folder / name, int(self.starts[-1]) * depth
            found = path.stat().st_size if path.is_file() else 0
            if found != expected:
                raise CwdError(f"{path} has {found} bytes, expected {expected}: {remedy}.")
        for index in np.linspace(0, len(self) - 1, min(count or len(self), len(self))).astype(int):
            image, target = self.window(index, slice(None), slice(None))
            if crc(image, target) != self.checksums[index]:
                raise CwdError(f"{self.folder}: image {index} has changed on disk: {remedy}.")


class View:
    """One half of a `CachedDataset`'s samples, indexed as a tensor is.

    Args:
        dataset: whose.
        part: 0 for the images, 1 for the targets.
    """

    def __init__(self, dataset: CachedDataset, part: int) -> None:
        self.dataset, self.part = dataset, part

    def __len__(self) -> int:
        return len(self.dataset)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice | list[int] | Tensor) -> Tensor | list[Tensor]: ...
    def __getitem__(self, index):
        """One, or several: stacked if they are of one size, else as a list."""
        if isinstance(index, int | np.integer) or (torch.is_tensor(index) and index.ndim == 0):
            found = self.dataset[range(len(self))[int(index)]][self.part]
            return found.to(torch.uint8)
        chosen = range(len(self))[index] if isinstance(index, slice) else map(int, index)
        found = [self[i] for i in chosen]
        same = len({part.shape for part in found}) == 1
        return torch.stack(found) if same else found

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))


def crc(image: np.ndarray, target: np.ndarray) -> int:
    """CRC-32 of an image and its target."""
    return zlib.crc32(np.ascontiguousarray(target), zlib.crc32(np.ascontiguousarray(image)))


def folder_of(dataset: SegmentationDataset, root: Path) -> Path:
    """Where a dataset's cache lies, or would lie."""
    return root / f"{dataset.name}-{dataset.split}-{len(dataset)}-{dataset.checksum[:12]}"


def is_cached(dataset: SegmentationDataset, root: Path) -> bool:
    """Whether all of a dataset is decoded on disk."""
    return (folder_of(dataset, root) / INDEX).is_file()


def load_cached(dataset: SegmentationDataset, root: Path) -> CachedDataset:
    """The decoded dataset; it is decoded now, or the rest of it, if it isn't on disk.

    Args:
        dataset: what to decode.
        root: folder of all caches.

    Raises:
        CwdError: an image or label is damaged, the disk is full or too small, or the cache was
            changed.
    """
    folder = folder_of(dataset, root)
    if not is_cached(dataset, root):
        with exclusive(folder.with_suffix(".lock"), f"the cache {folder}", PATIENCE):
            if not is_cached(dataset, root):
                build(dataset, folder)
    remedy = f"delete the folder {folder}, and it is decoded again"
    index = read_json(folder / INDEX, remedy)
    try:
        shapes = np.array(index["shapes"], np.int64).reshape(len(dataset), 2)
        checksums = tuple(map(int, index["crc32"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CwdError(
            f"{folder / INDEX} is damaged ({type(error).__name__}): {remedy}."
        ) from error
    known = dataset.name, dataset.classes, dataset.palette, dataset.checksum
    cached = CachedDataset(*known, folder, shapes, checksums)
    cached.verify(CHECKED)
    return cached


def build(dataset: SegmentationDataset, folder: Path) -> None:
    """Decode into `folder`, from where an interrupted build stopped; raises as `load_cached`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lines = read_journal(folder)[: len(dataset)]
        done = sum(height * width for height, width, _ in lines)
        with (
            open(folder / IMAGES, "ab") as images,
            open(folder / TARGETS, "ab") as targets,
            open(folder / JOURNAL, "a") as journal,
        ):
            images.truncate(3 * done)
            targets.truncate(done)
            if not lines:
                check_room(dataset, folder)
            decode_rest(dataset, lines, images, targets, journal)
    except OSError as error:
        raise unwritable(folder, error) from error
    shapes = [[height, width] for height, width, _ in lines]
    value = {"shapes": shapes, "crc32": [line[2] for line in lines], "files": dataset.names}
    write_json(folder / INDEX, value)
    (folder / JOURNAL).unlink(missing_ok=True)


def read_journal(folder: Path) -> list[list[int]]:
    """Height, width and CRC-32 of the images that are complete in an interrupted build.

    A torn or damaged line ends the list, and so does one whose pixels aren't there.
    """
    path, lines, pixels = folder / JOURNAL, [], 0
    files = [(folder / IMAGES, 3), (folder / TARGETS, 1)]
    there = min(f.stat().st_size // depth if f.is_file() else 0 for f, depth in files)
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            height, width, checksum = json.loads(line)
        except (ValueError, TypeError):
            break
        pixels += height * width
        if pixels > there:
            break
        lines.append([height, width, checksum])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return lines


def check_room(dataset: SegmentationDataset, folder: Path) -> None:
    """Refuse to begin what the disk can't hold, going by the first image's size.

    Raises:
        CwdError: the disk has less room than that.
    """
    need = PER_PIXEL * dataset[0].target.numel() * len(dataset)
    free = shutil.disk_usage(folder).free
    if need > free:
        raise CwdError(
            f"{dataset.name} {dataset.split}, decoded, takes about {need / 2**30:.1f} GiB and "
            f"{folder} has {free / 2**30:.1f} GiB free: free some disk space, or set data.size to "
            "resize the images."
        )


def decode_rest(
    dataset: SegmentationDataset,
    lines: list[list[int]],
    images: IO[bytes],
    targets: IO[bytes],
    journal: IO[str],
) -> None:
    """Decode what `lines` doesn't have yet, add it to the files, and its lines to `lines`."""
    what = f"decoding {dataset.name} {dataset.split}"
    with ThreadPoolExecutor() as pool:
        for start in range(len(lines), len(dataset), CHUNK):
            new = []
            for sample in pool.map(
                dataset.__getitem__, range(start, min(start + CHUNK, len(dataset)))
            ):
                image = sample.image.permute(1, 2, 0).contiguous().numpy()
                target = sample.target.to(torch.uint8).numpy()
                image.tofile(images)
                target.tofile(targets)
                new.append([*target.shape, crc(image, target)])
            # a line is written after its pixels are on the disk
            for file in (images, targets):
                file.flush()
                os.fsync(file.fileno())
            journal.writelines(json.dumps(line) + "\n" for line in new)
            journal.flush()
            lines += new
            report(f"{what}  {len(lines)}/{len(dataset)}", transient=True)
    report(f"{what}: {len(lines)} images")
