"""TensorBoard, to watch trainings: `tensorboard --logdir build/runs`."""

from importlib.util import find_spec
from pathlib import Path

from cwd.system.distributed import rank
from cwd.system.errors import CwdError
from cwd.system.extras import missing
from cwd.system.files import unwritable

LOGS = ("", "tensorboard")


def check_log(log: str) -> None:
    """Refuse a log that there isn't, or whose package isn't installed, by a `CwdError`."""
    if log not in LOGS:
        raise CwdError(f"log {log!r} is unknown: use tensorboard, or leave it out.")
    if log and not find_spec(log):
        raise missing(log)


class Log:
    """What a training measures, as curves by step in a folder of the run's; or nothing.

    Args:
        log: of `LOGS`.
        path: the run's folder.
        done: the step that it goes on from; what an interrupted session logged after it is dropped.
    """

    def __init__(self, log: str, path: Path, done: int) -> None:
        self.logger, self.path = None, path / log
        if log and rank() == 0:
            from lightning_fabric.loggers import TensorBoardLogger  # noqa: PLC0415 (a second)

            self.logger = TensorBoardLogger(path, name="", version=log, purge_step=done + 1)

    def add(self, step: int, values: dict[str, float]) -> None:
        """Add a point to each curve, at once for whoever watches; a full disk is a `CwdError`."""
        try:
            if self.logger:
                self.logger.log_metrics(values, step)
                self.logger.save()
        except (OSError, ValueError) as error:  # lightning's, in the place of an OSError
            raise unwritable(self.path, error.__cause__ or error) from error

    def close(self) -> None:
        """Close the files, before their folder gets another name."""
        if self.logger:
            self.logger.finalize("success")
