"""The contract of every dataset, whatever its targets are, and what is known of one beforehand."""

import functools
import hashlib
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from cwd.config.run import Data
from cwd.system.errors import CwdError
from cwd.system.files import exclusive, read_json, sha256, unwritable

Item, Result = TypeVar("Item"), TypeVar("Result")
Part = TypeVar("Part", bound="Dataset")
SPLITS = ("train", "val", "test")
PATIENCE = 3600.0  # seconds that a process waits for another one to make what both need
FOREIGN = ("@eaDir", "Thumbs.db", "desktop.ini", "__MACOSX")  # what other programs leave behind
DEEP = ("I", "F")  # modes of Pillow with more than 8 bits, which RGB would cut off
SIZED = 50_000  # files at most whose size a checksum asks for; 1.28 million take minutes
WHOLE_CHECKSUM = 256 * 2**20  # bytes up to which a checksum reads the files' contents


def ours(path: str | Path) -> bool:
    """Whether no part of a relative path is hidden, or what other programs leave behind."""
    return not any(part.startswith(".") or part in FOREIGN for part in Path(path).parts)


def visible(folder: Path, pattern: str) -> list[Path]:
    """The files and folders below a folder that fit a pattern and are `ours`, in order."""
    return sorted(path for path in folder.glob(pattern) if ours(path.relative_to(folder)))


def readable(root: Any) -> Path:
    """A data root as a path; what can't be the path of a folder is a `CwdError`."""
    try:
        if "\0" in str(root):
            raise ValueError("it contains a null byte")
        path = Path(root).expanduser()
        path.exists()  # whose name may be too long, or below what may not be read
        return path
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise CwdError(
            f"the data root {root!r:.100} is no folder ({error}): give the path of one."
        ) from error


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What is known of a dataset before it is read."""

    remedy: str  # what to do where something is missing or damaged
    markers: tuple[str, ...]  # paths in the dataset's folder, by any of which it is recognised
    folders: tuple[str, ...] = ()  # what its folder may be called below a data root
    counts: Mapping[str, int] | None = None  # official number of images by split
    get: Callable[[Path], None] | None = None  # downloads what is missing below a data root
    drawn: bool = False  # by this package, to files that differ with the library that wrote them
    own: bool = False  # the user's, with classes of its own

    def find(self, root: str | Path) -> Path | None:
        """The dataset's folder: `root` itself or one below it; None if it isn't there."""
        root = readable(root)
        for marker in map(Path, self.markers):
            # given VOCdevkit/ or VOCdevkit/VOC2012/ itself, the dataset's folder is above it
            parents = root.parents[: len(marker.parts)]
            above = [place for place in parents if (place / marker).is_relative_to(root)]
            for place in (root, *(root / folder for folder in self.folders), *above):
                if (place / marker).exists():
                    return place
        return None

    def folder(self, name: str, root: str | Path) -> Path:
        """As `find`; a dataset that isn't there is a `CwdError`."""
        if found := self.find(root):
            return found
        raise CwdError(f"{root} holds no {name} (no {self.markers[0]}/ in it): {self.remedy}")

    def again(self, folder: Path) -> str:
        """What to do about a part of the dataset that is missing or damaged in its folder."""
        moved = f"move {folder} away and get the dataset again; "
        return (moved if self.get else "") + self.remedy


class Layouts(dict[str, Any]):
    """Layouts by a dataset's name; an unknown one is a `CwdError`."""

    def __init__(self, layouts: Mapping[str, Layout], kind: str = "", others: str = "") -> None:
        super().__init__(layouts)
        self.kind, self.others = kind, others

    def __missing__(self, name: str) -> Layout:
        names = ", ".join(self) + self.others
        raise CwdError(f"there is no {self.kind}dataset {name!r}: use one of {names}.")


@dataclass(frozen=True, eq=False)
class Dataset(ABC):
    """A split of a dataset on disk. A subclass knows its images and targets.

    It also has `classes` (names, in the order of labels from 0), `names` (image files, relative to
    `root`, in the order of indices) and `checksum` (SHA-256 of what a result depends on).
    """

    name: str
    split: str
    root: Path
    layout: Layout

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.classes)

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def __getitem__(self, index: int) -> Any:
        """Decode one image and its target; a file that is missing or damaged is a `CwdError`."""

    @abstractmethod
    def _some(self, count: int) -> Self: ...

    def first(self, count: int | None) -> Self:
        """The first so many images, or as many that stand for all; all if None."""
        if count is None:
            return self
        if not 1 <= count <= len(self):
            raise CwdError(
                f"{self.root} has {len(self)} images in {self.split} and {count} are asked for: "
                "complete the dataset, or lower the number in the profile's data."
            )
        return self._some(count)

    def take(self, count: int | None) -> Self:
        """As `first`, but all of a dataset must be as many as is official."""
        official = (self.layout.counts or {}).get(self.split)
        if count is None and official and len(self) != official:
            raise CwdError(
                f"{self.root} has {len(self)} images in {self.split}, expected {official}: "
                f"{self.layout.again(self.root)} To use what is there, set data.train and data.val "
                "to its numbers in a profile of your own."
            )
        return self.first(count)


def both_parts(data: Data, build: Callable[[str], Part]) -> tuple[Part, Part]:
    """What `build` gives for the split to train on and for the one to measure on.

    They have the same classes and not the same images, else that is a `CwdError`.
    """
    train, val = build("train").take(data.train), build(data.split).take(data.val)
    if train.classes != val.classes:
        odd = sorted({*train.classes} ^ {*val.classes}) or ["the classes in another order"]
        raise CwdError(
            f"{val.root} has {odd[0]} in only one of {train.split} and {val.split}: give both the "
            "same classes, in the same order."
        )
    contents = functools.cache(sha256)
    known: dict[int, list[Path]] = defaultdict(list)  # training images by size
    for place in spread(len(train), SIZED):
        path = train.root / train.names[place]
        known[path.stat().st_size].append(path)
    seen, same = [val.root / val.names[place] for place in spread(len(val), SIZED // 10)], {}
    for path in seen:
        for other in known.get(path.stat().st_size, ()):
            if contents(path) == contents(other):
                same[path] = other
    # photographs from the web may be there twice: one in a hundred tells nothing
    if len(same) > len(seen) / 100:
        path, other = next(iter(same.items()))
        raise CwdError(
            f"{path} of {val.split} is {other} of {train.split}, as {len(same)} of {len(seen)} "
            "images are: measure on images that nothing is learnt from."
        )
    return train, val


def made_once(root: Path, what: str, doing: str, about: dict, fill: Callable[[Path], None]) -> Path:
    """Have `fill` make the folder `root`, of which dataset.json says what it is `about`.

    One that is there with the same `about` is left as it is; anything else there is a `CwdError`.
    """
    described, part = root / "dataset.json", root.with_name(f".{root.name}.partial")
    remedy = "delete its folder, and it is made again"
    if described.is_file() and read_json(described, remedy) == about:
        return root  # it may lie where nothing can be written
    with exclusive(root.with_name(f"{root.name}.lock"), f"{doing} {root}", PATIENCE):
        if root.exists():
            if described.is_file() and read_json(described, remedy) == about:
                return root
            raise CwdError(f"{root} holds something else than {what}: move it away or delete it.")
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            fill(part)
            (part / described.name).write_text(json.dumps(about))
            part.rename(root)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            raise unwritable(root, error) from error
    return root


def decode(path: Path, mode: str | None, *, own: bool = False) -> np.ndarray:
    """Pixels of an image file, [H, W] or [H, W, 3]; converted to a mode unless that is None.

    A user's `own` is turned as its camera says. A file that is truncated or no image, has more than
    8 bits for "RGB", or if it is `own` is transparent or moves, is a `CwdError`.
    """
    try:
        with Image.open(path) as image:
            if mode and image.mode.startswith(DEEP):
                raise CwdError(
                    f"{path} has more than 8 bits a channel (mode {image.mode}): save it with 8."
                )
            if not own:
                return np.array(image.convert(mode) if mode else image)
            if getattr(image, "is_animated", False) and image.format != "MPO":
                raise CwdError(f"{path} has several frames: save one of them.")
            upright = ImageOps.exif_transpose(image)
            clear = upright.has_transparency_data and upright.convert("RGBA").getchannel("A")
            if clear and clear.getextrema()[0] < 255:
                raise CwdError(f"{path} has transparent pixels: save it without alpha.")
            return np.array(upright.convert(mode))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CwdError(
            f"{path} can't be decoded ({error}): the file is truncated or no image, get it again."
        ) from error


def spread(count: int, wanted: int) -> list[int]:
    """So many of `count` places at equal distances; all if there are fewer."""
    wanted = min(count, wanted)
    return [place * count // wanted for place in range(wanted)]


def digest_of(names: Sequence[str], root: Path, *, drawn: bool = False) -> str:
    """SHA-256 over names, and the contents of the files in `root` if they have up to 256 MiB.

    Where there is more, over the sizes instead, of 50,000 files at equal distances at most. Of
    images that are drawn here it is over their pixels.
    """
    digest = hashlib.sha256("\n".join(names).encode())
    if drawn:
        for name in names:
            digest.update(decode(root / name, None))
        return digest.hexdigest()
    files = [root / names[place] for place in spread(len(names), SIZED)]
    sizes = [path.stat().st_size for path in files]
    whole = len(files) == len(names) and sum(sizes) <= WHOLE_CHECKSUM
    for path, size in zip(files, sizes, strict=True):
        digest.update(path.read_bytes() if whole else f"{size} ".encode())
    return digest.hexdigest()


def channels_first(pixels: np.ndarray) -> Tensor:
    """An image [H, W, 3] as a tensor [3, H, W]."""
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def photograph(path: Path, *, own: bool = False) -> Tensor:
    """An image file as uint8 [3, H, W], RGB; raises as `decode`."""
    return channels_first(decode(path, "RGB", own=own))


def ahead(work: Callable[[Item], Result], items: Iterable[Item], count: int) -> Iterator[Result]:
    """`work(item)` for each item, in order; threads work on the next `count` items meanwhile."""
    waiting: deque[Future] = deque()
    pool = ThreadPoolExecutor(min(count, os.cpu_count() or 1))
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # after an error, or where nobody asks for the rest
        pool.shutdown(cancel_futures=True)
