"""The teacher at work: whether it may teach, and its maps for every batch."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cwd.config.run import Run
from cwd.models.folded import fold_norms
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


class Teacher:
    """The network of a finished run, frozen and in eval mode, asked once for every batch."""

    def __init__(self, folder: RunFolder, num_classes: int, device: torch.device) -> None:
        self.task = task_of(folder.run.network)
        network = self.task.build(folder.run.network, num_classes)
        weights = folder.load_into(network)
        network.eval().requires_grad_(False)
        if device.type != "cpu":  # where kernels wait to be launched; there, results stay the same
            fold_norms(network)
        self.network = network.to(device, memory_format=torch.channels_last)
        self.record = {
            "run": folder.run.name,
            self.task.measure: folder.metrics[self.task.measure],
            "sha256": weights,
        }

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Any:
        """Its output for a batch, float32 [B, 3, H, W], normalised."""
        if self.network.training:  # whatever was done to it since: its statistics are not to move
            self.network.eval()
        return self.task.forward(self.network, batch, None)
