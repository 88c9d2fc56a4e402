"""COCO 2017's archives: which they are, getting them, and checking what was in them."""

import shutil
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from torchvision.datasets.utils import download_and_extract_archive

from cwd.data.base import check_complete
from cwd.data.detection.coco import COCO_SITE, CocoDataset, build_coco, coco_layout
from cwd.system.errors import CwdError


@dataclass(frozen=True)
class Archive:
    """One of COCO's archives.

    Attributes:
        name: the file's.
        url: where it is.
        size: bytes, as the server has it.
        inside: the folder that it unpacks to.
        markers: what is in COCO's folder when it was unpacked.
    """

    name: str
    url: str
    size: int
    inside: str
    markers: tuple[str, ...]


LISTS = "annotations/instances_train2017.json", "annotations/instances_val2017.json"
ARCHIVES = (
    Archive(
        "annotations_trainval2017.zip",
        f"{COCO_SITE}/annotations/annotations_trainval2017.zip",
        252_907_541,
        "annotations",
        LISTS,
    ),
    Archive("val2017.zip", f"{COCO_SITE}/zips/val2017.zip", 815_585_330, "val2017", ("val2017",)),
    Archive(
        "train2017.zip",
        f"{COCO_SITE}/zips/train2017.zip",
        19_336_861_798,
        "train2017",
        ("train2017",),
    ),
)


def missing_archives(root: Path) -> list[Archive]:
    """The archives that weren't unpacked into COCO's folder."""
    return [a for a in ARCHIVES if not all((root / marker).exists() for marker in a.markers)]


def download_archive(archive: Archive, root: Path) -> None:
    """Get one of COCO's archives by torchvision; its folder is there when all of it is.

    COCO publishes no checksums. A file cut short is known by its size; unpacking compares the
    checksums that the archive has of its own files.

    Args:
        archive: which.
        root: COCO's folder.

    Raises:
        CwdError: a folder of that name is there and is incomplete.
        OSError, RuntimeError, zipfile.BadZipFile, zlib.error: the archive can't be had or is
            damaged.
    """
    place = root / archive.inside
    if place.exists():
        raise CwdError(
            f"{place} is there and is incomplete (not all of {' and '.join(archive.markers)}): "
            "move it away, and run `make data DATASET=coco` again."
        )
    partial = root / f".{archive.name}.partial"
    file = partial / archive.name
    if file.exists() and file.stat().st_size != archive.size:
        file.unlink()  # torchvision would take it for the whole
    try:
        download_and_extract_archive(archive.url, str(partial), filename=archive.name)
    except (zipfile.BadZipFile, zlib.error):
        file.unlink(missing_ok=True)
        raise
    (partial / archive.inside).rename(place)
    shutil.rmtree(partial)


def check_coco(root: Path, tell: Callable[[str], None]) -> str:
    """Count COCO's images and decode all of them; returns a sentence.

    Args:
        root: COCO's folder, or a data root that holds it.
        tell: is called with what is being done.

    Raises:
        CwdError: a file is missing or damaged, or a count or size differs from what is official.
    """
    counts = []
    for split in coco_layout("coco").splits:
        dataset = build_coco("coco", root, split)
        check_complete(dataset)
        tell(f"decoding {len(dataset)} images of {split}")
        decode_all(dataset)
        trainable = f" ({len(dataset.trainable())} with objects to train on)"
        counts.append(f"{len(dataset)} {split}{trainable if split == 'train' else ''}")
    return f"coco is in {dataset.root}: {', '.join(counts)}; every file decoded and checked."


def decode_all(dataset: CocoDataset) -> None:
    """Read every image; raises as `CocoDataset.__getitem__`."""
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(lambda index: len(dataset[index].image), range(len(dataset))):
            pass
