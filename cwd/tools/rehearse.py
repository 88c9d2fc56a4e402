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
from typing import Any

import pandas as pd
import torch

from cwd.experiments.profile import load_profile
from cwd.system import paths
from cwd.system.device import pick_device
from cwd.system.errors import CwdError
from cwd.system.files import write_json
from cwd.system.progress import report
from cwd.tools.trial import FULL, VAL, generate, representatives, shortened
from cwd.training import provenance
from cwd.training.loop import train
from cwd.training.run_folder import RunFolder


def rehearse(
    profile: str, *, steps: int = 2, device: str = "auto", output: Path | None = None
) -> pd.DataFrame:
    """Train a profile's teachers and students for a few steps on generated images.

    Weights that would have to be downloaded or found are random. Of a segmentation network only the
    first numbers depend on that; a detector then trains its whole backbone, which takes a little
    more memory than leaving its stem and first stage as they are.

    Args:
        profile: name of a profile whose datasets are in `FULL`.
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
    for name, count in counts.items():
        root = output / "data" / name
        if not root.exists():
            report(f"writing {count} images of full size into {paths.for_people(root)}")
            generate(name, output / "data", count, FULL[name])
    shutil.rmtree(output / "runs", ignore_errors=True)
    place = {"runs": output / "runs", "data_root": output / "data", "device": device}
    lines = {}
    for what, run in representatives(chosen).items():
        data = {"train": counts[run.data.name], "val": VAL}
        short = shortened(run, steps, data=data)
        if run.teacher:
            short = replace(short, teacher=shortened(run.teacher, steps, data=data))
        lines[what] = _measured(train(short, **place, allow_weak_teacher=True))
    where = provenance.session(torch.device(pick_device(device)))
    write_json(output / "rehearsal.json", {"steps": steps, "parts": lines, "provenance": where})
    return pd.DataFrame(lines).T.rename_axis(f"{chosen.name}, {steps} steps")


def _measured(folder: RunFolder) -> dict[str, Any]:
    """What was measured of a training, and of this process until its end."""
    run = folder.run
    peak = torch.cuda.max_memory_allocated() / 2**30  # 0 without a GPU
    if not peak:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # of KiB
    seconds = folder.read_json("provenance.json")["seconds"]
    return {
        "network": run.network,
        "batch": run.schedule.batch,
        "size": "x".join(map(str, run.schedule.size)),
        "seconds a step": round(seconds / max(1, run.schedule.steps), 1),
        "peak memory (GiB)": round(peak, 2),
    }
