"""What runs need beside time: room on the disk, datasets and first weights to download."""

import functools
import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from cwd.config.run import OWN, Data, Run
from cwd.data.classification.crops import crops_folder
from cwd.data.classification.folders import FOLDER_LAYOUTS
from cwd.data.datasets import LAYOUTS, build_dataset, large
from cwd.data.decoded import is_cached
from cwd.data.detection.coco import COCO_LAYOUTS, missing_archives
from cwd.data.scenes.draw import DRAWN, scenes_folder
from cwd.data.segmentation import PER_PIXEL
from cwd.models.names import CLASSIFIER, kind_of
from cwd.models.weights import is_public
from cwd.system import paths
from cwd.tools.operations import classes_of, described
from cwd.training.tasks import task_of

# bytes of ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar
IMAGENET_ARCHIVES = {"train": 147_897_477_120, "val": 6_744_924_160}


class Need(NamedTuple):
    """Something that takes room on a disk, or comes from elsewhere."""

    what: str  # in words
    size: int  # bytes that are still to be written
    place: Path  # where to
    download: int = 0  # how many bytes of it are downloaded


@functools.cache
def run_bytes(run: Run) -> tuple[int, int]:
    """Bytes of the tensors in a run's two large files, the network and the checkpoint.

    The checkpoint has the network, what is trained with it, and the optimisers' state: SGD keeps a
    momentum for every weight, Adam two numbers for the critic's. Without a step there is none.
    """
    student = described(run.network, classes_of(run))
    kept, momenta = _nbytes(student), _nbytes(student.parameters())
    checkpoint = kept + momenta
    if run.teacher:
        teacher = described(run.teacher.network, classes_of(run.teacher))
        with torch.device("meta"):
            distiller = task_of(run.network).distiller(run, student, teacher)
        checkpoint += _nbytes(distiller) + _nbytes(distiller.trained.parameters())
        checkpoint += 2 * _nbytes(distiller.critic.parameters()) if distiller.critic else 0
    return kept, checkpoint if run.schedule.steps else 0


def _nbytes(tensors: nn.Module | Iterable[torch.Tensor]) -> int:
    tensors = tensors.state_dict().values() if isinstance(tensors, nn.Module) else tensors
    return sum(tensor.nbytes for tensor in tensors)


def dataset_needs(data: Data, data_root: Path) -> list[Need]:
    """The dataset's archives where it isn't there, and its decoded images where they go to a disk.

    A dataset that doesn't exist, or of which a part is there, is a CwdError.
    """
    name = data.name
    if name in (*DRAWN, "crops"):
        place = scenes_folder(data, data_root)
        needs = [_drawn(f"{place.parent.name}: drawn", place, PER_PIXEL, data)]
        if name == "crops":  # whose files took half a byte a pixel
            place = crops_folder(data, data_root)
            needs.append(_drawn("crops: cut out of the scenes", place, 1, data))
        return needs
    data_root = data.place(data_root)
    if name == OWN:  # as `classes_of` has found it
        return [Need(f"{name}: present in {paths.for_people(data_root)}", 0, data_root)]
    layout = {"coco": COCO_LAYOUTS, "imagenet": FOLDER_LAYOUTS}.get(name, LAYOUTS)[name]
    root = layout.find(data_root)
    place = root or data_root / name
    if name == "coco":
        missing = {archive.inside: archive.size for archive in missing_archives(place)}
    elif name == "imagenet":
        missing = {n: size for n, size in IMAGENET_ARCHIVES.items() if not (place / n).is_dir()}
    else:
        missing = {} if root else {"": layout.download}
    need = Need(f"{name}: present in {paths.for_people(place)}", 0, place)
    if missing:
        some = f"{', '.join(missing)} " if place.is_dir() else ""
        what = f"{name}: {some}missing in {paths.for_people(root or data_root)}"
        download = sum(missing.values())
        # about as much again for what is in them: it is compressed
        what = f"{what}; archives, and what is in them"
        need = Need(what, 2 * download, data_root, download)
    if name not in LAYOUTS or data.size or not large(layout):
        return [need]
    return [need, *(_decoded(data, split, root) for split in ("train", data.split))]


def _drawn(how: str, place: Path, per_pixel: int, data: Data) -> Need:
    """Images that are made here; their files take less than their pixels do."""
    what, shown = how.partition(":")[0], paths.for_people(place)
    if place.is_dir():
        return Need(f"{what}: present in {shown}", 0, place)
    size = per_pixel * math.prod(map(int, data.size)) * (data.train + data.val)
    return Need(f"{how} into {shown}, at most", size, place)


def _decoded(data: Data, split: str, root: Path | None) -> Need:
    limit, layout = data.train if split == "train" else data.val, LAYOUTS[data.name]
    what = f"{data.name} {split}, decoded"
    if root and is_cached(build_dataset(data.name, root, split).first(limit), paths.CACHE):
        return Need(f"{what}: present", 0, paths.CACHE)
    size = layout.decoded(split) * (limit or layout.counts[split]) // layout.counts[split]
    return Need(f"{what} once", size, paths.CACHE)


def weight_needs(runs: Iterable[Run]) -> list[Need]:
    """The first weights of the networks that don't start from random ones, each file once."""
    needs: dict[tuple[str, int], Need] = {}
    for run in runs:
        path, network = paths.below_root(run.init), described(run.network, classes_of(run))
        if run.init == "random":
            continue
        if kind_of(run.network) == CLASSIFIER and is_public(run.init):  # its classifier too
            size = _nbytes(described(run.network, FOLDER_LAYOUTS["imagenet"].num_classes))
        else:
            size = _nbytes(network.backbone)
        if is_public(run.init):
            what = f"public weights ({run.init}) as of {run.network}, unless cached"
            need = Need(what, size, Path.home(), size)
        elif path.is_file():
            need = Need(f"{run.init}: present", 0, path)
        else:
            need = Need(f"{run.init}: missing, see data/README.md", size, path, size)
        needs.setdefault((run.init, size), need)
    return list(needs.values())


def shortages(needs: Iterable[Need]) -> list[str]:
    """A sentence for every disk that can't hold what is to be written to it."""
    disks: dict[int, list[Need]] = {}
    for need in needs:
        disks.setdefault(existing(need.place).stat().st_dev, []).append(need)
    sentences = []
    for there in disks.values():
        wanted, place = sum(need.size for need in there), there[0].place
        free = shutil.disk_usage(existing(place)).free
        if wanted > free:
            sentences.append(
                f"WARNING: {in_words(wanted)} are to be written to the disk of "
                f"{paths.for_people(place)}, which has {in_words(free)} free: free some disk "
                "space, or make build/cache, build/runs or the data root a link to a larger disk."
            )
    return sentences


def existing(place: Path) -> Path:
    """A folder, or the first above it that is there."""
    return next(each for each in (place, *place.parents) if each.exists())


def in_words(size: float) -> str:
    """Bytes for people: "1.2 GiB"."""
    units = ("bytes", "KiB", "MiB", "GiB")
    power = min(int(math.log(max(size, 1), 1024)), len(units) - 1)
    return f"{size / 1024**power:.{1 if power else 0}f} {units[power]}"
