"""The teacher at work: whether it may teach, and its maps for every batch."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cwd.config.run import Run
from cwd.config.schedule import BaseSchedule
from cwd.models.build import load_network_weights
from cwd.system.errors import CwdError
from cwd.training import provenance
from cwd.training.run_folder import RunFolder
from cwd.training.tasks.choice import task_of


def check_teacher(run: Run, runs: Path, allow_weak: bool) -> RunFolder:
    """The teacher's folder, if that teacher may teach.

    Raises:
        CwdError: it was never trained, or what was measured of it is missing or below what was
            measured of the student alone.
    """
    teacher, baseline = RunFolder(runs, run.teacher), RunFolder(runs, run.baseline())
    if not teacher.finished:
        raise CwdError(
            f"run {run.name}: its teacher was never trained ({teacher.done} does not exist): train "
            "the teacher first."
        )
    task = task_of(run.network)
    score = teacher.metrics.get(task.measure)
    if not isinstance(score, float) or not math.isfinite(score):
        raise CwdError(
            f"run {run.name}: {teacher.done / 'metrics.json'} records no {task.unit} of the "
            "teacher: delete that folder and train the teacher again."
        )
    alone = baseline.metrics[task.measure] if baseline.finished else -math.inf
    if score < alone and not allow_weak:
        raise CwdError(
            f"run {run.name}: the teacher's {task.unit} ({score:.2f}) is below the student's own "
            f"({alone:.2f}): train the teacher for longer, or set allow_weak_teacher: true in the "
            "profile."
        )
    return teacher


class Kept:
    """Maps of teachers, kept in memory from one run to the next.

    Runs that differ in their recipe only see the same batches, so their teacher says the same; the
    second of them needn't ask. Only a run whose maps fit as a whole is kept, and the oldest go
    first. That halves the time of small runs and changes no number; large ones don't fit.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.runs: dict[tuple, dict[int, tuple]] = {}

    def room(self, key: tuple, need: int) -> dict[int, tuple] | None:
        """The maps of a run by step, to be read and added to; None if they are too many.

        Args:
            key: what determines the maps at every step.
            need: bytes of all maps of the run.
        """
        steps = self.runs.pop(key, {})
        while self.runs and need + sum(map(nbytes, self.runs.values())) > self.limit:
            del self.runs[next(iter(self.runs))]
        if need > self.limit:
            return None
        self.runs[key] = steps  # the last is the newest
        return steps


def nbytes(steps: dict[int, tuple]) -> int:
    """Bytes of the maps of some steps."""
    return sum(x.nbytes for out in steps.values() for x in out if isinstance(x, Tensor))


KEPT = Kept(2 * 2**30)


class Teacher:
    """A trained network that teaches: frozen, in eval mode, asked once for every step.

    Args:
        folder: its finished run.
        num_classes: of the data that it teaches on.
        place: moves a module to where it computes.
    """

    def __init__(
        self, folder: RunFolder, num_classes: int, place: Callable[[nn.Module], nn.Module]
    ) -> None:
        weights = folder.done / "student.safetensors"
        self.task = task_of(folder.run.network)
        network = self.task.build(folder.run.network, num_classes)
        load_network_weights(network, weights)
        self.network = place(network).eval().requires_grad_(False)
        self.record = {
            "run": folder.run.name,
            self.task.measure: folder.metrics[self.task.measure],
            "sha256": provenance.sha256(weights),
        }
        self.kept: dict[int, tuple] | None = None

    def keep(self, schedule: BaseSchedule, *rest: Any) -> None:
        """Keep the maps of a run, if they fit.

        Args:
            schedule: of the run.
            rest: all else that determines the maps at a step: data, seed, precision, device, and
                which rows of the batch this process has.
        """
        if self.task.kept:
            batches, need = self.task.kept(schedule, self.network)
            self.kept = KEPT.room((self.record["sha256"], *batches, *rest), need)

    @torch.no_grad()
    def __call__(self, batch: Tensor, step: int) -> Any:
        """Its maps for the batch of a step.

        Args:
            batch: float32 [B, 3, H, W], normalised.
            step: which; the maps of a step that are kept are not computed again.
        """
        if self.kept is None:
            return self.task.forward(self.network, batch, None)
        if step not in self.kept:
            self.kept[step] = self.task.forward(self.network, batch, None)
        return self.kept[step]
