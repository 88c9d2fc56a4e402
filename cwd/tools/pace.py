"""How long a training step takes: as finished runs took, or as the trainer takes here."""

import math
import re
import statistics
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cwd.config.run import Run
from cwd.config.schedule import BaseSchedule, DetectionSchedule, Schedule
from cwd.experiments.profile import Profile
from cwd.models.names import SEGMENTATION, kind_of
from cwd.system.files import read_json, write_json
from cwd.system.progress import report
from cwd.tools.operations import operations
from cwd.tools.trial import DRAWN, representatives, seconds_a_step, shortened
from cwd.training import provenance

AFFORDED = 1e11  # operations of a step; a CPU is timed with fewer or smaller images where it's more
SMALL = 2  # images of a step at least, since batch norm wants two
SIDE = 64  # pixels of the side of a smaller image at least
STEPS, MOST = 20, 5  # of a trial on a GPU, and on a CPU at most
Key = tuple[str, bool]  # a network, and whether it is taught


class Pace:
    """Seconds of the steps of a profile's runs, on one device.

    What was timed is kept in a file for each hardware.

    Args:
        profile: whose networks are timed where nothing is known.
        device: "cpu" or "cuda".
        folder: where that file lies.
    """

    def __init__(self, profile: Profile, device: str, folder: Path) -> None:
        self.device, self.folder = device, folder
        self.hardware = provenance.hardware(torch.device(device))
        self.rates: dict[Key, float] = {}  # operations a second
        self.tried: list[Run] = []
        runs = [*representatives(profile).values(), *profile.alone]
        self.trials = {_key(run): run for run in reversed(runs) if run.schedule.steps}
        words = f"{self.hardware['name']} {self.hardware['threads']} threads torch"
        name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{words} {torch.__version__}")
        self.path = folder / f"{name}.json"

    def learn(self, run: Run, found: Iterable[dict[str, Any]]) -> float | None:
        """Seconds a step of finished runs on this hardware; None if none was trained on it alone.

        It is their median, since a machine that sleeps or works for others shows in one of them.

        Args:
            run: which differs from them in the seed at most.
            found: their records, see `cwd.experiments.records.Records.find`.
        """
        here, taken = _place(self.hardware), []
        for origin in (record["provenance"] for record in found):
            places = {_place(session["hardware"]) for session in origin["sessions"]}
            if origin["seconds"] and places == {here}:  # 0 where a few steps were quick
                taken.append(origin["seconds"] / run.schedule.steps)
        if not taken:
            return None
        seconds = statistics.median(taken)
        self.rates.setdefault(_key(run), operations(run) / seconds)
        return seconds

    def seconds(self, run: Run) -> tuple[float, str]:
        """Seconds a step of a run of which nothing is known, and "timed" or "counted".

        Raises:
            CwdError: the network's step doesn't fit into the GPU's memory.
        """
        key = _key(run)
        trial = self.trials.get(key)
        if key not in self.rates and trial:
            self.rates[key] = self.timed(trial)
            self.tried.append(trial)
        if key in self.rates:
            return operations(run) / self.rates[key], "timed" if run in self.tried else "counted"
        # one of several students, of which one was timed with a teacher: it alone, and the teacher
        alone, _ = self.seconds(run.baseline())
        asked = operations(run) - operations(run.baseline())
        rate = self.rates.get((run.teacher.network, False), operations(run.baseline()) / alone)
        return alone + asked / rate, "counted"

    def timed(self, run: Run) -> float:
        """Operations a second of a run's network in the trainer, from the file or timed now."""
        known = read_json(self.path, "delete it") if self.path.is_file() else {}
        trial = _trial(run, self.device)
        if trial.name not in known:
            report(f"timing {trial.title}, {trial.schedule.batch} images", transient=True)
            seconds = seconds_a_step(trial, self.device, self.folder)
            known[trial.name] = operations(trial) / seconds
            write_json(self.path, known)
        return known[trial.name]


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


def _key(run: Run) -> Key:
    return run.network, run.teacher is not None


def _place(hardware: dict[str, Any]) -> tuple[Any, ...]:
    """What of the hardware decides how long a step takes; older records name no processes."""
    return (*(hardware[key] for key in ("device", "name", "threads")), hardware.get("processes", 1))


def _trial(run: Run, device: str, steps: int = STEPS) -> Run:
    """A run on generated images, fewer and smaller ones where a CPU is slow; its teacher too."""
    batch, smaller = run.schedule.batch, {}
    if device == "cpu":
        one = operations(run) / batch
        batch = max(SMALL, min(batch, int(AFFORDED / one)))
        smaller = _smaller(run.schedule, math.sqrt(AFFORDED / (batch * one)))
        steps = min(steps, MOST, max(2, int(2 * AFFORDED / (batch * one))))
    schedule = replace(run.schedule, batch=batch, **smaller)
    if run.data.name in DRAWN:
        data = {"train": max(16, batch), "val": 1}
    else:
        data = {"train": batch, "val": 1, "split": "train"}
        if kind_of(run.network) == SEGMENTATION:
            data["size"] = schedule.size  # so that they are kept in memory
    trial = shortened(replace(run, schedule=schedule, seed=0), steps, data=data)
    return replace(trial, teacher=_trial(run.teacher, device, 1)) if run.teacher else trial


def _smaller(schedule: BaseSchedule, scale: float) -> dict[str, Any]:
    """The sides of a schedule's images, scaled down; a classifier's are small anyway."""
    if scale < 1 and isinstance(schedule, Schedule):
        return {"crop": tuple(max(SIDE, int(side * scale) // 8 * 8) for side in schedule.size)}
    if scale < 1 and isinstance(schedule, DetectionSchedule):
        short, long = (max(SIDE, int(side * scale)) for side in schedule.size)
        return {"short": short, "long": long}
    return {}
