"""What trained detectors find and what their pyramids hold: what the notebook shows."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from cwd.config.run import Run
from cwd.data.detection.batches import prepare, stacked
from cwd.data.detection.coco import CocoDataset
from cwd.evaluation.coco_ap import collect, precision_recall
from cwd.experiments.sections import Pair
from cwd.experiments.workspace import Workspace
from cwd.losses import ChannelWise
from cwd.models.detection.outputs import Detections
from cwd.system.device import pick_device

SHOWN = "CW_fpn"  # the recipe that is looked at beside the student alone


def networks(workspace: Workspace, pair: Pair, recipe: str = SHOWN) -> dict[str, Run]:
    """Teacher, student alone and student with a recipe, from the first seed."""
    seed = workspace.profile.seeds_of(pair.student)[0]
    return {
        "teacher": pair.teacher,
        "student": workspace.profile.run("", seed, pair.student),
        f"student, {recipe}": workspace.profile.run(recipe, seed, pair.student),
    }


def found(workspace: Workspace, run: Run, dataset: CocoDataset) -> list[Detections]:
    """What a run's detector finds in every image of a dataset, in full precision."""
    schedule, device = run.schedule, pick_device(workspace.device)
    return collect(
        workspace.network(run).to(device),
        dataset,
        short=schedule.short,
        long=schedule.long,
        device=device,
    )


def curves(workspace: Workspace) -> dict[str, dict[str, pd.DataFrame]]:
    """Precision over recall at an overlap of 0.5, by detector and network."""
    return {
        pair.name: {
            name: precision_recall(dataset, found(workspace, run, dataset))
            for name, run in networks(workspace, pair).items()
            for dataset in (workspace.images(run)[1],)
        }
        for pair in workspace.detection.pairs
    }


def pictured(
    workspace: Workspace,
    pair: Pair,
    dataset: CocoDataset,
    chosen: Sequence[int],
    recipe: str = SHOWN,
) -> dict[str, list[Detections]]:
    """What the three networks of a pair find in a few images of a dataset."""
    few = replace(dataset, chosen=tuple(dataset.chosen[index] for index in chosen))
    runs = networks(workspace, pair, recipe)
    return {name: found(workspace, run, few) for name, run in runs.items()}


@torch.no_grad()
def pyramids(workspace: Workspace, pair: Pair, image: Tensor) -> dict[str, list[Tensor]]:
    """The levels of the three networks' pyramids, as CW_fpn sees them, [C, h_l, w_l].

    Positions beyond the image, which is padded to multiples of 32, are left out.

    Args:
        workspace: with the trained runs.
        pair: which detector.
        image: uint8 [3, H, W], as it is stored.
    """
    schedule = pair.student.schedule
    resized, _ = prepare(image, schedule.short, schedule.long)
    batch = stacked([resized])
    shares = [part / whole for part, whole in zip(resized.shape[1:], batch.shape[2:], strict=True)]
    return {
        name: [inside(level[0], shares) for level in workspace.network(run)(batch).convs]
        for name, run in networks(workspace, pair).items()
    }


def inside(level: Tensor, shares: Sequence[float]) -> Tensor:
    """The part of a level [C, h, w] on the image: these shares of its rows and columns."""
    rows, columns = (math.ceil(s * n) for s, n in zip(shares, level.shape[1:], strict=True))
    return level[:, :rows, :columns]


def divergences(levels: dict[str, list[Tensor]]) -> pd.DataFrame:
    """Eq. 4 between the teacher's levels and each student's, T = 1: by network and level.

    Args:
        levels: see `pyramids`.
    """
    loss = ChannelWise()
    teacher = levels["teacher"]
    return pd.DataFrame(
        {
            name: [
                loss(mine[None], taught[None]).item()
                for mine, taught in zip(maps, teacher, strict=True)
            ]
            for name, maps in levels.items()
            if name != "teacher" and maps[0].shape[0] == teacher[0].shape[0]
        },
        index=pd.Index(range(1, len(teacher) + 1), name="level"),
    )


def most_active(level: Tensor, count: int) -> list[int]:
    """The channels that are most concentrated on few positions: largest peaks of eq. 3."""
    peaks = level.flatten(1).softmax(dim=1).amax(dim=1)
    return peaks.topk(count).indices.tolist()


def contents(parts: dict[str, CocoDataset]) -> pd.DataFrame:
    """Images, and objects by class, of each split.

    Args:
        parts: datasets by split.
    """
    lines = {}
    for split, dataset in parts.items():
        labels = torch.cat([dataset.annotated(index).labels for index in range(len(dataset))])
        counts = torch.bincount(labels, minlength=dataset.num_classes).tolist()
        lines[split] = {"images": len(dataset), "objects": sum(counts)}
        lines[split] |= dict(zip(dataset.classes, counts, strict=True))
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis(dataset.name)


def crowded(dataset: CocoDataset, count: int) -> list[int]:
    """The images with the most objects among the first hundred, in their order."""
    numbers = [len(dataset.annotated(index).labels) for index in range(min(100, len(dataset)))]
    order: Sequence[int] = sorted(range(len(numbers)), key=lambda index: -numbers[index])
    return sorted(order[:count])
