"""AP of boxes and masks, against pycocotools on the same files and against numbers by hand."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_convert

from cwd.data import fake_trees
from cwd.data.detection.coco import build_coco
from cwd.evaluation.coco_ap import precision_recall, scores, to_coco_results
from cwd.figures import detection
from cwd.models.detection.outputs import Detections
from cwd.system.errors import CwdError

NUMBERS = ("ap", "ap50", "ap75", "ap_s", "ap_m", "ap_l")
NOTHING = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), [])


@pytest.fixture
def made(tmp_path):
    """A dataset of two classes with the given objects: (left, top, width, height), label."""

    def call(*images):
        annotations, listed = [], []
        for number, objects in enumerate(images):
            listed.append({"id": number, "file_name": f"{number}.jpg", "height": 30, "width": 50})
            path = tmp_path / "val2017" / f"{number}.jpg"
            fake_trees.save(path, fake_trees.image(number, (30, 50)))
            for box, label in objects:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": (3, 7)[label],
                        "bbox": list(box),
                        "area": box[2] * box[3],
                        "iscrowd": 0,
                    }
                )
        categories = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
        path = tmp_path / "annotations" / "instances_val2017.json"
        path.parent.mkdir(exist_ok=True)
        content = {"images": listed, "annotations": annotations, "categories": categories}
        path.write_text(json.dumps(content))
        return build_coco("coco", tmp_path, "val")

    return call


def said(*found):
    """Detections of an image: (left, top, width, height), label, score."""
    boxes = torch.tensor([box for box, _, _ in found]).float().view(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = torch.tensor([label for _, label, _ in found], dtype=torch.int64)
    return Detections(boxes, torch.tensor([score for *_, score in found]).float(), labels)


def encode(masks):
    """Encodings of masks [M, H, W]."""
    return [rle.encode(np.asfortranarray(mask, np.uint8)) for mask in np.asarray(masks)]


def perfect(dataset):
    """Every object is found; a crowd too."""
    found = []
    for index in range(len(dataset)):
        objects = dataset[index].objects if dataset.masked else dataset.annotated(index)
        masks = encode(objects.masks) if dataset.masked else None
        found.append(
            Detections(objects.boxes, torch.rand(len(objects.boxes)), objects.labels, masks)
        )
    return found


def noisy(dataset, seed, copies=4):
    """Objects found several times and badly, some as another class or where there are none.

    Many scores are equal. Where there are masks, the boxes cut them, and are then as bad as can be.
    """
    generator = torch.Generator().manual_seed(seed)
    detections = []
    for index, (height, width) in enumerate(dataset.sizes.tolist()):
        objects = dataset.annotated(index)
        corners = torch.rand(3, 2, 2, generator=generator).sort(dim=1).values.flatten(1)
        random = corners * torch.tensor([width, height] * 2)
        boxes = objects.boxes.repeat(copies, 1)
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        boxes = boxes + 0.12 * sides * torch.randn(boxes.shape, generator=generator)
        boxes = torch.cat([boxes, random])
        labels = torch.cat([objects.labels.repeat(copies), torch.tensor([0, 1, 2])])
        other = labels[torch.randperm(len(labels), generator=generator)]
        labels = torch.where(torch.rand(len(labels), generator=generator) < 0.1, other, labels)
        sure = (torch.rand(len(labels), generator=generator) * 12).round() / 12
        masks = None
        if dataset.masked:
            extents = box_convert(boxes, "xyxy", "xywh").double().numpy()
            masks = rle.frPyObjects(extents, height, width)
            whole = dataset.encodings(index) * copies + masks[-3:]
            masks = [rle.merge(pair, intersect=True) for pair in zip(whole, masks, strict=True)]
            boxes = torch.rand(len(boxes), 4)
        detections.append(Detections(boxes, sure, labels, masks))
    return detections


def cocoeval(dataset, detections, folder, masks):
    """pycocotools' numbers of the annotation file and of a results file."""
    results = folder / "results.json"
    results.write_text(json.dumps(to_coco_results(dataset, detections, masks=masks)))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(dataset.file.path))
        theirs = COCOeval(truth, truth.loadRes(str(results)), "segm" if masks else "bbox")
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
    return theirs


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("name", "masks"),
    [("scenes", False), ("coco", False), ("odd", False), ("scenes", True), ("coco", True)],
)
def test_as_pycocotools(named, name, masks, seed, tmp_path, capsys):
    dataset = named(name, masks=masks)
    detections = noisy(dataset, seed)
    result = scores(dataset, detections)
    assert capsys.readouterr().out == ""
    theirs = cocoeval(dataset, detections, tmp_path, masks)
    for key, value in zip(NUMBERS, theirs.stats, strict=False):
        expected = None if value == -1 else 100 * value
        tolerance = 1e-6 if masks else 1e-9
        assert result["mask_" * masks + key] == pytest.approx(expected, abs=tolerance), key
    assert 5 < result["mask_" * masks + "ap"] < 70
    if masks:
        assert result["ap"] < 1
        return
    by_class = theirs.eval["precision"][:, :, :, 0, -1]  # [T, R, K]
    assert list(result["class_ap"]) == list(dataset.classes)
    for k, value in enumerate(result["class_ap"].values()):
        defined = by_class[..., k][by_class[..., k] > -1]
        assert value == (pytest.approx(100 * defined.mean()) if defined.size else None)
    curve = precision_recall(dataset, detections)
    with_objects = by_class[0][:, by_class[0, 0] > -1]
    assert curve.recall.to_numpy() == pytest.approx(np.arange(101) / 100)
    assert curve.precision.to_numpy() == pytest.approx(with_objects.mean(axis=1))


def test_results_have_the_ids_of_the_file(named):
    dataset = named("coco")
    detections = [said() for _ in range(9)]
    detections[3] = said(((1, 2, 3, 4), 11, 0.5))
    expected = {"image_id": 307, "category_id": 13, "bbox": [1, 2, 3, 4], "score": 0.5}
    assert to_coco_results(dataset, detections) == [expected]


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("name", ["scenes", "coco"])
def test_all_and_nothing(named, name, masks):
    dataset, prefix = named(name, masks=masks), "mask_" * masks
    result = scores(dataset, perfect(dataset))
    values = [result[prefix + key] for key in NUMBERS if result[prefix + key] is not None]
    assert values == pytest.approx([100] * len(values))
    assert result[prefix + "ap"] == pytest.approx(100)
    assert result["images"] == len(dataset)
    nothing = scores(dataset, [NOTHING] * len(dataset))
    assert {nothing[prefix + key] for key in NUMBERS} <= {0, None}
    assert nothing[prefix + "ap"] == nothing[prefix + "ap50"] == 0
    assert {nothing["class_ap"][label] for label in dataset.classes} <= {0, None}


def test_boxes_alone_where_either_has_no_masks(named):
    dataset = named("scenes", masks=True)
    found = perfect(dataset)
    plain = scores(named("scenes"), found)
    assert plain == scores(dataset, [one._replace(masks=None) for one in found])
    assert not [key for key in plain if key.startswith("mask")]
    assert plain.items() < scores(dataset, found).items()


def test_by_hand(made):
    box, far, off = (0, 0, 10, 10), (30, 0, 10, 10), (15, 15, 10, 10)
    dataset = made([(box, 0), (far, 0)], [(box, 0)])
    # right, wrong, right; the third object isn't found. Recall is 1/3 with precision 1, then 2/3
    # with precision 2/3: 34 and 33 of the 101 recalls
    detections = [said((box, 0, 0.9), (off, 0, 0.8)), said((box, 0, 0.7))]
    result = scores(dataset, detections)
    expected = 100 * (34 + 33 * 2 / 3) / 101
    for key in ("ap", "ap50", "ap75", "ap_s"):
        assert result[key] == pytest.approx(expected)
    assert result["class_ap"] == {"cat": pytest.approx(expected), "dog": None}
    assert result["ap_m"] is None
    curve = precision_recall(dataset, detections)
    assert curve.precision.tolist() == pytest.approx([1] * 34 + [2 / 3] * 33 + [0] * 34)
    # an overlap of 0.62 is right at 0.5, 0.55 and 0.6 alone
    loose = [said(((0, 0, 10, 6.2), 0, 0.9)), said()]
    result = scores(dataset, loose)
    assert result["ap50"] == pytest.approx(100 * 34 / 101)
    assert result["ap75"] == 0
    assert result["ap"] == pytest.approx(100 * 34 / 101 * 3 / 10)
    assert precision_recall(dataset, loose, 0.6).precision.sum() == pytest.approx(34)
    assert precision_recall(dataset, loose, 0.63).precision.sum() == 0


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
    (found,) = [said(((10, 10, 20, 10), 0, 0.9))._replace(masks=encode(mask))]
    result = scores(dataset, [found])
    assert result["ap"] == pytest.approx(100)
    assert result["mask_ap50"] == pytest.approx(100)
    assert result["mask_ap75"] == 0
    assert result["mask_ap"] == pytest.approx(10)
    assert result["mask_ap_m"] is result["mask_ap_l"] is None


def test_nothing_to_find(made):
    dataset = made([], [])
    for found in (said(((0, 0, 5, 5), 1, 0.5)), said()):
        result = scores(dataset, [found, said()])
        assert {result[key] for key in NUMBERS} == {None}
        assert result["class_ap"] == {"cat": None, "dog": None}
    with pytest.raises(CwdError, match="coco has no objects in 2 images"):
        precision_recall(dataset, [said(), said()])
    with pytest.raises(CwdError, match="detections of 1 images and coco has 2"):
        scores(dataset, [said()])
    for iou in (0, -0.5, 1.2, float("nan")):
        with pytest.raises(CwdError, match="is no overlap"):
            precision_recall(dataset, [said(), said()], iou)


def test_masks_are_drawn_where_they_are(named):
    dataset = named("coco", masks=True)
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
