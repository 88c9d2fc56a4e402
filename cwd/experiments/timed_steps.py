"""Steps to be timed: the parts of a training step on random images and maps.

Networks have random weights, nothing is learnt, and no dataset is needed.
"""

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from cwd.config.run import Run
from cwd.losses import ChannelAlignment, Holistic, IntraClassVariation
from cwd.models.build import build_network
from cwd.models.segmentation import OUTPUT_STRIDE, SegmentationOutput
from cwd.recipes.parse import parse_recipe
from cwd.system.device import compile_where_it_pays, pick_precision
from cwd.training.tasks import task_of


def loss_step(
    loss: Callable[..., Tensor], shape: tuple[int, int, int, int], device: str
) -> Callable[[], None]:
    """Forward and backward of a loss of two random maps [B, C, h, w].

    A loss with a critic has a second step in every training step, and so here (supplement S4).
    """
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(shape, generator=generator).to(device) for _ in range(2))
    student.requires_grad_()
    image, given = [OUTPUT_STRIDE * side for side in shape[2:]], {}
    if isinstance(loss, IntraClassVariation):
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
    return loss_step(loss, shape, device)


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
