"""Speed, as ratios within one run: `make bench`."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwd.evaluation import upsample
from cwd.hardware import compile_where_it_pays, cpu_has_bf16, pick_device
from cwd.layouts import IGNORED
from cwd.losses import ChannelWise
from cwd.models import build_network
from cwd.recipes import Distiller, parse_recipe

SHAPES = ((8, 19, 64, 64), (8, 512, 64, 64))  # score map and feature map of a 512x512 crop
STEP = (8, 3, 64, 128)  # the quick profile's batch
REPEATS = 15


def published(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """CW as the published code computes it: softmax, its logarithm, KLDivLoss."""
    b, c = student_map.shape[:2]
    p = F.softmax(teacher_map.reshape(b, c, -1), dim=2)
    log_q = F.softmax(student_map.reshape(b, c, -1), dim=2).log()
    return nn.KLDivLoss(reduction="sum")(log_q, p) / (b * c)


def race(steps: Sequence[Callable[[], object]], device: str) -> list[float]:
    """Median seconds of each call.

    They take turns, so that whatever else the machine is doing slows all of them alike; three
    rounds warm up (a compiled one compiles then).
    """
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(REPEATS + 3):
        for step, taken in zip(steps, times, strict=True):
            began = time.perf_counter()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - began)
    return [statistics.median(taken[3:]) for taken in times]


def loss_step(loss: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...],
              device: str) -> Callable[[], None]:  # fmt: skip
    """Forward and backward of a loss on random maps."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(shape, generator=generator).to(device) for _ in range(2))
    student.requires_grad_()

    def step() -> None:
        student.grad = None
        loss(student, teacher).backward()

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

    def cross_entropy(score: Tensor) -> Tensor:
        return F.cross_entropy(upsample(score, target.shape[-2:]), target, ignore_index=IGNORED)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=fast):
            out = student(images)
            with torch.no_grad():
                taught = teacher(images)
            loss = sum(distiller(out, taught, target).values())
        loss = loss + cross_entropy(out.score) + 0.4 * cross_entropy(out.aux_score)
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
