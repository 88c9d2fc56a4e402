"""The runs of a profile by kind: what is done of each, and how long its steps take."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cwd.config.run import Run
from cwd.data.segmentation import classes_of
from cwd.experiments.records import Records
from cwd.models.names import DETECTOR, SEGMENTATION, kind_of
from cwd.system import paths
from cwd.tools.pace import Stopwatch, seconds_of
from cwd.tools.pace_whole import WholeStopwatch
from cwd.training.run_folder import RunFolder

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
            segmentation network's step or the whole "step" of another; empty where there are none.
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
    """A stopwatch for each kind of network and number of classes.

    Args:
        device: "cpu" or "cuda".
        folder: where they keep what they measured.
    """

    def __init__(self, device: str, folder: Path) -> None:
        self.device, self.folder = device, folder
        self.made: dict[tuple[str, int], Stopwatch | WholeStopwatch] = {}

    def of(self, run: Run) -> Stopwatch | WholeStopwatch:
        """The one for a run."""
        kind, classes = kind_of(run.network), classes_of(run)
        if (kind, classes) not in self.made:
            watch = Stopwatch if kind == SEGMENTATION else WholeStopwatch
            self.made[kind, classes] = watch(self.device, classes, self.folder)
        return self.made[kind, classes]

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
        lesson = first.teacher, first.data, first.schedule
        asks = lesson not in asked or not watch.keeps_teacher(first, len(members))
        if first.teacher:
            asked.add(lesson)
        seconds, source = 0.0, ""
        if first.schedule.steps:  # else the network is measured as it comes
            seconds = seconds_of(known, first.schedule.steps, watch.hardware)
            source = "runs" if seconds else watch.source
            seconds = seconds or watch.step(first, asks=asks)
        kind = Kind(
            first,
            total=len(members),
            here=sum(here),
            recorded=len(known) - sum(here),
            seconds=seconds,
            source=source,
        )
        kinds.append(kind)
    order = list(dict.fromkeys(heading(kind.run) for kind in kinds))
    return sorted(kinds, key=lambda kind: order.index(heading(kind.run)))


def heading(run: Run) -> str:
    """What the runs of a network have in common."""
    init = "random weights" if run.init == "random" else run.init
    schedule, what = run.schedule, "images" if kind_of(run.network) == DETECTOR else "crop"
    steps = f"{schedule.steps:,} steps, batch {schedule.batch}" if schedule.steps else "as it comes"
    return f"{run.network} from {init}: {steps}, {what} {shown_size(run)}"


def shown_size(run: Run) -> str:
    """A run's crop as height x width; a detector's short and long side."""
    return "x".join(map(str, run.schedule.size))
