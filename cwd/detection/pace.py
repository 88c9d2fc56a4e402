"""How long a detector's training step takes: measured as a whole, on random images and objects."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import DeformConv2d

from cwd.detection.base import Detector
from cwd.detection.batches import DIVISOR, fitted, padded_size
from cwd.detection.detectors import build_detector
from cwd.detection.distil import DetectionDistiller
from cwd.detection.names import parse_detector
from cwd.detection.outputs import Objects
from cwd.detection.pyramid import Backbone
from cwd.engine import open_fabric
from cwd.pace import Size, Watch
from cwd.recipes import parse_recipe
from cwd.runs import Run

OBJECTS = 7  # of a random image; COCO's have as many on average


class DetectionStopwatch(Watch):
    """Seconds of detectors' steps, see `cwd.pace.Watch`.

    A step is measured as a whole: what a recipe adds to it depends on the boxes of a batch, so that
    there is no part to be measured by itself.
    """

    source = "step"
    unit = DIVISOR
    least = 4 * DIVISOR
    settings = "batch, short or long"

    def step(self, run: Run, *, asks: bool = True) -> float:
        """Seconds of one of `run`'s training steps.

        Args:
            run: which; its seed doesn't matter.
            asks: nothing here; what a detector said is never kept.

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
        return sum(detector_multiply_adds(name, self.classes, size))

    def step_multiply_adds(self, run: Run, size: Size) -> int:
        """Of a training step for one image: three forward passes of the student, and the teacher's.

        The teacher's heads are left out: only Chen's recipe asks them.
        """
        teacher = 0
        if run.teacher:
            teacher, _ = detector_multiply_adds(run.teacher.network, self.classes, size)
        return 3 * self.multiply_adds(run.network, size) + teacher

    def keeps_teacher(self, run: Run, seeds: int) -> bool:
        """Whether what a run's teacher says is kept in memory: never, see `cwd.task.Task.kept`."""
        return False

    def operations(self, run: Run) -> int:
        """Floating-point operations of a training step, as `cwd.pace.Stopwatch.operations`."""
        return 2 * run.schedule.batch * self.step_multiply_adds(run, image_size(run))


def image_size(run: Run) -> Size:
    """Height and width that a run's images are padded to.

    Images of COCO differ in shape. This is the size of one that has both sides of the schedule; a
    batch with wide and upright ones is padded to more, one of nearly square ones to less.
    """
    schedule = run.schedule
    sides = (run.data.size or ()) if run.data.name == "scenes" else ()
    size = tuple(int(side) for side in sides) or (schedule.short, schedule.long)
    return padded_size([fitted(size, schedule.short, schedule.long)])


@functools.cache
def detector_multiply_adds(name: str, classes: int, size: Size) -> tuple[int, int]:
    """Multiply-adds for one image: those of the backbone and the pyramid, and those of the heads.

    Heads have a convolution's weights at every position of all levels, and in Faster R-CNN linear
    layers for every region that it is trained on.

    Args:
        name: of the detector.
        classes: K.
        size: height and width of the padded image.
    """
    detector = build_detector(name, classes, device="meta")
    image = torch.empty(1, 3, *size, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        levels = detector(image).levels
    positions = sum(level.shape[-2:].numel() for level in levels)
    regions, heads = parse_detector(name).regions, 0
    for part, module in detector.named_children():
        for layer in module.modules() if part not in ("backbone", "pyramid") else ():
            if isinstance(layer, nn.Conv2d | DeformConv2d):
                heads += layer.weight.numel() * positions
            elif isinstance(layer, nn.Linear):
                heads += layer.weight.numel() * regions
    return counter.get_total_flops() // 2, heads  # a multiply-add is two operations


def detector_of(run: Run, classes: int, device: str | None = None) -> Detector:
    """A run's detector with random weights, of which as much is learnt as with the run's own.

    Args:
        run: the detector's, alone or not.
        classes: K.
        device: see `build_detector`.
    """
    detector = build_detector(run.network, classes, device=device)
    if run.init != "random":  # neither downloaded nor looked for; only what is frozen matters here
        detector.backbone = Backbone(detector.backbone.body, pretrained=True)
    return detector


def random_objects(batch: int, size: Size, classes: int, device: str) -> list[Objects]:
    """Seven objects for each of so many images, with sides of a tenth to four tenths of theirs."""
    height, width = size
    scale = torch.tensor([width, height, width, height], device=device)
    targets = []
    for _ in range(batch):
        corner = 0.6 * torch.rand(OBJECTS, 2, device=device)
        sides = 0.1 + 0.3 * torch.rand(OBJECTS, 2, device=device)
        boxes = torch.cat([corner, corner + sides], dim=1) * scale
        area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
        labels = torch.randint(classes, (OBJECTS,), device=device)
        targets.append(Objects(boxes, labels, area, torch.zeros_like(labels, dtype=torch.bool)))
    return targets


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
    fabric = open_fabric(device, "bf16-mixed" if fast else "32-true")

    def place(module: nn.Module) -> nn.Module:
        return module.to(device, memory_format=torch.channels_last)

    network = place(detector_of(run, classes)).train()
    learnt, distiller = list(network.parameters()), None
    if run.teacher:
        teacher = place(detector_of(run.teacher, classes)).eval().requires_grad_(False)
        distiller = place(DetectionDistiller(parse_recipe(run.recipe), network, teacher))
        learnt += distiller.trained.parameters()
    # a rate of 0: random objects teach nothing, and would lead the weights out of their range
    optimizer = torch.optim.SGD(learnt, lr=0.0, momentum=0.9, weight_decay=1e-4, fused=True)
    student, optimizer = fabric.setup(network, optimizer)
    images = torch.randn(batch, 3, *crop, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    targets = random_objects(batch, crop, classes, device)

    def step() -> Tensor:
        out = student(images, targets)
        terms = dict(out.losses)
        if distiller:
            with fabric.autocast():
                with torch.no_grad():
                    taught = teacher(images)
                terms |= distiller(out, taught, targets)
        optimizer.zero_grad()
        loss = sum(terms.values())
        fabric.backward(loss)
        if run.schedule.clip:
            clip_grad_norm_(learnt, run.schedule.clip)
        optimizer.step()
        return loss.detach()

    return step
