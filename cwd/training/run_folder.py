"""A run's place on disk, which is complete or not there."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cwd.config.run import Run
from cwd.system.files import exclusive, read_json


@dataclass(frozen=True)
class RunFolder:
    """A run's place on disk, below the folder of all runs.

    While the run is in training, its files lie in a folder that ends in `.partial`; it gets its
    name when all of them are complete. A folder with that name is therefore a finished run.
    """

    root: Path
    run: Run

    @property
    def done(self) -> Path:
        """The folder of the finished run."""
        return self.root / self.run.name

    @property
    def partial(self) -> Path:
        """The folder of the run while it is trained."""
        return self.root / f"{self.run.name}.partial"

    @property
    def finished(self) -> bool:
        """Whether the run is complete on disk."""
        return self.done.is_dir()

    @contextlib.contextmanager
    def training(self) -> Iterator[Path]:
        """Hold the run for this process; yields the folder to write into.

        When the block ends well, the folder becomes the finished run. When it doesn't, what was
        written stays for the next attempt. A run that another process trains is a `CwdError`.
        """
        with exclusive(self.root / ".locks" / self.run.name, f"run {self.run.name}"):
            self.partial.mkdir(parents=True, exist_ok=True)
            yield self.partial
            if self.finished:  # another process was quicker between our look and our lock
                shutil.rmtree(self.partial)
            else:
                self.partial.rename(self.done)

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON file of the finished run; a CwdError if it is missing or damaged."""
        return read_json(self.done / name, f"delete the folder {self.done} to train the run again")

    def history(self) -> pd.DataFrame:
        """The losses by step, each the mean over the steps since the line before."""
        return pd.read_csv(self.done / "history.csv")

    @property
    def metrics(self) -> dict[str, Any]:
        """What was measured, see `cwd.training.tasks.base.Task.evaluate`."""
        return self.read_json("metrics.json")
