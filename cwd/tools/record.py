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
from cwd.training.run_folder import RunFolder
from cwd.training.tasks import task_of

SPREAD = 3.0  # standard deviations over seeds that a result may be from its record


def record(profile: str, *, results: Path | None = None) -> list[Path]:
    """Copy what was measured under a profile to a folder of its name in `results`, data/results.

    That is configuration, metrics and provenance of each finished run, and what notebooks 04, 05
    and A1 measured beside the runs; and the profile, if it is a file of one's own. Returns the
    files written.
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
    if written and is_own(profile):
        written.append(target / f"{source.profile.name}.yaml")
        write_text(written[-1], Path(profile).read_text())
    return written


def compare(workspace: Workspace) -> pd.DataFrame:
    """Every run that is on disk and recorded, its score beside the recorded one, in percent.

    The `verdict` is "equal" for the same score; "within" where it differs by at most `SPREAD`
    times the standard deviation over seeds, pooled over the recorded recipes of the task; else
    "outside". A task that was recorded from one seed only has no spread and no verdict.
    """
    known, lines = Records(workspace.profile), []
    runs = [run for run in every_run(workspace) if RunFolder(paths.RUNS, run).finished]
    spreads = _spreads(known, every_run(workspace)) if workspace.mode != "fresh" else {}
    for run in runs if spreads else ():
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
