"""The tasks there are, and which of them a network is for."""

from typing import Any

from cwd.models.names import CLASSIFIER, DETECTOR, has_masks, kind_of
from cwd.training.tasks.base import Task
from cwd.training.tasks.classification import CLASSIFICATION
from cwd.training.tasks.detection import DETECTION, INSTANCE
from cwd.training.tasks.segmentation import SEGMENTATION


def task_of(network: str) -> Task:
    """The task of a network, by its name."""
    kind = kind_of(network)
    if kind == DETECTOR:
        return INSTANCE if has_masks(network) else DETECTION
    return CLASSIFICATION if kind == CLASSIFIER else SEGMENTATION


def score_of(network: str, metrics: dict[str, Any]) -> str:
    """What was measured of a network in a few words: "mIoU 71.23"."""
    task = task_of(network)
    return f"{task.unit} {metrics[task.measure]:.2f}"
