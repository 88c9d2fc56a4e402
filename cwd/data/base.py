"""The contract of every dataset, whatever its targets are, and what is known of one beforehand."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from cwd.system.errors import CwdError


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What is known of a dataset before it is read.

    Attributes:
        remedy: what to do where something is missing or damaged.
        markers: paths in the dataset's folder, by any of which it is recognised.
        folders: what the dataset's folder may be called below a data root.
        counts: official number of images by split.
    """

    remedy: str
    markers: tuple[str, ...]
    folders: tuple[str, ...] = ()
    counts: Mapping[str, int] | None = None

    def find(self, root: Path) -> Path | None:
        """The dataset's folder: `root` itself or one below it; None if it isn't there."""
        for marker in map(Path, self.markers):
            # given VOCdevkit/ or VOCdevkit/VOC2012/ itself, the dataset's folder is above it
            above = [
                root.parents[depth - 1]
                for depth in range(1, len(marker.parts) + 1)
                if root.parts[-depth:] == marker.parts[:depth]
            ]
            for place in (root, *(root / folder for folder in self.folders), *above):
                if (place / marker).exists():
                    return place
        return None

    def folder(self, name: str, root: str | Path) -> Path:
        """As `find`.

        Raises:
            CwdError: the dataset isn't there.
        """
        if found := self.find(Path(root)):
            return found
        raise CwdError(f"{root} holds no {name} (no {self.markers[0]}/ in it): {self.remedy}")


Known = TypeVar("Known", bound=Layout)


def look_up(name: str, layouts: Mapping[str, Known], kind: str = "", others: str = "") -> Known:
    """A dataset's layout by its name.

    Args:
        name: of the dataset.
        layouts: by name.
        kind: of the datasets among them, a word and a space.
        others: where to look for other names, for the sentence.

    Raises:
        CwdError: the name is unknown.
    """
    if name not in layouts:
        names = ", ".join(layouts)
        raise CwdError(f"there is no {kind}dataset {name!r}: use one of {names}{others}.")
    return layouts[name]


@dataclass(frozen=True, eq=False)
class Dataset(ABC):
    """A split of a dataset on disk. A subclass adds what it knows of its images and targets.

    Attributes:
        name: the dataset's.
        split: whose images.
        root: the dataset's folder.
        layout: what is known of it.
        classes: names, in the order of labels from 0; a field or a property of the subclass.
        names: image files, relative to `root`, in the order of indices; likewise.
        checksum: SHA-256 of what a run's result depends on; likewise.
    """

    name: str
    split: str
    root: Path
    layout: Layout

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.classes)

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Any:
        """Decode one image (uint8 [3, H, W], RGB) and its target.

        Raises:
            CwdError: a file is missing or damaged, or doesn't fit the others.
        """

    @abstractmethod
    def some(self, count: int) -> Self:
        """`count` of the images; see `first`."""

    def first(self, count: int | None) -> Self:
        """The first so many images, or as many that stand for all; all if None.

        Raises:
            CwdError: there are fewer.
        """
        check_count(self, count)
        return self if count is None else self.some(count)

    def take(self, count: int | None) -> Self:
        """As `first`, for a profile: all if None, and then they must be as many as is official.

        Raises:
            CwdError: there are fewer, or part of the dataset is missing.
        """
        if count is None:
            check_complete(self)
        return self.first(count)


def check_count(dataset: Dataset, count: int | None) -> None:
    """Refuse to take more images than a dataset has; None takes all.

    Raises:
        CwdError: there are fewer.
    """
    if count is not None and not 1 <= count <= len(dataset):
        raise CwdError(
            f"{dataset.root} has {len(dataset)} images in {dataset.split} and {count} are asked "
            "for: complete the dataset, or lower the number in the profile's data."
        )


def check_complete(dataset: Dataset) -> None:
    """Refuse a part of a dataset that is taken for the whole.

    Raises:
        CwdError: the split hasn't its official number of images.
    """
    official = (dataset.layout.counts or {}).get(dataset.split)
    if official and len(dataset) != official:
        raise CwdError(
            f"{dataset.root} has {len(dataset)} images in {dataset.split}, expected {official}: "
            f"{dataset.layout.remedy} To use what is there, set data.train and data.val to its "
            "numbers in a profile of your own."
        )
