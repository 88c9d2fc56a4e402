"""Which channels of a student are which of its teacher's: before and after what aligns them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from cwd.config.run import Run
from cwd.data.classification.batches import middle
from cwd.data.detection.batches import prepare, stacked
from cwd.data.transforms import normalise
from cwd.experiments.rows_transformation import METHODS, PYRAMID_TASKS, TASKS, WEIGHTS, pairs_of
from cwd.experiments.sections import Pair
from cwd.experiments.workspace import Workspace
from cwd.losses.maps import matched
from cwd.models.names import CLASSIFIER, DETECTOR, kind_of
from cwd.recipes.parse import parse_recipe
from cwd.system.device import pick_device
from cwd.system.errors import CwdError
from cwd.training.tasks.choice import task_of

IMAGES = 50  # of those that are measured on, at equal distances: some datasets are sorted by class
POSITIONS = 512  # of an image's map that are looked at, at most


@dataclass(frozen=True)
class Channels:
    """A student's channels and its teacher's at the same positions.

    Attributes:
        before: [C_s, N], the student's map as the network gives it.
        after: [C, N], the same as the loss compares it with the teacher's; None where nothing does.
        teacher: [C, N].
    """

    before: Tensor
    after: Tensor | None
    teacher: Tensor


def correlations(one: Tensor, other: Tensor) -> Tensor:
    """Pearson's correlation of every channel with every other, over N positions.

    Args:
        one: [C, N].
        other: [D, N].

    Returns:
        float64 [C, D], from -1 to 1; 0 for a channel that is the same everywhere.
    """
    return unit(one) @ unit(other).T


def unit(channels: Tensor) -> Tensor:
    """Channels [C, N] without their means, of length 1; float64."""
    centred = channels.double() - channels.double().mean(dim=1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    alive = length > 1e-9 * (1 + channels.double().norm(dim=1, keepdim=True))
    return torch.where(alive, centred / length.clamp(min=1e-300), 0)


def varied(channels: Tensor) -> Tensor:
    """Which channels [C, N] aren't the same everywhere, bool [C]."""
    return unit(channels).abs().amax(dim=1) > 0


def linear_cka(one: Tensor, other: Tensor) -> float:
    """Linear CKA (Kornblith et al., 2019): how alike two sets of channels are, rotations aside.

    Args:
        one: [C, N].
        other: [D, N].

    Returns:
        0 to 1; 0 if either is the same everywhere.
    """
    x, y = (z.double() - z.double().mean(dim=1, keepdim=True) for z in (one, other))
    scale = (x @ x.T).norm() * (y @ y.T).norm()
    return ((x @ y.T).square().sum() / scale).item() if scale > 0 else 0.0


def inputs(run: Run, image: Tensor) -> Tensor:
    """An image uint8 [3, H, W] as a run's network is measured on it: [1, 3, h, w]."""
    kind, schedule = kind_of(run.network), run.schedule
    if kind == DETECTOR:
        return stacked([prepare(image, schedule.short, schedule.long)[0]])
    return normalise((middle(image, schedule) if kind == CLASSIFIER else image)[None])


def some_positions(level: Tensor) -> Tensor:
    """A map [C, h, w] at 512 of its positions at most, drawn once for maps of a size: [C, N].

    Equal distances would fall into the same few columns of some maps. The result is on the CPU.
    """
    flat = level.flatten(1)
    order = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(0))
    return flat[:, order[:POSITIONS].sort().values.to(flat.device)].cpu()


def trained_distiller(
    workspace: Workspace, run: Run, student: nn.Module, teacher: nn.Module
) -> nn.Module:
    """A finished run's recipe with what was trained along with the student.

    Args:
        workspace: with the run.
        run: has a recipe.
        student: its network.
        teacher: the network that it learnt from.

    Raises:
        CwdError: the run's last checkpoint is missing or damaged.
    """
    place = next(student.parameters()).device
    distiller = task_of(run.network).distiller(run, student, teacher).to(place)
    path = workspace.train(run).done / "checkpoint.pt"
    try:
        learnt = torch.load(path, map_location="cpu", weights_only=True)["learnt"]
        own = {k.removeprefix("1."): v for k, v in learnt.items() if k.startswith("1.")}
        distiller.load_state_dict(own)
    except Exception as error:  # torch raises whatever the damage happens to hit
        raise CwdError(
            f"{path} is missing or damaged ({type(error).__name__}): delete its folder to train "
            "the run again."
        ) from error
    return distiller.eval()


def channels_of(workspace: Workspace, run: Run, pair: Pair, count: int = IMAGES) -> Channels:
    """A student's channels and its teacher's on some of the images that are measured on.

    Args:
        workspace: with the trained runs.
        run: the student's, alone or with a recipe of one term; of a detector the finest level of
            the pyramid is looked at.
        pair: its teacher is compared with.
        count: images.
    """
    val = workspace.images(run)[1]
    chosen = np.linspace(0, len(val) - 1, min(count, len(val))).round().astype(int).tolist()
    device = pick_device(workspace.device)
    student, teacher = (workspace.network(each).to(device) for each in (run, pair.teacher))
    recipe = run.recipe or ("MIMIC_fpn" if kind_of(run.network) == DETECTOR else "MIMIC_f")
    (term,) = parse_recipe(recipe)
    distiller = trained_distiller(workspace, run, student, teacher) if run.recipe else None
    parts: list[list[Tensor]] = [[], [], []]
    with torch.no_grad():
        for index in chosen:  # one by one: images may differ in size
            batch = inputs(run, val[index][0]).to(device)
            own, goal = student(batch), term.map_of(teacher(batch))
            maps = [term.map_of(own), goal]
            if distiller:
                maps.append(distiller.compared(term.name, own))
            for part, found in zip(parts, maps, strict=False):
                part.append(some_positions(matched(found, goal, same_channels=False)[0][0]))
    before, target, after = (torch.cat(part, dim=1) if part else None for part in parts)
    return Channels(before, after, target)


def compared_students(workspace: Workspace) -> tuple[str, Pair, dict[str, Run]]:
    """The task whose channels are looked at, and its student by recipe, from the first seed.

    It is segmentation, where CWD is at home; another where a profile hasn't that.
    """
    pairs = pairs_of(workspace.profile)
    task, pair = list(pairs.items())[-1]
    column = task in PYRAMID_TASKS
    recipes = [names[column] for names in METHODS.values()]
    if task == TASKS[-1]:
        recipes.append(f"CT_f(weight={WEIGHTS[-1]})")  # is trained for the table of controls
    seed = workspace.transformation.seeds[0]
    return task, pair, {name: workspace.profile.run(name, seed, pair.student) for name in recipes}


def matches(found: dict[str, Channels]) -> pd.DataFrame:
    """What each recipe did to a student's channels, in numbers.

    Args:
        found: by recipe.

    Returns:
        One line a recipe. `best |r|`: for every channel of the teacher the student's channel that
        correlates with it most, either sign; the mean over the teacher's channels. `CKA`: see
        `linear_cka`. Both are of the student's map as it is. `own r`: the correlation of a
        teacher's channel with the channel of the same number, after what the loss compares; the
        mean over channels, empty where nothing is compared. Channels of the teacher that are the
        same everywhere are left out.
    """
    lines = {}
    for name, channels in found.items():
        alive = varied(channels.teacher)
        teacher = channels.teacher[alive]
        best = correlations(channels.before, teacher).abs().amax(dim=0).mean().item()
        after = channels.after
        own = None if after is None else (unit(after[alive]) * unit(teacher)).sum(dim=1).mean()
        lines[name] = {
            "best |r|": best,
            "CKA": linear_cka(channels.before, teacher),
            "own r": None if own is None else own.item(),
        }
    return pd.DataFrame.from_dict(lines, orient="index", dtype=float).rename_axis("recipe")


def ordered(matrix: Tensor) -> Tensor:
    """Rows of |r| [C, D] sorted by the column that each fits best, so that matches form a line."""
    return matrix[matrix.argmax(dim=1).argsort(stable=True)]
