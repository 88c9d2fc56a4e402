"""Speed, as ratios within one run: `make bench`; and the parts that `cwd.loss_costs` measures."""

import gc
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from cwd.bench_loading import loading_speed
from cwd.hardware import compile_where_it_pays, cpu_has_bf16, pick_device
from cwd.losses import ChannelWise
from cwd.models import build_network
from cwd.recipes import Distiller, parse_recipe
from cwd.segmentation import cross_entropy

SHAPES = ((8, 19, 64, 64), (8, 512, 64, 64))  # score map and feature map of a 512x512 crop
STEP = (8, 3, 64, 128)  # the quick profile's batch
REPEATS = 15


def published(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """CW as the published code computes it: softmax, its logarithm, KLDivLoss."""
    b, c = student_map.shape[:2]
    p = F.softmax(teacher_map.reshape(b, c, -1), dim=2)
    log_q = F.softmax(student_map.reshape(b, c, -1), dim=2).log()
    return nn.KLDivLoss(reduction="sum")(log_q, p) / (b * c)


def laps(
    steps: Sequence[Callable[[], object]], device: str, repeats: int = REPEATS, warm: int = 3
) -> list[list[float]]:
    """Seconds of each call, `repeats` of them.

    The calls take turns, so that whatever else the machine is doing slows all of them alike, and
    the times of one round belong together.

    Args:
        steps: what to call.
        device: "cpu" or "cuda".
        repeats: rounds that count.
        warm: rounds before them (a compiled call compiles then).
    """
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(repeats + warm):
        for step, taken in zip(steps, times, strict=True):
            began = time.perf_counter()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - began)
    return [taken[warm:] for taken in times]


def race(
    steps: Sequence[Callable[[], object]], device: str, repeats: int = REPEATS, warm: int = 3
) -> list[float]:
    """Median seconds of each call; arguments as for `laps`."""
    return [statistics.median(taken) for taken in laps(steps, device, repeats, warm)]


def peak_bytes(step: Callable[[], object], device: str) -> int:
    """The most memory that a call holds at once, beyond what is there before it.

    On a GPU the allocator knows it. On a CPU it is the highest running sum of the profiler's
    allocations and releases in their order, one thread's, so that it is the same at every call.

    Args:
        step: leaves nothing behind that it frees at its next call.
        device: "cpu" or "cuda".
    """
    if device == "cuda":
        step()  # libraries allocate their workspaces now
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler announces itself
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.disable()  # a collection now would release what others have left
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            step()
    finally:
        gc.enable()
        torch.set_num_threads(threads)
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    return int(np.cumsum([0] + [e.nbytes() for e in events]).max())


def loss_step(
    loss: Callable[..., Tensor],
    shape: tuple[int, ...],
    device: str,
    given: Mapping[str, Any] | None = None,
) -> Callable[[], None]:
    """Forward and backward of a loss on random maps.

    A loss with a critic has a second step in every training step, and so here (supplement S4).

    Args:
        loss: called with the student's and the teacher's map.
        shape: of both maps, [B, C, H, W].
        device: "cpu" or "cuda".
        given: what else the loss is called with, such as a target.
    """
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(shape, generator=generator).to(device) for _ in range(2))
    student.requires_grad_()
    given = given or {}
    critic_loss = getattr(loss, "critic_loss", None)

    def step() -> None:
        loss(student, teacher, **given).backward()
        if critic_loss:
            critic_loss(student, teacher, **given).backward()
            loss.zero_grad()
        student.grad = None  # nothing is left over, so that each call takes the same memory

    return step


def training_step(fast: bool, device: str) -> Callable[[], None]:
    """One step of CW_f from PSPNet-R18 to PSPNet-R18(0.25).

    Args:
        fast: in bfloat16 and channels-last, with the fused optimiser; otherwise plain fp32.
        device: "cpu" or "cuda".
    """
    torch.manual_seed(0)
    layout = torch.channels_last if fast else torch.contiguous_format
    student, teacher = (build_network(name, 19) for name in ("PSPNet-R18(0.25)", "PSPNet-R18"))
    teacher.eval().requires_grad_(False)
    distiller = Distiller(parse_recipe("CW_f"), student, teacher)
    parts = nn.ModuleList([student, teacher, distiller]).to(device, memory_format=layout)
    learnt = [p for p in parts.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learnt, lr=0.01, momentum=0.9, weight_decay=5e-4, fused=fast)
    images = torch.randn(STEP, device=device).contiguous(memory_format=layout)
    target = torch.randint(19, (STEP[0], *STEP[2:]), device=device)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=fast):
            out = student(images)
            with torch.no_grad():
                taught = teacher(images)
            loss = sum(distiller(out, taught, target).values())
        supervised = [cross_entropy(score, target) for score in (out.score, out.aux_score)]
        loss = loss + supervised[0] + 0.4 * supervised[1]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def bench() -> None:
    """Print how much faster ours is than the published form and than plain fp32."""
    device = pick_device("auto")
    print(f"device {device}, {torch.get_num_threads()} threads, medians of {REPEATS}\n")
    print(f"{'CW, forward and backward, fp32':40}{'published':>12}{'ours':>12}{'ratio':>8}")
    loss = ChannelWise()
    compile_where_it_pays([loss], positions=64 * 64)
    for shape in SHAPES:
        theirs, ours = race([loss_step(f, shape, device) for f in (published, loss)], device)
        print(f"{list(shape)!s:40}{theirs * 1e3:9.2f} ms{ours * 1e3:9.2f} ms{theirs / ours:8.1f}")
    fast = cpu_has_bf16() or device == "cuda"
    theirs, ours = race([training_step(f, device) for f in (False, fast)], device)
    print(
        f"\n{'training step, CW_f, batch 8 of 64x128':40}{'plain fp32':>12}{'ours':>12}{'ratio':>8}"
    )
    print(f"{'':40}{theirs * 1e3:9.1f} ms{ours * 1e3:9.1f} ms{theirs / ours:8.1f}")
    if not fast:
        print("\nthis processor doesn't compute in bfloat16, so both steps are fp32.")
    print(f"\nthe loader alone, crops of 512x512 from images of 1024x2048\n{loading_speed()}")
