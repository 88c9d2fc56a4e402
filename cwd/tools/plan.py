"""What a profile would train, and what that takes, before anybody spends it: `make plan`.

Nothing of the profile is trained, downloaded or decoded.
"""

import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cwd.config.run import Run
from cwd.experiments.records import Records
from cwd.experiments.study import every_run
from cwd.experiments.workspace import Workspace, open_profile
from cwd.system import paths
from cwd.system.device import pick_device
from cwd.system.errors import CwdError
from cwd.system.files import write_atomic
from cwd.system.progress import TERMINAL
from cwd.tools.needs import (
    Need,
    dataset_needs,
    existing,
    in_words,
    run_bytes,
    shortages,
    weight_needs,
)
from cwd.tools.operations import operations
from cwd.tools.pace import step_seconds
from cwd.training import provenance
from cwd.training.run_folder import RunFolder

HOUR = 3600.0
TFLOPS = 30.0  # of a GPU that isn't here
WIDTH = 100  # characters of a line of prose
COUNTS = ("runs", "finished", "recorded", "left")
NOTES = """\
finished: in build/runs; recorded: in data/results only; left: neither.
from runs: the median of finished or recorded runs on this hardware; timed: the trainer itself on
generated images, of which a CPU gets fewer or smaller ones; counted: counted operations at the rate
that those runs or trials of the network sustained, so that what one loss costs more than another
isn't in it. Runs that are trained together share batches and their teacher's maps, and take less;
detectors' images of other shapes more or less, and masks more where more is found. Measuring mIoU
or AP comes on top."""


def plan(
    profile: str,
    *,
    data_root: str | Path = "data",
    seeds: str = "",
    device: str = "auto",
    tflops: float | None = None,
) -> Path:
    """Print what a profile holds, what of it is done, and what the rest takes.

    The datasets needn't be in `data_root`, and `seeds` are comma-separated, the profile's own if
    empty. `tflops` are operations a second, in units of 10^12, to assume of a GPU where there is
    none: 30 if None, about a tenth of the peak of an A100. Returns the table as a file,
    `build/PROFILE/plan.csv`. A wrong setting, an incomplete dataset, or a step that doesn't fit
    into the GPU is a `CwdError`.
    """
    if tflops is not None and not 0 < tflops < float("inf"):
        raise CwdError(f"tflops is {tflops:g}, give a positive number such as 30.")
    workspace = open_profile(profile, str(data_root), seeds, device)
    records = Records(workspace.profile, paths.RUNS, paths.RESULTS)
    device = pick_device(device)
    if device == "cuda" and tflops:
        raise CwdError("tflops is assumed where there is no GPU, and here is one: leave it out.")
    hardware = provenance.hardware(torch.device(device))
    groups: dict[Run, list[Run]] = {}  # runs that differ in their seeds only, by the first
    for run in every_run(records):
        groups.setdefault(replace(run, seed=0), []).append(run)
    known = {run: [r for r in map(records.find, groups[run]) if r] for run in groups}
    seconds = step_seconds(known, device, hardware, paths.BUILD / "plan")
    table = pd.DataFrame(
        [_line(runs, len(known[run]), *seconds[run]) for run, runs in groups.items()]
    )
    path = workspace.output / "plan.csv"
    write_atomic(path, lambda file: table.to_csv(file, index=False))
    TERMINAL.clear()
    print(f"plan of {workspace.profile.name}: {workspace.profile.about}\n")
    print(*_run_lines(table), NOTES, *_time_lines(table, hardware), sep="\n")
    if device == "cpu":
        print(textwrap.fill(gpu_sentence(table, list(groups), tflops or TFLOPS), WIDTH))
    print(*_disk_lines(table, list(groups), workspace), sep="\n")
    print(f"\nthe whole table: {paths.for_people(path)}")
    return path


def _line(runs: list[Run], measured: int, seconds: float, source: str) -> dict[str, Any]:
    """The table's line of runs that differ in their seeds only; so many of them were measured."""
    run, here = runs[0], sum(RunFolder(paths.RUNS, each).finished for each in runs)
    left, hours = len(runs) - measured, run.schedule.steps * seconds / HOUR
    return {
        "network": run.network,
        "init": run.init,
        "recipe": run.recipe,
        "teacher": run.teacher.network if run.teacher else "",
        "runs": len(runs),
        "finished": here,
        "recorded": measured - here,
        "left": left,
        "steps": run.schedule.steps,
        "batch": run.schedule.batch,
        "size": "x".join(map(str, run.schedule.size)),
        "seconds_per_step": round(seconds, 6),
        "step_from": source,
        "hours_left": round(left * hours, 4),
        "hours_in_all": round(len(runs) * hours, 4),
    }


def _hours(hours: float) -> str:
    return f"{hours:,.2f}" if hours < 100 else f"{hours:,.0f}"


def _run_lines(table: pd.DataFrame) -> list[str]:
    """The table for people, by network."""
    widths = (34, 5, 9, 9, 5, 9, 8, 8, 8)
    names = "", *COUNTS, "s a step", "h left", "h all", "from"
    lines = ["".join(f"{name:>{width}}" for name, width in zip(names, widths, strict=True))]
    setting = ["network", "init", "steps", "batch", "size"]
    for (network, init, steps, batch, size), part in table.groupby(setting, sort=False):
        lines.append(f"{network} from {init}: {steps:,} steps, batch {batch}, images {size}")
        lines += [
            f"  {row.recipe or 'alone':32}{row.runs:5}{row.finished:9}{row.recorded:9}{row.left:5}"
            f"{row.seconds_per_step:9.3g}{_hours(row.hours_left):>8}{_hours(row.hours_in_all):>8}"
            f"{row.step_from:>8}"
            for row in part.itertuples()
        ]
    return lines


def _time_lines(table: pd.DataFrame, hardware: dict[str, Any]) -> list[str]:
    """The sums: runs, and hours on this machine."""
    total, here, recorded, left = (int(table[name].sum()) for name in COUNTS)
    again = (table["hours_in_all"] * table["recorded"] / table["runs"]).sum()
    said = (
        "on {name} ({device}, threads: {threads}): ".format(**hardware)
        + f"{_hours(table['hours_left'].sum())} hours left, {_hours(table['hours_in_all'].sum())} "
        f"in all; those recorded only are trained by `make reproduce ALL=1`: {_hours(again)} hours."
    )
    sums = f"\n{total} runs: {here} finished, {recorded} recorded only, {left} left"
    return [sums, textwrap.fill(said, WIDTH)]


def gpu_sentence(table: pd.DataFrame, runs: Sequence[Run], tflops: float) -> str:
    """GPU-hours under an assumption, where there is no GPU."""
    # floats: whole numbers of this size overflow in a table
    work = [float(operations(run) * run.schedule.steps) for run in runs]
    hours = [(table[name] * work).sum() / tflops / 1e12 / HOUR for name in ("left", "runs")]
    left, total = (f"{float(f'{each:.2g}'):,g}" for each in hours)  # to two digits
    return (
        f"no GPU here: about {left} GPU-hours left, {total} in all, at an ASSUMED {tflops:g} "
        "TFLOP/s. This is not measured: operations are counted, two a multiply-add, three forward "
        "passes of the student and one of the teacher a step (a detector's without its heads; no "
        "masks). Run this on the GPU to measure, or assume another rate: python -m cwd plan "
        "--tflops N."
    )


def _disk_lines(table: pd.DataFrame, runs: Sequence[Run], workspace: Workspace) -> list[str]:
    """Room on the disk and downloads, and a warning where there is too little."""
    data = dict.fromkeys(run.data for run in runs)
    needs = [need for each in data for need in dataset_needs(each, workspace.data_root)]
    needs = [*dict.fromkeys([*needs, *weight_needs(runs)])]  # tasks may share their scenes
    sizes = pd.DataFrame(map(run_bytes, runs), columns=["student", "checkpoint"])
    kept = sizes.sum(axis=1)
    for name, what in (("left", "left"), ("recorded", "recorded only, if trained again")):
        if count := table[name].sum():
            needs.append(Need(f"{count} runs {what}", int((table[name] * kept).sum()), paths.RUNS))
    # a checkpoint is written beside the one before
    beside = max(0, int((sizes["checkpoint"] - sizes["student"]).max()))
    if (table["finished"] < table["runs"]).any():
        needs.append(Need("beside them while the largest is trained", beside, paths.RUNS))
    total = Need("sum", sum(n.size for n in needs), paths.RUNS, sum(n.download for n in needs))
    lines = [f"\n{'disk and download':70}{'disk':>12}{'download':>12}"] + [
        f"  {need.what:68}{in_words(need.size):>12}{in_words(need.download):>12}"
        for need in (*needs, total)
    ]
    free = shutil.disk_usage(existing(paths.RUNS)).free
    return [
        *lines,
        f"a finished run keeps {in_words(kept.min())} to {in_words(kept.max())}; free on the disk "
        f"of build/: {in_words(free)}",
        *(textwrap.fill(sentence, WIDTH) for sentence in shortages(needs)),
    ]
