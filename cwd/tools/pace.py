"""How long a training step takes: as finished runs took, or measured here.

A segmentation network's step is measured by its parts: the student's step, the teacher's forward
pass and every loss of distillation, of the sizes that training has; it takes their sum. Detectors
and classifiers are in `pace_whole`. What was measured is kept in a file for each hardware.
"""

import functools
import math
import re
import statistics
from abc import abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from cwd.config.run import Run
from cwd.config.schedule import BaseSchedule, DetectionSchedule, Schedule
from cwd.experiments.step_parts import asking, distilling, learning, maps_of, multiply_adds, timed
from cwd.models.segmentation import OUTPUT_STRIDE
from cwd.recipes.notation import TAPS
from cwd.recipes.parse import Term, parse_recipe
from cwd.system.device import pick_precision
from cwd.system.errors import CwdError
from cwd.system.files import read_json, write_json
from cwd.system.progress import report
from cwd.training import provenance
from cwd.training.teacher import KEPT

SMALL = 2  # images a call where a CPU can't afford the schedule's batch; batch norm wants two
AFFORDED = 60e9  # multiply-adds of a forward pass above which a CPU measures less and scales
PIXELS = 2**18  # the same for a loss of distillation: pixels of a batch
SIDE = 8 * OUTPUT_STRIDE  # the least side of a crop that is measured
PLACE = ("device", "name", "threads")
Size = tuple[int, int]  # height and width in pixels


class Watch:
    """Measures what it is asked for, once.

    Args:
        device: "cpu" or "cuda".
        classes: K of the dataset.
        folder: where the file of what was measured lies.

    Attributes:
        source: what it measures of a step, in a word.
        unit: pixels of which the sides of a measured image are multiples.
        least: pixels of a side below which an image isn't made smaller.
        hardware: as provenance records it.
        smaller: sizes of the networks that weren't measured at their own, by network.
    """

    source = ""
    unit = OUTPUT_STRIDE
    least = SIDE

    def __init__(self, device: str, classes: int, folder: Path) -> None:
        self.device, self.classes = device, classes
        self.hardware = provenance.hardware(torch.device(device))
        words = f"{self.hardware['name']} {self.hardware['threads']} threads"
        self.path = folder / f"{re.sub(r'[^A-Za-z0-9]+', '-', words)}.json"
        self.seconds = self.kept()
        self.smaller: dict[str, Size] = {}

    def kept(self) -> dict[str, float]:
        """Seconds by what was measured on this hardware, by any watch."""
        if not self.path.is_file():
            return {}
        return read_json(self.path, "delete it to measure again").get("seconds", {})

    @abstractmethod
    def multiply_adds(self, name: str, size: Size) -> int:
        """Of a network's forward pass for one image of a size, counted."""

    def affordable(self, name: str, batch: int, size: Size) -> tuple[int, Size]:
        """Batch and size to measure with: training's own on a GPU, less where a CPU is slow.

        Args:
            name: of the network that learns.
            batch: images of a step.
            size: their height and width.
        """
        one = self.multiply_adds(name, size)
        if self.device == "cuda" or batch * one <= AFFORDED:
            return batch, size
        batch = min(SMALL, batch)
        share = min(1.0, math.sqrt(AFFORDED / (batch * one)))
        if share == 1:
            return batch, size
        fewer = (int(side * share) // self.unit * self.unit for side in size)
        least = min(self.least, *size)
        height, width = (max(least, side) for side in fewer)
        if (height, width) != size:
            self.smaller[name] = height, width
        return batch, (height, width)

    def measured(
        self,
        what: str,
        schedule: BaseSchedule,
        batch: int,
        size: Size,
        build: Callable[..., Callable[[], object]],
    ) -> float:
        """Seconds of what `build` returns, from the file or measured now.

        Raises:
            CwdError: it doesn't fit into the GPU's memory, or the file can't be written.
        """
        precision = pick_precision(schedule.precision, self.device)
        images = f"{batch} images of {size[0]}x{size[1]}"
        key = f"{what}, {images}, {self.classes} classes, {precision}, torch {torch.__version__}"
        if key not in self.seconds:
            report(f"measuring {what}, {images}", transient=True)
            try:
                step = build(batch=batch, crop=size, device=self.device, fast="bf16" in precision)
                self.seconds[key] = timed(step, self.device)
            except torch.OutOfMemoryError as error:
                detects = isinstance(schedule, DetectionSchedule)
                settings = "batch, short or long" if detects else "batch or crop"
                raise CwdError(
                    f"{what} with {images} doesn't fit into the memory of {self.hardware['name']}: "
                    f"lower the schedule's {settings} in the profile, or plan with DEVICE=cpu."
                ) from error
            self.seconds = self.kept() | self.seconds  # the watches share the file
            write_json(self.path, {"hardware": self.hardware, "seconds": self.seconds})
        return self.seconds[key]


class Stopwatch(Watch):
    """Seconds of the parts of a segmentation network's step, see `Watch`."""

    source = "parts"

    def step(self, run: Run, *, asks: bool = True) -> float:
        """Seconds of one of `run`'s training steps: the sum of its parts.

        Args:
            run: which; its seed doesn't matter.
            asks: whether it asks its teacher, or finds what that said to a run before it.

        Raises:
            CwdError: a part doesn't fit into the GPU's memory.
        """
        total = self.network(run.network, run.schedule, training=True)
        if run.teacher and asks:
            total += self.network(run.teacher.network, run.schedule, training=False)
        if run.teacher:
            total += sum(self.term(term, run) for term in parse_recipe(run.recipe))
        return total

    def network(self, name: str, schedule: Schedule, *, training: bool) -> float:
        """Seconds of a network's forward pass for a batch; in training of all its step."""
        whole = schedule.size
        batch, crop = self.affordable(name, schedule.batch, whole)
        build = functools.partial(learning if training else asking, name, self.classes)
        what = f"{'a training step' if training else 'the forward pass'} of {name}"
        seconds = self.measured(what, schedule, batch, crop, build)
        ratio = self.multiply_adds(name, whole) / self.multiply_adds(name, crop)
        return seconds * ratio * schedule.batch / batch

    def term(self, term: Term, run: Run) -> float:
        """Seconds of forward and backward of a loss; with HO the critic's step as well."""
        schedule = run.schedule
        crop = schedule.size
        whole = self.device == "cuda" or schedule.batch * math.prod(crop) <= PIXELS
        batch = schedule.batch if whole else min(SMALL, schedule.batch)
        names = run.network, run.teacher.network
        shapes = [
            "x".join(map(str, getattr(maps_of(name, self.classes, crop), TAPS[term.tap])))
            for name in names
        ]
        options = "".join(f", {key}={value}" for key, value in term.options)
        what = f"{term.name}{options}, {term.align}, on {shapes[0]} and {shapes[1]}"
        build = functools.partial(distilling, term, names, self.classes)
        return self.measured(what, schedule, batch, crop, build) * schedule.batch / batch

    def multiply_adds(self, name: str, size: Size) -> int:
        """See `Watch`."""
        return multiply_adds(name, self.classes, size)

    def keeps_teacher(self, run: Run, seeds: int) -> bool:
        """Whether what a run's teacher says to all seeds is kept, see `teacher.Kept`."""
        schedule = run.schedule
        maps = maps_of(run.teacher.network, self.classes, schedule.crop)[:2]
        need = 4 * schedule.steps * schedule.batch * sum(map(math.prod, maps))
        return need * seeds <= KEPT.limit

    def operations(self, run: Run) -> int:
        """Floating-point operations of a training step, counted: two for each multiply-add.

        A backward pass takes about twice its forward pass, so the student's step is three of them,
        and the teacher's one. The losses of distillation are left out.
        """
        crop = run.schedule.size
        student = 3 * self.multiply_adds(run.network, crop)
        teacher = run.teacher and self.multiply_adds(run.teacher.network, crop)
        return 2 * run.schedule.batch * (student + (teacher or 0))


def place_of(hardware: dict[str, Any]) -> tuple[Any, ...]:
    """What of the hardware decides how long a step takes; older records name no processes."""
    return (*(hardware[key] for key in PLACE), hardware.get("processes", 1))


def seconds_of(
    found: Iterable[dict[str, Any]], steps: int, hardware: dict[str, Any]
) -> float | None:
    """Seconds a step of finished runs on one hardware; None if none was trained on it alone.

    It is their median, since a machine that sleeps or works for others shows in one of them.

    Args:
        found: the runs' records, see `cwd.experiments.records.Records.find`.
        steps: of each of them.
        hardware: as provenance records it.
    """
    taken = [
        record["provenance"]["seconds"] / steps
        for record in found
        if record["provenance"]["seconds"]  # rounded to 0 where a few steps were quick
        and {place_of(session["hardware"]) for session in record["provenance"]["sessions"]}
        == {place_of(hardware)}
    ]
    return statistics.median(taken) if taken else None


def gpu_seconds(record: dict[str, Any]) -> tuple[str, float] | None:
    """A run's GPU and how many seconds of it it took, over all processes; None if not on one GPU.

    Args:
        record: see `cwd.experiments.records.Records.find`.
    """
    sessions = record["provenance"]["sessions"]
    names = {(session["hardware"]["device"], session["hardware"]["name"]) for session in sessions}
    device, name = names.pop()
    if device != "cuda" or names:
        return None
    taken = sum(s["seconds"] * s["hardware"].get("processes", 1) for s in sessions)
    return (name, taken) if taken else None
