"""Average precision, against pycocotools on the same files and against numbers done by hand."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cwd.data import fake_trees
from cwd.data.detection.coco import build_coco
from cwd.data.scenes.draw import write_dataset
from cwd.evaluation.coco_ap import precision_recall, scores, to_coco_results
from cwd.models.detection.outputs import Detections
from cwd.system.errors import CwdError

NUMBERS = ("ap", "ap50", "ap75", "ap_s", "ap_m", "ap_l")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The scenes, the generated COCO, and COCO with objects without area or extent."""
    top = tmp_path_factory.mktemp("data")
    write_dataset(top / "scenes", size=(96, 192), splits={"val": 12})
    for name in ("coco", "odd"):
        fake_trees.coco(top / name, train=1, val=9, size=(200, 300))
    path = top / "odd" / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"][1]["area"] = 0
    content["annotations"][2]["bbox"][2] = 0
    content["annotations"][5] |= {"bbox": [9, 9, 0, 0], "area": 0}
    path.write_text(json.dumps(content))
    return top


@pytest.fixture
def named(folders):
    def call(name):
        return build_coco("scenes" if name == "scenes" else "coco", folders / name, "val")

    return call


@pytest.fixture
def made(tmp_path):
    """A dataset of two classes with the given objects: (left, top, width, height), label, area."""

    def call(*images, crowd=()):
        annotations = []
        for number, objects in enumerate(images):
            fake_trees.save(
                tmp_path / "val2017" / f"{number}.jpg", fake_trees.image(number, (30, 50))
            )
            for box, label, *area in objects:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": (3, 7)[label],
                        "bbox": list(box),
                        "area": area[0] if area else box[2] * box[3],
                        "iscrowd": int(len(annotations) in crowd),
                    }
                )
        listed = [
            {"id": n, "file_name": f"{n}.jpg", "height": 30, "width": 50}
            for n in range(len(images))
        ]
        categories = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
        path = tmp_path / "annotations" / "instances_val2017.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            json.dumps({"images": listed, "annotations": annotations, "categories": categories})
        )
        return build_coco("coco", tmp_path, "val")

    return call


def said(*found):
    """Detections of an image: (left, top, width, height), label, score."""
    boxes = torch.tensor([box for box, _, _ in found]).float().view(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = torch.tensor([label for _, label, _ in found], dtype=torch.int64)
    return Detections(boxes, torch.tensor([score for *_, score in found]).float(), labels)


def perfect(dataset):
    """Every object is found; a crowd's box too."""
    found = [dataset.annotated(index) for index in range(len(dataset))]
    return [Detections(one.boxes, torch.rand(len(one.boxes)), one.labels) for one in found]


def noisy(dataset, seed=0, copies=4):
    """Objects found several times and badly, some as another class; many scores are equal."""
    generator = torch.Generator().manual_seed(seed)
    detections = []
    for index in range(len(dataset)):
        objects = dataset.annotated(index)
        boxes = objects.boxes.repeat(copies, 1)
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        boxes = boxes + 0.12 * sides * torch.randn(boxes.shape, generator=generator)
        labels = objects.labels.repeat(copies)
        other = objects.labels[torch.randperm(len(objects.labels), generator=generator)]
        wrong = torch.rand(len(labels), generator=generator) < 0.2
        labels = torch.where(wrong, other.repeat(copies), labels)
        sure = (torch.rand(len(labels), generator=generator) * 12).round() / 12
        detections.append(Detections(boxes, sure, labels))
    return detections


def cocoeval(dataset, detections, folder):
    """pycocotools' numbers of the annotation file and of a results file."""
    results = folder / "results.json"
    results.write_text(json.dumps(to_coco_results(dataset, detections)))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(dataset.file.path))
        theirs = COCOeval(truth, truth.loadRes(str(results)), "bbox")
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
    return theirs


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", ["scenes", "coco", "odd"])
def test_as_pycocotools(named, name, seed, tmp_path, capsys):
    dataset = named(name)
    detections = noisy(dataset, seed)
    result = scores(dataset, detections)
    assert capsys.readouterr().out == ""
    theirs = cocoeval(dataset, detections, tmp_path)
    for key, expected in zip(NUMBERS, theirs.stats, strict=False):
        expected = None if expected == -1 else 100 * expected  # noqa: PLW2901
        assert result[key] == pytest.approx(expected, abs=1e-9), key
    assert 5 < result["ap"] < 70
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


@pytest.mark.parametrize("name", ["scenes", "coco"])
def test_all_and_nothing(named, name):
    dataset = named(name)
    result = scores(dataset, perfect(dataset))
    assert [result[key] for key in NUMBERS if result[key] is not None] == pytest.approx(
        [100] * sum(result[key] is not None for key in NUMBERS)
    )
    assert result["ap"] == pytest.approx(100)
    assert result["images"] == len(dataset)
    nothing = scores(dataset, [said() for _ in range(len(dataset))])
    assert {nothing[key] for key in NUMBERS} <= {0, None}
    assert nothing["ap"] == nothing["ap50"] == 0
    assert {nothing["class_ap"][label] for label in dataset.classes} <= {0, None}


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


def test_a_recall_that_is_a_threshold(made):
    # one of ten: recalls 0, 0.01, ..., 0.1
    boxes = [(10 * (n % 5), 10 * (n // 5), 8, 8) for n in range(10)]
    dataset = made([(box, 1) for box in boxes])
    result = scores(dataset, [said((boxes[0], 1, 0.5))])
    assert result["ap"] == pytest.approx(100 * 11 / 101)


def test_an_overlap_that_is_a_threshold(made):
    dataset = made([((0, 0, 10, 10), 1)])
    result = scores(dataset, [said(((0, 0, 10, 5.5), 1, 0.5))])  # 0.5 and 0.55 of ten
    assert result["ap"] == pytest.approx(20)


def test_area_is_that_of_the_object_and_not_of_its_box(made):
    small, medium, large = ((0, 0, 45, 25), 0, 1000), ((5, 0, 20, 20), 0, 1500), (
        (30, 5, 10, 10), 0, 9217)  # fmt: skip
    dataset = made([small], [medium], [large])
    found = [said((small[0], 0, 0.9)), said(), said((large[0], 0, 0.8))]
    result = scores(dataset, found)
    assert result["ap_s"] == result["ap_l"] == pytest.approx(100)
    assert result["ap_m"] == 0


def test_a_crowd_is_neither_found_nor_missed(made):
    group, one = (20, 0, 30, 30), (0, 0, 10, 10)
    inside = [((20 + 6 * n, 3, 5, 20), 0, 0.9 - n / 10) for n in range(4)]
    found = [said(*inside, (one, 0, 0.3))]
    objects = [(group, 0), (one, 0)]
    assert scores(made(objects, crowd=[0]), found)["ap"] == pytest.approx(100)
    # as one object it is missed, and they are four wrong ones before the right one
    assert scores(made(objects), found)["ap"] == pytest.approx(100 * 51 / 101 / 5)


def test_nothing_to_find(made):
    dataset = made([], [])
    result = scores(dataset, [said(((0, 0, 5, 5), 1, 0.5)), said()])
    assert {result[key] for key in NUMBERS} == {None}
    assert result["class_ap"] == {"cat": None, "dog": None}
    result = scores(dataset, [said(), said()])
    assert {result[key] for key in NUMBERS} == {None}
    with pytest.raises(CwdError, match="coco has no objects in 2 images"):
        precision_recall(dataset, [said(), said()])


@pytest.mark.parametrize("iou", [0, -0.5, 1.2, float("nan")])
def test_bad_overlap(made, iou):
    with pytest.raises(CwdError, match="is no overlap"):
        precision_recall(made([]), [said()], iou)


def test_detections_of_other_images(made):
    with pytest.raises(CwdError, match="detections of 1 images and coco has 2"):
        scores(made([], []), [said()])
