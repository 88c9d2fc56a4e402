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
from cwd.experiments.rows_pairs import METHODS, PYRAMID_TASKS, TASKS, pairs_of
from cwd.experiments.sections import Pair
from cwd.experiments.workspace import Workspace
from cwd.losses.maps import matched
from cwd.models.names import CLASSIFIER, DETECTOR, kind_of
from cwd.recipes.parse import parse_recipe
from cwd.system.device import pick_device
from cwd.system.errors import CwdError
from cwd.training.tasks import task_of


@dataclass(frozen=True)
class Channels:
    """A student's channels and its teacher's at the same positions."""

    before: Tensor  # [C_s, N], the student's map as the network gives it
    after: Tensor | None  # [C, N], the same as the loss compares it; None where nothing does
    teacher: Tensor  # [C, N]

    def best(self) -> Tensor:
        """For every channel of the teacher that varies, |r| of the student's that fits it best."""
        return correlations(self.before, self.teacher[self.varied]).abs().amax(dim=0)

    def own(self) -> Tensor:
        """The same for r with the channel of its number, after what the loss compares."""
        return (_unit(self.after) * _unit(self.teacher)).sum(dim=1)[self.varied]

    @property
    def varied(self) -> Tensor:
        """Which of the teacher's channels aren't the same everywhere, bool [C]."""
        return _unit(self.teacher).abs().amax(dim=1) > 0


def correlations(one: Tensor, other: Tensor) -> Tensor:
    """Pearson's correlation of every channel [C, N] with every other [D, N], over N positions.

    It is 0 for a channel that is the same everywhere; float64 [C, D].
    """
    return _unit(one) @ _unit(other).T


def _unit(channels: Tensor) -> Tensor:
    # float64, without their means, of length 1
    channels = channels.double()
    centred = channels - channels.mean(dim=1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    alive = length > 1e-9 * (1 + channels.norm(dim=1, keepdim=True))
    return torch.where(alive, centred / length.clamp(min=1e-300), 0)


def linear_cka(one: Tensor, other: Tensor) -> float:
    """Linear CKA (Kornblith et al., 2019): how alike two sets of channels are, rotations aside.

    From 0 to 1 for channels [C, N] and [D, N]; 0 if either are the same everywhere.
    """
    x, y = (z.double() - z.double().mean(dim=1, keepdim=True) for z in (one, other))
    scale = (x @ x.T).norm() * (y @ y.T).norm()
    return ((x @ y.T).square().sum() / scale).item() if scale > 0 else 0.0


def some_positions(level: Tensor) -> Tensor:
    """A map [C, h, w] at 512 of its positions at most, drawn once for maps of a size: [C, N], CPU.

    Equal distances would fall into the same few columns of some maps.
    """
    flat = level.flatten(1)
    order = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(0))
    return flat[:, order[:512].sort().values.to(flat.device)].cpu()


def channels_of(workspace: Workspace, run: Run, pair: Pair, count: int = 50) -> Channels:
    """A student's channels and its teacher's on some of the images that are measured on.

    The run has no recipe or one of one term. Of a detector the pyramid's finest level is looked at.
    """
    val = workspace.images(run)[1]
    # at equal distances, as some datasets are sorted by class
    chosen = np.linspace(0, len(val) - 1, min(count, len(val))).round().astype(int).tolist()
    device = pick_device(workspace.device)
    student, teacher = (workspace.network(each).to(device) for each in (run, pair.teacher))
    recipe = run.recipe or ("MIMIC_fpn" if kind_of(run.network) == DETECTOR else "MIMIC_f")
    (term,) = parse_recipe(recipe)
    distiller = _trained_distiller(workspace, run, student, teacher) if run.recipe else None
    parts = []
    with torch.no_grad():
        for index in chosen:  # one by one: images may differ in size
            batch = _input(run, val[index][0]).to(device)
            own, goal = student(batch), term.map_of(teacher(batch))
            maps = [term.map_of(own), goal]
            maps += [distiller.compared(term.name, own)] if distiller else []
            maps = [matched(each, goal, same_channels=False)[0][0] for each in maps]
            parts.append([some_positions(each) for each in maps])
    before, target, *after = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    return Channels(before, after[0] if after else None, target)


def _input(run: Run, image: Tensor) -> Tensor:
    # as the run's network is measured on it, [1, 3, h, w]
    kind, schedule = kind_of(run.network), run.schedule
    if kind == DETECTOR:
        return stacked([prepare(image, schedule.short, schedule.long)[0]])
    return normalise((middle(image, schedule) if kind == CLASSIFIER else image)[None])


def _trained_distiller(
    workspace: Workspace, run: Run, student: nn.Module, teacher: nn.Module
) -> nn.Module:
    distiller = task_of(run.network).distiller(run, student, teacher)
    distiller.to(next(student.parameters()).device)
    path = workspace.train(run).done / "checkpoint.pt"
    learnt = nn.ModuleList([student, distiller])
    try:
        learnt.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["learnt"])
    except Exception as error:  # torch raises whatever the damage happens to hit
        raise CwdError(
            f"{path} is missing or damaged ({type(error).__name__}): delete its folder to train "
            "the run again."
        ) from error
    return distiller.eval()


def compared_students(workspace: Workspace) -> tuple[str, Pair, dict[str, Run]]:
    """The task whose channels are looked at, and its student by recipe, from the first seed.

    It is segmentation, where CWD is at home; another where a profile hasn't that.
    """
    task, pair = list(pairs_of(workspace.profile).items())[-1]
    recipes = [names[task in PYRAMID_TASKS] for names in METHODS.values()]
    if task == TASKS[-1]:
        recipes.append("CT_f(weight=100)")  # is trained for the table of controls
    seed = workspace.transformation.seeds[0]
    return task, pair, {name: workspace.profile.run(name, seed, pair.student) for name in recipes}


def matches(found: dict[str, Channels]) -> pd.DataFrame:
    """What each recipe did to a student's channels: means of `Channels.best` and `own`, and CKA."""
    table = pd.DataFrame(index=pd.Index(list(found), name="recipe"))
    table["best |r|"] = [c.best().mean().item() for c in found.values()]
    table["CKA"] = [linear_cka(c.before, c.teacher[c.varied]) for c in found.values()]
    own = [None if c.after is None else c.own().mean().item() for c in found.values()]
    return table.assign(**{"own r": pd.Series(own, table.index, dtype=float)})
