"""What the batches of all three tasks have in common, from memory and from a disk."""

import time
from dataclasses import replace

import pytest
import torch

from cwd.config.schedule import ClassificationSchedule, DetectionSchedule, Schedule
from cwd.data import classification, detection, fake_trees
from cwd.data.base import ahead
from cwd.data.batches import Batches
from cwd.data.classification.batches import ClassificationBatches
from cwd.data.classification.folders import build_folders
from cwd.data.datasets import build_dataset
from cwd.data.decoded import load_cached, load_in_memory
from cwd.data.detection.batches import DetectionBatches
from cwd.data.detection.coco import build_coco
from cwd.system.errors import CwdError

SCHEDULES = {
    Batches: Schedule(steps=9, batch=4, crop=(12, 20), scale=(0.5, 2.0), photometric=True),
    DetectionBatches: DetectionSchedule(steps=9, batch=4, short=64, long=200),
    ClassificationBatches: ClassificationSchedule(steps=9, batch=4, crop=32, short=36),
}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Eleven images or a few more for each task."""
    root = tmp_path_factory.mktemp("data")
    fake_trees.camvid(root / "camvid", names=[f"{i}.png" for i in range(11)])
    fake_trees.coco(root / "coco", train=11)  # of as many sizes
    fake_trees.imagenet(root / "imagenet", train=4, size=(40, 48))
    files = build_dataset("camvid", root, "train")
    objects = build_coco("coco", root, "train", masks=True)
    folders = build_folders("imagenet", root, "train")
    places = {"memory": load_in_memory(files), "disk": load_cached(files, root / "cache")}
    return {
        place: dict(zip(SCHEDULES, (decoded, objects, folders), strict=True))
        for place, decoded in places.items()
    }


@pytest.fixture(params=SCHEDULES)
def build(request, datasets, monkeypatch):
    """Makes the batches of a task, whose images lie in memory or on a disk."""

    def call(place, *, seed=5, rows=slice(None), **changes):
        for module in (detection.batches, classification.batches):
            monkeypatch.setattr(module, "MEMORY", 2**31 if place == "memory" else 0)
        schedule = replace(SCHEDULES[request.param], **changes)
        return request.param(datasets[place][request.param], schedule, seed, "cpu", rows)

    return call


def same(one, other, atol=0.0):
    """Whether batches are equal; pixels may differ by `atol`."""
    (images, targets), (others, twins) = one, other
    if torch.is_tensor(targets):
        targets, twins = [[targets]], [[twins]]
    found, expected = ([part for target in each for part in target] for each in (targets, twins))
    close = images.shape == others.shape and torch.allclose(images, others, atol=atol, rtol=0)
    return close and all(a.equal(b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_any_order_and_any_start_is_the_same(build, place):
    first = build(place)
    expected = [first(step) for step in range(9)]
    assert not same(expected[0], expected[2])
    load = build("disk")
    for step in (0, 1, 2, 8, 3, 3, 0):
        torch.manual_seed(step)  # the global generator has no say
        assert same(load(step), expected[step], atol=2e-4), step
    assert same(build(place)(4), expected[4])  # a resumed run
    assert not same(build(place, seed=6)(0), expected[0])


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_processes_share_a_batch(build, place):
    whole = build(place)
    parts = [(rows, build(place, rows=rows)) for rows in (slice(0, 1), slice(1, 4))]
    for step in range(4):
        images, targets = whole(step)
        for rows, part in parts:
            assert same(part(step), (images[rows], targets[rows]))


def test_no_image_is_read_that_is_not_needed(build, monkeypatch):
    load = build("disk", steps=3)
    read, original = [], load.read
    monkeypatch.setattr(load, "read", lambda *one: read.append(one[0]) or original(*one))
    for step in range(3):
        load(step)
    assert sorted(read) == sorted(index for step in range(3) for index, _ in load.plan(step))


def test_fewer_images_than_a_batch_has(build):
    with pytest.raises(CwdError, match=r"has 1\d training images, fewer than a batch of 20: lower"):
        build("disk", batch=20)


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
