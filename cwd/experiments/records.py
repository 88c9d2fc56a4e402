"""What was measured, found again without training; and kept: small JSON files that git tracks."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cwd.config.run import Run, key_of
from cwd.experiments import beside
from cwd.experiments.profile import Profile, load_profile, profile_names
from cwd.experiments.table import Row
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.files import read_json
from cwd.training import forms
from cwd.training.provenance import different
from cwd.training.run_folder import RunFolder
from cwd.training.tasks import task_of


@dataclass(frozen=True)
class Records:
    """The measured runs of a profile: those on disk, and those that git tracks."""

    profile: Profile
    runs: Path | None = None  # folder of trained runs; None leaves them out
    # of recorded results, one folder a profile in it
    results: Path = field(default_factory=lambda: paths.RESULTS)

    def train_all(self, runs: Iterable[Run]) -> None:
        """Nothing: records never train."""

    def columns(self, rows: Iterable[Row]) -> dict[str, list[str]]:
        """What a table says of its rows' origin: nothing, as all are recorded."""
        return {}

    def find(self, run: Run) -> dict[str, Any] | None:
        """A run's `run`, `metrics` and `provenance`; None if it wasn't measured."""
        folder = self.runs and RunFolder(self.runs, run)
        return folder.record if folder and folder.finished else self.recorded(run)

    def path(self, run: Run) -> Path:
        """The file that a run is recorded in."""
        return self.results / self.profile.name / f"{run.name}.json"

    def recorded(self, run: Run) -> dict[str, Any] | None:
        """The same as recorded; None if it isn't, a CwdError if the file isn't this run's."""
        path = self.path(run)
        if not os.path.lexists(path):
            return None
        found = read_json(path, _remedy(path), forms.RECORD_FORMS[task_of(run.network).measure])
        if key_of(found["run"]) != run.key:
            raise CwdError(f"{path} is the record of another run: {_remedy(path)}.")
        return found

    def beside(self, name: str) -> dict[str, Any] | None:
        """What a notebook measured beside the runs, of `beside.FORMS`; None if none did."""
        path = paths.BUILD / self.profile.name / name
        remedy = "delete it and execute its notebook again"
        if not self.runs or not os.path.lexists(path):
            path = self.results / self.profile.name / name
            remedy = _remedy(path)
        if not os.path.lexists(path):
            return None
        found = read_json(path, remedy, beside.FORMS[name])
        if found.get("profile", self.profile.name) != self.profile.name:
            raise CwdError(f"{path} was measured under profile {found['profile']}: {remedy}.")
        return found


def _remedy(path: Path) -> str:
    return f"bring it back (git checkout {paths.for_people(path)}), or delete it and record it anew"


class Comparable:
    """The metrics of runs that are compared with each other, and so were measured on one dataset.

    `source` is a `Workspace` or `Records`.
    """

    def __init__(self, source: Any) -> None:
        self.source = source
        self._first: dict[tuple, tuple[Run, dict[str, Any]]] = {}  # of a task on some data

    def metrics(self, run: Run) -> dict[str, Any] | None:
        """A run's metrics; None if it wasn't measured, a CwdError if that was on other images."""
        if not (found := self.source.find(run)):
            return None
        task, origin = task_of(run.network), found["provenance"]
        other, theirs = self._first.setdefault((task, run.data), (run, origin))
        if odd := other_images(theirs, origin):
            part, before, now = odd
            raise CwdError(
                f"runs {other.name} and {run.name} can't be compared: the checksum of their {part} "
                f"images is {before[:12]} and {now[:12]}: train one of them again on the other's, "
                "or all of them here, without the record (`make reproduce FRESH=1`)."
            )
        return found["metrics"]


def other_images(one: dict[str, Any], other: dict[str, Any]) -> tuple[str, str, str] | None:
    """The first part of which two runs saw other images, and its checksums, by their provenance."""
    names = [name for name in ("dataset", "pixels") if name in one and name in other]
    return next(filter(None, (different(one[name], other[name]) for name in names)), None)


def recorded_profiles(results: Path | None = None) -> list[Profile]:
    """The profiles of which results are recorded, with all seeds that these may have.

    Each has a folder of its name; one's own lies in it, too. Other folders are none of ours.
    """
    profiles = []
    for folder in sorted((results or paths.RESULTS).glob("*/")):
        own = folder / f"{folder.name}.yaml"
        if folder.name in profile_names() or own.is_file():
            name = folder.name if folder.name in profile_names() else str(own)
            profiles.append(every_seed(load_profile(name)))
    return profiles


def every_seed(profile: Profile) -> Profile:
    """The profile with all its seeds for every student, since more may have been measured."""
    others = (seed for part in profile.parts for seed in part.seeds)
    seeds = *profile.seeds, *profile.deciding, *profile.student_seeds, *others
    return profile.seeded(tuple(dict.fromkeys(seeds)))
