"""What a profile would train, and what that takes, before anybody spends it: `make plan`.

Nothing is trained, downloaded or decoded. Where step times come from is in `cwd.tools.pace`.
"""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cwd.experiments.records import Records
from cwd.experiments.study import every_run
from cwd.experiments.workspace import Workspace, open_profile
from cwd.models.names import DETECTOR, SEGMENTATION, has_masks, kind_of
from cwd.system import paths
from cwd.system.device import pick_device
from cwd.system.errors import CwdError
from cwd.system.files import write_text
from cwd.system.progress import TERMINAL
from cwd.tools.kinds import HOUR, Kind, Watches, find_kinds, heading, shown_size
from cwd.tools.needs import (
    Need,
    dataset_needs,
    free_bytes,
    in_words,
    run_size,
    shortages,
    weight_needs,
)
from cwd.tools.pace import gpu_seconds
from cwd.training.provenance import hardware as hardware_of
from cwd.training.tasks import task_of

PAGE = 94  # characters of a line
# What a data-centre GPU may sustain in bfloat16 on networks of this kind, about a tenth of the peak
# of an A100. An assumption: only used, and named so, where no GPU has ever been measured.
TFLOPS = 30.0


def plan(
    profile: str,
    *,
    data_root: str | Path = "data",
    seeds: str = "",
    device: str = "auto",
    tflops: float = TFLOPS,
) -> Path:
    """Print what a profile holds, what of it is done, and what the rest takes.

    Args:
        profile: name of a profile.
        data_root: folder of the datasets; they needn't be there.
        seeds: comma-separated; the profile's own if empty.
        device: "auto", "cpu" or "cuda".
        tflops: operations a second, in units of 10^12, to assume of a GPU that was never measured.

    Returns:
        The table as a file, `build/PROFILE/plan.csv`.

    Raises:
        CwdError: a setting is wrong, a dataset is incomplete, or a step doesn't fit into the GPU.
    """
    if not 0 < tflops < float("inf"):
        raise CwdError(f"tflops is {tflops:g}, give a positive number such as {TFLOPS:g}.")
    workspace = open_profile(profile, str(data_root), seeds, device)
    chosen = pick_device(device)
    watches = Watches(chosen, paths.BUILD / "plan")
    records = Records(workspace.profile, paths.RUNS, paths.RESULTS)
    kinds = find_kinds(every_run(records), records, watches)
    TERMINAL.clear()
    lines = [
        f"plan of {workspace.profile.name}: {workspace.profile.about}",
        "",
        *run_lines(kinds),
        "",
        *time_lines(kinds, watches, records, tflops),
        "",
        *disk_lines(kinds, workspace),
    ]
    path = workspace.output / "plan.csv"
    table = io.StringIO()
    pd.DataFrame([entry(kind) for kind in kinds]).to_csv(table, index=False)
    write_text(path, table.getvalue())
    print("\n".join([*lines, "", f"all of this table: {paths.for_people(path)}"]))
    return path


def entry(kind: Kind) -> dict[str, Any]:
    """A kind as a line of `plan.csv`."""
    run, schedule = kind.run, kind.run.schedule
    return {
        "network": run.network,
        "init": run.init,
        "recipe": run.recipe,
        "teacher": run.teacher.network if run.teacher else "",
        "runs": kind.total,
        "finished": kind.here,
        "recorded": kind.recorded,
        "left": kind.left,
        "steps": schedule.steps,
        "batch": schedule.batch,
        "size": shown_size(run),
        "seconds_per_step": round(kind.seconds, 6),
        "step_from": kind.source,
        "hours_left": round(kind.hours(kind.left), 4),
        "hours_in_all": round(kind.hours(kind.total), 4),
    }


WIDTHS = (-28, 5, 5, 9, 5, 9, 9, 8, 7)  # of the printed columns, negative: to the left
COLUMNS = ("", "runs", "here", "recorded", "left", "s a step", "h left", "h all", "from")


def columns(cells: Sequence[object]) -> str:
    """Cells under each other."""
    return "".join(
        f"{cell:<{-width}}" if width < 0 else f"{cell:>{width}}"
        for cell, width in zip(map(str, cells), WIDTHS, strict=True)
    )


def in_hours(hours: float) -> str:
    """Hours for people."""
    if 0 < hours < 0.005:
        return "<0.01"
    return f"{hours:.2f}" if hours < 100 else f"{hours:,.0f}"


def run_lines(kinds: Sequence[Kind]) -> list[str]:
    """The kinds, by network, and their sums."""
    lines, last = [columns(COLUMNS)], ""
    teachers = {kind.run.teacher for kind in kinds}
    for kind in kinds:
        if heading(kind.run) != last:
            last = heading(kind.run)
            lines += prose(last, indent=4)
        counts = kind.total, kind.here, kind.recorded, kind.left
        hours = in_hours(kind.hours(kind.left)), in_hours(kind.hours(kind.total))
        alone = "alone, the teacher" if kind.run in teachers else "alone"
        name = f"  {kind.run.recipe or alone}"
        lines.append(columns((name, *counts, f"{kind.seconds:.3g}", *hours, kind.source)))
    sums = [
        sum(getattr(kind, name) for kind in kinds) for name in ("total", "here", "recorded", "left")
    ]
    hours = [sum(kind.hours(getattr(kind, name)) for kind in kinds) for name in ("left", "total")]
    lines.append(columns(("sum", *sums, "", *map(in_hours, hours), "")))
    return [
        *lines,
        "here: finished in build/runs; recorded: in data/results only; left: neither.",
    ]


def prose(text: str, indent: int = 2) -> list[str]:
    """A paragraph in lines of the table's width, all but its first indented."""
    return textwrap.wrap(text, PAGE, subsequent_indent=" " * indent, break_long_words=False)


def time_lines(
    kinds: Sequence[Kind], watches: Watches, records: Records, tflops: float
) -> list[str]:
    """Hours on this machine, how steps were timed, and GPU-hours where it has no GPU."""
    hardware = hardware_of(torch.device(watches.device))
    gpu = hardware["device"] == "cuda"
    threads = "" if gpu else f", threads: {hardware['threads']}"
    unit = "GPU-hours" if gpu else "hours"
    left, total, again = (
        in_hours(sum(kind.hours(getattr(kind, count)) for kind in kinds))
        for count in ("left", "total", "recorded")
    )
    lines = [
        f"time on {hardware['name']} ({hardware['device']}{threads}): {left} {unit} left, "
        f"{total} in all",
        *prose(" ".join(["- s a step", *sources(kinds)])),
    ]
    if watches.smaller:
        sizes = ", ".join(f"{name} {h}x{w}" for name, (h, w) in watches.smaller.items())
        lines += prose(f"- measured on smaller images, scaled by counted multiply-adds: {sizes}.")
    if runs := sum(kind.recorded for kind in kinds):
        lines += prose(
            f"- `make reproduce` needs the networks, so it trains the {runs} runs that are "
            f"recorded only as well: {again} {unit} more."
        )
    return lines if gpu else [*lines, *prose(gpu_sentence(kinds, watches, records, tflops))]


def sources(kinds: Sequence[Kind]) -> list[str]:
    """Sentences on where the seconds of a step come from, for the networks that there are."""
    networks = [kind.run.network for kind in kinds]
    found = {kind_of(network) for network in networks}
    said = ['from "runs": the median of finished runs on this hardware.']
    if SEGMENTATION in found:
        said.append(
            "From \"parts\": the student's step, the teacher's forward pass and each loss, "
            "measured on it with random images and added up, without the teacher's where what it "
            "said to an earlier run is kept in memory."
        )
    if others := " or ".join(sorted(found - {SEGMENTATION}, reverse=True)):
        said.append(
            f'From "step": the whole step of {others}, measured on it with random images and '
            "targets."
        )
    if DETECTOR in found:
        said.append("Detectors' images of other shapes than the one shown take more or less.")
    if any(map(has_masks, networks)):
        said.append("Mask R-CNN finds few objects of random images, and takes longer with more.")
    units = " or ".join(dict.fromkeys(task_of(network).unit for network in networks))
    return [*said, f"Reading the data and measuring {units} come on top."]


def gpu_sentence(kinds: Sequence[Kind], watches: Watches, records: Records, tflops: float) -> str:
    """GPU-hours where there is no GPU: from finished runs on one, else under an assumption."""
    taken: dict[str, list[tuple[float, float]]] = {}
    for run in every_run(records):
        record = records.find(run)
        if run.schedule.steps and record and (found := gpu_seconds(record)):
            work = watches.of(run).operations(run) * run.schedule.steps
            taken.setdefault(found[0], []).append((found[1], work))
    name, rate = max(taken, key=lambda gpu: len(taken[gpu]), default=""), tflops * 1e12
    if name:
        seconds, work = (sum(values) for values in zip(*taken[name], strict=True))
        rate = work / seconds
    runs = [kind.run for kind in kinds]
    operations = [watches.of(run).operations(run) * run.schedule.steps for run in runs]
    left, total = (
        rounded(
            sum(getattr(k, count) * n for k, n in zip(kinds, operations, strict=True)) / rate / HOUR
        )
        for count in ("left", "total")
    )
    if name:
        return (
            f"- no GPU here: about {left} GPU-hours left, {total} in all, on {name}, which "
            f"sustained {rounded(rate / 1e12)} TFLOP/s in {len(taken[name])} finished or "
            "recorded runs of this profile."
        )
    detects = any(kind_of(run.network) == DETECTOR for run in runs)
    heads = ", a detector's without its heads," if detects else ""
    return (
        f"- no GPU here: at an ASSUMED {tflops:g} TFLOP/s sustained, about {left} GPU-hours left, "
        f"{total} in all. This is not measured: operations are counted, two a multiply-add, three "
        f"forward passes of the student and one of the teacher{heads} a step. Run this on the GPU "
        "to measure, or assume another rate: python -m cwd plan --tflops N."
    )


def rounded(value: float) -> str:
    """A number to two digits."""
    return f"{float(f'{value:.2g}'):,g}"


def disk_lines(kinds: Sequence[Kind], workspace: Workspace) -> list[str]:
    """Room on the disk and downloads, and a warning where there is too little."""
    sizes = {kind: run_size(kind.run) for kind in kinds}
    needs = []
    for data in dict.fromkeys(kind.run.data for kind in kinds):
        needs += dataset_needs(data, workspace.data_root)
    needs += weight_needs(kind.run for kind in kinds)
    needs = list(dict.fromkeys(needs))  # detectors may see the scenes that crops are cut out of
    for what, name in (("left", "left"), ("recorded only, if trained again", "recorded")):
        runs = sum(getattr(kind, name) for kind in kinds)
        kept = sum(getattr(kind, name) * sizes[kind].kept for kind in kinds)
        if runs:
            needs.append(Need(f"{runs} runs {what}", kept, paths.RUNS))
    missing = [sizes[kind] for kind in kinds if kind.total > kind.here]
    if missing:
        beside = max(size.peak - size.kept for size in missing)
        needs.append(Need("beside them while the largest is trained", beside, paths.RUNS))
    smallest, largest = (choose(size.kept for size in sizes.values()) for choose in (min, max))
    lines = [f"{'disk and download':70}{'disk':>12}{'download':>12}"]
    lines += [need_line(need.what, need.size, need.download) for need in needs]
    size, download = (sum(getattr(need, n) for need in needs) for n in ("size", "download"))
    _, free = free_bytes(paths.RUNS)
    return [
        *lines,
        need_line("sum", size, download),
        f"a finished run keeps {in_words(smallest)} to {in_words(largest)}: its network and its "
        "last checkpoint.",
        f"free on the disk of build/: {in_words(free)}",
        *(line for sentence in shortages(needs) for line in prose(sentence)),
    ]


def need_line(what: str, size: int, download: int) -> str:
    """A need under the others."""
    return f"  {what:68}{in_words(size) if size else '-':>12}" + (
        f"{in_words(download) if download else '-':>12}"
    )
