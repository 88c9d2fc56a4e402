"""What trained detectors find, what their pyramids hold, and how fast they are."""

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from cwd.config.run import Run
from cwd.data.detection.batches import prepare, stacked
from cwd.data.detection.coco import CocoDataset
from cwd.evaluation.coco_ap import collect, precision_recall
from cwd.experiments.beside import lines_of
from cwd.experiments.sections import Pair
from cwd.experiments.table import paper
from cwd.experiments.workspace import Workspace
from cwd.losses import ChannelWise
from cwd.models.build import count_parameters
from cwd.models.detection.outputs import Detections
from cwd.system import paths
from cwd.system.device import pick_device
from cwd.system.timing import laps


def networks(workspace: Workspace, pair: Pair, recipe: str = "CW_fpn") -> dict[str, Run]:
    """Teacher, student alone and student with a recipe, from the first seed.

    None of them where one is only recorded, which is printed.
    """
    profile, student = workspace.profile, pair.student
    seed = profile.seeds_of(student)[0]
    alone, distilled = (profile.run(name, seed, student) for name in ("", recipe))
    runs = {"teacher": pair.teacher, "student": alone, f"student, {recipe}": distilled}
    return runs if len(workspace.here(runs)) == len(runs) else {}


def found(workspace: Workspace, run: Run, dataset: CocoDataset) -> list[Detections]:
    """What a run's detector finds in every image of a dataset, in full precision."""
    network, device, schedule = workspace.network(run), pick_device(workspace.device), run.schedule
    sizes = {"short": schedule.short, "long": schedule.long}
    return collect(network.to(device), dataset, **sizes, device=device)


def curves(workspace: Workspace) -> dict[str, dict[str, pd.DataFrame]]:
    """Precision over recall at an overlap of 0.5, by detector and network; see `networks`."""
    made = {}
    for pair in workspace.detection.pairs:
        dataset = workspace.images(pair.student)[1]
        curve = {
            name: precision_recall(dataset, found(workspace, run, dataset))
            for name, run in networks(workspace, pair).items()
        }
        made |= {pair.name: curve} if curve else {}
    return made


def pictured(
    workspace: Workspace, pair: Pair, dataset: CocoDataset, chosen: list[int], *recipe: str
) -> dict[str, list[Detections]]:
    """What the three networks of a pair find in a few images of a dataset."""
    few = replace(dataset, chosen=tuple(dataset.chosen[index] for index in chosen))
    runs = networks(workspace, pair, *recipe)
    return {name: found(workspace, run, few) for name, run in runs.items()}


@torch.no_grad()
def pyramids(workspace: Workspace, pair: Pair, image: Tensor) -> dict[str, list[Tensor]]:
    """The levels of the three networks' pyramids, as CW_fpn sees them, [C, h_l, w_l].

    Positions beyond the image [3, H, W], which is padded to multiples of 32, are left out.
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
    """Eq. 4 between the teacher's `pyramids` and each student's, T = 1: level by network."""
    loss, teacher = ChannelWise(), levels["teacher"]
    table = {
        name: [loss(own[None], goal[None]).item() for own, goal in zip(maps, teacher, strict=True)]
        for name, maps in levels.items()
        if name != "teacher" and maps[0].shape[0] == teacher[0].shape[0]
    }
    return pd.DataFrame(table, index=pd.Index(range(1, len(teacher) + 1), name="level"))


def most_active(level: Tensor, count: int) -> list[int]:
    """The channels that are most concentrated on few positions: largest peaks of eq. 3."""
    return level.flatten(1).softmax(dim=1).amax(dim=1).topk(count).indices.tolist()


def contents(parts: dict[str, CocoDataset]) -> pd.DataFrame:
    """Images, and objects by class, of each split."""
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
    return sorted(sorted(range(len(numbers)), key=lambda index: -numbers[index])[:count])


def speed_table(workspace: Workspace) -> pd.DataFrame:
    """Parameters of the profile's trained detectors, and images a second, one image at a time.

    Resizing and normalising are left out; finding the detections in what the network gives is not.
    The paper's are of its students, at 800x1333 on one GPU, which it doesn't name. Where the
    detectors are only recorded, so is the table.
    """
    if known := workspace.beside(paths.DETECTION_COSTS, _both(workspace)):
        return pd.DataFrame(known["networks"]).set_index(["detector", "role"])
    printed, lines = paper("table9_detection").groupby("detector").first(), []
    for pair in workspace.detection.pairs:
        for role, run in (("teacher", pair.teacher), ("student", pair.student)):
            network = workspace.network(run)
            known = printed.loc[pair.name] if role == "student" else {}
            lines.append({
                "detector": pair.name,
                "role": role,
                "network": run.network,
                "parameters (M)": round(count_parameters(network) / 1e6, 3),
                "frames/s": round(_frames(network, run, workspace), 1),
                "paper's parameters (M)": known.get("params_m"),
                "paper's frames/s": known.get("fps"),
            })  # fmt: skip
    return pd.DataFrame(lines).set_index(["detector", "role"])


def _both(workspace: Workspace) -> list[Run]:
    return [run for pair in workspace.detection.pairs for run in (pair.teacher, pair.student)]


def record_speed(workspace: Workspace, table: pd.DataFrame) -> Path | None:
    """Write what `speed_table` measured to the profile's `detection_costs.json`."""
    networks = lines_of(table.reset_index())
    return workspace.keep(paths.DETECTION_COSTS, _both(workspace), networks=networks)


def _frames(network: nn.Module, run: Run, workspace: Workspace) -> float:
    device = pick_device(workspace.device)
    dataset, schedule = workspace.images(run)[1], run.schedule
    network, calls = network.to(device), []
    for index in range(min(4, len(dataset))):
        image = prepare(dataset[index].image, schedule.short, schedule.long)[0]
        batch, size = stacked([image.to(device)]), tuple(image.shape[-2:])
        calls.append(functools.partial(network.detect, batch, [size]))
    rounds = pd.DataFrame(laps(calls, device, repeats=5, warm=1))  # image by round
    return len(calls) / rounds.sum().median()
