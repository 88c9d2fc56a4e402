"""The record: keeping what was measured in files that git tracks, and comparing with it."""

import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from cwd.config.run import Run
from cwd.experiments.beside import FORMS
from cwd.experiments.profile import is_own, load_profile
from cwd.experiments.records import Records, every_seed, other_images, recorded_profiles
from cwd.experiments.study import every_run
from cwd.experiments.workspace import Workspace
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.files import copy_file, sha256, write_json, write_text
from cwd.system.progress import report
from cwd.training.provenance import recorded_at
from cwd.training.run_folder import FILES, PARTS, WEIGHTS, RunFolder
from cwd.training.tasks import task_of

HANDED_OUT = 16e6  # bytes of a teacher that comes with the code, at most
SPREAD = 3.0  # standard deviations over seeds that a result may be from its record
UNKNOWN = 2.0  # such a deviation, in percent, where the record has none: more than any that it has
RUN_FILE = re.compile(r".+-s\d+-[0-9a-f]{12}\.json")


def record(profile: str, *, results: Path | None = None) -> list[Path]:
    """Copy what was measured under a profile to a folder of its name in `results`, data/results.

    That is configuration, metrics and provenance of each finished run, what notebooks measured
    beside the runs, and the profile, if it is a file of one's own; and into data/weights the
    teacher as a whole, if it is small. What is odd about it is said: uncommitted code, records of
    runs that the profile has no more. Returns the files written. It is a CwdError if the folder is
    another profile's.
    """
    source = Records(every_seed(load_profile(profile)), paths.RUNS, results or paths.RESULTS)
    folder, runs = source.results / source.profile.name, every_run(source)
    own = folder / f"{source.profile.name}.yaml"
    if is_own(profile) and own.is_file() and set(_runs(own)) != set(runs):
        raise CwdError(
            f"{own} has other runs than {profile}: give this file another name, or delete the "
            f"folder {folder} to record it anew."
        )
    measured = [run for run in runs if RunFolder(paths.RUNS, run).finished]
    files = {source.path(run): source.find(run) for run in measured}
    built = [name for name in FORMS if os.path.lexists(paths.BUILD / source.profile.name / name)]
    files |= {folder / name: source.beside(name) for name in built}
    for path, found in files.items():
        write_json(path, found)
    if dirty := [path.name for path, found in files.items() if _dirty(found)]:
        report(
            f"{len(dirty)} files are of uncommitted code, first {dirty[0]}: commit it and train "
            "them again, so that the record says which code it was"
        )
    old = {path for path in folder.glob("*.json") if RUN_FILE.fullmatch(path.name)}
    if old := sorted(old - {source.path(run) for run in runs}):
        report(
            f"{len(old)} records are of no run of the profile, first {old[0].name}: delete them, "
            "unless it shall have them again"
        )
    written = [*files, *([] if is_own(profile) else publish_teacher(source.profile.teacher))]
    if files and is_own(profile):
        write_text(own, Path(profile).read_text())
        written.append(own)
    return written


def _runs(profile: Path) -> list[Run]:
    return every_run(Records(every_seed(load_profile(str(profile)))))


def _dirty(found: dict[str, Any]) -> bool:
    origin = found.get("provenance", {})
    return any(session["dirty"] for session in origin.get("sessions", [{"dirty": False} | origin]))


CARD = """# {network}, {title}

Trained by this project as the teacher of its default profile, so that nobody has to wait for it.

| | |
| --- | --- |
| network | {network}, {parameters:.2f} M parameters, random start |
| data | {data} |
| schedule | {steps} steps of {batch} images |
| measured | {miou:.2f} mIoU on {images} images of {split} |
| made by | {made} |
| SHA-256 of the weights | `{sha256}` |
| licence | MIT, as this project; the data is drawn by it |

It has learnt drawn pictures and is of no use on photographs. `make first` and `make reproduce` take
it from here, `FRESH=1` trains it again. By hand:

```python
from cwd.models.build import build_network, load_network_weights

network = build_network("{network}", {classes}).eval()
load_network_weights(network, "data/weights/{name}/student.safetensors")
```
"""


def publish_teacher(run: Run | None) -> list[Path]:
    """Copy a finished teacher of at most `HANDED_OUT` bytes to data/weights, with a model card."""
    folder = run and RunFolder(paths.RUNS, run)
    if not (folder and folder.finished) or (folder.done / WEIGHTS).stat().st_size > HANDED_OUT:
        return []
    target, known, metrics = paths.WEIGHTS / run.name, folder.provenance, folder.metrics
    for name in FILES:
        copy_file(folder.done / name, target / name)
    size, schedule = "x".join(str(int(side)) for side in run.data.size or ()), run.schedule
    images = known.get("images", dict.fromkeys(PARTS, "all"))  # runs of earlier versions lack it
    about = {
        "network": run.network, "name": run.name, "title": f"{run.data.name} {size}",
        "parameters": metrics["parameters"] / 1e6, "miou": metrics["miou"], "split": run.data.split,
        "data": f"{run.data.name} of {size}, {images['train']} images",
        "steps": schedule.steps, "batch": schedule.batch, "images": images["val"],
        "made": recorded_at(known), "sha256": sha256(target / WEIGHTS),
        "classes": len(metrics["class_iou"]),
    }  # fmt: skip
    write_text(target / "README.md", CARD.format(**about))
    return [*(target / name for name in FILES), target / "README.md"]


def compare(workspace: Workspace) -> pd.DataFrame:
    """Every run trained here that is recorded too, its score beside the recorded one, in percent.

    The `verdict` is "equal" for the same score; "within" where it differs by at most `SPREAD` times
    the task's standard deviation over seeds, see `_spreads`; else "outside". It is "other images"
    where the record was measured on others.
    """
    ours = [each for each in recorded_profiles() if each.name == workspace.profile.name]
    if workspace.mode == "fresh" or not ours:
        return pd.DataFrame()
    known, lines = Records(ours[0]), []
    spreads = _spreads(known)
    for run in every_run(workspace):
        folder = RunFolder(paths.RUNS, run)
        if not folder.finished or workspace.taken(run) or not (kept := known.recorded(run)):
            continue
        measure = task_of(run.network).measure
        here, theirs = folder.metrics[measure], kept["metrics"][measure]
        sd, apart = spreads.get(measure, UNKNOWN), here - theirs
        verdict = "within" if abs(apart) <= SPREAD * sd else "outside"
        verdict = "equal" if apart == 0 else verdict
        if other_images(kept["provenance"], folder.provenance):
            verdict = "other images"
        line = {"run": run.title, "here": here, "recorded": theirs, "difference": apart}
        lines.append(line | {"sd over seeds": sd, "verdict": verdict})
    return pd.DataFrame(lines)


def _spreads(known: Records) -> dict[str, float]:
    """The standard deviation over seeds of each task's measure, pooled over recorded recipes.

    The recipe that varies most is left out: one absurd score would else be judged by itself.
    """
    scores = [
        (
            measure := task_of(run.network).measure,
            replace(run, seed=0).name,
            found["metrics"][measure],
        )
        for run in every_run(known)
        if (found := known.recorded(run))
    ]
    table = pd.DataFrame(scores, columns=["measure", "row", "score"])
    variances = table.groupby(["measure", "row"])["score"].var().dropna()
    return {
        measure: math.sqrt(part.drop(part.idxmax()).mean())
        for measure, part in variances.groupby("measure")
        if len(part) > 1
    }


def check(compared: pd.DataFrame) -> None:
    """Refuse results of `compare` that are unlike their record by a `CwdError`."""
    odd = compared[~compared["verdict"].isin(("equal", "within"))] if len(compared) else compared
    if len(odd):
        first = odd.iloc[0]
        raise CwdError(
            f"{len(odd)} of {len(compared)} runs are unlike their record, first {first['run']}, "
            f"{first['verdict']}: {first['here']:.2f} here, {first['recorded']:.2f} recorded, and "
            f"seeds differ by {first['sd over seeds']:.2f}: see whether code or data were changed; "
            "FRESH=1 leaves the record out."
        )
