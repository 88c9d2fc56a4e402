"""The record: keeping what was measured in files that git tracks, and comparing with it."""

import functools
import shutil
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd

from cwd.config.run import Run
from cwd.experiments.profile import is_own, load_profile
from cwd.experiments.records import BESIDE, Records, every_seed
from cwd.experiments.study import every_run
from cwd.experiments.workspace import Workspace
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.files import write_atomic, write_json, write_text
from cwd.training.provenance import recorded_at
from cwd.training.run_folder import FILES, WEIGHTS, RunFolder
from cwd.training.tasks import task_of

HANDED_OUT = 16e6  # bytes of a teacher that comes with the code, at most
SPREAD = 3.0  # standard deviations over seeds that a result may be from its record


def record(profile: str, *, results: Path | None = None) -> list[Path]:
    """Copy what was measured under a profile to a folder of its name in `results`, data/results.

    That is configuration, metrics and provenance of each finished run, what notebooks measured
    beside the runs, and the profile, if it is a file of one's own; and into data/weights the
    teacher as a whole, if it is small. Returns the files written.
    """
    source = Records(every_seed(load_profile(profile)), paths.RUNS)
    target = (results or paths.RESULTS) / source.profile.name
    written = []
    for run in every_run(source):
        if RunFolder(paths.RUNS, run).finished:
            written.append(target / f"{run.name}.json")
            write_json(written[-1], source.find(run) | {"run": asdict(run)})
    for name in BESIDE:
        built = paths.BUILD / source.profile.name / name
        if built.is_file():
            written.append(target / name)
            write_atomic(written[-1], functools.partial(shutil.copyfile, built))
    written += [] if is_own(profile) else publish_teacher(source.profile.teacher)
    if written and is_own(profile):
        written.append(target / f"{source.profile.name}.yaml")
        write_text(written[-1], Path(profile).read_text())
    return written


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
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        write_atomic(target / name, functools.partial(shutil.copyfile, folder.done / name))
    size, schedule = "x".join(str(int(side)) for side in run.data.size or ()), run.schedule
    about = {
        "network": run.network, "name": run.name, "title": f"{run.data.name} {size}",
        "parameters": metrics["parameters"] / 1e6, "miou": metrics["miou"], "split": run.data.split,
        "data": f"{run.data.name} of {size}, {known['images']['train']} images",
        "steps": schedule.steps, "batch": schedule.batch, "images": known["images"]["val"],
        "made": recorded_at(known), "sha256": known["sha256"], "classes": len(metrics["class_iou"]),
    }  # fmt: skip
    write_text(target / "README.md", CARD.format(**about))
    return [*(target / name for name in FILES), target / "README.md"]


def compare(workspace: Workspace) -> pd.DataFrame:
    """Every run trained here that is recorded too, its score beside the recorded one, in percent.

    The `verdict` is "equal" for the same score; "within" where it differs by at most `SPREAD`
    times the standard deviation over seeds, pooled over the recorded recipes of the task; else
    "outside". A task that was recorded from one seed only has no spread and no verdict.
    """
    known, lines = Records(workspace.profile), []
    asked = every_run(workspace)
    runs = [run for run in asked if RunFolder(paths.RUNS, run).finished]
    spreads = _spreads(known, asked) if workspace.mode != "fresh" else {}
    for run in runs if spreads else ():
        if workspace.taken(run):
            continue
        if kept := known.find(run):
            measure = task_of(run.network).measure
            ours, theirs = workspace.metrics(run)[measure], kept["metrics"][measure]
            line = {"run": run.title, "here": ours, "recorded": theirs, "difference": ours - theirs}
            lines.append(line | {"sd over seeds": spreads.get(measure)})
    table = pd.DataFrame(lines)
    if lines:
        far = table["difference"].abs() > SPREAD * table["sd over seeds"]
        verdict = pd.Series("within", table.index).mask(far, "outside")
        verdict = verdict.mask(table["sd over seeds"].isna(), "")
        table["verdict"] = verdict.mask(table["difference"] == 0, "equal")
    return table


def _spreads(known: Records, runs: Iterable[Run]) -> dict[str, float]:
    """The standard deviation over seeds of each task's measure, pooled over recipes."""
    scores = [
        {"measure": (measure := task_of(run.network).measure),
         "row": replace(run, seed=0).name, "score": found["metrics"][measure]}
        for run in runs
        if (found := known.find(run))
    ]  # fmt: skip
    if not scores:
        return {}
    variances = pd.DataFrame(scores).groupby(["measure", "row"])["score"].var()
    return variances.groupby("measure").mean().pow(0.5).dropna().to_dict()


def check(compared: pd.DataFrame) -> None:
    """Refuse results of `compare` that are unlike their record by a `CwdError`."""
    odd = compared[compared["verdict"] == "outside"] if len(compared) else compared
    if len(odd):
        raise CwdError(
            f"{len(odd)} of {len(compared)} runs are further from their record than seeds are from "
            f"each other, first {odd['run'].iloc[0]} ({odd['here'].iloc[0]:.2f} here, "
            f"{odd['recorded'].iloc[0]:.2f} recorded): see whether the code was changed; "
            "FRESH=1 leaves the record out."
        )
