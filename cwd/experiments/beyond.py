"""What came after the paper: how long steps take, where losses pull, how many seeds decide."""

import statistics
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from scipy.special import stdtrit
from torch import Tensor

from cwd.evaluation.miou import outputs
from cwd.experiments.rows_beyond import step_times
from cwd.experiments.study import Study, study
from cwd.experiments.workspace import Workspace
from cwd.recipes.distiller import Distiller
from cwd.recipes.parse import parse_recipe
from cwd.system import paths
from cwd.system.device import pick_device, training_threads
from cwd.system.timing import laps, peak_bytes
from cwd.training.loop import Training
from cwd.training.run_folder import RunFolder
from cwd.training.student import Student

REPEATS, WARM = 200, 50  # steps that are timed, after others
MOST = 200  # seeds that anybody would train


def shown(workspace: Workspace, name: str) -> Study:
    """A study with what is measured of it, and how much that is in a sentence.

    What isn't is trained only where the workspace trains `optional` tables.
    """
    found = study(name, workspace if workspace.trains_optional else workspace.records)
    runs = {run for row in found.train().rows for run in row.runs}
    count = sum(bool(found.source.find(run)) for run in runs)
    print(f"{name}: {count} of {len(runs)} runs are measured.")
    if count < len(runs):
        print(f"python -m cwd train --study {name} --profile {workspace.profile.name} trains all.")
    return found


def timed(workspace: Workspace) -> pd.DataFrame | None:
    """Seconds of a training step, memory, and weights that are trained beside the student.

    They are of the student alone and each recipe of the study `beyond`, as published; see
    `measure`. None where nothing was measured, and the workspace does nothing that is `optional`.
    """
    known = step_times(workspace.profile)
    known = known or (measure(workspace) if workspace.trains_optional else None)
    if not known:
        print("No step was timed: python -m cwd train --study equal_time does it.")
        return None
    columns = ("seconds", "bytes", "parameters")
    return pd.DataFrame({name: known[name] for name in columns}).rename_axis("recipe")


def measure(workspace: Workspace) -> dict[str, Any]:
    """Measure what `timed` shows, in turns on one device, and keep it in `step_times.json`."""
    profile, device = workspace.profile, pick_device(workspace.device)
    rows = study("beyond", workspace.records).rows[1:]
    runs = [row.runs[0] for row in rows if row.printed["weights"] in ("", "published")]
    teacher, steps = workspace.train(profile.teacher), profile.student.schedule.steps
    with tempfile.TemporaryDirectory() as folder, training_threads(device):
        folders = [RunFolder(Path(folder), run) for run in runs]
        training = Training(folders, teacher, workspace.data_root, device, {})
        turns = [partial(turn, training, student) for student in training.students]
        taken = laps(turns, device, min(REPEATS, steps), min(WARM, steps // 2))
        for student in training.students:  # what is freed in the step is to be allocated in it
            student.optimizer.zero_grad()
        sizes = [peak_bytes(each, device) for each in turns]
    trained = [sum(p.numel() for p in each.trained.parameters()) for each in training.students]
    medians = map(statistics.median, taken)
    columns = {"seconds": list(medians), "bytes": sizes, "parameters": trained}
    measured = pd.DataFrame(columns, [run.recipe for run in runs]).to_dict()
    workspace.keep(paths.STEP_TIMES, **measured)
    return measured


def turn(training: Training, student: Student) -> None:
    """One step of a run that is trained by itself: its batch, its teacher's maps, its update."""
    student.learnt.train()
    step = student.done % student.schedule.steps  # the schedule may have fewer
    student.step(step, *training.seen(step, training.teacher if student.run.teacher else None))
    student.done += 1


def pulls(workspace: Workspace, recipes: Iterable[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """An image, uint8 [3, H, W], and how hard each loss pulls at the map it looks at: [h, w].

    That is the gradient's length over channels at every position, for the student alone; recipes
    have one term each. What a loss trains itself is as at its start.
    """
    profile, (_, val) = workspace.profile, workspace.data
    student = workspace.network(profile.run("", profile.seeds[0]))
    teacher = workspace.network(profile.teacher)
    images, targets = (torch.stack(part) for part in zip(*(val[i] for i in (0, 1)), strict=True))
    seen, taught = outputs(student, images), outputs(teacher, images)
    found = {}
    for recipe in recipes:
        torch.manual_seed(profile.seeds[0])
        (term,) = parse_recipe(recipe)
        distiller = Distiller((term,), student, teacher, tuple(taught.score.shape[2:]))
        looked_at = term.map_of(seen).requires_grad_()
        (value,) = distiller(seen, taught, targets).values()
        (gradient,) = torch.autograd.grad(value, looked_at)
        found[recipe] = gradient[0].norm(dim=0)
    return images[0], found


def decisive(table: Study, other: str) -> pd.DataFrame:
    """Each row beside another one: mean and sd of the difference, seed by seed, and what is open.

    `seeds to decide` is from how many seeds on a 95 % interval (Student's t) would leave out zero,
    if mean and sd stayed as they are; none where that is more than `MOST`, or there is one seed.
    """
    miou = table.results().pivot(index="row", columns="seed", values="miou")
    labels = [row.label for row in table.rows[1:] if row.label in miou.index and row.label != other]
    apart = (miou - miou.reindex([other]).squeeze()).loc[labels]
    found = pd.DataFrame({"difference": apart.mean(axis=1), "sd": apart.std(axis=1)})
    counts = pd.Series(range(2, MOST + 1))
    needed = stdtrit(counts - 1, 0.975) / counts.pow(0.5)
    ratio = (found["difference"] / found["sd"]).abs()
    enough = [counts[needed < each].min() for each in ratio]
    found["seeds"] = apart.count(axis=1)
    found["seeds to decide"] = pd.array(enough, dtype="Int64")
    return found.round(2)
