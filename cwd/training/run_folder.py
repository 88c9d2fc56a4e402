"""A run's place on disk, which is complete or not there."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter
from torch import nn

from cwd.config.run import Run, key_of
from cwd.models.build import load_network_weights
from cwd.models.student_file import CONFIG, WEIGHTS, run_of
from cwd.system.errors import CwdError
from cwd.system.files import exclusive, make_folder, read_json, sha256, unwritable
from cwd.system.progress import VARIABLE
from cwd.training import forms
from cwd.training.tasks import task_of

HISTORY, METRICS, PROVENANCE = "history.csv", "metrics.json", "provenance.json"
FILES = (CONFIG, HISTORY, METRICS, PROVENANCE, WEIGHTS)
PARTS = ("train", "val")  # of a dataset
DAY = 24 * 3600  # seconds


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
    def _remedy(self) -> str:
        return f"put it back, or delete {self.done} to train the run again"

    @property
    def finished(self) -> bool:
        """Whether the run is complete on disk.

        A folder that lacks a file, or is another run's, is a CwdError.
        """
        if not os.path.lexists(self.done):
            return False
        if not self.done.is_dir():
            raise CwdError(f"{self.done} is no folder, as a finished run is: move it away.")
        for name in FILES:
            if not (self.done / name).is_file():
                raise CwdError(f"{self.done / name} is missing: {self._remedy}.")
        if key_of(self.read_json(CONFIG, forms.CONFIG_FORM)) != self.run.key:
            raise CwdError(f"{self.done / CONFIG} is of another run: {self._remedy}.")
        return True

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run for this process, with a folder to write into if it isn't finished.

        What an earlier attempt wrote is still there. A run that another process trains is waited
        for where it is another notebook's of one `reproduce`, and a `CwdError` elsewhere.
        """
        patience = {"patience": DAY} if VARIABLE in os.environ else {}
        with exclusive(self.root / ".locks" / self.run.name, f"run {self.run.name}", **patience):
            if self.finished:  # another process was quicker between our look and our lock
                shutil.rmtree(self.partial, ignore_errors=True)
            else:
                make_folder(self.partial)
                for left in self.partial.glob(".*.tmp"):  # of writes that were killed
                    if left.is_file():
                        left.unlink(missing_ok=True)
            yield

    def complete(self) -> None:
        """Give the folder the name of a finished run, now that all its files are there."""
        try:
            self.partial.rename(self.done)
        except OSError as error:
            raise unwritable(self.done, error) from error

    def set_aside(self) -> Path:
        """Move a finished run out of the way, to be trained again; returns where it is kept."""
        kept = self.root / ".replaced" / self.run.name
        with self.held():
            shutil.rmtree(kept, ignore_errors=True)
            make_folder(kept.parent)
            try:
                self.done.rename(kept)
            except OSError as error:
                raise unwritable(kept, error) from error
        return kept

    def read_json(self, name: str, form: TypeAdapter | None = None) -> dict[str, Any]:
        """A JSON file of the finished run; a CwdError if it is missing, damaged or has no form."""
        return read_json(self.done / name, self._remedy, form)

    def history(self) -> pd.DataFrame:
        """The losses by step, each the mean over the steps since the line before."""
        path = self.done / HISTORY
        try:
            history = pd.read_csv(path)
            steps, values = history["step"].to_numpy(float), history.to_numpy(float)
            rising = not (steps % 1).any() and (np.diff(steps, prepend=0) >= 1).all()
            if not np.isfinite(values).all() or not rising:
                raise ValueError("numbers that no training writes")
            if self.run.schedule.steps and history.empty:
                raise ValueError("it is empty")
        except (OSError, ValueError, KeyError) as error:
            raise CwdError(f"{path} holds no losses by step ({error}): {self._remedy}.") from error
        return history

    @property
    def metrics(self) -> dict[str, Any]:
        """What was measured, see `cwd.training.tasks.base.Task.evaluate`."""
        return self.read_json(METRICS, forms.METRICS_FORMS[task_of(self.run.network).measure])

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the result came from, see `cwd.training.results.origin`."""
        return self.read_json(PROVENANCE, forms.PROVENANCE_FORM)

    @property
    def record(self) -> dict[str, Any]:
        """All that is known of the run, as `cwd record` keeps it."""
        known = {"metrics": self.metrics, "provenance": self.provenance}
        return {"run": self.read_json(CONFIG)} | known

    def load_into(self, network: nn.Module) -> str:
        """Give a network the weights that were measured; returns their SHA-256.

        Raises:
            CwdError: the file holds others, or those of another run or network; or what builds the
                network was edited since.
        """
        self.run.check_network()
        found = self.check_weights()
        load_network_weights(network, self.done / WEIGHTS)
        return found

    def check_weights(self) -> str:
        """The SHA-256 of the finished run's weights; a CwdError if others were measured."""
        path = self.done / WEIGHTS
        if (theirs := run_of(path) or self.run.name) != self.run.name:
            raise CwdError(f"{path} has the weights of run {theirs}: {self._remedy}.")
        found, measured = sha256(path), self.provenance.get("sha256")
        if measured not in (None, found):  # runs of earlier versions have none
            raise CwdError(
                f"{path} holds other weights than those that were measured (SHA-256 "
                f"{found[:12]}, measured {measured[:12]}): {self._remedy}."
            )
        return found
