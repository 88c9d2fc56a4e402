"""Image classification as a task: what the loop has to know of it."""

import functools
import math
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from cwd.config.run import Data, Run
from cwd.config.schedule import ClassificationSchedule
from cwd.data.base import check_complete
from cwd.data.classification.batches import ClassificationBatches
from cwd.data.classification.crops import crops_root
from cwd.data.classification.folders import FolderDataset, build_folders
from cwd.evaluation.top1 import evaluate
from cwd.models.build import build_network
from cwd.models.classification import ClassificationOutput, Classifier
from cwd.recipes.distiller import Distiller
from cwd.recipes.parse import parse_recipe
from cwd.system.errors import CwdError
from cwd.training.tasks.base import Task


@functools.lru_cache(maxsize=4)
def open_data(data: Data, data_root: Path) -> tuple[FolderDataset, FolderDataset]:
    """Training images, and the images that accuracy is measured on.

    Of ImageNet, `train` and `val` count images. Of crops they count the scenes that are drawn, and
    all their objects are used.

    Raises:
        CwdError: the dataset is missing, incomplete or damaged.
    """
    if data.name == "crops":
        root = crops_root(data, data_root)
        return tuple(build_folders(data.name, root, split) for split in ("train", data.split))
    if data.size:
        raise CwdError(
            f"dataset {data.name}: size is for crops, whose scenes are drawn at it; classifiers "
            "resize images by the schedule's short and crop."
        )
    parts = []
    for split, count in (("train", data.train), (data.split, data.val)):
        dataset = build_folders(data.name, data_root, split)
        if count is None:
            check_complete(dataset)
        parts.append(dataset.first(count))
    return parts[0], parts[1]


def first_student(run: Run, num_classes: int) -> Classifier:
    """The student with its first weights."""
    return build_network(run.network, num_classes, init=run.init)


def forward(network: nn.Module, images: Tensor, target: Tensor | None) -> ClassificationOutput:
    """The network's output, which doesn't depend on the target."""
    return network(images)


def losses(
    out: ClassificationOutput, target: Tensor, schedule: ClassificationSchedule
) -> dict[str, Tensor]:
    """Cross-entropy.

    Its mean over equal rows of a batch in several processes is that over the whole batch.

    Args:
        out: the student's output for the batch.
        target: int64 [B].
        schedule: of the run.
    """
    return {"CE": F.cross_entropy(out.score, target)}


def distiller(run: Run, student: Classifier, teacher: Classifier) -> Distiller:
    """The run's recipe for feature maps of its crops."""
    # strided convolutions round up
    map_size = tuple(math.ceil(side / teacher.stride) for side in run.schedule.size)
    return Distiller(parse_recipe(run.recipe), student, teacher, map_size)


CLASSIFICATION = Task(
    measure="top1",
    unit="top-1",
    schedule=ClassificationSchedule,
    open_data=open_data,
    batches=ClassificationBatches,
    build=build_network,
    student=first_student,
    forward=forward,
    losses=losses,
    distiller=distiller,
    evaluate=evaluate,
)
