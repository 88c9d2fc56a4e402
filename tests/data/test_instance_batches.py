"""Batches with masks: resized, mirrored and padded as their images are."""

from dataclasses import replace

import pytest
import torch

from cwd.config.run import Data
from cwd.config.schedule import DetectionSchedule
from cwd.data import fake_trees
from cwd.data.detection import batches
from cwd.data.detection.batches import DetectionBatches, mirrored, padded, prepare_picture, resized
from cwd.data.detection.coco import Picture, build_coco
from cwd.data.opening import scenes_root
from cwd.models.detection.outputs import Objects
from cwd.training.tasks.detection import DETECTION, INSTANCE

SCHEDULE = DetectionSchedule(steps=6, batch=3, short=48, long=80)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fake_trees.coco(tmp_path_factory.mktemp("coco"), train=7)


@pytest.fixture(scope="module")
def dataset(folder):
    return build_coco("coco", folder, "train", masks=True)


def one(mask, box):
    """A picture of one object."""
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


def test_by_hand():
    mask = torch.tensor([[0, 1, 0], [0, 1, 1]], dtype=torch.uint8)
    picture = prepare_picture(one(mask, [1, 0, 3, 2]), 4, 6)
    expected = [[0, 0, 1, 1, 0, 0]] * 2 + [[0, 0, 1, 1, 1, 1]] * 2
    assert picture.objects.masks[0].tolist() == expected
    assert picture.objects.boxes.tolist() == [[2, 0, 6, 4]]
    twin = mirrored(picture)
    assert twin.objects.masks[0].tolist() == [row[::-1] for row in expected]
    assert twin.objects.boxes.tolist() == [[0, 0, 4, 4]]
    large = padded(twin.objects, (32, 64)).masks
    assert large.shape == (1, 32, 64)
    assert large[0, :4, :6].equal(twin.objects.masks[0])
    assert large.sum() == 12


@pytest.mark.parametrize("size", [(3, 5), (7, 9), (11, 24), (20, 30)])
def test_every_pixel_is_that_at_its_centre(size):
    masks = (torch.rand(4, 11, 24, generator=torch.Generator().manual_seed(0)) > 0.5).byte()
    expected = [centres(mask, *size) for mask in masks]
    assert resized(masks, size).equal(torch.stack(expected))
    assert resized(masks[:0], size).shape == (0, *size)


def test_objects_without_a_pixel_are_not_learnt():
    mask = torch.zeros(40, 60, dtype=torch.uint8)
    assert len(prepare_picture(one(mask, [4, 4, 20, 20]), 40, 60).objects.boxes) == 0
    for place, count in ((10, 1), (11, 0)):  # of a quarter's size: 2, 6, 10 and so on are left
        mask = torch.zeros(40, 60, dtype=torch.uint8)
        mask[place, place] = 1
        picture = one(mask, [4, 4, 20, 20])
        assert len(prepare_picture(picture, 40, 60).objects.boxes) == 1
        small = prepare_picture(picture, 10, 15).objects
        assert small.masks.shape == (count, 10, 15)
        assert small.boxes.shape == (count, 4)


@pytest.mark.parametrize("memory", [0, 2**31])
def test_batch_by_hand(dataset, monkeypatch, memory):
    monkeypatch.setattr(batches, "MEMORY", memory)
    load = DetectionBatches(dataset, SCHEDULE, 5, "cpu")
    assert (load.resident is None) == (memory == 0)
    mirrors, seen = set(), 0
    for step in range(4):
        images, targets = load(step)
        chosen, flips = load.plan(step)
        mirrors |= set(flips)
        for index, flip, target in zip(chosen, flips, targets, strict=True):
            _, objects = dataset[index]
            height, width = load.sizes[index]
            expected = [centres(mask, height, width) for mask in objects.masks[~objects.crowd]]
            assert target.masks.shape == (len(expected), *images.shape[2:])
            assert target.masks.dtype == torch.uint8
            assert len(target.boxes) == len(target.masks)
            for mask, whole in zip(target.masks, expected, strict=True):
                assert mask[:height, :width].equal(whole.flip(1) if flip else whole)
                assert mask.sum() == whole.sum() > 0
                seen += 1
    assert mirrors == {True, False}
    assert seen > 12


def test_all_else_is_as_without_masks(folder, dataset):
    plain = DetectionBatches(build_coco("coco", folder, "train"), SCHEDULE, 5, "cpu")
    masked = DetectionBatches(dataset, SCHEDULE, 5, "cpu")
    assert dataset.checksum == plain.dataset.checksum
    for step in range(4):
        (images, targets), (same, others) = plain(step), masked(step)
        assert images.equal(same)
        for target, other in zip(targets, others, strict=True):
            assert target.masks is None
            assert all(a.equal(b) for a, b in zip(target, other, strict=False))


def test_masks_count_where_memory_is_short(dataset, monkeypatch):
    load = DetectionBatches(dataset, SCHEDULE, 5, "cpu")
    counts = [len(dataset.annotated(index).boxes) for index in range(len(dataset))]
    need = sum((3 + n) * h * w for n, (h, w) in zip(counts, load.sizes, strict=True))
    held = sum(p.image.nbytes + p.objects.masks.nbytes for p in load.resident)
    assert held <= need
    for memory, fits in ((need, True), (need - 1, False)):
        monkeypatch.setattr(batches, "MEMORY", memory)
        assert (DetectionBatches(dataset, SCHEDULE, 5, "cpu").resident is not None) == fits
    plain = replace(dataset, file=dataset.file._replace(outlines=None))
    monkeypatch.setattr(batches, "MEMORY", sum(3 * h * w for h, w in load.sizes))
    assert DetectionBatches(plain, SCHEDULE, 5, "cpu").resident is not None


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
