"""The command `train`: one run, those of a table, or all of a profile; here, or as jobs."""

import argparse

from torch.distributed import is_torchelastic_launched

from cwd.config.run import Run
from cwd.experiments.study import every_run, study
from cwd.experiments.workspace import Workspace, open_profile
from cwd.system import paths
from cwd.system.errors import CwdError


def chosen_runs(workspace: Workspace, options: argparse.Namespace) -> list[Run]:
    """The runs that the options name; what they need is not among them.

    Raises:
        CwdError: the study, the recipe or the network is unknown.
    """
    profile = workspace.profile
    if options.recipe is not None:
        return [profile.run(options.recipe, options.seed, profile.find(options.network))]
    if options.study == "all":
        return every_run(workspace)
    if options.study == "table9":
        _ = workspace.detection  # a profile without any is an error, not nothing to do
    return [run for row in study(options.study, workspace).rows for run in row.runs]


def command(options: argparse.Namespace) -> None:
    """Train what the options name, and what that needs before it.

    One worker and no cluster: in this process, or together with those that torchrun started.

    Raises:
        CwdError: an option is wrong, or a run could not be trained.
    """
    workspace = open_profile(options.profile, options.data_root, options.seeds, options.device)
    runs = chosen_runs(workspace, options)
    if options.workers == 1 and not options.cluster and options.gpus_per_run == 1:
        for run in runs:
            workspace.train(run)
        return
    if is_torchelastic_launched():
        raise CwdError(
            "torchrun's processes train one run together and start no jobs: leave --workers, "
            "--cluster and --gpus-per-run out, or torchrun."
        )
    from cwd.tools.job import Place  # noqa: PLC0415 (submitit is for jobs only)
    from cwd.tools.jobs import Settings, train_all  # noqa: PLC0415

    workspace.profile.check_weights()
    settings = Settings(
        workers=options.workers,
        cluster=options.cluster or "local",
        gpus_per_run=options.gpus_per_run,
        retries=options.retries,
        partition=options.partition,
        minutes=options.minutes,
        parameters=tuple(pair(text) for text in options.parameter),
    )
    weak = workspace.profile.allow_weak_teacher
    place = Place(paths.RUNS, workspace.data_root, workspace.device, weak)
    train_all(runs, place, settings)


def pair(text: str) -> tuple[str, str]:
    """Name and value of "name=value".

    Raises:
        CwdError: it has no such form.
    """
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise CwdError(f"--parameter {text}: write name=value, such as account=me.")
    return name, value
