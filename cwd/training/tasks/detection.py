"""Object detection as a task: what the loop has to know of it."""

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cwd.config.run import Data, Run
from cwd.config.schedule import DetectionSchedule
from cwd.data.base import check_complete
from cwd.data.detection.batches import DetectionBatches
from cwd.data.detection.coco import CocoDataset, build_coco
from cwd.data.opening import scenes_root
from cwd.evaluation.coco_ap import evaluate
from cwd.models.build import build_network
from cwd.models.detection.base import Detector
from cwd.models.detection.outputs import DetectionOutput, Objects
from cwd.recipes.detection.distil import DetectionDistiller
from cwd.recipes.parse import parse_recipe
from cwd.system.errors import CwdError
from cwd.training.tasks.base import Task


@functools.lru_cache(maxsize=4)
def open_data(
    data: Data, data_root: Path, *, masks: bool = False
) -> tuple[CocoDataset, CocoDataset]:
    """The images with objects to train on, and the images that AP is measured on.

    Args:
        data: which images.
        data_root: folder of the datasets.
        masks: whether the objects' masks are wanted.

    Raises:
        CwdError: the dataset is missing, incomplete or damaged, or has nothing to find.
    """
    if data.size and data.name != "scenes":
        raise CwdError(
            f"dataset {data.name}: size is for scenes, which are drawn at it; detectors resize "
            "images by the schedule's short and long."
        )
    root = scenes_root(data, data_root) if data.name == "scenes" else data_root
    parts = []
    for split, count in (("train", data.train), (data.split, data.val)):
        dataset = build_coco(data.name, root, split, masks=masks)
        if count is None:
            check_complete(dataset)
        parts.append(dataset.first(count))
    train, val = parts
    if not any((~val.annotated(index).crowd).any() for index in range(len(val))):
        raise CwdError(
            f"{val.root} has no objects in the {len(val)} images of {val.split}, so AP is "
            "undefined: use more images."
        )
    return train.trainable(), val


def first_student(run: Run, num_classes: int) -> Detector:
    """The student with its first weights."""
    return build_network(run.network, num_classes, init=run.init)


def forward(network: nn.Module, images: Tensor, targets: list[Objects] | None) -> DetectionOutput:
    """The detector's output, with its own losses where there are targets."""
    return network(images, targets)


def losses(
    out: DetectionOutput, targets: list[Objects], schedule: DetectionSchedule
) -> dict[str, Tensor]:
    """The detector's own terms, which its forward pass computed."""
    return dict(out.losses)


def distiller(run: Run, student: Detector, teacher: Detector) -> nn.Module:
    """The run's recipe at work."""
    return DetectionDistiller(parse_recipe(run.recipe), student, teacher)


def measure(
    network: Detector,
    dataset: CocoDataset,
    schedule: DetectionSchedule,
    *,
    device: torch.device | str,
    autocast: Any,
) -> dict[str, Any]:
    """`cwd.evaluation.coco_ap.evaluate`, on images of the size trained on."""
    return evaluate(
        network,
        dataset,
        short=schedule.short,
        long=schedule.long,
        device=device,
        autocast=autocast,
    )


DETECTION = Task(
    measure="ap",
    unit="AP",
    schedule=DetectionSchedule,
    open_data=open_data,
    batches=DetectionBatches,
    build=build_network,
    student=first_student,
    forward=forward,
    losses=losses,
    distiller=distiller,
    evaluate=measure,
)
