"""The teacher at work: whether it may teach, and its maps for every batch."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cwd import provenance
from cwd.errors import CwdError
from cwd.models import (
    OUTPUT_STRIDE,
    SegmentationOutput,
    build_network,
    load_network_weights,
)
from cwd.parallel import processes
from cwd.runs import Run, RunFolder, Schedule


def check_teacher(run: Run, runs: Path, allow_weak: bool) -> RunFolder:
    """The teacher's folder, if that teacher may teach.

    Raises:
        CwdError: it was never trained, or its recorded mIoU is missing or below the student's own.
    """
    teacher, baseline = RunFolder(runs, run.teacher), RunFolder(runs, run.baseline())
    if not teacher.finished:
        raise CwdError(
            f"run {run.name}: its teacher was never trained ({teacher.done} does not exist): train "
            "the teacher first."
        )
    miou = teacher.metrics.get("miou")
    if not isinstance(miou, float) or not math.isfinite(miou):
        raise CwdError(
            f"run {run.name}: {teacher.done / 'metrics.json'} records no mIoU of the teacher: "
            "delete that folder and train the teacher again."
        )
    alone = baseline.metrics["miou"] if baseline.finished else -math.inf
    if miou < alone and not allow_weak:
        raise CwdError(
            f"run {run.name}: the teacher's mIoU ({miou:.2f}) is below the student's own "
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
        self.runs: dict[tuple, dict[int, SegmentationOutput]] = {}

    def room(self, key: tuple, need: int) -> dict[int, SegmentationOutput] | None:
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


def nbytes(steps: dict[int, SegmentationOutput]) -> int:
    """Bytes of the maps of some steps."""
    return sum(out.score.nbytes + out.feature.nbytes for out in steps.values())


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
        network = build_network(folder.run.network, num_classes)
        load_network_weights(network, weights)
        self.network = place(network).eval().requires_grad_(False)
        self.record = {
            "run": folder.run.name,
            "miou": folder.metrics["miou"],
            "sha256": provenance.sha256(weights),
        }
        self.kept: dict[int, SegmentationOutput] | None = None

    def keep(self, schedule: Schedule, *rest: Any) -> None:
        """Keep the maps of a run, if they fit.

        Args:
            schedule: of the run.
            rest: all else that determines the maps at a step: data, seed, precision, device, and
                which rows of the batch this process has.
        """
        batches = schedule.batch, schedule.crop, schedule.scale, schedule.flip
        batches += schedule.scale_step, schedule.photometric
        positions = math.prod(side // OUTPUT_STRIDE + 1 for side in schedule.crop)
        channels = self.network.num_classes + self.network.feature_channels
        images = schedule.steps * schedule.batch // processes()
        need = 4 * images * channels * positions  # float32 at most
        self.kept = KEPT.room((self.record["sha256"], *batches, *rest), need)

    @torch.no_grad()
    def __call__(self, batch: Tensor, step: int) -> SegmentationOutput:
        """Its maps for the batch of a step.

        Args:
            batch: float32 [B, 3, H, W], normalised.
            step: which; the maps of a step that are kept are not computed again.
        """
        if self.kept is None:
            return self.network(batch)
        if step not in self.kept:
            self.kept[step] = self.network(batch)
        return self.kept[step]
