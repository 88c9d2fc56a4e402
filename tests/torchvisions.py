"""Pieces of torchvision's detectors, made comparable with ours."""

from collections import OrderedDict

import torch
from torch import nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from cwd.models.detection.outputs import Objects


def objects(*rows):
    """Objects from rows of label, left, top, right, bottom."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
    count = len(table)
    boxes = table[:, 1:]
    return Objects(boxes, table[:, 0].long(), torch.ones(count), torch.zeros(count).bool())


TARGETS = [
    objects((0, 4, 8, 40, 30), (2, 60, 20, 90, 60), (1, 30, 30, 44, 40)),
    objects((1, 10, 10, 30, 50)),
    objects(),
]


class Levels(nn.Module):
    """A detector's pyramid as torchvision's detectors expect their backbone."""

    def __init__(self, detector):
        super().__init__()
        self.detector, self.out_channels = detector, detector.channels

    def forward(self, images):
        names = ("0", "1", "2", "3", "pool")
        return OrderedDict(zip(names, self.detector(images).levels, strict=True))


def untouched(size):
    """torchvision's transform, made to change nothing and to draw no random numbers."""
    transform = GeneralizedRCNNTransform(
        min(size), max(size), image_mean=[0.0] * 3, image_std=[1.0] * 3, size_divisible=32
    )
    transform.resize = lambda image, target: (image, target)
    return transform
