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
    entries = []
    for image_id, one in zip(dataset.image_ids, detections, strict=True):
        boxes = box_convert(one.boxes.double(), "xyxy", "xywh").tolist()
        for n, (label, score) in enumerate(zip(one.labels, one.scores.tolist(), strict=True)):
            entry = {"image_id": image_id, "category_id": dataset.category_ids[label]}
            if masks:  # alone: else pycocotools calls a mask large by its box
                counts = one.masks[n]["counts"].decode()
                entry["segmentation"] = one.masks[n] | {"counts": counts}
            else:
                entry["bbox"] = boxes[n]
            entries.append(entry | {"score": score})
    assert to_coco_results(dataset, detections, masks=masks) == entries
    results = folder / "results.json"
    results.write_text(json.dumps(entries))
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
    assert result["images"] == len(dataset)
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


def test_boxes_alone_where_either_has_no_masks(named):
    dataset = named("scenes", masks=True)
    found = perfect(dataset)
    plain = scores(named("scenes"), found)
    assert plain == scores(dataset, [one._replace(masks=None) for one in found])
    assert not [key for key in plain if key.startswith("mask")]
    assert plain.items() < scores(dataset, found).items()


def test_nothing_found_and_nothing_to_find(named, tmp_path):
    result = scores(named("coco", masks=True), [NOTHING] * 9)
    assert result["ap"] == result["ap50"] == result["mask_ap"] == 0
    assert {result[prefix + key] for prefix in ("", "mask_") for key in NUMBERS} <= {0, None}
    path = fake_trees.coco(tmp_path, val=2) / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"annotations": []}))
    dataset = build_coco("coco", tmp_path, "val")
    for found in (perfect(named("coco"))[0], NOTHING):
        result = scores(dataset, [found, NOTHING])
        assert {result[key] for key in NUMBERS} == {*result["class_ap"].values()} == {None}
    with pytest.raises(CwdError, match="coco has no objects in 2 images"):
        precision_recall(dataset, [NOTHING] * 2)
    with pytest.raises(CwdError, match="detections of 1 images and coco has 2"):
        scores(dataset, [NOTHING])


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
