"""Short trainings on generated images: what `make rehearse`, `plan` and `bench` have in common."""

import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cwd.config.run import OWN, Run
from cwd.data import fake_trees
from cwd.data.scenes import draw
from cwd.models.names import CLASSIFIER, DETECTOR, SEGMENTATION, kind_of
from cwd.system.errors import CwdError
from cwd.system.progress import VARIABLE, report
from cwd.tools.environment import environment
from cwd.tools.operations import Size, image_size, operations
from cwd.training.loop import train
from cwd.training.run_folder import RunFolder

DRAWN = (*draw.DRAWN, "crops")  # datasets that the trainer draws itself
VAL = 2  # generated images that are measured on
CLASSES = 3  # of the generated ImageNet
AFFORDED = 1e11  # operations of a step; a CPU is timed with fewer or smaller images where it's more
SMALL = 2  # images of a step at least, since batch norm wants two
SIDE = 64  # pixels of the side of a smaller image at least
STEPS, MOST = 20, 5  # that are timed on a GPU, and on a CPU at most


def shortened(run: Run, steps: int, data: dict[str, Any], **schedule: Any) -> Run:
    """A run with fewer steps, random first weights, other data and schedule; its teacher too."""
    few = {"steps": min(steps, run.schedule.steps), "checkpoint_every": max(1, steps)}
    return replace(
        run,
        data=replace(run.data, **data),
        init="random",
        schedule=replace(run.schedule, **few, **schedule),
        teacher=run.teacher and shortened(run.teacher, steps, data, **schedule),
    )


def train_shortened(run: Run, folder: Path, device: str, size: Size) -> RunFolder:
    """Train a shortened run, and its teacher before it, in a folder.

    Images of that size are generated there, in their dataset's official layout, if none are yet.
    """
    name, count, root = run.data.name, run.data.train, folder / "data"
    if name not in (*DRAWN, OWN) and not (root / name).exists():
        report(f"generating {count} images of {size[0]}x{size[1]}", transient=True)
        counts = {
            "cityscapes": {"splits": ("train", "val"), "count": max(count, VAL)},
            "camvid": {"names": [f"{number:04}.png" for number in range(count)]},
            "voc": {"train": 2, "val": VAL, "added": count},
            "ade20k": {"train": count, "val": VAL},
            "coco": {"train": count + 1, "val": VAL},  # its last image has no objects
            "imagenet": {"train": -(-count // CLASSES), "val": 1, "classes": CLASSES},
        }
        getattr(fake_trees, name)(root / name, size=size, **counts[name])
    place = {"runs": folder / "runs", "data_root": root, "device": device}
    if run.teacher:
        train(run.teacher, **place)
    return train(run, **place, allow_weak_teacher=True)


def timed(run: Run, device: str) -> Run:
    """A run to be timed: shortened; on a CPU with fewer images if it is slow, or smaller ones."""
    schedule, steps = run.schedule, STEPS
    batch, sides = schedule.batch, {}
    if device == "cpu":
        one = operations(run) / batch
        batch = max(SMALL, min(batch, int(AFFORDED / one)))
        scale = math.sqrt(AFFORDED / (batch * one))
        steps = min(MOST, max(2, int(2 * scale**2)))
        if scale < 1 and kind_of(run.network) != CLASSIFIER:  # whose images are small anyway
            smaller = tuple(max(SIDE, int(side * scale) // 8 * 8) for side in schedule.size)
            sides = {"crop": smaller}
            if kind_of(run.network) == DETECTOR:
                sides = dict(zip(("short", "long"), smaller, strict=True))
    if run.data.name in DRAWN:
        data = {"train": max(16, batch), "val": 1}
    else:
        data = {"train": batch, "val": 1, "split": "val"}
        if kind_of(run.network) == SEGMENTATION:
            data["size"] = sides.get("crop", schedule.size)  # so that they are kept in memory
    return shortened(replace(run, seed=0), steps, data, batch=batch, **sides)


def seconds_a_step(trial: Run, device: str, folder: Path) -> float:
    """Seconds a step of a shortened run; all that is trained for it is thrown away.

    Losses aren't compiled, which takes longer than all steps of a trial. A step that doesn't fit
    into the GPU's memory is a CwdError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # a GPU's first steps are slow, whatever it computes
    runs = [replace(trial, seed=1), trial] if device == "cuda" else [trial]
    with (
        tempfile.TemporaryDirectory(dir=folder) as name,
        environment({VARIABLE: f"{name}/said"}),
        torch.compiler.set_stance("force_eager"),
    ):
        try:
            for run in runs:
                finished = train_shortened(run, Path(name), device, image_size(trial))
        except torch.OutOfMemoryError as error:
            shown = "x".join(map(str, trial.schedule.size))
            raise CwdError(
                f"a training step of {trial.title}, {trial.schedule.batch} images of {shown}, "
                "doesn't fit into the GPU's memory: lower the schedule's batch or the images' "
                "size in the profile, or plan with DEVICE=cpu."
            ) from error
        seconds = finished.provenance["seconds"]
    return max(seconds, 0.05) / trial.schedule.steps  # they are rounded to tenths
