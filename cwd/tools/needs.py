"""What runs need beside time: room on the disk, datasets and first weights to download."""

import functools
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cwd.config.run import Data, Run
from cwd.data.classification.crops import crops_folder
from cwd.data.classification.folders import find_folders
from cwd.data.datasets import build_dataset, find_dataset, layout_of
from cwd.data.decoded import is_cached
from cwd.data.detection.coco import ARCHIVES, find_coco, missing_archives
from cwd.data.opening import large, scenes_folder
from cwd.data.segmentation import PER_PIXEL, SegmentationDataset, classes_of
from cwd.experiments.step_parts import IMAGE_CLASSES, described
from cwd.models.backbones import imagenet_weights
from cwd.models.names import CLASSIFIER, DETECTOR, kind_of, parse_name
from cwd.models.segmentation import TORCHVISION
from cwd.models.weights import is_public
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.tools.workload import detector_of
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


@dataclass(frozen=True)
class RunSize:
    """Bytes of a run's two large files.

    Attributes:
        student: the network's tensors.
        checkpoint: the same, the optimisers' state, alignments and a critic; 0 without a step.
    """

    student: int
    checkpoint: int

    @property
    def kept(self) -> int:
        """What the finished run keeps."""
        return self.student + self.checkpoint

    @property
    def peak(self) -> int:
        """The most while it is trained: a checkpoint is written beside the one before."""
        return max(2 * self.checkpoint, self.kept)


@functools.cache
def run_size(run: Run) -> RunSize:
    """What a run writes, counted on networks without memory for their weights.

    SGD keeps a momentum for every weight that it descends on, Adam two numbers for the critic's.
    """
    student = shaped(run)
    learnt, adam = [student], []
    descended = [weight for weight in student.parameters() if weight.requires_grad]
    if run.teacher:
        with torch.device("meta"):
            distiller = task_of(run.network).distiller(run, student, shaped(run.teacher))
        learnt.append(distiller)
        descended += distiller.trained.parameters()
        adam = list(distiller.critic.parameters()) if distiller.critic else []
    weights = list(student.state_dict().values())
    saved = [tensor for module in learnt for tensor in module.state_dict().values()]
    saved += [*descended, *adam, *adam] if run.schedule.steps else []
    checkpoint = nbytes(saved) + CHECKPOINT_EACH * len(saved)
    return RunSize(
        student=nbytes(weights) + SAFETENSORS_EACH * len(weights),
        checkpoint=checkpoint if run.schedule.steps else 0,
    )


def shaped(run: Run) -> nn.Module:
    """A run's network without memory for its weights; of a detector as much is learnt as in it."""
    if kind_of(run.network) == DETECTOR:
        return detector_of(run, classes_of(run), device="meta")
    return described(run.network, classes_of(run))


def nbytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors, those on the meta device too."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def dataset_needs(data: Data, data_root: Path) -> list[Need]:
    """The dataset's archives where it isn't there, and its decoded images where they go to a disk.

    Raises:
        CwdError: there is no such dataset, or the one that is there is incomplete.
    """
    if data.name == "scenes":
        return [scenes_need(data, data_root)]
    if data.name == "crops":
        return [scenes_need(data, data_root), crops_need(data, data_root)]
    if data.name == "coco":
        return [coco_need(data_root)]
    if data.name == "imagenet":
        return [imagenet_need(data_root)]
    layout, root = layout_of(data.name), find_dataset(data.name, data_root)
    shown = paths.for_people(root or data_root)
    if root:
        needs = [Need(f"{data.name}: present in {shown}", 0, root)]
    else:
        # archives hold compressed images, so what is unpacked takes about as much again
        what = f"{data.name}: missing in {shown}; its archives, and what is in them"
        needs = [Need(what, 2 * layout.download, data_root, layout.download)]
    if data.size or not large(layout):
        return needs
    for split, limit in (("train", data.train), (data.split, data.val)):
        dataset = build_dataset(data.name, data_root, split).first(limit) if root else None
        if dataset and is_cached(dataset, paths.CACHE):
            needs.append(Need(f"{data.name} {split}, decoded: present", 0, paths.CACHE))
            continue
        size = decoded_size(dataset) if dataset else layout.decoded(split)
        if limit and not dataset:
            size = size * limit // layout.counts[split]
        needs.append(Need(f"{data.name} {split}, decoded once", size, paths.CACHE))
    return needs


def scenes_need(data: Data, data_root: Path) -> Need:
    """The drawn scenes: their files take less than their pixels do."""
    place = scenes_folder(data, data_root)
    height, width = (int(side) for side in data.size)
    if place.is_dir():
        return Need(f"scenes: present in {paths.for_people(place)}", 0, data_root)
    size = PER_PIXEL * height * width * (data.train + data.val)
    return Need(f"scenes: drawn into {paths.for_people(place)}, at most", size, data_root)


def crops_need(data: Data, data_root: Path) -> Need:
    """The objects that are cut out of the drawn scenes; their files took half a byte a pixel."""
    place = crops_folder(data, data_root)
    height, width = (int(side) for side in data.size)
    if place.is_dir():
        return Need(f"crops: present in {paths.for_people(place)}", 0, data_root)
    size = height * width * (data.train + data.val)
    return Need(
        f"crops: cut out of the scenes into {paths.for_people(place)}, at most", size, data_root
    )


def imagenet_need(data_root: Path) -> Need:
    """ImageNet's archives that aren't there unpacked; image-net.org asks for registration."""
    root = find_folders("imagenet", data_root) or data_root / "imagenet"
    missing = [split for split in IMAGENET_ARCHIVES if not (root / split).is_dir()]
    if not missing:
        return Need(f"imagenet: present in {paths.for_people(root)}", 0, root)
    what, place = "imagenet: missing", root.parent
    if len(missing) < len(IMAGENET_ARCHIVES):
        what, place = f"imagenet: {missing[0]} missing", root
    download = sum(IMAGENET_ARCHIVES[split] for split in missing)
    what += f" in {paths.for_people(place)}; image-net.org's archives, and what is in them"
    return Need(what, 2 * download, data_root, download)


def coco_need(data_root: Path) -> Need:
    """COCO's archives that aren't there unpacked; its images are decoded whenever they are read."""
    root = find_coco("coco", data_root) or data_root / "coco"
    missing = missing_archives(root)
    if not missing:
        return Need(f"coco: present in {paths.for_people(root)}", 0, root)
    if len(missing) == len(ARCHIVES):
        what = f"coco: missing in {paths.for_people(root.parent)}; its archives"
    else:
        names = ", ".join(archive.inside for archive in missing)
        what = f"coco: {names} missing in {paths.for_people(root)}; the archives"
    download = sum(archive.size for archive in missing)
    # photographs hardly get smaller in an archive
    return Need(f"{what}, and what is in them", 2 * download, data_root, download)


def decoded_size(dataset: SegmentationDataset) -> int:
    """Bytes of a dataset's decoded images; where they differ in size, going by some of them."""
    if dataset.layout.size:
        return PER_PIXEL * prod(dataset.layout.size) * len(dataset)
    chosen = np.linspace(0, len(dataset) - 1, min(LOOKED_AT, len(dataset))).astype(int)
    pixels = []
    for index in chosen:
        pixels.append(prod(size_of(dataset.pairs[index][0])))
    return PER_PIXEL * round(float(np.mean(pixels)) * len(dataset))


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of an image, from its header alone.

    Raises:
        CwdError: it is damaged.
    """
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, SyntaxError, ValueError) as error:
        raise CwdError(f"{path} can't be decoded ({error}): get the file again.") from error


def weight_needs(runs: Iterable[Run]) -> list[Need]:
    """The first weights of the networks that don't start from random ones, each file once."""
    needs = {}
    for run in runs:
        if run.init == "random":
            continue
        used = described(run.network, classes_of(run)).backbone
        if kind_of(run.network) == CLASSIFIER and is_public(run.init):
            used = described(run.network, IMAGE_CLASSES["imagenet"])  # their classifier comes along
        size, path = nbytes(used.state_dict().values()), paths.below_root(run.init)
        if is_public(run.init):
            name = public_name(run.network) if run.init == "imagenet" else run.init
            what = f"public weights, {name}, unless cached"
            need = Need(what, size, Path.home(), size)
        elif path.is_file():
            need = Need(f"{run.init}: present", 0, path)
        else:
            what = f"{run.init}: missing, see data/README.md"
            need = Need(what, size, path, size)
        needs.setdefault(need.what, need)
    return list(needs.values())


def public_name(network: str) -> str:
    """What the library that has a network's ImageNet weights calls them."""
    arch = parse_name(network)
    if arch.head in TORCHVISION:
        return f"torchvision's {arch.backbone}"
    return f"timm's {imagenet_weights(arch)}"


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
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError
