"""What detectors find in whole datasets: sizes, batches, modes and processes."""

import contextlib

import pytest
import torch
from torch import nn

from cwd.data import fake_trees
from cwd.data.detection.batches import prepare, stacked
from cwd.data.detection.coco import build_coco
from cwd.data.scenes.draw import write_dataset
from cwd.evaluation import coco_ap, measuring
from cwd.evaluation.coco_ap import collect, evaluate
from cwd.models.detection.outputs import Detections
from cwd.system.errors import CwdError

SIZES = {"short": 40, "long": 70}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    top = tmp_path_factory.mktemp("data")
    write_dataset(top / "scenes", size=(48, 96), splits={"val": 12})
    fake_trees.coco(top / "coco", train=1, val=9)
    return top


@pytest.fixture
def named(folders):
    return lambda name: build_coco(name, folders / name, "val")


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
    """Finds what is annotated."""

    def __init__(self, dataset):
        super().__init__(dataset.num_classes)
        self.known = {}
        for index in range(len(dataset)):
            image, scale = prepare(dataset[index].image, **SIZES)
            batch = stacked([image])[:, :, : image.shape[1], : image.shape[2]]
            objects = dataset.annotated(index)
            self.known[self.key(batch[0])] = objects._replace(boxes=objects.boxes * scale)

    def key(self, image):
        return image.contiguous().numpy().tobytes()

    def one(self, image, size):
        objects = self.known[self.key(image[:, : size[0], : size[1]])]
        return Detections(objects.boxes, torch.ones(len(objects.boxes)), objects.labels)


@pytest.mark.parametrize("name", ["scenes", "coco"])
def test_boxes_come_back_to_the_image(named, name):
    dataset = named(name)
    detector = Oracle(dataset)
    for index, one in enumerate(collect(detector, dataset, **SIZES)):
        torch.testing.assert_close(one.boxes, dataset.annotated(index).boxes, atol=1e-3, rtol=0)
    assert evaluate(detector, dataset, **SIZES)["ap"] == pytest.approx(100)


@pytest.mark.parametrize("name", ["scenes", "coco"])
def test_the_batch_changes_nothing(named, name):
    dataset = named(name)
    detector = Noise(dataset.num_classes)
    expected = collect(detector, dataset, **SIZES, batch=1)
    assert detector.seen == [1] * len(dataset)
    assert not expected[0].boxes[:5].equal(expected[1].boxes[:5])
    for batch in (2, 5, 100):
        detector.seen.clear()
        for one, two in zip(
            collect(detector, dataset, **SIZES, batch=batch), expected, strict=True
        ):
            assert all(a.equal(b) for a, b in zip(one, two, strict=True))
        assert sum(detector.seen) == len(dataset)
        assert max(detector.seen) <= batch
    assert (max(detector.seen) == 12) == (name == "scenes")  # all of one size
    results = [evaluate(detector, dataset, **SIZES, batch=batch) for batch in (1, 8)]
    assert results[0] == results[1]


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
    dataset = named("coco").first(1)

    class Diverged(Noise):
        def one(self, image, size):
            boxes, sure, labels = super().one(image, size)
            boxes[3, 1], boxes[4, 2], sure[5] = float("nan"), float("inf"), float("nan")
            return Detections(boxes, sure, labels)

    (whole,) = collect(Noise(80), dataset, **SIZES)
    (found,) = collect(Diverged(80), dataset, **SIZES)
    assert found.boxes.equal(whole.boxes[[0, 1, 2, *range(6, 20)]])
    assert found.labels.equal(whole.labels[[0, 1, 2, *range(6, 20)]])


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

    def gather(process, into, found):
        parts[process] = found
        into[:] = [parts.get(n, {}) for n in range(2)]

    for module in (coco_ap, measuring):
        monkeypatch.setattr(module, "processes", lambda: 2)
    for process in (1, 0):
        detector.seen.clear()
        monkeypatch.setattr(measuring, "rank", lambda process=process: process)
        monkeypatch.setattr(
            coco_ap.dist,
            "all_gather_object",
            lambda into, found, process=process: gather(process, into, found),
        )
        if process == 1:  # what the other one found isn't there yet
            with pytest.raises(KeyError):
                collect(detector, dataset, **SIZES)
        else:
            both = collect(detector, dataset, **SIZES)
        assert sum(detector.seen) == (5, 4)[process]
    for one, two in zip(both, alone, strict=True):
        assert all(a.equal(b) for a, b in zip(one, two, strict=True))
