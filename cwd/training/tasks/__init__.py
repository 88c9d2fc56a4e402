"""The tasks there are, and which of them a network is for."""

from typing import Any

from cwd.config.run import Run
from cwd.models.names import CLASSIFIER, DETECTOR, has_masks, kind_of
from cwd.system.errors import CwdError
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


def check_parts(run: Run) -> None:
    """Refuse a run whose network, schedule and teacher don't go together, by a `CwdError`."""
    task, teacher = task_of(run.network), run.teacher
    if not isinstance(run.schedule, task.schedule):
        raise CwdError(
            f"run {run.name} has a {type(run.schedule).__name__}, and {run.network} needs a "
            f"{task.schedule.__name__}: give it one."
        )
    if teacher and (task_of(teacher.network), teacher.data.name) != (task, run.data.name):
        raise CwdError(
            f"run {run.name}: {teacher.network} on {teacher.data.name} can't teach {run.network} "
            f"on {run.data.name}: take a teacher of the same task and dataset."
        )


def score_of(network: str, metrics: dict[str, Any]) -> str:
    """What was measured of a network in a few words: "mIoU 71.23"."""
    task = task_of(network)
    return f"{task.unit} {metrics[task.measure]:.2f}"
