"""How much a detector computes, and random objects to measure it on."""

import functools

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import DeformConv2d

from cwd.config.run import Run
from cwd.data.detection.batches import fitted, padded_size
from cwd.models.build import build_network
from cwd.models.detection.base import Detector
from cwd.models.detection.fasterrcnn import MASK_SIDE, MaskRCNN
from cwd.models.detection.outputs import Objects
from cwd.models.detection.pyramid import Backbone
from cwd.models.names import parse_name

OBJECTS = 7  # of a random image; COCO's have as many on average
REGIONS_PER_MASK = (
    4  # a quarter of the regions at most belongs to objects, and only those get a mask
)
Size = tuple[int, int]  # height and width in pixels


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

    Heads have a convolution's weights at every position of all levels, and in Faster and Mask R-CNN
    linear layers for every region that it is trained on. Masks are counted for as many regions as
    may have one.

    Args:
        name: of the detector.
        classes: K.
        size: height and width of the padded image.
    """
    detector = build_network(name, classes, device="meta")
    image = torch.empty(1, 3, *size, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        levels = detector(image).levels
    positions = sum(level.shape[-2:].numel() for level in levels)
    regions, heads = parse_name(name).regions, 0
    for part, layer in detector.named_modules():
        if part.startswith(("backbone.", "pyramid.", "roi_heads.mask_")):
            continue
        if isinstance(layer, nn.Conv2d | DeformConv2d):
            heads += layer.weight.numel() * positions
        elif isinstance(layer, nn.Linear):
            heads += layer.weight.numel() * regions
    if isinstance(detector, MaskRCNN):
        heads += mask_multiply_adds(detector, regions // REGIONS_PER_MASK)
    return counter.get_total_flops() // 2, heads  # a multiply-add is two operations


def mask_multiply_adds(detector: MaskRCNN, regions: int) -> int:
    """Multiply-adds of the masks of so many regions, of a detector on the meta device."""
    branch = detector.roi_heads
    pooled = torch.empty(regions, detector.channels, MASK_SIDE, MASK_SIDE, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        branch.mask_predictor(branch.mask_head(pooled))
    return counter.get_total_flops() // 2


def detector_of(run: Run, classes: int, device: str | None = None) -> Detector:
    """A run's detector with random weights, of which as much is learnt as with the run's own.

    Args:
        run: the detector's, alone or not.
        classes: K.
        device: see `build_network`.
    """
    detector = build_network(run.network, classes, device=device)
    if run.init != "random":  # neither downloaded nor looked for; only what is frozen matters here
        detector.backbone = Backbone(detector.backbone.body, pretrained=True)
    return detector


def random_objects(
    batch: int, size: Size, classes: int, device: str, *, masks: bool = False
) -> list[Objects]:
    """Seven objects for each of so many images, with sides of a tenth to four tenths of theirs.

    Args:
        batch: how many images.
        size: of each.
        classes: K.
        device: where the objects are wanted.
        masks: whether they have masks, which then fill their boxes.
    """
    height, width = size
    scale = torch.tensor([width, height, width, height], device=device)
    targets = []
    for _ in range(batch):
        corner = 0.6 * torch.rand(OBJECTS, 2, device=device)
        sides = 0.1 + 0.3 * torch.rand(OBJECTS, 2, device=device)
        boxes = torch.cat([corner, corner + sides], dim=1) * scale
        area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
        labels = torch.randint(classes, (OBJECTS,), device=device)
        crowd = torch.zeros_like(labels, dtype=torch.bool)
        filled = box_masks(boxes, size) if masks else None
        targets.append(Objects(boxes, labels, area, crowd, filled))
    return targets


def box_masks(boxes: torch.Tensor, size: Size) -> torch.Tensor:
    """Masks of whole boxes.

    Args:
        boxes: float32 [N, 4], left, top, right and bottom in pixels.
        size: height and width of the image.

    Returns:
        uint8 [N, H, W], 1 where a pixel's centre is in the box.
    """
    left, top, right, bottom = boxes[..., None].unbind(dim=1)  # [N, 1]
    down, across = (torch.arange(side, device=boxes.device) + 0.5 for side in size)
    inside = ((across > left) & (across < right))[:, None], ((down > top) & (down < bottom))
    return (inside[0] & inside[1][:, :, None]).byte()
