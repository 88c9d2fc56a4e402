"""Short trainings on generated images, which `make rehearse` and `make plan` have in common."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cwd.config.run import Run
from cwd.data import fake_trees
from cwd.experiments.profile import Profile
from cwd.experiments.rows_pairs import METHODS
from cwd.experiments.sections import Pair
from cwd.models.names import DETECTOR, kind_of
from cwd.system.errors import CwdError
from cwd.system.progress import VARIABLE
from cwd.tools.environment import environment
from cwd.tools.operations import image_size
from cwd.training.loop import train

WITH_CRITIC = (
    "cityscapes",
    "camvid",
    "scenes",
)  # datasets on which the paper's CWD is PI + HO + CW
DRAWN = ("scenes", "crops")  # datasets that the trainer draws itself
VAL = 2  # images that are measured on
CLASSES = 3  # of the generated ImageNet
# height and width of the images of the datasets that are rehearsed
FULL = {
    "cityscapes": (1024, 2048),
    "voc": (375, 500),
    "ade20k": (512, 683),
    "coco": (480, 640),
    "imagenet": (375, 500),
}


def representatives(profile: Profile) -> dict[str, Run]:
    """Of each pair of a profile the teacher, the student alone and a distilled one, by name."""
    found, runs = {}, {}
    if profile.student:
        recipe = "PI + HO + CW_f" if profile.data.name in WITH_CRITIC else "CW_f"
        found["", recipe] = Pair("PSPNet", profile.teacher, profile.student)
    for pair in profile.detection.pairs if profile.detection else ():
        found[f"{pair.name}: ", "CW_fpn"] = pair
    for pair in profile.transformation.pairs if profile.transformation else ():
        recipe = METHODS["CT"][kind_of(pair.student.network) == DETECTOR]
        found[f"{pair.name}: ", recipe] = pair
    for (prefix, recipe), pair in found.items():
        distilled = replace(pair.student, recipe=recipe, teacher=pair.teacher)
        runs |= {f"{prefix}teacher": pair.teacher, f"{prefix}student alone": pair.student}
        runs[f"{prefix}{recipe}"] = distilled
    return runs


def shortened(run: Run, steps: int, *, data: dict[str, Any], **schedule: Any) -> Run:
    """A run with fewer steps from random weights, its data and its schedule changed."""
    few = {"steps": min(steps, run.schedule.steps), "checkpoint_every": max(1, steps)}
    return replace(
        run,
        data=replace(run.data, **data),
        init="random",
        schedule=replace(run.schedule, **few, **schedule),
    )


def generate(name: str, data_root: Path, count: int, size: tuple[int, int]) -> None:
    """Write at least `count` training images of a size in a dataset's official layout."""
    counts = {
        "cityscapes": {"splits": ("train", "val"), "count": max(count, VAL)},
        "camvid": {"names": [f"{number:04}.png" for number in range(count)]},
        "voc": {"train": 2, "val": VAL, "added": count},
        "ade20k": {"train": count, "val": VAL},
        "coco": {"train": count + 1, "val": VAL},  # its last image has no objects
        "imagenet": {"train": -(-count // CLASSES), "val": 1, "classes": CLASSES},
    }
    getattr(fake_trees, name)(data_root / name, size=size, **counts[name])


def seconds_a_step(trial: Run, device: str, folder: Path) -> float:
    """Seconds a step of a run on generated images; all that is trained for it is thrown away.

    Losses aren't compiled, which takes longer than all steps of a trial.

    Raises:
        CwdError: a step doesn't fit into the GPU's memory.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=folder) as name,
        environment({VARIABLE: f"{name}/said"}),
        torch.compiler.set_stance("force_eager"),
    ):
        # a GPU's first steps are slow, whatever it computes
        warm = replace(trial, seed=1) if device == "cuda" else None
        for run in filter(None, (trial.teacher, warm, trial)):
            shown = "x".join(map(str, run.schedule.size))
            place = Path(name) / shown
            if run.data.name not in DRAWN:
                generate(run.data.name, place, run.data.train, image_size(run))
            given = {"runs": Path(name) / "runs", "data_root": place, "device": device}
            try:
                finished = train(run, **given, allow_weak_teacher=True)
            except torch.OutOfMemoryError as error:
                raise CwdError(
                    f"a training step of {run.title}, {run.schedule.batch} images of {shown}, "
                    "doesn't fit into the GPU's memory: lower the schedule's batch or the images' "
                    "size in the profile, or plan with DEVICE=cpu."
                ) from error
        seconds = finished.read_json("provenance.json")["seconds"]
    return max(seconds, 0.05) / trial.schedule.steps  # they are rounded to tenths
