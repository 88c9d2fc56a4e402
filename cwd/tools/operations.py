"""How much a training step computes, counted on networks without memory for their weights."""

import functools
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import DeformConv2d

from cwd.config.run import OWN, Run
from cwd.data.classification.folders import FOLDER_LAYOUTS
from cwd.data.datasets import LAYOUTS, build_dataset
from cwd.data.detection.batches import fitted, padded_size
from cwd.data.detection.coco import COCO_LAYOUTS, build_coco
from cwd.models.build import count_multiply_adds
from cwd.models.names import CLASSIFIER, DETECTOR, kind_of, parse_name
from cwd.training.tasks import task_of

Size = tuple[int, int]  # height and width in pixels


def classes_of(run: Run) -> int:
    """K of a run's dataset; a CwdError if it is none for this network.

    Only the user's own, which says its classes itself, must be there.
    """
    kind, name = kind_of(run.network), run.data.name
    if name == OWN and kind != CLASSIFIER:
        build = build_coco if kind == DETECTOR else build_dataset
        return build(name, run.data.place(Path()), "train").num_classes
    if kind == DETECTOR:
        return COCO_LAYOUTS[name].num_classes
    return FOLDER_LAYOUTS[name].num_classes if kind == CLASSIFIER else len(LAYOUTS[name].classes)


@functools.cache
def described(network: str, classes: int) -> nn.Module:
    """A network of any task without memory for its weights, for its shapes."""
    return task_of(network).build(network, classes, device="meta")


def image_size(run: Run) -> Size:
    """Height and width of a run's images as its network sees them.

    Images of COCO differ in shape: this is the size of one that has both sides of the schedule.
    """
    if kind_of(run.network) != DETECTOR:
        return run.schedule.size
    short, long = run.schedule.size
    size = tuple(map(int, run.data.size)) if run.data.name == "scenes" else (short, long)
    return padded_size([fitted(size, short, long)])


@functools.cache
def multiply_adds(network: str, classes: int, size: Size) -> tuple[int, int]:
    """Multiply-adds for one image: those that a teacher is asked for, and those that it isn't.

    The latter are a detector's heads, which only Chen's recipe asks: a convolution's weights at
    every position of all levels, and linear layers for the regions that it is trained on. Masks are
    left out: how many there are depends on what is found.
    """
    if kind_of(network) != DETECTOR:
        return count_multiply_adds(described(network, classes), size), 0
    detector = described(network, classes).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as body:
        levels = detector(torch.empty(1, 3, *size, device="meta")).levels
    positions = sum(level.shape[-2:].numel() for level in levels)
    regions, heads = parse_name(network).regions, 0
    for part, layer in detector.named_modules():
        if not part.startswith(("backbone.", "pyramid.", "roi_heads.mask_")):
            if isinstance(layer, nn.Conv2d | DeformConv2d):
                heads += layer.weight.numel() * positions
            elif isinstance(layer, nn.Linear):
                heads += layer.weight.numel() * regions
    return body.get_total_flops() // 2, heads  # a multiply-add is two operations


def operations(run: Run) -> int:
    """Floating-point operations of a training step, two for each multiply-add.

    A backward pass takes about twice its forward pass, so the student's step is three of them, and
    the teacher's one. The losses of distillation are left out.
    """
    size, classes = image_size(run), classes_of(run)
    student = 3 * sum(multiply_adds(run.network, classes, size))
    teacher = multiply_adds(run.teacher.network, classes, size)[0] if run.teacher else 0
    return 2 * run.schedule.batch * (student + teacher)
