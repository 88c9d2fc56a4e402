"""How long a training step of a detector or a classifier takes: measured as a whole.

Images and targets are random, networks have random weights, and nothing is learnt.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from cwd.config.run import Run
from cwd.data.detection.batches import DIVISOR
from cwd.experiments.step_parts import multiply_adds
from cwd.models.names import DETECTOR, has_masks, kind_of
from cwd.system.distributed import open_fabric
from cwd.tools import workload
from cwd.tools.pace import Size, Watch
from cwd.training.tasks import task_of


class WholeStopwatch(Watch):
    """Seconds of the steps of detectors and classifiers, see `cwd.tools.pace.Watch`.

    A step is measured as a whole: what a recipe adds to a detector's depends on the boxes of a
    batch, so that there is no part to be measured by itself; and a classifier's maps are small.
    """

    source = "step"
    unit = DIVISOR
    least = 4 * DIVISOR

    def step(self, run: Run, *, asks: bool = True) -> float:
        """Seconds of one of `run`'s training steps.

        Args:
            run: which; its seed doesn't matter.
            asks: nothing here; what these teachers said is never kept.

        Raises:
            CwdError: it doesn't fit into the GPU's memory.
        """
        schedule, whole = run.schedule, image_size(run)
        batch, size = self.affordable(run.network, schedule.batch, whole)
        taught = f" with {run.recipe} from {run.teacher.network}" if run.teacher else ""
        what = f"a training step of {run.network} from {run.start}{taught}"
        build = functools.partial(training_step, run, self.classes)
        seconds = self.measured(what, schedule, batch, size, build)
        ratio = self.step_multiply_adds(run, whole) / self.step_multiply_adds(run, size)
        return seconds * ratio * schedule.batch / batch

    def multiply_adds(self, name: str, size: Size) -> int:
        """See `Watch`."""
        return sum(self.counted(name, size))

    def counted(self, name: str, size: Size) -> tuple[int, int]:
        """Multiply-adds for one image: those that a teacher is asked for, and those that it isn't.

        The latter are a detector's heads: only Chen's recipe asks them.
        """
        if kind_of(name) == DETECTOR:
            return workload.detector_multiply_adds(name, self.classes, size)
        return multiply_adds(name, self.classes, size), 0

    def step_multiply_adds(self, run: Run, size: Size) -> int:
        """Of a training step for one image: three forward passes of the student, and the teacher's.

        Args:
            run: which.
            size: height and width of its images.
        """
        teacher = self.counted(run.teacher.network, size)[0] if run.teacher else 0
        return 3 * self.multiply_adds(run.network, size) + teacher

    def keeps_teacher(self, run: Run, seeds: int) -> bool:
        """Whether what a run's teacher says is kept in memory: never, see `Task.kept`."""
        return False

    def operations(self, run: Run) -> int:
        """Floating-point operations of a training step, as `Stopwatch.operations`."""
        return 2 * run.schedule.batch * self.step_multiply_adds(run, image_size(run))


def image_size(run: Run) -> Size:
    """Height and width of a run's images as its network sees them."""
    return workload.image_size(run) if kind_of(run.network) == DETECTOR else run.schedule.size


def random_target(run: Run, batch: int, size: Size, classes: int, device: str) -> Any:
    """What the images of a batch might show, as the run's task has it.

    Args:
        run: which.
        batch: B.
        size: height and width of the images.
        classes: K.
        device: where it is wanted.
    """
    if kind_of(run.network) == DETECTOR:
        masks = has_masks(run.network)
        return workload.random_objects(batch, size, classes, device, masks=masks)
    return torch.randint(classes, (batch,), device=device)


def network_of(run: Run, classes: int) -> nn.Module:
    """A run's network with random weights, of which as much is learnt as with the run's own."""
    if kind_of(run.network) == DETECTOR:
        return workload.detector_of(run, classes)
    return task_of(run.network).build(run.network, classes)


def training_step(
    run: Run, classes: int, *, batch: int, crop: Size, device: str, fast: bool
) -> Callable[[], Tensor]:
    """A run's whole training step on random images, as the trainer takes it.

    Args:
        run: which.
        classes: K.
        batch: images a call.
        crop: their height and width.
        device: "cpu" or "cuda".
        fast: in bfloat16.

    Returns:
        What takes the step, and gives the sum of its losses.
    """
    task = task_of(run.network)
    fabric = open_fabric(device, "bf16-mixed" if fast else "32-true")

    def place(module: nn.Module) -> nn.Module:
        return module.to(device, memory_format=torch.channels_last)

    network = place(network_of(run, classes)).train()
    learnt, distiller = list(network.parameters()), None
    if run.teacher:
        teacher = place(network_of(run.teacher, classes)).eval().requires_grad_(False)
        distiller = place(task.distiller(run, network, teacher))
        learnt += distiller.trained.parameters()
    # a rate of 0: random targets teach nothing, and would lead the weights out of their range
    optimizer = torch.optim.SGD(learnt, lr=0.0, momentum=0.9, weight_decay=1e-4, fused=True)
    student, optimizer = fabric.setup(network, optimizer)
    images = torch.randn(batch, 3, *crop, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    target = random_target(run, batch, crop, classes, device)

    def step() -> Tensor:
        out = task.forward(student, images, target)
        terms = task.losses(out, target, run.schedule)
        if distiller:
            with fabric.autocast():
                with torch.no_grad():
                    taught = task.forward(teacher, images, None)
                terms |= distiller(out, taught, target, images)
        optimizer.zero_grad()
        loss = sum(terms.values())
        fabric.backward(loss)
        if run.schedule.clip:
            clip_grad_norm_(learnt, run.schedule.clip)
        optimizer.step()
        return loss.detach()

    return step
