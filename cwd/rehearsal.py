"""A profile's networks and schedule on a handful of full-size images: `make rehearse`.

Before days of training: does everything that a profile names run on this machine, and in how much
memory? The dataset is generated in its official layout, and decoded as the real one would be; the
teacher, the student alone and one distilled student are trained for a few steps each, and measured
on whole images. Their mIoU means nothing.
"""

import resource
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cwd import paths, provenance, trees
from cwd.errors import CwdError
from cwd.files import write_json
from cwd.hardware import pick_device
from cwd.kinds import shown_size
from cwd.layouts import layout_of
from cwd.profile import Profile, load_profile
from cwd.progress import report
from cwd.runs import Run, RunFolder
from cwd.trainer import train

# what the paper's CWD is on each dataset
RECIPES = {"cityscapes": "PI + HO + CW_f", "voc": "CW_f", "ade20k": "CW_f", "coco": "CW_fpn"}
VAL = 2  # images that are measured on


# writers of `count` training images of full size below a folder
TREES: dict[str, Callable[[Path, int], Path]] = {
    "cityscapes": lambda root, count: trees.cityscapes(
        root, splits=("train", "val"), count=max(count, VAL), size=(1024, 2048)
    ),
    "voc": lambda root, count: trees.voc(root, train=2, val=VAL, added=count, size=(375, 500)),
    "ade20k": lambda root, count: trees.ade20k(root, train=count, val=VAL, size=(512, 683)),
    "coco": lambda root, count: trees.coco(root, train=count, val=VAL, size=(480, 640)),
}


def rehearse(
    profile: str, *, steps: int = 2, device: str = "auto", output: Path | None = None
) -> pd.DataFrame:
    """Train a profile's teacher and student for a few steps on generated images.

    Weights that would have to be downloaded or found are random. Of a segmentation network only the
    first numbers depend on that; a detector then trains its whole backbone, which takes a little
    more memory than leaving its stem and first stage as they are.

    Args:
        profile: name of a profile whose dataset is one of `TREES`.
        steps: of each training.
        device: "auto", "cpu" or "cuda".
        output: where the images and the runs go, `build/rehearsal/<profile>` if None; what was
            measured is kept there as `rehearsal.json`. Runs of an earlier rehearsal are removed.

    Returns:
        One line a training: network, batch, size, mean seconds of its steps (the first of which
        also compiles losses), and the most memory that this process (on a GPU: its tensors) had
        until its end, evaluation of whole images included.

    Raises:
        CwdError: the profile is unknown, or its data can't be generated.
    """
    chosen = load_profile(profile)
    name = chosen.alone[0].data.name
    write = TREES.get(name)
    if write is None:
        raise CwdError(
            f"profile {profile} uses {name}: rehearse one with {', '.join(TREES)}; the others "
            "need no rehearsal."
        )
    output = output or paths.BUILD / "rehearsal" / chosen.name
    root = output / "data" / (name if name == "coco" else layout_of(name).folders[0])
    count = max(run.schedule.batch for run in chosen.alone)
    if name == "coco":
        count += 1  # the last generated image has no objects
    if not root.exists():
        report(f"writing {count} images of full size into {paths.for_people(root)}")
        write(root, count)
    shutil.rmtree(output / "runs", ignore_errors=True)
    lines = {}
    for what, run in parts(chosen, count, steps).items():
        folder = train(
            run,
            runs=output / "runs",
            data_root=output / "data",
            device=device,
            allow_weak_teacher=True,
        )
        lines[what] = line_of(folder)
    where = provenance.session(torch.device(pick_device(device)))
    write_json(output / "rehearsal.json", {"steps": steps, "parts": lines, "provenance": where})
    return pd.DataFrame(lines).T.rename_axis(f"{chosen.name}, {steps} steps")


def line_of(folder: RunFolder) -> dict[str, Any]:
    """What was measured of a training, and of this process until its end."""
    run = folder.run
    peak = torch.cuda.max_memory_allocated() / 2**30  # 0 without a GPU
    if not peak:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # of KiB
    seconds = folder.read_json("provenance.json")["seconds"]
    return {
        "network": run.network,
        "batch": run.schedule.batch,
        "size": shown_size(run),
        "seconds a step": round(seconds / run.schedule.steps, 1),
        "peak memory (GiB)": round(peak, 2),
    }


def parts(profile: Profile, count: int, steps: int) -> dict[str, Run]:
    """The trainings of a rehearsal, each teacher before its students."""

    def short(run: Run) -> Run:
        schedule = replace(run.schedule, steps=steps, checkpoint_every=steps)
        extra = 2 if run.data.name == "voc" else 0  # VOC's own, beside SBD's
        data = replace(run.data, train=count + extra, val=VAL)
        return replace(run, data=data, init="random", schedule=schedule)

    if profile.student:
        pairs = [("", profile.teacher, profile.student)]
    else:
        pairs = [(f"{p.name}: ", p.teacher, p.student) for p in profile.detection.pairs]
    found = {}
    for prefix, *both in pairs:
        teacher, student = map(short, both)
        recipe = RECIPES[student.data.name]
        distilled = replace(student, recipe=recipe, teacher=teacher)
        found |= {
            f"{prefix}teacher": teacher,
            f"{prefix}student alone": student,
            f"{prefix}{recipe}": distilled,
        }
    return found
