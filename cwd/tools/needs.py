"""What runs need beside time: room on the disk, datasets and first weights to download."""

import functools
import math
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cwd.config.run import Data, Run
from cwd.data.classification.crops import crops_folder
from cwd.data.classification.folders import FOLDER_LAYOUTS
from cwd.data.datasets import LAYOUTS, build_dataset, large
from cwd.data.decoded import is_cached
from cwd.data.detection.coco import ARCHIVES, COCO_LAYOUTS, missing_archives
from cwd.data.scenes.draw import scenes_folder
from cwd.data.segmentation import PER_PIXEL, SegmentationDataset
from cwd.models.names import CLASSIFIER, kind_of
from cwd.models.weights import is_public
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.tools.operations import classes_of, described
from cwd.training.tasks import task_of

# bytes that the two file formats add to each tensor, as seen on finished runs
SAFETENSORS_EACH, CHECKPOINT_EACH = 93, 340
LOOKED_AT = 200  # images whose headers are read where a dataset's images differ in size
# bytes of ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar
IMAGENET_ARCHIVES = {"train": 147_897_477_120, "val": 6_744_924_160}


@dataclass(frozen=True)
class Need:
    """Something that takes room on a disk, or comes from elsewhere.

    Attributes:
        what: in words.
        size: bytes that are still to be written.
        place: where to.
        download: how many bytes of it are downloaded.
    """

    what: str
    size: int
    place: Path
    download: int = 0


@functools.cache
def run_bytes(run: Run) -> tuple[int, int]:
    """Bytes of a run's two large files, the network and the checkpoint.

    The checkpoint has the network, what is trained with it, and the optimisers' state: SGD keeps a
    momentum for every weight, Adam two numbers for the critic's. Without a step there is none.
    """
    student = described(run.network, classes_of(run))
    learnt, state = [student], list(student.parameters())
    if run.teacher:
        teacher = described(run.teacher.network, classes_of(run.teacher))
        with torch.device("meta"):
            distiller = task_of(run.network).distiller(run, student, teacher)
        learnt.append(distiller)
        state += distiller.trained.parameters()
        state += 2 * list(distiller.critic.parameters()) if distiller.critic else []
    weights = list(student.state_dict().values())
    saved = [tensor for module in learnt for tensor in module.state_dict().values()] + state
    checkpoint = _nbytes(saved) + CHECKPOINT_EACH * len(saved) if run.schedule.steps else 0
    return _nbytes(weights) + SAFETENSORS_EACH * len(weights), checkpoint


def _nbytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def dataset_needs(data: Data, data_root: Path) -> list[Need]:
    """The dataset's archives where it isn't there, and its decoded images where they go to a disk.

    Raises:
        CwdError: there is no such dataset, or the one that is there is incomplete.
    """
    name = data.name
    if name in ("scenes", "crops"):
        scenes = _drawn("scenes: drawn", scenes_folder(data, data_root), PER_PIXEL, data)
        if name == "scenes":
            return [scenes]
        # files of crops took half a byte a pixel
        place = crops_folder(data, data_root)
        return [scenes, _drawn("crops: cut out of the scenes", place, 1, data)]
    if name == "coco":
        root = COCO_LAYOUTS[name].find(data_root)
        missing = {a.inside: a.size for a in missing_archives(root or data_root / name)}
        return [_archives(name, root, data_root, missing, len(ARCHIVES))]
    if name == "imagenet":
        root = FOLDER_LAYOUTS[name].find(data_root)
        place = root or data_root / name
        missing = {n: size for n, size in IMAGENET_ARCHIVES.items() if not (place / n).is_dir()}
        return [_archives(name, root, data_root, missing, len(IMAGENET_ARCHIVES))]
    layout = LAYOUTS[name]
    root = layout.find(data_root)
    needs = [_archives(name, root, data_root, {} if root else {name: layout.download}, 1)]
    decoded = {"train": data.train, data.split: data.val}
    for split, limit in {} if data.size or not large(layout) else decoded.items():
        dataset = build_dataset(name, data_root, split).first(limit) if root else None
        what, size = f"{name} {split}, decoded once", 0
        if dataset is None:
            size = layout.decoded(split) * (limit or layout.counts[split]) // layout.counts[split]
        elif is_cached(dataset, paths.CACHE):
            what = f"{name} {split}, decoded: present"
        else:
            size = _decoded(dataset)
        needs.append(Need(what, size, paths.CACHE))
    return needs


def _drawn(how: str, place: Path, per_pixel: int, data: Data) -> Need:
    """Images that are made here; their files take less than their pixels do."""
    what, shown = how.partition(":")[0], paths.for_people(place)
    if place.is_dir():
        return Need(f"{what}: present in {shown}", 0, place)
    size = per_pixel * math.prod(map(int, data.size)) * (data.train + data.val)
    return Need(f"{how} into {shown}, at most", size, place)


def _archives(
    name: str, root: Path | None, data_root: Path, missing: dict[str, int], count: int
) -> Need:
    """Archives, `count` in all, and about as much again for what is in them: it is compressed."""
    shown = paths.for_people(root or data_root)
    if not missing:
        return Need(f"{name}: present in {shown}", 0, root)
    parts = "" if len(missing) == count else f"{', '.join(missing)} "
    what = f"{name}: {parts}missing in {shown}; archives, and what is in them"
    download = sum(missing.values())
    return Need(what, 2 * download, data_root, download)


def _decoded(dataset: SegmentationDataset) -> int:
    """Bytes of a dataset's decoded images; where they differ in size, going by some of them."""
    if dataset.layout.size:
        return PER_PIXEL * math.prod(dataset.layout.size) * len(dataset)
    pixels = []
    for index in np.linspace(0, len(dataset) - 1, min(LOOKED_AT, len(dataset))).astype(int):
        path = dataset.pairs[index][0]
        try:
            with Image.open(path) as image:  # its header alone is read
                pixels.append(math.prod(image.size))
        except (OSError, SyntaxError, ValueError) as error:
            raise CwdError(f"{path} can't be decoded ({error}): get the file again.") from error
    return PER_PIXEL * round(float(np.mean(pixels)) * len(dataset))


def weight_needs(runs: Iterable[Run]) -> list[Need]:
    """The first weights of the networks that don't start from random ones, each file once."""
    found: dict[tuple[str, int], list[str]] = {}  # networks by what they start from, and its bytes
    for run in runs:
        if run.init != "random":
            used = described(run.network, classes_of(run)).backbone
            if kind_of(run.network) == CLASSIFIER and is_public(run.init):
                used = described(
                    run.network, FOLDER_LAYOUTS["imagenet"].num_classes
                )  # their classifier too
            found.setdefault((run.init, _nbytes(used.state_dict().values())), []).append(
                run.network
            )
    needs: dict[str, Need] = {}
    for (init, size), networks in found.items():
        path, others = paths.below_root(init), " and others" if len({*networks}) > 1 else ""
        if is_public(init):
            what = f"public weights ({init}) of {networks[0]}{others}, unless cached"
            needs[what] = Need(what, size, Path.home(), size)
        elif path.is_file():
            needs[init] = Need(f"{init}: present", 0, path)
        else:
            needs[init] = Need(f"{init}: missing, see data/README.md", size, path, size)
    return list(needs.values())


def free_bytes(place: Path) -> tuple[int, int]:
    """The disk that a folder is on or would be made on, as a number, and what is free there."""
    while not place.exists():
        place = place.parent
    return place.stat().st_dev, shutil.disk_usage(place).free


def shortages(needs: Iterable[Need]) -> list[str]:
    """A sentence for every disk that can't hold what is to be written to it."""
    wanted: dict[int, int] = {}
    found: dict[int, tuple[int, Path]] = {}
    for need in needs:
        disk, free = free_bytes(need.place)
        wanted[disk] = wanted.get(disk, 0) + need.size
        found.setdefault(disk, (free, need.place))
    return [
        f"WARNING: {in_words(wanted[disk])} are to be written to the disk of "
        f"{paths.for_people(place)}, which has {in_words(free)} free: free some disk space, or "
        "make build/cache, build/runs or the data root a link to a larger disk."
        for disk, (free, place) in found.items()
        if wanted[disk] > free
    ]


def in_words(size: float) -> str:
    """Bytes for people: "1.2 GiB"."""
    units = ("bytes", "KiB", "MiB", "GiB")
    power = min(int(math.log(max(size, 1), 1024)), len(units) - 1)
    return f"{size / 1024**power:.{1 if power else 0}f} {units[power]}"
