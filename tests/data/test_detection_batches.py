"""Batches of detectors, against their augmentation done by hand, image by image."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cwd.config.run import Data
from cwd.config.schedule import DetectionSchedule, chosen_images
from cwd.data import fake_trees
from cwd.data.detection import batches
from cwd.data.detection.batches import DetectionBatches, alike, padded_size, prepare, stacked
from cwd.data.detection.coco import Picture, build_coco
from cwd.data.scenes.draw import scenes_root
from cwd.data.transforms import MEAN, STD
from cwd.models.detection.outputs import Objects
from cwd.system.errors import CwdError
from cwd.training.tasks.detection import DETECTION, INSTANCE

SCHEDULE = DetectionSchedule(steps=6, batch=3, short=48, long=80)
in_memory_or_not = pytest.mark.parametrize("memory", [0, 2**31])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fake_trees.coco(tmp_path_factory.mktemp("coco"), train=7)


def loader(dataset, schedule=SCHEDULE):
    return DetectionBatches(dataset, schedule, 5, "cpu")


def picture(mask, box):
    """An image of one object."""
    whole = torch.tensor([1])
    objects = Objects(torch.tensor([box]).float(), whole, whole.float(), whole < 0, mask[None])
    return Picture(torch.zeros(3, *mask.shape, dtype=torch.uint8), objects)


def centres(mask, height, width):
    """The pixels of a mask in which those of another size have their centres, one by one."""
    down, right = mask.shape[0] / height, mask.shape[1] / width
    rows = [
        [int(mask[int((y + 0.5) * down), int((x + 0.5) * right)]) for x in range(width)]
        for y in range(height)
    ]
    return torch.tensor(rows, dtype=torch.uint8)


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
    assert batches.fitted(size, 800, 1333) == expected


def test_prepare():
    image = torch.randint(0, 256, (3, 30, 50), dtype=torch.uint8)
    same, scale = prepare(image, 30, 50)
    assert same is image
    assert scale.tolist() == [1, 1, 1, 1]
    for sides, size in (((45, 70), (42, 70)), ((15, 70), (15, 25))):  # of 42x70 the long one counts
        found, scale = prepare(image, *sides)
        assert found.dtype == torch.uint8
        assert scale.tolist() == pytest.approx([size[1] / 50, size[0] / 30] * 2)
        expected = F.interpolate(image[None].double(), size, mode="bilinear", antialias=True)[0]
        assert (found - expected).abs().max() < 1  # it is rounded, by fixed-point arithmetic


@pytest.mark.parametrize("size", [(3, 5), (7, 9), (11, 24), (20, 30)])
def test_every_pixel_of_a_mask_is_that_at_its_centre(size):
    masks = (torch.rand(4, 11, 24, generator=torch.Generator().manual_seed(0)) > 0.5).byte()
    expected = [centres(mask, *size) for mask in masks]
    assert batches.resized(masks, size).equal(torch.stack(expected))
    assert batches.resized(masks[:0], size).shape == (0, *size)


def test_objects_without_a_pixel_are_not_learnt():
    mask = torch.zeros(40, 60, dtype=torch.uint8)
    assert len(batches.prepare_picture(picture(mask, [4, 4, 20, 20]), 40, 60).objects.boxes) == 0
    for place, count in ((10, 1), (11, 0)):  # of a quarter's size: 2, 6, 10 and so on are left
        mask = torch.zeros(40, 60, dtype=torch.uint8)
        mask[place, place] = 1
        small = batches.prepare_picture(picture(mask, [4, 4, 20, 20]), 10, 15).objects
        assert small.masks.shape == (count, 10, 15)
        assert small.boxes.shape == (count, 4)


def test_stacked():
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in ((5, 40), (33, 7))]
    batch = stacked(images)
    assert batch.shape == (2, 3, 64, 64)
    assert batch.dtype == torch.float32
    mean, std = (torch.tensor(part).double()[:, None, None] for part in (MEAN, STD))
    for image, row in zip(images, batch, strict=True):
        _, height, width = image.shape
        expected = (image.double() / 255 - mean) / std
        found = row[:, :height, :width].double()
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        assert not row[:, height:].any()
        assert not row[:, :, width:].any()
    assert stacked(images[:1], (96, 64)).shape == (1, 3, 96, 64)
    assert stacked([images[0][:, :, :32]]).shape == (1, 3, 32, 32)


def by_hand(dataset, schedule, seed, step, flips):
    """A batch as the description has it, with lists of numbers for the boxes."""
    chosen = chosen_images(len(dataset), schedule.batch, seed, step).tolist()
    for index, flip in zip(chosen, flips, strict=True):
        whole, objects = dataset[index]
        image, _ = prepare(whole, schedule.short, schedule.long)
        height, width = image.shape[1:]
        down, right, boxes = height / whole.shape[1], width / whole.shape[2], []
        for left, top, end, bottom in objects.boxes.tolist():
            if flip:
                left, end = whole.shape[2] - end, whole.shape[2] - left  # noqa: PLW2901
            boxes.append([left * right, top * down, end * right, bottom * down])
        masks = [None] * len(boxes)
        if dataset.masked:
            masks = [centres(mask, height, width) for mask in objects.masks]
            masks = [mask.flip(1) if flip else mask for mask in masks]
        areas = [area * down * right for area in objects.area.tolist()]
        kept = [n for n, crowd in enumerate(objects.crowd) if not crowd]
        parts = ([part[n] for n in kept] for part in (objects.labels.tolist(), boxes, areas, masks))
        yield image.flip(2) if flip else image, *parts


@in_memory_or_not
@pytest.mark.parametrize(("flip", "masked"), [(True, True), (True, False), (False, True)])
def test_batch_by_hand(folder, monkeypatch, memory, flip, masked):
    monkeypatch.setattr(batches, "MEMORY", memory)
    dataset = build_coco("coco", folder, "train", masks=masked)
    schedule = replace(SCHEDULE, flip=flip)
    load = loader(dataset, schedule)
    assert (not load.resident) == (memory == 0)
    seen, mirrors = set(), []
    for step in range(4):
        images, targets = load(step)
        chosen, flips = map(list, zip(*load.plan(step), strict=True))
        assert chosen == chosen_images(7, 3, 5, step).tolist()
        mirrors += flips
        expected = list(by_hand(dataset, schedule, 5, step, flips))
        assert images.shape == (3, 3, *padded_size([image.shape[1:] for image, *_ in expected]))
        rows = zip(images, targets, expected, strict=True)
        for row, target, (image, labels, boxes, areas, masks) in rows:
            assert row.equal(stacked([image], tuple(images.shape[2:]))[0])
            seen.add(len(labels))
            assert target.labels.tolist() == labels
            assert not target.crowd.any()
            wanted = torch.tensor(boxes).view(-1, 4)
            torch.testing.assert_close(target.boxes, wanted, atol=1e-4, rtol=0)
            torch.testing.assert_close(target.area, torch.tensor(areas))
            if not masked:
                assert target.masks is None
                continue
            assert target.masks.shape == (len(masks), *images.shape[2:])
            assert target.masks.dtype == torch.uint8
            for found, mask in zip(target.masks, masks, strict=True):
                assert found[: mask.shape[0], : mask.shape[1]].equal(mask)
                assert found.sum() == mask.sum() > 0
    assert seen == {0, 3}  # the crowd is gone
    assert set(mirrors) == ({True, False} if flip else {False})


def test_masks_count_where_memory_is_short(folder, monkeypatch):
    dataset = build_coco("coco", folder, "train", masks=True)
    load = loader(dataset)
    counts = [len(dataset.annotated(index).boxes) for index in range(len(dataset))]
    need = sum((3 + n) * h * w for n, (h, w) in zip(counts, load.sizes, strict=True))
    assert sum(p.image.nbytes + p.objects.masks.nbytes for p in load.resident) <= need
    for memory, fits in ((need, True), (need - 1, False)):
        monkeypatch.setattr(batches, "MEMORY", memory)
        assert bool(loader(dataset).resident) == fits
    monkeypatch.setattr(batches, "MEMORY", sum(3 * h * w for h, w in load.sizes))
    assert loader(build_coco("coco", folder, "train")).resident


@in_memory_or_not
def test_a_damaged_image(tmp_path, monkeypatch, memory):
    monkeypatch.setattr(batches, "MEMORY", memory)
    dataset = build_coco("coco", fake_trees.coco(tmp_path), "train")
    path = tmp_path / dataset.names[2]
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CwdError, match="can't be decoded"):
        [loader(dataset, replace(SCHEDULE, batch=4))(step) for step in range(4)]


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
    for same in (np.zeros(10, bool), np.ones(10, bool)):  # of one kind they come as everywhere
        for step in range(6):
            assert torch.equal(alike(same, 4, 1, step), chosen_images(10, 4, 1, step))


def test_the_task_opens_its_data_with_masks(data_root):
    data = Data("scenes", size=(64, 96), train=8, val=3)
    train, val = INSTANCE.open_data(data, data_root)
    assert train.masked
    assert val.masked
    assert INSTANCE.open_data(data, data_root)[0] is train
    plain, _ = DETECTION.open_data(data, data_root)
    assert not plain.masked
    assert plain.image_ids == train.image_ids
    assert train.root == scenes_root(data, data_root)
