"""A profile's networks and schedule on a handful of full-size images: `make rehearse`.

Before days of training: does everything that a profile names run on this machine, and in how much
memory? The datasets are generated in their official layouts, and decoded as the real ones would be;
of each pair the teacher, the student alone and one distilled student are trained for a few steps,
and measured. What is measured of them means nothing.
"""

import resource
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from cwd.config.run import Run
from cwd.experiments.profile import Profile, load_profile
from cwd.experiments.rows_pairs import METHODS
from cwd.experiments.sections import Pair
from cwd.models.names import DETECTOR, kind_of
from cwd.system import paths
from cwd.system.device import pick_device
from cwd.system.errors import CwdError
from cwd.system.files import write_json
from cwd.tools.trial import VAL, shortened, train_shortened
from cwd.training import provenance

WITH_CRITIC = ("cityscapes", "camvid", "scenes", "streets")  # where the paper's CWD is PI + HO + CW
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
    pairs = []
    if profile.student:
        recipe = "PI + HO + CW_f" if profile.data.name in WITH_CRITIC else "CW_f"
        pairs.append(("", recipe, Pair("PSPNet", profile.teacher, profile.student)))
    for pair in profile.detection.pairs if profile.detection else ():
        pairs.append((f"{pair.name}: ", "CW_fpn", pair))
    for pair in profile.transformation.pairs if profile.transformation else ():
        recipe = METHODS["CT"][kind_of(pair.student.network) == DETECTOR]
        pairs.append((f"{pair.name}: ", recipe, pair))
    runs = {}
    for prefix, recipe, pair in pairs:
        distilled = replace(pair.student, recipe=recipe, teacher=pair.teacher)
        runs |= {f"{prefix}teacher": pair.teacher, f"{prefix}student alone": pair.student}
        runs[prefix + recipe] = distilled
    return runs


def rehearse(
    profile: str, *, steps: int = 2, device: str = "auto", output: Path | None = None
) -> pd.DataFrame:
    """Train a profile's teachers and students for a few steps on generated images.

    Weights that would have to be downloaded or found are random. Of a segmentation network only the
    first numbers depend on that; a detector then trains its whole backbone, which takes a little
    more memory than leaving its stem and first stage as they are.

    Images and runs go to `output`, `build/rehearsal/PROFILE` if None, and what was measured to its
    `rehearsal.json`. Runs of an earlier rehearsal are removed.

    Returns one line a training: network, batch, size, mean seconds of its steps (the first of which
    also compiles losses), and the most memory that this process (on a GPU: its tensors) had until
    its end, evaluation of whole images included. An unknown profile, or one whose data can't be
    generated, is a `CwdError`.
    """
    chosen = load_profile(profile)
    counts: dict[str, int] = {}  # images of each dataset: a batch of every network
    for run in chosen.alone:
        name = run.data.name
        if name not in FULL:
            raise CwdError(
                f"profile {profile} uses {name}: rehearse one with {', '.join(FULL)}; the others "
                "need no rehearsal."
            )
        counts[name] = max(run.schedule.batch, counts.get(name, 0))
    output = output or paths.BUILD / "rehearsal" / chosen.name
    shutil.rmtree(output / "runs", ignore_errors=True)
    lines = {}
    for what, run in representatives(chosen).items():
        data = {"train": counts[run.data.name], "val": VAL}
        size = FULL[run.data.name]
        folder = train_shortened(shortened(run, steps, data), output, device, size)
        peak = torch.cuda.max_memory_allocated() / 2**30  # 0 without a GPU
        if not peak:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # of KiB
        seconds = folder.read_json("provenance.json")["seconds"]
        lines[what] = {
            "network": run.network,
            "batch": run.schedule.batch,
            "size": "x".join(map(str, run.schedule.size)),
            "seconds a step": round(seconds / max(1, folder.run.schedule.steps), 1),
            "peak memory (GiB)": round(peak, 2),
        }
    where = provenance.session(torch.device(pick_device(device)))
    write_json(output / "rehearsal.json", {"steps": steps, "parts": lines, "provenance": where})
    return pd.DataFrame(lines).T.rename_axis(f"{chosen.name}, {steps} steps")
