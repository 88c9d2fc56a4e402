"""The tasks there are, and which of them a network is for."""

from typing import Any

from cwd.classification.task import CLASSIFICATION
from cwd.detection.instance import INSTANCE
from cwd.detection.names import has_masks
from cwd.detection.task import DETECTION
from cwd.names import CLASSIFIER, DETECTOR, kind_of
from cwd.segmentation import SEGMENTATION
from cwd.task import Task


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
