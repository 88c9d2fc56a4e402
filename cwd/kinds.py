"""The runs of a profile by kind: what is done of each, and how long its steps take."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cwd import paths
from cwd.detection.names import is_detector
from cwd.detection.pace import DetectionStopwatch
from cwd.pace import Stopwatch, seconds_of
from cwd.parts import classes_of
from cwd.records import Records
from cwd.runs import Run, RunFolder

HOUR = 3600.0


@dataclass(frozen=True)
class Kind:
    """Runs that differ in their seeds only.

    Attributes:
        run: the first of them.
        total: how many there are.
        here: how many are finished on this machine.
        recorded: how many of the others are recorded in data/results.
        seconds: a step's on this machine.
        source: "runs" that were finished on this hardware; or what was measured, "parts" of a
            segmentation network's step or a detector's whole "step".
    """

    run: Run
    total: int
    here: int
    recorded: int
    seconds: float
    source: str

    @property
    def left(self) -> int:
        """How many are neither finished nor recorded."""
        return self.total - self.here - self.recorded

    def hours(self, runs: int) -> float:
        """What so many of them take on this machine."""
        return runs * self.run.schedule.steps * self.seconds / HOUR


class Watches:
    """A stopwatch for each task.

    Args:
        device: "cpu" or "cuda".
        folder: where they keep what they measured.
    """

    def __init__(self, device: str, folder: Path) -> None:
        self.device, self.folder = device, folder
        self.made: dict[bool, Stopwatch | DetectionStopwatch] = {}

    def of(self, run: Run) -> Stopwatch | DetectionStopwatch:
        """The one for a run; a profile has one dataset for each task."""
        detects = is_detector(run.network)
        if detects not in self.made:
            watch, folder = Stopwatch, self.folder
            if detects:  # a file of its own, since each writes all that it knows
                watch, folder = DetectionStopwatch, folder / "detection"
            self.made[detects] = watch(self.device, classes_of(run), folder)
        return self.made[detects]

    @property
    def smaller(self) -> dict[str, tuple[int, int]]:
        """Sizes of the networks that weren't measured at their own, by network."""
        return {name: size for watch in self.made.values() for name, size in watch.smaller.items()}


def find_kinds(runs: Sequence[Run], records: Records, watches: Watches) -> list[Kind]:
    """The runs by kind, the networks in the order in which they are first needed.

    Raises:
        CwdError: a record is damaged, or as `Stopwatch.step`.
    """
    groups: dict[Run, list[Run]] = {}
    asked = set()
    for run in runs:
        groups.setdefault(replace(run, seed=0), []).append(run)
    kinds = []
    for members in groups.values():
        first, watch = members[0], watches.of(members[0])
        here = [RunFolder(paths.RUNS, run).finished for run in members]
        found = [records.find(run) for run in members]
        known = [record for record in found if record]
        seconds = seconds_of(known, first.schedule.steps, watch.hardware)
        lesson = first.teacher, first.data, first.schedule
        asks = lesson not in asked or not watch.keeps_teacher(first, len(members))
        if first.teacher:
            asked.add(lesson)
        kind = Kind(
            first,
            total=len(members),
            here=sum(here),
            recorded=len(known) - sum(here),
            seconds=seconds or watch.step(first, asks=asks),
            source="runs" if seconds else watch.source,
        )
        kinds.append(kind)
    order = list(dict.fromkeys(heading(kind.run) for kind in kinds))
    return sorted(kinds, key=lambda kind: order.index(heading(kind.run)))


def heading(run: Run) -> str:
    """What the runs of a network have in common."""
    init = "random weights" if run.init == "random" else run.init
    what = "images" if is_detector(run.network) else "crop"
    return (
        f"{run.network} from {init}: {run.schedule.steps:,} steps, batch {run.schedule.batch}, "
        f"{what} {shown_size(run)}"
    )


def shown_size(run: Run) -> str:
    """A run's crop as height x width; a detector's short and long side."""
    return "x".join(map(str, run.schedule.size))
