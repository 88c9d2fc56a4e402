"""The teacher at work: whether it may teach, and its maps for every batch."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cwd.config.run import Run
from cwd.config.schedule import BaseSchedule
from cwd.system.errors import CwdError
from cwd.training.run_folder import RunFolder
from cwd.training.tasks import task_of


def check_teacher(run: Run, runs: Path, allow_weak: bool) -> RunFolder:
    """The teacher's folder, if it was trained, measured, and isn't worse than the student alone."""
    teacher, baseline = RunFolder(runs, run.teacher), RunFolder(runs, run.baseline())
    if not teacher.finished:
        raise CwdError(
            f"run {run.name}: {teacher.done} is missing, its teacher was never trained: train it."
        )
    task = task_of(run.network)
    score = teacher.metrics[task.measure]
    alone = baseline.metrics[task.measure] if baseline.finished else -math.inf
    if score < alone and not allow_weak:
        raise CwdError(
            f"run {run.name}: the teacher's {task.unit} ({score:.2f}) is below the student's own "
            f"({alone:.2f}): train it for longer, or set allow_weak_teacher: true in the profile."
        )
    return teacher


class Kept:
    """Maps of teachers in memory, for runs that differ in the recipe alone: half their time.

    Only a run whose maps fit into `limit` bytes as a whole is kept, and the oldest go first.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.runs = limit, {}

    def room(self, key: tuple, need: int) -> dict[int, Any] | None:
        """A run's maps by step, to be read and added to; None if they `need` too many bytes."""
        steps = self.runs.pop(key, {})
        while self.runs and need + sum(map(_nbytes, self.runs.values())) > self.limit:
            del self.runs[next(iter(self.runs))]
        if need > self.limit:
            return None
        self.runs[key] = steps  # the last is the newest
        return steps


def _nbytes(steps: dict[int, Any]) -> int:
    return sum(x.nbytes for out in steps.values() for x in out if isinstance(x, Tensor))


KEPT = Kept(2 * 2**30)


class Teacher:
    """The network of a finished run, frozen and in eval mode, asked once for every step."""

    def __init__(self, folder: RunFolder, num_classes: int, device: torch.device) -> None:
        self.task = task_of(folder.run.network)
        network = self.task.build(folder.run.network, num_classes)
        weights = folder.load_into(network)
        self.network = network.to(device, memory_format=torch.channels_last)
        self.network.eval().requires_grad_(False)
        self.record = {
            "run": folder.run.name,
            self.task.measure: folder.metrics[self.task.measure],
            "sha256": weights,
        }
        self.kept: dict[int, Any] | None = None

    def keep(self, schedule: BaseSchedule, *rest: Any) -> None:
        """Keep the maps of a run, if they fit; `rest` is all else that determines a step's maps."""
        if size := self.task.kept(schedule, self.network):
            batches, need = size
            self.kept = KEPT.room((self.record["sha256"], *batches, *rest), need)

    @torch.no_grad()
    def __call__(self, batch: Tensor, step: int) -> Any:
        """Its output for the batch of a step, float32 [B, 3, H, W], normalised."""
        kept = {} if self.kept is None else self.kept
        if step not in kept:
            kept[step] = self.task.forward(self.network, batch, None)
        return kept[step]
