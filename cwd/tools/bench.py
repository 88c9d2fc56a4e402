"""Speed, as ratios within one run: `make bench`; and the parts that `loss_costs` measures."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwd.experiments.timed_steps import loss_step
from cwd.losses import ChannelWise
from cwd.models.build import build_network
from cwd.recipes.distiller import Distiller
from cwd.recipes.parse import parse_recipe
from cwd.system.device import compile_where_it_pays, cpu_has_bf16, pick_device
from cwd.system.timing import REPEATS, race
from cwd.tools.bench_loading import loading_speed
from cwd.training.tasks.segmentation import cross_entropy

SHAPES = ((8, 19, 64, 64), (8, 512, 64, 64))  # score map and feature map of a 512x512 crop
STEP = (8, 3, 64, 128)  # the quick profile's batch


def published(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """CW as the published code computes it: softmax, its logarithm, KLDivLoss."""
    b, c = student_map.shape[:2]
    p = F.softmax(teacher_map.reshape(b, c, -1), dim=2)
    log_q = F.softmax(student_map.reshape(b, c, -1), dim=2).log()
    return nn.KLDivLoss(reduction="sum")(log_q, p) / (b * c)


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
                teacher_out = teacher(images)
            loss = sum(distiller(out, teacher_out, target).values())
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
