"""What was measured, found again without training; and kept: small JSON files that git tracks."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cwd.config.run import Run
from cwd.experiments.profile import Profile, load_profile
from cwd.system import paths
from cwd.system.files import read_json
from cwd.training.run_folder import RunFolder

# what notebooks 05, 04, A1 and 07 measure beside the runs
BESIDE = (paths.COSTS, paths.CHANNELS, paths.DETECTION_COSTS, paths.STEP_TIMES)
REMEDY = "delete it and record the profile again, or restore it from git"


@dataclass(frozen=True)
class Records:
    """The measured runs of a profile: those on disk, and those that git tracks."""

    profile: Profile
    runs: Path | None = None  # folder of trained runs; None leaves them out
    # of recorded results, one folder a profile in it
    results: Path = field(default_factory=lambda: paths.RESULTS)

    def train_all(self, runs: Iterable[Run]) -> None:
        """Nothing: records never train."""

    def find(self, run: Run) -> dict[str, Any] | None:
        """A run's `run`, `metrics` and `provenance`; None if it wasn't measured."""
        folder = self.runs and RunFolder(self.runs, run)
        if folder and folder.finished:
            found = {"run": run.name, "metrics": folder.metrics}
            return found | {"provenance": folder.provenance}
        return self.read(f"{run.name}.json")

    def metrics(self, run: Run) -> dict[str, Any] | None:
        """What was measured, see `cwd.evaluation.miou.evaluate`; None if nothing was."""
        found = self.find(run)
        return found and found["metrics"]

    def beside(self, name: str) -> dict[str, Any] | None:
        """What a notebook measured beside the runs, one of `BESIDE`; None if none did."""
        built = paths.BUILD / self.profile.name / name
        if self.runs and built.is_file():
            return read_json(built, REMEDY)
        return self.read(name)

    def read(self, name: str) -> dict[str, Any] | None:
        """A recorded JSON file of the profile; None if there is none."""
        path = self.results / self.profile.name / name
        return read_json(path, REMEDY) if path.is_file() else None


def recorded_profiles(results: Path = paths.RESULTS) -> list[Profile]:
    """The profiles of which results are recorded, with all seeds that these may have."""
    folders = sorted(path for path in results.iterdir() if path.is_dir())
    own = {path.name: path / f"{path.name}.yaml" for path in folders}  # beside the results
    return [
        every_seed(load_profile(str(path) if path.is_file() else name))
        for name, path in own.items()
    ]


def every_seed(profile: Profile) -> Profile:
    """The profile with all its seeds for every student, since more may have been measured."""
    others = (seed for part in profile.parts for seed in part.seeds)
    seeds = *profile.seeds, *profile.student_seeds, *others
    return profile.seeded(tuple(dict.fromkeys(seeds)))
