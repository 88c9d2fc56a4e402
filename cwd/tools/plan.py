"""What a profile would train, and what that takes, before anybody spends it: `make plan`.

Nothing of the profile is trained, downloaded or decoded.
"""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from cwd.config.run import Run
from cwd.experiments.records import Records
from cwd.experiments.study import every_run
from cwd.experiments.workspace import Workspace, open_profile
from cwd.system import paths
from cwd.system.device import pick_device
from cwd.system.errors import CwdError
from cwd.system.files import write_text
from cwd.system.progress import TERMINAL
from cwd.tools.needs import (
    Need,
    dataset_needs,
    free_bytes,
    in_words,
    run_bytes,
    shortages,
    weight_needs,
)
from cwd.tools.operations import operations
from cwd.tools.pace import Pace, gpu_seconds
from cwd.training.run_folder import RunFolder

HOUR = 3600.0
WIDTH = 100  # characters of a line of prose
COUNTS = ("runs", "finished", "recorded", "left")
NOTES = """\
finished: in build/runs; recorded: in data/results only; left: neither.
from runs: the median of finished or recorded runs on this hardware; timed: the trainer itself on
generated images, of which a CPU gets fewer or smaller ones; counted: counted operations at the rate
that those runs or trials of the network sustained, so that what one loss costs more than another
isn't in it. Runs that find their teacher's maps in memory take less; detectors' images of other
shapes more or less, and masks more where more is found. Measuring mIoU or AP comes on top."""


def plan(
    profile: str,
    *,
    data_root: str | Path = "data",
    seeds: str = "",
    device: str = "auto",
    tflops: float = 30.0,
) -> Path:
    """Print what a profile holds, what of it is done, and what the rest takes.

    Args:
        profile: name of a profile.
        data_root: folder of the datasets; they needn't be there.
        seeds: comma-separated; the profile's own if empty.
        device: "auto", "cpu" or "cuda".
        tflops: operations a second, in units of 10^12, to assume of a GPU that was never measured.
            30 is about a tenth of the peak of an A100.

    Returns:
        The table as a file, `build/PROFILE/plan.csv`.

    Raises:
        CwdError: a setting is wrong, a dataset is incomplete, or a step doesn't fit into the GPU.
    """
    if not 0 < tflops < float("inf"):
        raise CwdError(f"tflops is {tflops:g}, give a positive number such as 30.")
    workspace = open_profile(profile, str(data_root), seeds, device)
    records = Records(workspace.profile, paths.RUNS, paths.RESULTS)
    pace = Pace(workspace.profile, pick_device(device), paths.BUILD / "plan")
    groups: dict[Run, list[Run]] = {}  # runs that differ in their seeds only, by the first
    for run in every_run(records):
        groups.setdefault(replace(run, seed=0), []).append(run)
    table = plan_table(groups, records, pace)
    path, text = workspace.output / "plan.csv", io.StringIO()
    table.to_csv(text, index=False)
    write_text(path, text.getvalue())
    TERMINAL.clear()
    print(f"plan of {workspace.profile.name}: {workspace.profile.about}\n")
    print(*run_lines(table), NOTES, *time_lines(table, pace), sep="\n")
    if pace.device == "cpu":
        print(textwrap.fill(gpu_sentence(table, list(groups), records, tflops), WIDTH))
    print(*disk_lines(table, list(groups), workspace), sep="\n")
    print(f"\nthe whole table: {paths.for_people(path)}")
    return path


def plan_table(groups: dict[Run, list[Run]], records: Records, pace: Pace) -> pd.DataFrame:
    """A line for each group of runs that differ in their seeds only."""
    known = {run: [r for r in map(records.find, groups[run]) if r] for run in groups}
    learnt = {run: pace.learn(run, known[run]) for run in groups if run.schedule.steps}
    lines = []
    for run, members in groups.items():
        seconds, source = learnt.get(run), "runs"
        if seconds is None:
            seconds, source = pace.seconds(run) if run.schedule.steps else (0.0, "")
        here = sum(RunFolder(paths.RUNS, member).finished for member in members)
        left, hours = len(members) - len(known[run]), run.schedule.steps * seconds / HOUR
        line = {
            "network": run.network,
            "init": run.init,
            "recipe": run.recipe,
            "teacher": run.teacher.network if run.teacher else "",
            "runs": len(members),
            "finished": here,
            "recorded": len(known[run]) - here,
            "left": left,
            "steps": run.schedule.steps,
            "batch": run.schedule.batch,
            "size": "x".join(map(str, run.schedule.size)),
            "seconds_per_step": round(seconds, 6),
            "step_from": source,
            "hours_left": round(left * hours, 4),
            "hours_in_all": round(len(members) * hours, 4),
        }
        lines.append(line)
    return pd.DataFrame(lines)


def _hours(hours: float) -> str:
    return f"{hours:,.2f}" if hours < 100 else f"{hours:,.0f}"


def run_lines(table: pd.DataFrame) -> list[str]:
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


def time_lines(table: pd.DataFrame, pace: Pace) -> list[str]:
    """The sums: runs, and hours on this machine."""
    total, here, recorded, left = (int(table[name].sum()) for name in COUNTS)
    again = (table["hours_in_all"] * table["recorded"] / table["runs"]).sum()
    hours, hardware = table[["hours_left", "hours_in_all"]].sum(), pace.hardware
    said = (
        f"on {hardware['name']} ({hardware['device']}, threads: {hardware['threads']}): "
        f"{_hours(hours.iloc[0])} hours left, {_hours(hours.iloc[1])} in all; `make reproduce` "
        f"needs the networks, so it trains those recorded only as well: {_hours(again)} hours more."
    )
    sums = f"\n{total} runs: {here} finished, {recorded} recorded only, {left} left"
    return [sums, textwrap.fill(said, WIDTH)]


def gpu_sentence(table: pd.DataFrame, runs: Sequence[Run], records: Records, tflops: float) -> str:
    """GPU-hours where there is no GPU: from finished runs on one, else under an assumption."""
    # floats: whole numbers of this size overflow in a table
    work = [float(operations(run) * run.schedule.steps) for run in runs]
    taken: dict[str, list[tuple[float, float]]] = {}
    for run in every_run(records):
        record = records.find(run)
        if run.schedule.steps and record and (found := gpu_seconds(record)):
            done = operations(run) * run.schedule.steps
            taken.setdefault(found[0], []).append((found[1], done))
    if taken:
        name = max(taken, key=lambda gpu: len(taken[gpu]))
        seconds, done = map(sum, zip(*taken[name], strict=True))
        tflops = done / seconds / 1e12
        basis = (
            f"on {name}, which sustained {tflops:.2g} TFLOP/s in {len(taken[name])} finished or "
            "recorded runs of this profile."
        )
    else:
        basis = (
            f"at an ASSUMED {tflops:g} TFLOP/s. This is not measured: operations are counted, two "
            "a multiply-add, three forward passes of the student and one of the teacher a step (a "
            "detector's without its heads; no masks). Run this on the GPU to measure, or assume "
            "another rate: python -m cwd plan --tflops N."
        )
    hours = [(table[name] * work).sum() / tflops / 1e12 / HOUR for name in ("left", "runs")]
    left, total = (f"{float(f'{each:.2g}'):,g}" for each in hours)  # to two digits
    return f"no GPU here: about {left} GPU-hours left, {total} in all, {basis}"


def disk_lines(table: pd.DataFrame, runs: Sequence[Run], workspace: Workspace) -> list[str]:
    """Room on the disk and downloads, and a warning where there is too little."""
    data = dict.fromkeys(run.data for run in runs)
    needs = [need for each in data for need in dataset_needs(each, workspace.data_root)]
    needs = [*dict.fromkeys([*needs, *weight_needs(runs)])]  # tasks may share their scenes
    sizes = [run_bytes(run) for run in runs]
    kept = pd.Series([student + checkpoint for student, checkpoint in sizes])
    for name, what in (("left", "left"), ("recorded", "recorded only, if trained again")):
        if count := table[name].sum():
            needs.append(Need(f"{count} runs {what}", int((table[name] * kept).sum()), paths.RUNS))
    # a checkpoint is written beside the one before
    beside = max(max(0, checkpoint - student) for student, checkpoint in sizes)
    if (table["finished"] < table["runs"]).any():
        needs.append(Need("beside them while the largest is trained", beside, paths.RUNS))
    total = Need("sum", sum(n.size for n in needs), paths.RUNS, sum(n.download for n in needs))
    lines = [f"\n{'disk and download':70}{'disk':>12}{'download':>12}"] + [
        f"  {need.what:68}{in_words(need.size):>12}{in_words(need.download):>12}"
        for need in (*needs, total)
    ]
    _, free = free_bytes(paths.RUNS)
    return [
        *lines,
        f"a finished run keeps {in_words(kept.min())} to {in_words(kept.max())}; free on the disk "
        f"of build/: {in_words(free)}",
        *(textwrap.fill(sentence, WIDTH) for sentence in shortages(needs)),
    ]
