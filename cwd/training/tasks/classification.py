"""Image classification as a task."""

import functools
import math
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from cwd.config.run import Data, Run
from cwd.config.schedule import ClassificationSchedule
from cwd.data.base import both_parts
from cwd.data.classification.batches import ClassificationBatches
from cwd.data.classification.crops import crops_root
from cwd.data.classification.folders import FolderDataset, build_folders
from cwd.evaluation.top1 import evaluate
from cwd.models.classification import ClassificationOutput, Classifier
from cwd.recipes.distiller import Distiller
from cwd.recipes.parse import parse_recipe
from cwd.system.errors import CwdError
from cwd.training.tasks.base import Task


@functools.lru_cache(maxsize=4)
def open_data(data: Data, data_root: Path) -> tuple[FolderDataset, FolderDataset]:
    """See `Task.open_data`; `train` and `val` count images, or scenes with all their crops."""
    if data.name == "crops":
        root = crops_root(data, data_root)
        return tuple(build_folders(data.name, root, split) for split in ("train", data.split))
    if data.size:
        raise CwdError(
            f"dataset {data.name}: size is for crops, whose scenes are drawn at it; classifiers "
            "resize images by the schedule's short and crop."
        )
    root = data.place(data_root)
    return both_parts(data, lambda split: build_folders(data.name, root, split))


class ClassificationTask(Task):
    """Cross-entropy, a recipe on the last feature map, top-1 accuracy."""

    measure, unit, schedule = "top1", "top-1", ClassificationSchedule
    batches = ClassificationBatches
    open_data, evaluate = staticmethod(open_data), staticmethod(evaluate)

    def losses(
        self, out: ClassificationOutput, target: Tensor, schedule: ClassificationSchedule
    ) -> dict[str, Tensor]:
        # over equal rows in several processes its mean is that over the batch
        return {"CE": F.cross_entropy(out.score, target)}

    def distiller(self, run: Run, student: Classifier, teacher: Classifier) -> Any:
        # strided convolutions round up
        map_size = tuple(math.ceil(side / teacher.stride) for side in run.schedule.size)
        return Distiller(parse_recipe(run.recipe), student, teacher, map_size)


CLASSIFICATION = ClassificationTask()
