"""What is trained before any notebook, and a first table from it: `make first`."""

from dataclasses import replace
from typing import Any

from cwd.experiments.study import every_run, study
from cwd.experiments.workspace import Workspace, open_profile
from cwd.system.errors import CwdError
from cwd.tools.train import train_runs

MAIN_TABLE = "table2"
CITIES = "the paper's networks on Cityscapes beside ours"
SHORT = 50  # steps
UNTOLD = ["complexity", "sd", "seeds"]  # columns that say nothing of one seed


def first(profile: str, *, workers: int | None = 1, **place: Any) -> None:
    """Train the core of a profile, print its table beside the paper's, and say where to go on.

    `place` are the other arguments of `cwd.experiments.workspace.open_profile`.
    """
    workspace = open_profile(profile, **place)
    if not workspace.core:
        raise CwdError(f"profile {workspace.profile.name} has no segmentation networks: use quick.")
    _train_core(workspace, workers)
    print("make reproduce   the notebooks, with every other row as recorded")
    print("make lab         the notebooks in JupyterLab, first start.ipynb")


def _train_core(workspace: Workspace, workers: int | None) -> None:
    """Train the runs of the first table, and print it."""
    train_runs(workspace, workspace.core, workers=workers)
    table = study(MAIN_TABLE, workspace)
    rows = (row for row in table.rows if row.runs[0] in workspace.core)
    one = tuple(replace(row, runs=row.runs[:1]) for row in rows)
    print(f"\nFrom one seed, {CITIES}, {workspace.profile.about} (mIoU in %):\n")
    print(replace(table, rows=one).table().drop(columns=UNTOLD).to_string(na_rep=""))
    print(flush=True)


def train_first(workspace: Workspace, workers: int | None) -> None:
    """Train what the notebooks will ask for; the runs of the first table before the others.

    Runs that are shorter than a process takes to start are trained here, and in the notebooks.
    """
    if workspace.core:
        workers = 1 if workspace.core[0].schedule.steps < SHORT else workers
        _train_core(workspace, workers)
    if workers != 1:
        asked = every_run(workspace, optional=workspace.trains_optional)
        left = [run for run in asked if not (run in workspace.core or workspace.recorded(run))]
        train_runs(workspace, left, workers=workers)
