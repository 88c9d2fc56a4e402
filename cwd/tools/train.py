"""The command `train`: one run, those of a table, or all of a profile; here, or as jobs."""

from collections.abc import Iterable
from typing import Any

from torch.distributed import is_torchelastic_launched

from cwd.config.run import Run
from cwd.experiments.beyond import measure
from cwd.experiments.rows_beyond import step_times
from cwd.experiments.study import every_run, study
from cwd.experiments.workspace import Workspace
from cwd.system import paths
from cwd.system.device import pick_device, side_by_side
from cwd.system.errors import CwdError
from cwd.system.progress import report
from cwd.training.order import needed
from cwd.training.provenance import finished_at
from cwd.training.run_folder import RunFolder


def chosen_runs(
    workspace: Workspace, table: str, recipe: str | None, network: str, seed: int
) -> list[Run]:
    """The runs that are meant, without those that they need: of a table, or one by its recipe.

    An unknown study, recipe or network is a `CwdError`.
    """
    profile = workspace.profile
    if recipe is not None:
        return [profile.run(recipe, seed, profile.find(network))]
    if table == "all":
        return every_run(workspace)
    if table == "equal_time" and not step_times(profile):
        measure(workspace)
    if table == "table9":
        _ = workspace.detection  # a profile without any is an error, not nothing to do
    return [run for row in study(table, workspace).rows for run in row.runs]


def train_runs(workspace: Workspace, runs: Iterable[Run], **jobs: Any) -> None:
    """Train runs, and what they need before them.

    One worker and no cluster: in this process, or together with those that torchrun started. Else
    in jobs, as `cwd.tools.jobs.Settings` says; without a number of workers, as many as this machine
    has room for, and one on a cluster. A wrong setting, and a run that could not be trained, are a
    `CwdError`.
    """
    runs = list(runs)
    if jobs["workers"] is None:
        elsewhere = is_torchelastic_launched() or jobs["cluster"] == "slurm"
        room = 1 if elsewhere else side_by_side(pick_device(workspace.device))
        jobs["workers"] = max(1, room // jobs["gpus_per_run"])
    if jobs["workers"] == 1 and not jobs["cluster"] and jobs["gpus_per_run"] == 1:
        for folder in (RunFolder(paths.RUNS, run) for run in runs):
            if folder.finished:
                said = finished_at(folder.provenance)
                report(f"{folder.run.title}: {said}; {folder.done} is kept")
        workspace.train_now(runs)
        return
    if is_torchelastic_launched():
        raise CwdError(
            "torchrun's processes train one run together and start no jobs: leave --workers, "
            "--cluster and --gpus-per-run out, or torchrun."
        )
    from cwd.tools.jobs import Crew, Settings  # noqa: PLC0415 (submitit is for jobs only)

    workspace.profile.check_weights()
    settings = Settings(**jobs | {"cluster": jobs["cluster"] or "local"})
    # copies what comes with the code, before workers look for it
    workspace.left(dict.fromkeys(each for run in runs for each in (*needed(run), run)))
    weak = workspace.profile.allow_weak_teacher
    place = {"runs": paths.RUNS, "data_root": workspace.data_root, "device": workspace.device}
    place |= {"allow_weak_teacher": weak, "log": workspace.log}
    Crew(runs, place, settings).go()
