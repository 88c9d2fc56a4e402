"""How long a training step takes: as finished runs took, or as the trainer takes here."""

import statistics
from pathlib import Path
from typing import Any

import torch

from cwd.config.run import Run
from cwd.system.files import read_json, write_json
from cwd.system.progress import report
from cwd.tools.operations import operations
from cwd.tools.trial import seconds_a_step, timed

Records = dict[Run, list[dict[str, Any]]]  # of runs that differ in their seeds only, by one of them


def step_seconds(
    records: Records, device: str, hardware: dict[str, Any], folder: Path
) -> dict[Run, tuple[float, str]]:
    """Seconds of the runs' steps on this hardware, and whether from "runs", "timed" or "counted".

    A network that no run tells of, alone or taught, is timed once, with the recipe of most losses;
    the rest is counted, at the operations a second that the network is known to sustain. The file
    `timed.json` in the folder keeps what was timed. A step that doesn't fit into the GPU's memory
    is a `CwdError`.
    """
    found = {run: (0.0, "") for run in records if not run.schedule.steps}
    rates: dict[tuple[str, bool], float] = {}
    for run, known in records.items():
        if seconds := median_seconds(run, known, hardware):
            found[run] = seconds, "runs"
            rates.setdefault((run.network, bool(run.teacher)), operations(run) / seconds)
    unknown = [run for run in records if run not in found]
    for run in sorted(unknown, key=lambda run: run.recipe.count("+"), reverse=True):
        key, source = (run.network, bool(run.teacher)), "counted"
        if key not in rates:
            rates[key], source = _timed_rate(run, device, hardware, folder), "timed"
        found[run] = operations(run) / rates[key], source
    return found


def median_seconds(
    run: Run, records: list[dict[str, Any]], hardware: dict[str, Any]
) -> float | None:
    """Seconds a step of finished runs on this hardware; None if none was trained on it alone.

    It is their median, since a machine that sleeps or works for others shows in one of them.
    """
    taken = []
    for origin in (record["provenance"] for record in records):
        # older records name no processes
        places = [{"processes": 1} | session["hardware"] for session in origin["sessions"]]
        if run.schedule.steps and origin["seconds"] and all(place == hardware for place in places):
            taken.append(origin["seconds"] / run.schedule.steps)
    return statistics.median(taken) if taken else None  # a few quick steps take 0 seconds


def _timed_rate(run: Run, device: str, hardware: dict[str, Any], folder: Path) -> float:
    """Operations a second of a run's network in the trainer, from the file or timed now."""
    path, trial = folder / "timed.json", timed(run, device)
    known = read_json(path, "delete it") if path.is_file() else {}
    name = f"{trial.name} on {hardware} with torch {torch.__version__}"
    if name not in known:
        report(f"timing {trial.title}, {trial.schedule.batch} images", transient=True)
        known[name] = operations(trial) / seconds_a_step(trial, device, folder)
        write_json(path, known)
    return known[name]
