"""A run's place on disk, which is complete or not there."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Required

import numpy as np
import pandas as pd
from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError
from torch import nn
from typing_extensions import TypedDict

from cwd.config.run import Run
from cwd.models.build import load_network_weights
from cwd.system.errors import CwdError
from cwd.system.files import exclusive, make_folder, read_json, sha256, unwritable
from cwd.training.tasks import task_of

WEIGHTS, HISTORY, METRICS = "student.safetensors", "history.csv", "metrics.json"
PROVENANCE = "provenance.json"
FILES = ("config.json", HISTORY, METRICS, PROVENANCE, WEIGHTS)
PARTS = ("train", "val")  # of a dataset, what `Parts` has something of
Digits = Annotated[str, Field(pattern="^[0-9a-f]+$")]


class Parts(TypedDict):
    """Something of the images to train on, and of those that are measured on."""

    train: str
    val: str


class Session(TypedDict, total=False):
    """Where and for how long a run was trained, once."""

    commit: Digits | None
    seconds: FiniteFloat
    hardware: dict[str, Any]


class Provenance(TypedDict, total=False):
    """What is read of a run's provenance; runs of earlier versions lack some of it."""

    dataset: Required[Parts]
    pixels: Parts
    sha256: Digits
    seconds: FiniteFloat
    sessions: list[Session]


PROVENANCES = TypeAdapter(Provenance)


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
        """Whether the run is complete on disk; a folder that lacks a file is a CwdError."""
        if not os.path.lexists(self.done):
            return False
        if not self.done.is_dir():
            raise CwdError(f"{self.done} is no folder, as a finished run is: move it away.")
        for name in FILES:
            if not (self.done / name).is_file():
                raise CwdError(f"{self.done / name} is missing: {self._remedy}.")
        return True

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run for this process, with a folder to write into if it isn't finished.

        What an earlier attempt wrote is still there. A run that another process trains is a
        `CwdError`.
        """
        with exclusive(self.root / ".locks" / self.run.name, f"run {self.run.name}"):
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

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON file of the finished run; a CwdError if it is missing or damaged."""
        return read_json(self.done / name, self._remedy)

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
        found, task = self.read_json(METRICS), task_of(self.run.network)
        score = found.get(task.measure)
        number = isinstance(score, int | float) and not isinstance(score, bool)
        if not number or not 0 <= score <= 100:
            raise CwdError(
                f"{self.done / METRICS} records no {task.unit} from 0 to 100, but {score!r:.40}: "
                f"{self._remedy}."
            )
        return found

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the result came from, see `cwd.training.results.origin`."""
        found = self.read_json(PROVENANCE)
        try:
            PROVENANCES.validate_python(found, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise CwdError(
                f"{self.done / PROVENANCE} has {first['input']!r:.40} for {place}: {self._remedy}."
            ) from None
        return found

    def load_into(self, network: nn.Module) -> str:
        """Give a network the weights that were measured; returns their SHA-256.

        Raises:
            CwdError: the file holds others, or those of another network.
        """
        path = self.done / WEIGHTS
        found, measured = sha256(path), self.provenance.get("sha256")
        if measured not in (None, found):  # runs of earlier versions have none
            raise CwdError(
                f"{path} holds other weights than those that were measured (SHA-256 "
                f"{found[:12]}, measured {measured[:12]}): {self._remedy}."
            )
        load_network_weights(network, path)
        return found
