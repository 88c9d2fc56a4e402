"""Semantic segmentation as a task."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwd.config.run import Run
from cwd.config.schedule import Schedule
from cwd.data.batches import Batches
from cwd.data.datasets import open_data
from cwd.data.segmentation import IGNORED
from cwd.evaluation.miou import evaluate, upsample
from cwd.models.segmentation import OUTPUT_STRIDE, SegmentationNetwork, SegmentationOutput
from cwd.recipes.distiller import Distiller
from cwd.recipes.parse import parse_recipe
from cwd.system.device import compile_networks, compile_where_it_pays
from cwd.system.distributed import processes, total
from cwd.system.errors import CwdError
from cwd.training.tasks.base import Task


def cross_entropy(
    score: Tensor, target: Tensor, class_weights: tuple[float, ...] | None = None
) -> Tensor:
    """Cross-entropy at the label's resolution, a mean over pixels that aren't ignored.

    A pixel counts as its class does. Where several processes share a batch, their mean is that over
    the pixels of the whole batch. A `CwdError` if the score [B, K, h, w] has not K class weights.
    """
    score = upsample(score, target.shape[-2:])
    weight = class_weights and _weights(class_weights, score.shape[1], score.dtype, score.device)
    if processes() == 1:
        return F.cross_entropy(score, target, weight, ignore_index=IGNORED)
    known = target != IGNORED
    counts = known if weight is None else known * weight[target * known]
    share = processes() / total(counts.sum())
    return share * F.cross_entropy(score, target, weight, ignore_index=IGNORED, reduction="sum")


@functools.cache  # a copy to the device makes it wait
def _weights(
    weights: tuple[float, ...], classes: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    if len(weights) != classes:
        raise CwdError(
            f"schedule has {len(weights)} class_weights and the images {classes} classes: give one "
            "a class, in the dataset's order."
        )
    return torch.tensor(weights, dtype=dtype, device=device)


class SegmentationTask(Task):
    """Cross-entropy of every pixel, a recipe on score and feature maps, mIoU."""

    measure, unit, schedule = "miou", "mIoU", Schedule
    open_data, batches = staticmethod(open_data), Batches

    def student(self, run: Run, num_classes: int) -> SegmentationNetwork:
        student = super().student(run, num_classes)
        if processes() > 1 and student.aux_head and not run.schedule.aux_weight:
            student.aux_head.requires_grad_(False)  # DDP would wait for its gradients
        return student

    def losses(
        self, out: SegmentationOutput, target: Tensor, schedule: Schedule
    ) -> dict[str, Tensor]:
        """The first term of eq. 5 and 8, and the auxiliary head's; target int64 [B, H, W]."""
        weights = schedule.class_weights
        terms = {"CE": cross_entropy(out.score, target, weights)}
        if schedule.aux_weight and out.aux_score is not None:  # MobileNetV2 has none
            terms["CE_aux"] = schedule.aux_weight * cross_entropy(out.aux_score, target, weights)
        return terms

    def distiller(self, run: Run, student: nn.Module, teacher: nn.Module) -> Distiller:
        map_size = tuple(side // OUTPUT_STRIDE for side in run.schedule.size)
        return Distiller(parse_recipe(run.recipe), student, teacher, map_size)

    def compile(
        self, students: Sequence[Any], teacher: Any, schedule: Schedule, device: str
    ) -> list[str]:
        chosen = []
        map_size = (side // OUTPUT_STRIDE for side in schedule.size)
        losses = [loss for each in students if each.distiller for loss in _plain(each.distiller)]
        if compile_where_it_pays(losses, math.prod(map_size)):
            chosen.append("losses")
        networks = [each.network for each in (*students, teacher) if each]
        # batch norms of several processes talk to each other, and a user's network may do anything
        if processes() == 1 and all(isinstance(each, SegmentationNetwork) for each in networks):
            # compiled once for all students that are the same network
            pixels = len(students) * schedule.steps * schedule.batch * math.prod(schedule.crop)
            if compile_networks(networks, pixels, device):
                chosen.append("networks")
        return chosen

    def evaluate(
        self, network: nn.Module, dataset: Any, schedule: Schedule, **where: Any
    ) -> dict[str, Any]:
        with torch.compiler.set_stance("force_eager"):  # images keep their size
            return evaluate(network, dataset, **where)


def _plain(distiller: Distiller) -> list[nn.Module]:
    """The losses that learn nothing.

    No compiler differentiates twice, as the critic's penalty does, or speeds convolutions up.
    """
    learning = [distiller.critic, *distiller.trained]
    return [loss for loss in distiller.losses.values() if loss not in learning]


SEGMENTATION = SegmentationTask()
