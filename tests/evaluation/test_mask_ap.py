"""Average precision of masks, against pycocotools on the same files and by hand."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn
from torchvision.models.detection.roi_heads import project_masks_on_boxes

from cwd.data import fake_trees
from cwd.data.detection.batches import prepare, resized, stacked
from cwd.data.detection.coco import build_coco
from cwd.data.scenes.draw import write_dataset
from cwd.evaluation.coco_ap import collect, evaluate, scores, to_coco_results
from cwd.figures import detection
from cwd.models.detection.outputs import Detections

NUMBERS = ("ap", "ap50", "ap75", "ap_s", "ap_m", "ap_l")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The scenes; and COCO with polygons, crowds, and images without objects."""
    top = tmp_path_factory.mktemp("data")
    write_dataset(top / "scenes", size=(96, 192), splits={"val": 12})
    fake_trees.coco(top / "coco", train=1, val=7, size=(200, 300))
    return top


@pytest.fixture
def named(folders):
    return lambda name, masks=True: build_coco(name, folders / name, "val", masks=masks)


def encode(masks):
    """Encodings of masks [M, H, W]."""
    return [rle.encode(np.asfortranarray(mask, np.uint8)) for mask in np.asarray(masks)]


def perfect(dataset):
    """Every object is found; a crowd too."""
    found = []
    for index in range(len(dataset)):
        _, objects = dataset[index]
        sure = torch.rand(len(objects.boxes))
        found.append(Detections(objects.boxes, sure, objects.labels, encode(objects.masks)))
    return found


def noisy(dataset, seed, copies=3):
    """Masks moved and cut, some as another class, and objects where there are none."""
    rng, detections = np.random.default_rng(seed), []
    for index in range(len(dataset)):
        _, objects = dataset[index]
        height, width = dataset.sizes[index].tolist()
        masks, labels = [], []
        for mask, label in zip(objects.masks.numpy(), objects.labels.tolist(), strict=True):
            sides = np.sqrt(mask.sum())
            for _ in range(copies):
                moves = (rng.normal(0, 0.08, 2) * sides).round().astype(int)
                masks.append(np.roll(mask, moves, (0, 1)))
                wrong = rng.random() < 0.2
                labels.append(int(rng.choice(objects.labels)) if wrong else label)
        for _ in range(4):
            masks.append(np.zeros((height, width), np.uint8))
            top, left = rng.integers(0, height - 5), rng.integers(0, width - 5)
            masks[-1][top : top + rng.integers(1, 60), left : left + rng.integers(1, 60)] = 1
            labels.append(int(rng.choice([0, 11, 79])) % dataset.num_classes)
        sure = (torch.from_numpy(rng.random(len(labels))).float() * 12).round() / 12
        boxes = torch.rand(len(labels), 4)  # as bad as can be
        detections.append(Detections(boxes, sure, torch.tensor(labels), encode(masks)))
    return detections


def cocoeval(dataset, detections, folder):
    """pycocotools' numbers of the annotation file and of a results file."""
    results = folder / "results.json"
    results.write_text(json.dumps(to_coco_results(dataset, detections, masks=True)))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(dataset.file.path))
        theirs = COCOeval(truth, truth.loadRes(str(results)), "segm")
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
    return theirs.stats[:6]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", ["scenes", "coco"])
def test_as_pycocotools(named, name, seed, tmp_path, capsys):
    dataset = named(name)
    detections = noisy(dataset, seed)
    result = scores(dataset, detections)
    assert capsys.readouterr().out == ""
    for key, expected in zip(NUMBERS, cocoeval(dataset, detections, tmp_path), strict=True):
        expected = None if expected == -1 else 100 * expected  # noqa: PLW2901
        assert result[f"mask_{key}"] == pytest.approx(expected, abs=1e-6), key
    assert 5 < result["mask_ap"] < 70
    assert result["ap"] < 1


@pytest.mark.parametrize("name", ["scenes", "coco"])
def test_all_and_nothing(named, name):
    dataset = named(name)
    result = scores(dataset, perfect(dataset))
    values = [result[f"mask_{key}"] for key in NUMBERS]
    assert [value for value in values if value is not None] == pytest.approx(
        [100] * (6 - values.count(None))
    )
    assert result["mask_ap"] == pytest.approx(100)
    none = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), [])
    result = scores(dataset, [none] * len(dataset))
    assert {result[f"mask_{key}"] for key in NUMBERS} <= {0, None}


def test_boxes_alone_where_either_has_no_masks(named):
    dataset = named("scenes")
    found = perfect(dataset)
    plain = scores(named("scenes", masks=False), found)
    assert plain == scores(dataset, [one._replace(masks=None) for one in found])
    assert not [key for key in plain if key.startswith("mask")]
    assert plain.items() < scores(dataset, found).items()


def test_half_a_mask_by_hand(tmp_path):
    fake_trees.coco(tmp_path, val=1)
    path = tmp_path / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    corners = [10, 10, 30, 10, 30, 20, 10, 20]
    only = {"segmentation": [corners], "bbox": [10, 10, 20, 10], "area": 200, "category_id": 1}
    content["annotations"] = [content["annotations"][0] | only]
    path.write_text(json.dumps(content))
    dataset = build_coco("coco", tmp_path, "val", masks=True)
    mask = np.zeros((1, 64, 96))
    mask[0, 10:20, 10:20] = 1  # an overlap of 0.5, right at the first of ten thresholds
    box = torch.tensor([[10.0, 10, 30, 20]])
    found = Detections(box, torch.tensor([0.9]), torch.tensor([0]), encode(mask))
    result = scores(dataset, [found])
    assert result["ap"] == pytest.approx(100)
    assert result["mask_ap50"] == pytest.approx(100)
    assert result["mask_ap75"] == 0
    assert result["mask_ap"] == pytest.approx(10)
    assert result["mask_ap_m"] is result["mask_ap_l"] is None


class Oracle(nn.Module):
    """Finds what is annotated, with masks of 28 x 28."""

    def __init__(self, dataset, short, long):
        super().__init__()
        self.num_classes, self.known = dataset.num_classes, {}
        for index in range(len(dataset)):
            image, objects = dataset[index]
            image, scale = prepare(image, short, long)
            boxes = objects.boxes * scale
            whole = resized(objects.masks, tuple(image.shape[1:]))
            rows = torch.arange(len(boxes))
            masks = project_masks_on_boxes(whole, boxes, rows, 28) if len(boxes) else whole.float()
            found = Detections(boxes, torch.ones(len(boxes)), objects.labels, masks)
            self.known[self.key(stacked([image])[0], image.shape[1:])] = found

    def key(self, image, size):
        return image[:, : size[0], : size[1]].contiguous().numpy().tobytes()

    def detect(self, images, sizes):
        return [self.known[self.key(*pair)] for pair in zip(images, sizes, strict=True)]


@pytest.mark.parametrize("name", ["scenes", "coco"])
def test_masks_come_back_to_the_image(named, name):
    dataset = named(name)
    sizes = {"short": 150, "long": 290}
    detector = Oracle(dataset, **sizes)
    for index, one in enumerate(collect(detector, dataset, **sizes)):
        _, objects = dataset[index]
        solid = ((objects.masks.sum(dim=(1, 2)) >= 200) & ~objects.crowd).nonzero()[:, 0].tolist()
        for place in solid:
            found, wanted = one.masks[place], encode(objects.masks[place][None])
            assert rle.iou([found], wanted, [0]).item() > 0.75  # thin parts are lost, at 28 x 28
    result = evaluate(detector, dataset, **sizes)
    assert result["mask_ap50"] > {"scenes": 80, "coco": 99.9}[name]
    assert result["mask_ap_m"] > 90
    other = evaluate(detector, named(name, masks=False), **sizes)
    assert other["ap"] == result["ap"]
    assert "mask_ap" not in other


def test_detections_that_are_not_finite_have_no_mask(named):
    dataset = named("scenes").first(1)
    detector = Oracle(dataset, 96, 192)
    (whole,) = collect(detector, dataset, short=96, long=192)
    (found,) = detector.known.values()
    found.boxes[0, 1] = float("nan")
    (rest,) = collect(detector, dataset, short=96, long=192)
    assert rest.masks == whole.masks[1:]
    assert len(rest.masks) == len(rest.boxes)


def test_masks_are_drawn_where_they_are(named):
    dataset = named("coco")
    image, objects = dataset[1]
    (found,) = perfect(dataset)[1:2]
    columns = {"annotated": [objects], "student": [found], "boxes": [found._replace(masks=None)]}
    figure = detection.detections([image], columns, dataset.classes, sure=0.0)
    first, second, third = figure.axes
    for axes in (first, second):
        _, drawn = axes.images
        opacity = drawn.get_array()[..., 3]
        assert ((opacity > 0) == objects.masks.any(dim=0).bool().numpy()).all()
        assert 0.2 < opacity.max() < 0.8
    assert len(third.images) == 1
    (faint,) = detection.detections([image], {"s": [found]}, dataset.classes, sure=1.1).axes
    assert faint.images[1].get_array()[..., 3].max() == 0
