"""What was measured before, found again without training."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cwd import paths
from cwd.errors import CwdError
from cwd.runs import Run, RunFolder
from cwd.workspace import Profile, load_profile

COSTS = "costs.json"  # what notebook 05 measures


@dataclass(frozen=True)
class Records:
    """The measured runs of a profile: those on disk, and those that git tracks.

    Attributes:
        profile: which.
        runs: folder of trained runs; None leaves them out.
        results: folder of recorded results, one folder a profile in it.
    """

    profile: Profile
    runs: Path | None = None
    results: Path = paths.RESULTS

    def find(self, run: Run) -> dict[str, Any] | None:
        """A run's `run`, `metrics` and `provenance`; None if it wasn't measured.

        Raises:
            CwdError: its file is damaged.
        """
        folder = self.runs and RunFolder(self.runs, run)
        if folder and folder.finished:
            return {
                "run": run.name,
                "metrics": folder.metrics,
                "provenance": folder.read_json("provenance.json"),
            }
        return self.read(f"{run.name}.json")

    def metrics(self, run: Run) -> dict[str, Any] | None:
        """What was measured, see `cwd.evaluation.evaluate`; None if nothing was."""
        found = self.find(run)
        return found and found["metrics"]

    def costs(self) -> dict[str, Any] | None:
        """What `cwd.loss_costs.record_costs` wrote under this profile; None if nothing did."""
        built = paths.BUILD / self.profile.name / COSTS
        return read_json(built) if self.runs and built.is_file() else self.read(COSTS)

    def read(self, name: str) -> dict[str, Any] | None:
        """A recorded JSON file of the profile; None if there is none."""
        path = self.results / self.profile.name / name
        return read_json(path) if path.is_file() else None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file.

    Raises:
        CwdError: it is damaged.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CwdError(
            f"{paths.for_people(path)} can't be read ({error}): delete it and record the profile "
            "again, or restore it from git."
        ) from error


def recorded_profiles(results: Path = paths.RESULTS) -> list[Profile]:
    """The profiles of which results are recorded."""
    folders = sorted(path.name for path in results.iterdir() if path.is_dir())
    return [load_profile(name) for name in folders]
