"""A profile's networks and schedule on a handful of full-size images: `make rehearse`.

Before days of training: does everything that a profile names run on this machine, and in how much
memory? The datasets are generated in their official layouts, and decoded as the real ones would be;
of each pair the teacher, the student alone and one distilled student are trained for a few steps,
and measured. What is measured of them means nothing.
"""

import resource
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cwd.config.run import Run
from cwd.data import fake_trees
from cwd.experiments.profile import Profile, load_profile
from cwd.experiments.rows_transformation import METHODS
from cwd.experiments.sections import Pair
from cwd.models.names import DETECTOR, kind_of
from cwd.system import paths
from cwd.system.device import pick_device
from cwd.system.errors import CwdError
from cwd.system.files import write_json
from cwd.system.progress import report
from cwd.tools.kinds import shown_size
from cwd.training import provenance
from cwd.training.loop import train
from cwd.training.run_folder import RunFolder

# what the paper's CWD is on each dataset
RECIPES = {"cityscapes": "PI + HO + CW_f", "voc": "CW_f", "ade20k": "CW_f"}
DETECTION_RECIPE = "CW_fpn"
VAL = 2  # images that are measured on
CLASSES = 3  # of the generated ImageNet
# writers of at least `count` training images of full size below a folder
TREES: dict[str, Callable[[Path, int], Path]] = {
    "cityscapes": lambda root, count: fake_trees.cityscapes(
        root, splits=("train", "val"), count=max(count, VAL), size=(1024, 2048)
    ),
    "voc": lambda root, count: fake_trees.voc(root, train=2, val=VAL, added=count, size=(375, 500)),
    "ade20k": lambda root, count: fake_trees.ade20k(root, train=count, val=VAL, size=(512, 683)),
    # its last image has no objects
    "coco": lambda root, count: fake_trees.coco(root, train=count + 1, val=VAL, size=(480, 640)),
    "imagenet": lambda root, count: fake_trees.imagenet(
        root, train=-(-count // CLASSES), val=1, size=(375, 500), classes=CLASSES
    ),
}


def rehearse(
    profile: str, *, steps: int = 2, device: str = "auto", output: Path | None = None
) -> pd.DataFrame:
    """Train a profile's teachers and students for a few steps on generated images.

    Weights that would have to be downloaded or found are random. Of a segmentation network only the
    first numbers depend on that; a detector then trains its whole backbone, which takes a little
    more memory than leaving its stem and first stage as they are.

    Args:
        profile: name of a profile whose datasets are among `TREES`.
        steps: of each training; a network that is measured as it comes has none.
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
    counts = {}  # images of each dataset: a batch of every network
    for run in chosen.alone:
        name = run.data.name
        if name not in TREES:
            raise CwdError(
                f"profile {profile} uses {name}: rehearse one with {', '.join(TREES)}; the others "
                "need no rehearsal."
            )
        counts[name] = max(run.schedule.batch, counts.get(name, 0))
    output = output or paths.BUILD / "rehearsal" / chosen.name
    for name, count in counts.items():
        root = output / "data" / name
        if not root.exists():
            report(f"writing {count} images of full size into {paths.for_people(root)}")
            TREES[name](root, count)
    shutil.rmtree(output / "runs", ignore_errors=True)
    lines = {}
    for what, run in parts(chosen, counts, steps).items():
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
        "seconds a step": round(seconds / max(1, run.schedule.steps), 1),
        "peak memory (GiB)": round(peak, 2),
    }


def parts(profile: Profile, counts: dict[str, int], steps: int) -> dict[str, Run]:
    """The trainings of a rehearsal, each teacher before its students.

    Args:
        profile: whose networks.
        counts: training images by dataset.
        steps: of each training that has any.
    """

    def short(run: Run) -> Run:
        few = min(steps, run.schedule.steps)
        schedule = replace(run.schedule, steps=few, checkpoint_every=steps)
        data = replace(run.data, train=counts[run.data.name], val=VAL)
        return replace(run, data=data, init="random", schedule=schedule)

    found = {}
    for prefix, recipe, pair in distilled_pairs(profile):
        teacher, student = short(pair.teacher), short(pair.student)
        found |= {
            f"{prefix}teacher": teacher,
            f"{prefix}student alone": student,
            f"{prefix}{recipe}": replace(student, recipe=recipe, teacher=teacher),
        }
    return found


def distilled_pairs(profile: Profile) -> list[tuple[str, str, Pair]]:
    """What begins its lines' names, a recipe, and the networks, for each pair of a profile."""
    first, second = profile.detection, profile.transformation
    found = []
    if profile.student:
        pair = Pair("PSPNet", profile.teacher, profile.student)
        found.append(("", RECIPES[profile.student.data.name], pair))
    found += [(f"{pair.name}: ", DETECTION_RECIPE, pair) for pair in (first.pairs if first else ())]
    for pair in second.pairs if second else ():
        recipe = METHODS["CT"][kind_of(pair.student.network) == DETECTOR]
        found.append((f"{pair.name}: ", recipe, pair))
    return found
