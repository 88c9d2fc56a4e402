"""The tasks there are, and which of them a network is for."""

from typing import Any

from cwd.detection.names import is_detector
from cwd.detection.task import DETECTION
from cwd.segmentation import SEGMENTATION
from cwd.task import Task


def task_of(network: str) -> Task:
    """The task of a network, by its name."""
    return DETECTION if is_detector(network) else SEGMENTATION


def score_of(network: str, metrics: dict[str, Any]) -> str:
    """What was measured of a network in a few words: "mIoU 71.23"."""
    task = task_of(network)
    return f"{task.unit} {metrics[task.measure]:.2f}"
