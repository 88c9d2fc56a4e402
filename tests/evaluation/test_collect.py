"""What detectors find in whole datasets: sizes, batches, modes and processes."""

import contextlib

import numpy as np
import pytest
import torch
from pycocotools import mask as rle
from torch import nn
from torchvision.models.detection.roi_heads import project_masks_on_boxes

from cwd.data.detection.batches import prepare, resized, stacked
from cwd.evaluation import coco_ap, measuring
from cwd.evaluation.coco_ap import collect, evaluate
from cwd.models.detection.outputs import Detections
from cwd.system.errors import CwdError

SIZES = {"short": 40, "long": 70}


def padding(image, size):
    """What an image of a batch has beyond its size."""
    return torch.cat([image[:, size[0] :].flatten(), image[:, : size[0], size[1] :].flatten()])


class Noise(nn.Module):
    """Finds random boxes, which depend on nothing but the image."""

    def __init__(self, num_classes):
        super().__init__()
        self.num_classes, self.seen = num_classes, []
        self.frozen = nn.BatchNorm2d(3).eval()

    def detect(self, images, sizes):
        assert not self.training
        self.seen.append(len(images))
        return [self.one(image, size) for image, size in zip(images, sizes, strict=True)]

    def one(self, image, size):
        assert not padding(image, size).any()
        seed = int(image[:, : size[0], : size[1]].double().abs().sum() * 1000)
        generator = torch.Generator().manual_seed(seed)
        corners = torch.rand(20, 2, 2, generator=generator).sort(dim=1).values
        boxes = corners.flatten(1) * torch.tensor([size[1], size[0]] * 2)
        labels = torch.randint(0, self.num_classes, (20,), generator=generator)
        return Detections(boxes, torch.rand(20, generator=generator), labels)


class Oracle(Noise):
    """Finds what is annotated, with masks of 28 x 28 where there are masks."""

    def __init__(self, dataset, short, long):
        super().__init__(dataset.num_classes)
        self.known = {}
        for index in range(len(dataset)):
            image, objects = dataset[index]
            image, scale = prepare(image, short, long)
            objects = objects if dataset.masked else dataset.annotated(index)
            boxes, masks = objects.boxes * scale, None
            if dataset.masked:
                masks = resized(objects.masks, tuple(image.shape[1:])).float()
                if len(boxes):
                    masks = project_masks_on_boxes(masks, boxes, torch.arange(len(boxes)), 28)
            found = Detections(boxes, torch.ones(len(boxes)), objects.labels, masks)
            self.known[self.key(stacked([image])[0], image.shape[1:])] = found

    def key(self, image, size):
        return image[:, : size[0], : size[1]].contiguous().numpy().tobytes()

    def one(self, image, size):
        return self.known[self.key(image, size)]


def same(found, expected):
    for one, two in zip(found, expected, strict=True):
        assert all(a.equal(b) for a, b in zip(one[:3], two[:3], strict=True))


@pytest.mark.parametrize("name", ["scenes", "coco"])
def test_boxes_come_back_to_the_image(named, name):
    dataset = named(name)
    detector = Oracle(dataset, **SIZES)
    for index, one in enumerate(collect(detector, dataset, **SIZES)):
        torch.testing.assert_close(one.boxes, dataset.annotated(index).boxes, atol=1e-3, rtol=0)
    assert evaluate(detector, dataset, **SIZES)["ap"] == pytest.approx(100)


@pytest.mark.parametrize("name", ["scenes", "coco"])
def test_masks_come_back_to_the_image(named, name):
    dataset = named(name, masks=True)
    sizes = {"short": 150, "long": 290}
    detector = Oracle(dataset, **sizes)
    for index, one in enumerate(collect(detector, dataset, **sizes)):
        _, objects = dataset[index]
        solid = ((objects.masks.sum(dim=(1, 2)) >= 200) & ~objects.crowd).nonzero()[:, 0].tolist()
        for place in solid:
            found, wanted = one.masks[place], rle.encode(np.asfortranarray(objects.masks[place]))
            assert rle.iou([found], [wanted], [0]).item() > 0.75  # thin parts are lost, at 28 x 28
    result = evaluate(detector, dataset, **sizes)
    assert result["mask_ap50"] > {"scenes": 80, "coco": 99.9}[name]
    assert result["mask_ap_m"] > 90


@pytest.mark.parametrize("name", ["scenes", "coco"])
def test_the_batch_changes_nothing(named, name):
    dataset = named(name)
    detector = Noise(dataset.num_classes)
    expected = collect(detector, dataset, **SIZES, batch=1)
    assert detector.seen == [1] * len(dataset)
    assert not expected[0].boxes[:5].equal(expected[1].boxes[:5])
    for batch in (2, 5, 100):
        detector.seen.clear()
        same(collect(detector, dataset, **SIZES, batch=batch), expected)
        assert sum(detector.seen) == len(dataset)
        assert max(detector.seen) <= batch
    assert (max(detector.seen) == 12) == (name == "scenes")  # all of one size


def test_the_detector_stays_in_its_mode(named):
    dataset = named("coco").first(2)
    detector = Noise(80).train()
    detector.frozen.eval()
    evaluate(detector, dataset, **SIZES)
    assert detector.training
    assert not detector.frozen.training
    detector.one = None
    with pytest.raises(TypeError):
        evaluate(detector, dataset, **SIZES)
    assert detector.training


def test_what_is_not_finite_is_no_detection(named):
    dataset = named("scenes", masks=True).first(1)
    detector = Oracle(dataset, 96, 192)
    (whole,) = collect(detector, dataset, short=96, long=192)
    (found,) = detector.known.values()
    assert len(whole.boxes) > 4
    found.boxes[0, 1], found.boxes[1, 2], found.scores[3] = float("nan"), float("inf"), float("nan")
    (rest,) = collect(detector, dataset, short=96, long=192)
    kept = [2, *range(4, len(whole.boxes))]
    assert rest.boxes.equal(whole.boxes[kept])
    assert rest.labels.equal(whole.labels[kept])
    assert rest.masks == [whole.masks[place] for place in kept]


def test_precision_is_set_from_outside(named):
    entered = []

    @contextlib.contextmanager
    def autocast():
        entered.append(True)
        yield
        entered.append(False)

    collect(Noise(80), named("coco").first(3), **SIZES, autocast=autocast, batch=1)
    assert entered == [True, False] * 3


def test_another_number_of_classes(named):
    with pytest.raises(CwdError, match="the network has 81 classes and coco 80"):
        evaluate(Noise(81), named("coco"), **SIZES)


def test_processes_share_the_images(named, monkeypatch):
    dataset = named("coco")
    detector = Noise(80)
    alone = collect(detector, dataset, **SIZES)
    parts = {}

    def gather(into, found):
        parts[measuring.rank()] = found
        into[:] = [parts.get(n, {}) for n in range(2)]

    monkeypatch.setattr(coco_ap.dist, "all_gather_object", gather)
    for module in (coco_ap, measuring):
        monkeypatch.setattr(module, "processes", lambda: 2)
    for process in (1, 0):
        detector.seen.clear()
        monkeypatch.setattr(measuring, "rank", lambda process=process: process)
        if process == 1:  # what the other one found isn't there yet
            with pytest.raises(KeyError):
                collect(detector, dataset, **SIZES)
        else:
            same(collect(detector, dataset, **SIZES), alone)
        assert sum(detector.seen) == (5, 4)[process]
