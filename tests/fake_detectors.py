"""Detectors that are only as much of one as a distillation loss asks for."""

import torch
from torch import nn

from cwd.models.detection.base import Detector
from cwd.models.detection.outputs import DetectionOutput, Objects, Regions

SIZE = (32, 64)  # of the padded images, pixels
SHAPES = ((1.0, 1.0), (1.5, 0.75))  # width and height of anchors, in strides
CLASSES = 3


class FakeBackbone(nn.Module):
    def __init__(self, widths):
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        for norm in self.norms:
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)

    def last_norms(self):
        return list(self.norms)


class FakeDetector(nn.Module):
    """Anchors of two shapes; both stages are a linear layer over maps or over boxes."""

    num_classes = CLASSES
    size = Detector.size

    def __init__(self, channels=4, widths=(2, 3, 4, 5), stages=2, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.channels, self.stage_channels, self.stages_of_detection = channels, widths, stages
        self.strides = tuple((4 if stages == 2 else 8) * 2**level for level in range(5))
        self.backbone = FakeBackbone(widths)
        self.objectness = nn.Conv2d(channels, len(SHAPES), 1)
        self.deltas = nn.Conv2d(channels, 4 * len(SHAPES), 1)
        self.regions = nn.Linear(4 + channels, (CLASSES + 1) * 5)

    def anchors(self, levels, size):
        found = []
        for level, stride in zip(levels, self.strides, strict=True):
            middles = [(x, y) for y in range(level.shape[2]) for x in range(level.shape[3])]
            boxes = [
                (x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y in middles for w, h in SHAPES
            ]
            found.append(torch.tensor(boxes, device=level.device) * stride)
        return found

    def first_stage(self, levels):
        objectness = [self.objectness(x).permute(0, 2, 3, 1).flatten(1) for x in levels]
        deltas = [self.deltas(x).permute(0, 2, 3, 1).flatten(1) for x in levels]
        return torch.cat(objectness, 1).flatten(), torch.cat(deltas, 1).view(-1, 4)

    def second_stage(self, levels, proposals, size):
        height, width = size
        scale = levels[0].new_tensor([width, height, width, height])
        pairs = zip(proposals, levels[0].mean(dim=(2, 3)), strict=True)
        rows = [torch.cat([b.to(scale) / scale, m.expand(len(b), -1)], 1) for b, m in pairs]
        out = self.regions(torch.cat(rows))
        return out[:, : CLASSES + 1], out[:, CLASSES + 1 :].unflatten(1, (-1, 4))


def detectors(stages=2, teacher_channels=4, teacher_widths=(2, 3, 4, 5)):
    """A student and a teacher, in float64."""
    student = FakeDetector(stages=stages)
    teacher = FakeDetector(teacher_channels, teacher_widths, stages, seed=1)
    return student.double(), teacher.double()


def seen(detector, batch=2, size=SIZE, seed=0, scale=1.0, dtype=torch.float64):
    """The output of a detector that was given no targets: random maps, which are leaves."""
    generator = torch.Generator().manual_seed(seed)

    def draw(channels, stride):
        sides = [-(-side // stride) for side in size]
        x = scale * torch.randn(batch, channels, *sides, generator=generator, dtype=torch.float64)
        return x.to(dtype).requires_grad_()

    stages = [draw(c, 4 * 2**n) for n, c in enumerate(detector.stage_channels)]
    levels = [draw(detector.channels, stride) for stride in detector.strides]
    return DetectionOutput(stages, levels, levels, {}, None, detector)


def learnt(output, positive=(3, 40, 41, 90, 150, 222, 300, 310)):
    """The same with regions: a few sampled anchors, and five and three proposals."""
    generator = torch.Generator().manual_seed(5)
    detector, levels = output.source, output.levels
    objectness, deltas = detector.first_stage(levels)
    positive = torch.tensor(positive, dtype=torch.long)
    labels = torch.zeros(len(objectness), dtype=objectness.dtype)
    labels[positive] = 1
    labels[7] = -1
    sampled = torch.cat([positive, torch.tensor([0, 20, 21, 111, 256])])
    corners = [20 * torch.rand(count, 4, generator=generator) for count in (5, 3)[: len(levels[0])]]
    proposals = [torch.cat([c[:, :2], c[:, :2] + c[:, 2:] + 1], dim=1) for c in corners]
    logits, box_deltas = detector.second_stage(levels, proposals, detector.size(levels))
    targets = [torch.randn(len(x), 4, generator=generator, dtype=x.dtype) for x in (deltas, logits)]
    classes = torch.tensor([0, 2, 3, 0, 1, 0, 0, 2])[: len(logits)]
    first = (objectness, deltas, sampled, positive, targets[0], labels)
    return output._replace(
        regions=Regions(*first, proposals, logits, box_deltas, classes, targets[1])
    )


def objects(*boxes):
    """The objects of an image, by their boxes."""
    found = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    count = len(found)
    return Objects(
        found,
        torch.zeros(count, dtype=torch.long),
        (found[:, 2:] - found[:, :2]).prod(dim=1),
        torch.zeros(count, dtype=torch.bool),
    )


TARGETS = [objects((3, 2, 14, 9), (40, 10, 63, 30)), objects((20, 4, 29, 31))]  # of two images


def pointwise(conv, x):
    """A 1x1 convolution, written as a matrix."""
    y = torch.einsum("oc,bchw->bohw", conv.weight[:, :, 0, 0], x)
    return y if conv.bias is None else y + conv.bias[:, None, None]


def identity(conv):
    """Make a convolution or linear layer the identity."""
    if conv.weight.ndim == 4:
        nn.init.dirac_(conv.weight)
    else:
        nn.init.eye_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
