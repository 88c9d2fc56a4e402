"""Object detection and instance segmentation as tasks."""

import functools
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cwd.config.run import Data, Run
from cwd.config.schedule import DetectionSchedule
from cwd.data.base import both_parts
from cwd.data.detection.batches import DetectionBatches
from cwd.data.detection.coco import CocoDataset, build_coco
from cwd.data.scenes.draw import scenes_root
from cwd.evaluation.coco_ap import evaluate
from cwd.models.detection.base import Detector
from cwd.models.detection.outputs import DetectionOutput, Objects
from cwd.recipes.detection.distil import DetectionDistiller
from cwd.recipes.parse import parse_recipe
from cwd.system.errors import CwdError
from cwd.training.tasks.base import Task


@functools.lru_cache(maxsize=4)
def open_data(data: Data, data_root: Path, masks: bool) -> tuple[CocoDataset, CocoDataset]:
    """See `Task.open_data`; those to train on have objects."""
    if data.size and data.name != "scenes":
        raise CwdError(
            f"dataset {data.name}: size is for scenes, which are drawn at it; detectors resize "
            "images by the schedule's short and long."
        )
    root = scenes_root(data, data_root) if data.name == "scenes" else data.place(data_root)
    train, val = both_parts(data, lambda split: build_coco(data.name, root, split, masks=masks))
    if not any((~val.annotated(index).crowd).any() for index in range(len(val))):
        raise CwdError(
            f"{val.root} has no objects in the {len(val)} images of {val.split}, so AP is "
            "undefined: use more images."
        )
    return train.trainable(), val


class DetectionTask(Task):
    """The detector's own losses, a recipe on its pyramid, COCO's average precision.

    Of objects with `masks` these are what is measured.
    """

    schedule, batches = DetectionSchedule, DetectionBatches

    def __init__(self, masks: bool) -> None:
        self.masks = masks
        self.measure, self.unit = ("mask_ap", "mask AP") if masks else ("ap", "AP")

    def open_data(self, data: Data, data_root: Path) -> tuple[CocoDataset, CocoDataset]:
        return open_data(data, data_root, self.masks)

    def forward(self, network: nn.Module, images: Tensor, target: Any) -> DetectionOutput:
        return network(images, target)

    def losses(
        self, out: DetectionOutput, target: list[Objects], schedule: DetectionSchedule
    ) -> dict[str, Tensor]:
        return dict(out.losses)

    def distiller(self, run: Run, student: Detector, teacher: Detector) -> DetectionDistiller:
        return DetectionDistiller(parse_recipe(run.recipe), student, teacher)

    def evaluate(
        self, network: Detector, dataset: CocoDataset, schedule: DetectionSchedule, **where: Any
    ) -> dict[str, Any]:
        return evaluate(network, dataset, short=schedule.short, long=schedule.long, **where)


DETECTION, INSTANCE = DetectionTask(masks=False), DetectionTask(masks=True)
