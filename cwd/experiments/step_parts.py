"""The parts of a training step at work on random images and maps, to be timed one by one.

Networks have random weights, nothing is learnt, and no dataset is needed.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cwd.config.run import Run
from cwd.data.classification.folders import folder_layout
from cwd.data.datasets import layout_of
from cwd.data.detection.coco import OBJECT_CLASSES, coco_layout
from cwd.data.scenes.draw import THINGS
from cwd.losses import ChannelAlignment
from cwd.models.build import build_network, count_multiply_adds
from cwd.models.names import CLASSIFIER, DETECTOR, kind_of
from cwd.models.segmentation import OUTPUT_STRIDE, SegmentationOutput
from cwd.recipes.distiller import Distiller
from cwd.recipes.parse import Term
from cwd.system.device import pick_precision
from cwd.system.timing import race
from cwd.training.tasks import task_of
from cwd.training.tasks.segmentation import cross_entropy

# of the datasets for detectors, and of those for classifiers
IMAGE_CLASSES = {"crops": len(THINGS), "imagenet": 1000}
SLOW = 2.0  # seconds of a call from which there are two of them and no more


def classes_of(run: Run) -> int:
    """K of a run's dataset, which needn't be there.

    Raises:
        CwdError: there is no such dataset, or none for this kind of network.
    """
    kind, name = kind_of(run.network), run.data.name
    if kind == DETECTOR:
        coco_layout(name)
        return OBJECT_CLASSES[name]
    if kind == CLASSIFIER:
        folder_layout(name)
        return IMAGE_CLASSES[name]
    return len(layout_of(name).classes)


@functools.cache
def described(name: str, classes: int) -> nn.Module:
    """A network of any task without memory for its weights, for its shapes."""
    return task_of(name).build(name, classes, device="meta").eval()


@functools.cache
def multiply_adds(name: str, classes: int, crop: tuple[int, int]) -> int:
    """As `cwd.models.segmentation.count_multiply_adds`, once for each."""
    return count_multiply_adds(described(name, classes), crop)


@functools.cache
def maps_of(name: str, classes: int, crop: tuple[int, int]) -> SegmentationOutput:
    """Shapes of a network's maps for one crop: [K, h, w], [C, h, w] and None."""
    with torch.no_grad():
        out = described(name, classes)(torch.empty(1, 3, *map(int, crop), device="meta"))
    return SegmentationOutput(tuple(out.score.shape[1:]), tuple(out.feature.shape[1:]), None)


def timed(step: Callable[[], object], device: str) -> float:
    """Seconds of a call: a median; where calls are slow on a CPU, the quicker of two."""
    if device == "cuda":
        return race([step], device, repeats=10, warm=3)[0]
    (first,) = race([step], device, repeats=1, warm=0)
    if first < SLOW:
        return race([step], device, repeats=3, warm=0)[0]
    return min(first, race([step], device, repeats=1, warm=0)[0])


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


def random_batch(
    classes: int, batch: int, crop: tuple[int, int], device: str
) -> tuple[Tensor, Tensor]:
    """Images [B, 3, H, W] in the trainer's memory format, and labels [B, H, W]."""
    images = torch.randn(batch, 3, *crop, device=device)
    target = torch.randint(classes, (batch, *crop), device=device)
    return images.contiguous(memory_format=torch.channels_last), target


def learning(
    name: str, classes: int, *, batch: int, crop: tuple[int, int], device: str, fast: bool
) -> Callable[[], None]:
    """Forward, backward and update of a network with cross-entropy alone.

    Args:
        name: of the network.
        classes: K.
        batch: images a call.
        crop: their height and width.
        device: "cpu" or "cuda".
        fast: in bfloat16.
    """
    network = build_network(name, classes).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, fused=True)
    images, target = random_batch(classes, batch, crop, device)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=fast):
            out = network(images)
        scores = [score for score in (out.score, out.aux_score) if score is not None]
        # in float32, as Fabric hands a network's output on
        loss = sum(cross_entropy(score.float(), target) for score in scores)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def asking(
    name: str, classes: int, *, batch: int, crop: tuple[int, int], device: str, fast: bool
) -> Callable[[], SegmentationOutput]:
    """A teacher's forward pass; arguments as for `learning`."""
    network = build_network(name, classes).to(device, memory_format=torch.channels_last).eval()
    images, _ = random_batch(classes, batch, crop, device)

    @torch.no_grad()
    def step() -> SegmentationOutput:
        with torch.autocast(device, torch.bfloat16, enabled=fast):
            return network(images)

    return step


def distilling(
    term: Term,
    names: tuple[str, str],
    classes: int,
    *,
    batch: int,
    crop: tuple[int, int],
    device: str,
    fast: bool,
) -> Callable[[], None]:
    """A loss of distillation at work on random maps, as in a training step.

    It isn't compiled: compiling takes longer than all that is measured here, so that on large maps
    training is a little faster than this.

    Args:
        term: the loss.
        names: of the student and the teacher.
        classes: K.
        batch: images a call.
        crop: their height and width.
        device: "cpu" or "cuda".
        fast: in bfloat16.
    """
    networks = [described(name, classes) for name in names]
    map_size = tuple(int(side) // OUTPUT_STRIDE for side in crop)
    distiller = Distiller((term,), *networks, map_size)
    distiller = distiller.to(device, memory_format=torch.channels_last)
    outputs = []
    for name, dtype in zip(names, (torch.float32, torch.bfloat16 if fast else None), strict=True):
        shapes = maps_of(name, classes, crop)[:2]
        maps = [torch.randn(batch, *shape, device=device, dtype=dtype) for shape in shapes]
        maps = [each.contiguous(memory_format=torch.channels_last) for each in maps]
        outputs.append(SegmentationOutput(*maps, None))
    student, teacher = outputs
    images, target = random_batch(classes, batch, crop, device)
    critic = distiller.critic
    optimizer = critic and torch.optim.Adam(critic.parameters(), fused=True)

    def step() -> None:
        for part in student[:2]:
            part.requires_grad_().grad = None
        distiller.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=fast):
            loss = sum(distiller(student, teacher, target, images).values())
        loss.backward()
        if critic:
            loss = critic.critic_loss(student.score, teacher.score, images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return step


def network_steps(
    run: Run, teacher_name: str, classes: int, device: str
) -> tuple[dict[str, Callable[[], object]], SegmentationOutput]:
    """The parts of a run's training step that aren't losses of distillation, on random images.

    Args:
        run: the student's.
        teacher_name: the teacher's network.
        classes: K, of both.
        device: "cpu" or "cuda".

    Returns:
        By name: "student", forward, backward and update with cross-entropy alone; "teacher",
        forward; "alignment", forward and backward of the feature map's 1x1 convolution, where the
        two networks need one. And the teacher's output, for its shapes.
    """
    schedule = run.schedule
    fast = pick_precision(schedule.precision, device) == "bf16-mixed"
    given = {"batch": schedule.batch, "crop": schedule.crop, "device": device, "fast": fast}
    ask = asking(teacher_name, classes, **given)
    steps, taught = {"student": learning(run.network, classes, **given), "teacher": ask}, ask()
    inputs = described(run.network, classes).feature_channels
    outputs = taught.feature.shape[1]
    if inputs != outputs:
        align = ChannelAlignment(inputs, outputs).to(device)
        shape = (schedule.batch, inputs, *taught.feature.shape[2:])
        steps["alignment"] = loss_step(lambda s, _: align(s).sum(), shape, device)
    return steps, taught
