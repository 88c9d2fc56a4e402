"""The one place where folders are named."""

import os
from pathlib import Path

from cwd.system.errors import CwdError

PACKAGE = Path(__file__).resolve().parents[1]
# in a checkout everything lies below it; an installed package works in the current folder
INSTALLED = not (PACKAGE.parent / "notebooks").is_dir()
ROOT = Path.cwd() if INSTALLED else PACKAGE.parent
PROFILES = PACKAGE / "profiles"
NOTEBOOKS = ROOT / "notebooks"
BUILD = ROOT / "build"
RUNS = BUILD / "runs"
CACHE = BUILD / "cache"  # decoded datasets; may be a link to a larger disk
# what no profile can be called, whose folder is beside these
TAKEN = ("runs", "cache", "bench", "jobs", "lock", "plan", "rehearsal", "report")
PAPER = PACKAGE / "paper" if INSTALLED else ROOT / "data" / "paper"
RESULTS = ROOT / "data" / "results"
WEIGHTS = ROOT / "data" / "weights"  # finished runs that come with the code
# what notebooks 05, 04, A1 and 07 measure beside the runs, in a profile's folder
COSTS, CHANNELS, DETECTION_COSTS = "costs.json", "channels.json", "detection_costs.json"
STEP_TIMES = "step_times.json"


def below_root(path: str | Path) -> Path:
    """`path`, taken from the checkout if it is relative, wherever the process was started.

    A text that can't be a path is a `CwdError`.
    """
    found = os.path.expanduser(str(path))  # papermill makes a number of "2017"
    if "\0" in found or found.startswith("~"):  # a user that there isn't
        raise CwdError(f"{path!r:.60} is no path: write it out.")
    return Path(os.path.abspath(ROOT / found))


def for_people(path: Path) -> str:
    """`path` as it is shown: relative to the checkout where it lies in it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
