"""The command `train`: one run, those of a table, or all of a profile; here, or as jobs."""

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cwd.config.run import Run
from cwd.experiments.beyond import measure
from cwd.experiments.rows_beyond import step_times
from cwd.experiments.study import every_run, study
from cwd.experiments.workspace import Workspace
from cwd.system import paths
from cwd.system.device import pick_device, side_by_side
from cwd.system.distributed import launched
from cwd.system.errors import CwdError
from cwd.system.progress import report
from cwd.training.order import needed
from cwd.training.provenance import finished_at
from cwd.training.run_folder import RunFolder

MOST_WORKERS = 4  # a core of this machine; more only wait for each other


@dataclass(frozen=True)
class Settings:
    """How runs become jobs, if they do; None and empty texts are what wasn't given."""

    workers: int | None = None  # the most jobs at once, see `at_once`
    cluster: str = ""  # "local", this machine, or "slurm"
    gpus_per_run: int = 1  # processes that train a run together, each with a GPU of its own
    retries: int | None = None  # how often a run is started again whose job died
    partition: str = ""  # SLURM's; its default if empty
    minutes: int | None = None  # SLURM's limit; a run that takes longer is queued again and goes on
    parameter: Sequence[str] = ()  # more of sbatch's, such as "account=me"

    def __post_init__(self) -> None:
        if self.cluster not in ("", "local", "slurm"):
            raise CwdError(f"there is no cluster {self.cluster!r}: use local or slurm.")
        for text in self.parameter:
            if not re.fullmatch("[^=]+=.+", text):
                raise CwdError(f"--parameter {text}: write name=value, such as account=me.")
        if self.cluster != "slurm":
            slurms = {name: getattr(self, name) for name in ("partition", "minutes", "parameter")}
            _refuse(slurms, "is SLURM's: add --cluster slurm, or leave it out")
        elif not shutil.which("sbatch"):
            raise CwdError(
                "SLURM's sbatch isn't on this machine: start the command on a login node of the "
                "cluster, or with --cluster local."
            )
        cores = len(os.sched_getaffinity(0))
        processes = (self.workers or 1) * self.gpus_per_run
        if self.cluster != "slurm" and processes > MOST_WORKERS * cores:
            raise CwdError(
                f"{processes} workers are too many for this machine's {cores} cores: give at "
                f"most {MOST_WORKERS * cores}."
            )
        if launched() and self._jobs:
            raise CwdError(
                "torchrun's processes train one run together and start no jobs: leave --workers, "
                "--cluster, --gpus-per-run and --retries out, or torchrun."
            )

    @property
    def _jobs(self) -> bool:
        several = (self.workers or 1) > 1 or self.gpus_per_run > 1
        return several or bool(self.cluster) or self.retries is not None

    def at_once(self, device: str) -> int:
        """Jobs at once: as many as this machine has room for, and one on a cluster, if not given.

        None at all if one process trains everything, together with those that torchrun started.
        """
        room = 1 if launched() or self.cluster == "slurm" else side_by_side(pick_device(device))
        workers = self.workers or max(1, room // self.gpus_per_run)
        return workers if workers > 1 or self._jobs else 0


def _refuse(given: dict[str, Any], why: str) -> None:
    """Refuse options that would silently not be used."""
    if odd := next((name for name, value in given.items() if value not in (None, "", ())), None):
        raise CwdError(f"--{odd} {why}.")


def chosen_runs(
    workspace: Workspace,
    *,
    study_name: str = "",
    recipe: str | None = None,
    network: str = "",
    seed: int | None = None,
    seeds: str = "",
) -> list[Run]:
    """The runs that are meant, without those that they need: of a table, or one by its recipe.

    An unknown study, recipe or network, or one that goes with the other way, is a `CwdError`.
    """
    profile = workspace.profile
    if recipe is not None:
        _refuse({"study": study_name, "seeds": seeds}, "is for many runs: leave it or --recipe out")
        return [profile.run(recipe, seed or 0, profile.find(network))]
    _refuse({"network": network, "seed": seed}, "is for one run: give --recipe, or leave it out")
    if study_name == "all":
        return every_run(workspace)
    table = study(study_name or "table2", workspace)
    if study_name == "equal_time" and not step_times(profile):
        measure(workspace)
        table = study(study_name, workspace)  # which has rows now
    if study_name == "table9":
        _ = workspace.detection  # a profile without any is an error, not nothing to do
    return [run for row in table.rows for run in row.runs]


def train_runs(workspace: Workspace, runs: Iterable[Run], **jobs: Any) -> None:
    """Train runs, and what they need before them, here or in jobs, see `Settings`.

    A wrong setting, and a run that could not be trained, are a `CwdError`.
    """
    runs, settings = list(runs), Settings(**jobs)
    workers = settings.at_once(workspace.device)
    # copies what comes with the code, before workers look for it
    left = workspace.left(dict.fromkeys(each for run in runs for each in (*needed(run), run)))
    done = [run for run in dict.fromkeys(runs) if run not in left and not workspace.taken(run)]
    finished = [RunFolder(paths.RUNS, run) for run in done]
    for said, count in Counter(finished_at(folder.provenance) for folder in finished).items():
        what = finished[0].run.title if len(runs) == 1 else f"{count} of {len(set(runs))} runs"
        report(f"{what}: {said}; kept in {paths.for_people(paths.RUNS)}")
    if not workers:
        workspace.train_now(runs)
        return
    from cwd.tools.jobs import Crew  # noqa: PLC0415 (submitit is for jobs only)

    workspace.profile.check_weights()
    Crew(runs, workspace.place, workers, settings).go()
