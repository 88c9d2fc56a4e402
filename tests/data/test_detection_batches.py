"""Batches of detectors, against their augmentation done by hand, image by image."""

import time
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cwd.config.schedule import chosen_images
from cwd.data import fake_trees
from cwd.data.batches import ahead
from cwd.data.detection import batches
from cwd.data.detection.batches import (
    DetectionBatches,
    alike,
    fitted,
    mirrored,
    padded_size,
    prepare,
    stacked,
)
from cwd.data.detection.coco import Picture, build_coco
from cwd.data.transforms import MEAN, STD
from cwd.models.detection.outputs import Objects
from cwd.system.errors import CwdError


@dataclass(frozen=True)
class Schedule:
    batch: int = 3
    steps: int = 6
    short: int = 48
    long: int = 80
    flip: bool = True


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return build_coco("coco", fake_trees.coco(tmp_path_factory.mktemp("coco"), train=7), "train")


def loader(dataset, schedule=Schedule(), **options):
    return DetectionBatches(dataset, schedule, options.pop("seed", 5), "cpu", **options)


def equal(one, two):
    return one[0].equal(two[0]) and all(
        a.equal(b) for x, y in zip(one[1], two[1], strict=True) for a, b in zip(x, y, strict=True)
    )


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (800, 1067)),  # the short side to 800: 640 * 800 / 480 = 1066.67
        ((640, 480), (1067, 800)),
        ((427, 640), (800, 1199)),  # 1199.06
        ((300, 640), (625, 1333)),  # the long side to 1333: 300 * 1333 / 640 = 624.84
        ((800, 1333), (800, 1333)),
        ((1, 4000), (1, 1333)),  # never no pixel at all
    ],
)
def test_size_as_mmdetection_computes_it(size, expected):
    assert fitted(size, 800, 1333) == expected


def test_prepare():
    image = torch.randint(0, 256, (3, 30, 50), dtype=torch.uint8)
    same, scale = prepare(image, 30, 50)
    assert same is image
    assert scale.tolist() == [1, 1, 1, 1]
    larger, scale = prepare(image, 45, 70)  # 42x70: the long side counts
    assert larger.dtype == torch.uint8
    assert larger.shape == (3, 42, 70)
    assert scale.tolist() == pytest.approx([70 / 50, 42 / 30] * 2)
    expected = F.interpolate(image[None].double(), (42, 70), mode="bilinear", antialias=True)[0]
    assert (larger - expected).abs().max() < 1  # it is rounded, by fixed-point arithmetic
    smaller, _ = prepare(image, 15, 70)
    expected = F.interpolate(image[None].double(), (15, 25), mode="bilinear", antialias=True)[0]
    assert (smaller - expected).abs().max() < 1


def test_mirror():
    image = torch.arange(12, dtype=torch.uint8).view(1, 3, 4).expand(3, -1, -1)
    boxes = torch.tensor([[0.0, 1, 1, 3], [1, 0, 4, 2]])
    objects = Objects(boxes, torch.tensor([3, 1]), torch.ones(2), torch.zeros(2, dtype=torch.bool))
    twin = mirrored(Picture(image, objects))
    assert twin.image[0].tolist() == [[3, 2, 1, 0], [7, 6, 5, 4], [11, 10, 9, 8]]
    assert twin.objects.boxes.tolist() == [[3, 1, 4, 3], [0, 0, 3, 2]]
    assert twin.objects.labels.tolist() == [3, 1]
    again = mirrored(twin)
    assert again.image.equal(image)
    assert again.objects.boxes.equal(boxes)


def test_stacked():
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in ((5, 40), (33, 7))]
    batch = stacked(images)
    assert batch.shape == (2, 3, 64, 64)
    assert batch.dtype == torch.float32
    for image, row in zip(images, batch, strict=True):
        _, height, width = image.shape
        for channel in range(3):
            expected = (image[channel].double() / 255 - MEAN[channel]) / STD[channel]
            found = row[channel, :height, :width].double()
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        assert not row[:, height:].any()
        assert not row[:, :, width:].any()
    assert stacked(images[:1], (96, 64)).shape == (1, 3, 96, 64)
    assert stacked([images[0][:, :, :32]]).shape == (1, 3, 32, 32)


def by_hand(dataset, schedule, seed, step, flips):
    """A batch as the description has it, with lists of numbers for the boxes."""
    rows = []
    for index, flip in zip(
        chosen_images(len(dataset), schedule.batch, seed, step).tolist(), flips, strict=True
    ):
        image, objects = dataset[index]
        _, old_height, old_width = image.shape
        image, _ = prepare(image, schedule.short, schedule.long)
        _, height, width = image.shape
        found = []
        for box, label, area, crowd in zip(*(part.tolist() for part in objects), strict=True):
            if crowd:
                continue
            down, right = height / old_height, width / old_width
            left, top, end, bottom = box[0] * right, box[1] * down, box[2] * right, box[3] * down
            if flip:
                left, end = width - end, width - left
            found.append(([left, top, end, bottom], label, area * down * right))
        rows.append((image.flip(2) if flip else image, found))
    return rows


@pytest.mark.parametrize("memory", [0, 2**31])
@pytest.mark.parametrize("flip", [True, False])
def test_batch_by_hand(dataset, monkeypatch, memory, flip):
    monkeypatch.setattr(batches, "MEMORY", memory)
    schedule = Schedule(flip=flip)
    load = loader(dataset, schedule)
    assert (load.resident is None) == (memory == 0)
    seen, mirrors = set(), []
    for step in range(4):
        images, targets = load(step)
        chosen, flips = load.plan(step)
        assert chosen == chosen_images(7, 3, 5, step).tolist()
        mirrors += flips
        expected = by_hand(dataset, schedule, 5, step, flips)
        height = max(image.shape[1] for image, _ in expected)
        width = max(image.shape[2] for image, _ in expected)
        assert images.shape == (3, 3, -(-height // 32) * 32, -(-width // 32) * 32)
        for row, target, (image, objects) in zip(images, targets, expected, strict=True):
            alone = stacked([image], tuple(images.shape[2:]))[0]
            assert row.equal(alone)
            seen.add(len(objects))
            assert target.boxes.shape == (len(objects), 4)
            assert target.labels.tolist() == [label for _, label, _ in objects]
            assert not target.crowd.any()
            if objects:
                boxes = torch.tensor([box for box, _, _ in objects])
                torch.testing.assert_close(target.boxes, boxes, atol=1e-4, rtol=0)
                area = torch.tensor([area for _, _, area in objects])
                torch.testing.assert_close(target.area, area)
    assert seen == {0, 3}  # the crowd is gone
    assert set(mirrors) == ({True, False} if flip else {False})


def test_any_order_and_any_start_is_the_same(dataset, monkeypatch):
    resident = loader(dataset)
    expected = [resident(step) for step in range(6)]
    assert not equal(expected[0], expected[2])
    monkeypatch.setattr(batches, "MEMORY", 0)
    load = loader(dataset)
    for step in (0, 1, 2, 5, 3, 3, 0):
        assert equal(load(step), expected[step]), step
    assert equal(loader(dataset)(4), expected[4])  # a resumed run
    assert not equal(loader(dataset, seed=6)(0), expected[0])


@pytest.mark.parametrize("memory", [0, 2**31])
def test_processes_share_a_batch(dataset, monkeypatch, memory):
    monkeypatch.setattr(batches, "MEMORY", memory)
    schedule = Schedule(short=64, long=200)
    whole = loader(dataset, schedule)
    parts = [loader(dataset, schedule, rows=rows) for rows in (slice(0, 1), slice(1, 3))]
    needed = []
    for step in range(6):
        images, targets = whole(step)
        found = [part(step) for part in parts]
        assert equal((torch.cat([x for x, _ in found]), found[0][1] + found[1][1]),
                     (images, targets))  # fmt: skip
        chosen, _ = whole.plan(step)
        sides = [padded_size([whole.sizes[i] for i in rows]) for rows in (chosen[:1], chosen)]
        assert images.shape[2:] == sides[1]
        needed.append(sides)
    assert any(alone != together for alone, together in needed)  # and yet they pad alike


def test_no_batch_is_read_that_is_not_needed(dataset, monkeypatch):
    monkeypatch.setattr(batches, "MEMORY", 0)
    load = loader(dataset, replace(Schedule(), steps=3))
    read, original = [], load.read
    monkeypatch.setattr(load, "read", lambda index: read.append(index) or original(index))
    for step in range(3):
        load(step)
    assert sorted(read) == sorted(i for step in range(3) for i in load.plan(step)[0])
    assert load.ready == {}


def test_fewer_images_than_a_batch(dataset):
    with pytest.raises(CwdError, match="coco has 2 training images, fewer than a batch of 3"):
        loader(dataset.first(2))


@pytest.mark.parametrize("memory", [0, 2**31])
def test_a_damaged_image(tmp_path, monkeypatch, memory):
    monkeypatch.setattr(batches, "MEMORY", memory)
    dataset = build_coco("coco", fake_trees.coco(tmp_path), "train")
    path = tmp_path / dataset.names[2]
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CwdError, match="can't be decoded"):
        [loader(dataset, replace(Schedule(), batch=4))(step) for step in range(4)]


def test_ahead():
    started = []

    def work(number):
        started.append(number)
        time.sleep(0.002 * (5 - number % 5))
        return number**2

    found = ahead(work, iter(range(20)), 3)
    assert started == []
    for number in range(20):
        assert next(found) == number**2
        assert len(started) <= number + 4
    assert next(found, None) is None
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda number: 1 / number, [2, 1, 0], 2))


def test_upright_images_and_others_do_not_share_a_batch():
    upright = np.array([True] * 7 + [False] * 11)
    seen = [alike(upright, 3, 5, step).tolist() for step in range(2 * 5)]  # 2 + 3 batches
    for epoch in (seen[:5], seen[5:]):
        shown = [index for batch in epoch for index in batch]
        assert len(set(shown)) == 15
        assert [len(set(upright[batch])) for batch in epoch] == [1] * 5
        assert sum(upright[batch[0]] for batch in epoch) == 2
    assert seen[:5] != seen[5:]
    with pytest.raises(CwdError, match="fill a batch of 12"):
        alike(upright, 12, 0, 0)


def test_images_of_one_kind_come_as_everywhere():
    for upright in (np.zeros(10, bool), np.ones(10, bool)):
        for step in range(6):
            assert torch.equal(alike(upright, 4, 1, step), chosen_images(10, 4, 1, step))
