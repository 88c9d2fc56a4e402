"""The complexity column of Table 2, measured: time and memory of every loss."""

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cwd.config.run import Run
from cwd.experiments.beside import lines_of
from cwd.experiments.profile import Profile
from cwd.experiments.table import paper
from cwd.experiments.workspace import Workspace
from cwd.losses import ChannelAlignment, Holistic, IntraClassVariation
from cwd.losses.pairwise import squared_errors, unit
from cwd.models.build import build_network, count_parameters
from cwd.models.segmentation import OUTPUT_STRIDE, SegmentationOutput
from cwd.recipes.distiller import Distiller
from cwd.recipes.notation import SYMBOLS
from cwd.recipes.parse import parse_recipe
from cwd.system import paths
from cwd.system.device import compile_where_it_pays, pick_device, pick_precision
from cwd.system.timing import laps, peak_bytes, race
from cwd.training.tasks import task_of

# of the maps, [B, C, h, w]: N from 256 to 4096 at C = 64, and C from 16 to 256 at N = 1024
BATCH = 2
GRID = [(BATCH, 64, side, side) for side in (16, 24, 32, 48, 64)]
GRID += [(BATCH, channels, 32, 32) for channels in (16, 32, 128, 256)]
MIB = 2**20
# Each loss's row in Table 2, and how its cost should grow with N = h w and with C by what is
# printed there, as exponents, with three readings of ours. AT: p is the power of the activations,
# each is raised to it once: C^1. IFVD: n, the classes, would come from a pass over the map for
# each; sums by index need one pass in all. PA: (h w)^2 is full resolution; with the published
# code's pooling few positions are left, and pooling itself sees each activation once.
LOSSES = {
    "MIMIC_f": ("MIMIC", 1, 1),
    "AT_f": ("AT", 1, 1),
    "PI": ("PI", 1, 1),
    "LOCAL_f": ("LOCAL", 1, 1),
    "PA_f": ("PA", 1, 1),
    "PA_f(pool_scale=0)": ("PA", 2, 1),
    "IFV_f": ("IFVD", 1, 1),
    "HO": ("HO", None, None),
    "CW_f": ("CW", 1, 1),
}

# what brings something to train, if only an alignment of channels
LEARNING = ("HO", "CW_f", "CT_f", "CIRKD_f", "MGD_b", "AFDCD_b")


def predicted_orders() -> pd.DataFrame:
    """The paper's complexity of every loss, and the exponents that it means for ours."""
    columns = ["the paper's complexity", "exponent of N", "exponent of C"]
    table = pd.DataFrame.from_dict(LOSSES, orient="index", columns=columns)
    table[columns[0]] = table[columns[0]].map(paper("table2_individual", 0)["complexity"])
    return table.astype(dict.fromkeys(columns[1:], "Int64")).rename_axis("loss")


def repeats_for(profile: Profile) -> int:
    """How often to time a call: a profile of few steps wants few repeats, at most 7."""
    return max(1, min(7, profile.student.schedule.steps // 40))


def measure_losses(
    device: str = "auto",
    repeats: int = 5,
    shapes: Sequence[tuple[int, int, int, int]] = GRID,
    losses: Sequence[str] = tuple(LOSSES),
) -> pd.DataFrame:
    """Time and memory of forward and backward of losses (recipes), as written, nothing compiled.

    A line a loss and shape: loss, positions (N), channels (C), seconds (a median), bytes.
    """
    device = pick_device(device)
    lines = []
    for shape in shapes:
        steps = [recipe_step(recipe, shape, device) for recipe in losses]
        sizes = [peak_bytes(step, device) for step in steps]  # warms them up, too
        medians = race(steps, device, repeats, warm=0)
        point = {"positions": math.prod(shape[2:]), "channels": shape[1]}
        lines += [
            {"loss": loss, **point, "seconds": seconds, "bytes": size}
            for loss, seconds, size in zip(losses, medians, sizes, strict=True)
        ]
    return pd.DataFrame(lines)


def fitted_slopes(costs: pd.DataFrame) -> pd.DataFrame:
    """Exponents of N and of C, predicted and fitted to `measure_losses`, and the paper's words.

    The exponent of one is fitted to logarithms where the other has its most frequent value, on the
    upper half of the sizes: on small maps the constant cost of calling a dozen operators dominates,
    and would make every loss look cheaper to enlarge than it is.
    """
    predicted = predicted_orders().loc[list(dict.fromkeys(costs["loss"]))]
    table, by_loss = predicted[["the paper's complexity"]].copy(), costs.groupby("loss")

    def fitted(lines: pd.DataFrame, by: str, other: str, cost: str) -> float:
        line = lines[lines[other] == lines[other].mode()[0]].sort_values(by)
        upper = np.log(line[[by, cost]].iloc[len(line) // 2 :].astype(float))
        return float(np.polyfit(upper[by], upper[cost], 1)[0])

    for letter, *sizes in (("N", "positions", "channels"), ("C", "channels", "positions")):
        table[f"{letter}: predicted"] = predicted[f"exponent of {letter}"]
        for name, cost in (("time", "seconds"), ("memory", "bytes")):
            exponents = {loss: fitted(lines, *sizes, cost) for loss, lines in by_loss}
            table[f"{letter}: {name}"] = pd.Series(exponents)
    return table


def beside_cw(costs: pd.DataFrame, cost: str) -> str:
    """Which losses take less of "seconds" or "bytes" than CW_f at every size; a sentence."""
    table = costs.pivot(index=["positions", "channels"], columns="loss", values=cost)
    less = table.lt(table["CW_f"], axis=0).all()
    names = ", ".join(less.index[less]) or "none"
    return f"Less {'time' if cost == 'seconds' else 'memory'} than CW_f at every size: {names}."


def in_one_block(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """PA at full resolution with the whole N x N matrices at once, as the equation reads."""
    s, t = unit(student_map).flatten(2), unit(teacher_map).flatten(2)
    return squared_errors(s, t) / (t.shape[0] * t.shape[2] ** 2)


def pairwise_memory(sides: Sequence[int] = (32, 64)) -> pd.DataFrame:
    """MiB that PA at full resolution holds at once, in one block and as we do it; on the CPU."""
    (term,) = parse_recipe("PA_f(pool_scale=0)")
    table = pd.DataFrame(index=pd.Index([side**2 for side in sides], name="positions"))
    for name, form in (("in one block", in_one_block), ("in blocks of rows", term.build())):
        steps = [loss_step(form, (BATCH, 64, side, side), "cpu") for side in sides]
        table[name] = [round(peak_bytes(step, "cpu") / MIB) for step in steps]
    return table


def trained_beside(student: str = "PSPNet-R18", teacher: str = "PSPNet-R101") -> pd.DataFrame:
    """Millions of parameters that a loss trains beside a student, for Cityscapes' 19 classes."""
    networks = [build_network(name, 19, device="meta") for name in (student, teacher)]
    counts = {"the student itself": count_parameters(networks[0])}
    for recipe in LEARNING:
        terms = parse_recipe(recipe)
        with torch.device("meta"):
            counts[recipe] = count_parameters(Distiller(terms, *networks))
    millions = pd.Series(counts, name="trained (M)") / 1e6
    return millions.round(2).to_frame().rename_axis("loss")


def step_seconds(workspace: Workspace, repeats: int = 15) -> pd.DataFrame:
    """Seconds of every part of a profile's training step: a line a repeat, a column a part.

    These are `network_steps` and the losses, on maps of the shapes that they see in training, and
    compiled where training compiles them. In a repeat all parts take one turn: ratios are paired.
    """
    device = pick_device(workspace.device)
    student, teacher = workspace.profile.student, workspace.profile.teacher
    steps, taught = network_steps(student, teacher.network, workspace.data[0].num_classes, device)
    for recipe in LOSSES:
        shape = (taught.feature if parse_recipe(recipe)[0].tap == "f" else taught.score).shape
        steps[recipe] = recipe_step(recipe, tuple(shape), device, compiled=True)
    seconds = laps(list(steps.values()), device, repeats)
    return pd.DataFrame(dict(zip(steps, seconds, strict=True))).rename_axis("repeat")


def step_shares(seconds: pd.DataFrame) -> pd.DataFrame:
    """Medians of `step_seconds`, and loss / (student + teacher + loss), the largest first."""
    median = seconds.median()
    losses = median[[name for name in LOSSES if name in median]]
    share = 100 * losses / (median["student"] + median["teacher"] + losses)
    table = pd.DataFrame({"loss (ms)": 1e3 * losses, "share of a step (%)": share})
    return table.sort_values("share of a step (%)", ascending=False).rename_axis("loss")


def record_costs(workspace: Workspace, costs: pd.DataFrame, seconds: pd.DataFrame) -> Path:
    """Write `measure_losses` and `step_seconds` to the profile's `costs.json`."""
    student = workspace.profile.student
    step = {
        "student": student.network,
        "teacher": workspace.profile.teacher.network,
        "batch": student.schedule.batch,
        "crop": list(student.schedule.crop),
        "seconds": seconds.to_dict("list"),
    }
    grid = {"batch": BATCH, "costs": lines_of(costs)}
    slopes = lines_of(fitted_slopes(costs).reset_index())
    return workspace.keep(paths.COSTS, grid=grid, slopes=slopes, step=step)


def loss_step(
    loss: Callable[..., Tensor],
    shape: tuple[int, int, int, int],
    device: str,
    *,
    labelled: bool = False,
) -> Callable[[], None]:
    """Forward and backward of a loss of two random maps [B, C, h, w], and of labels if `labelled`.

    A loss with a critic has a second step in every training step, and so here (supplement S4).
    """
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(shape, generator=generator).to(device) for _ in range(2))
    student.requires_grad_()
    image, given = [OUTPUT_STRIDE * side for side in shape[2:]], {}
    if labelled or isinstance(loss, IntraClassVariation):
        given["target"] = torch.randint(19, (shape[0], *image)).to(device)
    elif isinstance(loss, Holistic):
        given["images"] = torch.randn(shape[0], 3, *image).to(device)

    def step() -> None:
        loss(student, teacher, **given).backward()
        if isinstance(loss, Holistic):
            loss.critic_loss(student, teacher, **given).backward()
            loss.zero_grad()
        student.grad = None  # nothing is left over, so that each call takes the same memory

    return step


def recipe_step(
    recipe: str, shape: tuple[int, int, int, int], device: str, *, compiled: bool = False
) -> Callable[[], None]:
    """`loss_step` of a recipe of one term, compiled where training would if that is wanted."""
    torch.manual_seed(0)  # of the critic's weights
    (term,) = parse_recipe(recipe)
    loss = term.build(shape[1], tuple(shape[2:])).to(device)
    if compiled and not isinstance(loss, Holistic):
        compile_where_it_pays([loss], math.prod(shape[2:]))
    return loss_step(loss, shape, device, labelled=SYMBOLS[term.symbol].labelled)


def network_steps(
    run: Run, teacher_name: str, classes: int, device: str
) -> tuple[dict[str, Callable[[], object]], SegmentationOutput]:
    """The parts of a run's training step that aren't losses; and the teacher's output.

    "student": forward, backward and update with cross-entropy alone; "teacher": forward;
    "alignment": forward and backward of the feature map's 1x1 convolution, where they need one.
    """
    schedule = run.schedule
    fast = pick_precision(schedule.precision, device) == "bf16-mixed"
    autocast = functools.partial(torch.autocast, device, torch.bfloat16, enabled=fast)
    student, teacher = (
        build_network(name, classes).to(device, memory_format=torch.channels_last)
        for name in (run.network, teacher_name)
    )
    student.train()
    teacher.eval()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9, fused=True)
    images = torch.randn(schedule.batch, 3, *schedule.crop, device=device)
    images = images.to(memory_format=torch.channels_last)
    target = torch.randint(classes, (schedule.batch, *schedule.crop), device=device)

    def learn() -> None:
        with autocast():
            out = student(images)
        loss = sum(task_of(run.network).losses(out, target, schedule).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def ask() -> SegmentationOutput:
        with autocast():
            return teacher(images)

    steps, taught = {"student": learn, "teacher": ask}, ask()
    inputs, outputs = student.feature_channels, teacher.feature_channels
    if inputs != outputs:
        align = ChannelAlignment(inputs, outputs).to(device)
        shape = schedule.batch, inputs, *taught.feature.shape[2:]
        steps["alignment"] = loss_step(lambda s, _: align(s).sum(), shape, device)
    return steps, taught
