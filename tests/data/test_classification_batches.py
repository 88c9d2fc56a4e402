"""Batches of classifiers: which crops, and the same from wherever one begins."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from cwd.config.schedule import ClassificationSchedule, DetectionSchedule, Schedule
from cwd.data import fake_trees
from cwd.data.classification.batches import ClassificationBatches, Draws, draw, middle, window
from cwd.data.classification.folders import build_folders
from cwd.data.transforms import normalise
from cwd.system.errors import CwdError

SCHEDULE = ClassificationSchedule(steps=12, batch=4, crop=32, short=36)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = fake_trees.imagenet(tmp_path_factory.mktemp("data"), train=3, size=(40, 48))
    return build_folders("imagenet", root, "train")


def test_crops_are_resized_parts_of_their_image(dataset):
    """Against float interpolation of the same part, mirrored or not; bytes are rounded."""
    running = ClassificationBatches(dataset, SCHEDULE, 0, "cpu")
    mirrored = []
    for step in range(6):
        images, labels = running(step)
        for row, (index, drawn) in enumerate(running.plan(step)):
            image, label = dataset[index]
            place = window(image.shape[1:], drawn, (0.08, 1.0))
            top, left, height, width = place
            part = image[:, top : top + height, left : left + width].float()
            assert part.shape[1:] == (height, width)
            part = F.interpolate(part[None], (32, 32), mode="bilinear", antialias=True)
            upright, mirror = (
                (normalise(x)[0] - images[row]).abs().max().item() for x in (part, part.flip(-1))
            )
            assert min(upright, mirror) < 1.1 / 255 / 0.22
            assert labels[row] == label
            mirrored.append(mirror < upright)
    assert 4 < sum(mirrored) < 20
    upright = ClassificationBatches(dataset, replace(SCHEDULE, flip=False), 0, "cpu")
    draws = Draws(*(torch.zeros(size) for size in ((10,), (10,), (2,), ())))
    flipped = draws._replace(mirror=torch.ones(()))
    assert torch.equal(upright.read(0, draws).image, upright.read(0, flipped).image)
    assert not torch.equal(running.read(0, draws).image, running.read(0, flipped).image)


def naive(size, drawn, scale):
    """Inception's crop, try by try, in numpy's doubles."""
    height, width = size
    area, aspect, (down, right), _ = (part.numpy() for part in drawn)
    for a, r in zip(area, aspect, strict=True):
        goal = height * width * (scale[0] + a * (scale[1] - scale[0]))
        ratio = (3 / 4) * (16 / 9) ** r
        w, h = round(math.sqrt(goal * ratio)), round(math.sqrt(goal / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = int(down * (height - h + 1)), int(right * (width - w + 1))
            return min(top, height - h), min(left, width - w), h, w
    h, w = height, width
    if width / height < 3 / 4:
        h = round(width / (3 / 4))
    elif width / height > 4 / 3:
        w = round(height * (4 / 3))
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize("size", [(40, 48), (13, 60), (333, 500), (90, 12)])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.6, 0.9)])
def test_windows_try_by_try(size, scale):
    drawn = draw(200, torch.Generator().manual_seed(1))
    for row in range(200):
        one = Draws(*(part[row] for part in drawn))
        assert window(size, one, scale) == naive(size, one, scale)


@pytest.mark.parametrize("size", [(40, 48), (60, 36), (14, 90), (36, 36)])
def test_the_middle(size):
    image = torch.from_numpy(fake_trees.image(1, size)).permute(2, 0, 1)
    out = middle(image, SCHEDULE)
    assert out.shape == (3, 32, 32)
    assert out.dtype == torch.uint8
    factor = 36 / min(size)
    whole = [36 if side == min(size) else int(side * factor) for side in size]
    resized = F.interpolate(image[None].float(), whole, mode="bilinear", antialias=True)[0]
    top, left = (round((side - 32) / 2) for side in whole)
    expected = resized[:, top : top + 32, left : left + 32]
    assert (out.float() - expected).abs().max() < 1.5  # rounded along each axis


def test_the_rate():
    """Of the default: 100 epochs of 1,281,167 images in full batches of 256."""
    schedule, epoch = ClassificationSchedule(), 1_281_167 // 256
    assert schedule.steps == 100 * epoch
    shares = {0: 1, 29.99: 1, 30: 0.1, 59.99: 0.1, 60: 0.01, 90: 1e-3, 99.99: 1e-3}
    for at, share in shares.items():
        assert schedule.lr_factor(math.floor(at * epoch)) == pytest.approx(share)
    schedule = ClassificationSchedule(steps=100, warmup=10, drop_every=1)
    found = [schedule.lr_factor(step) for step in (0, 4, 9, 10, 99)]
    assert found == pytest.approx([0.1, 0.5, 1, 1, 1])


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ({"crop": 16, "short": 20}, "crop is 16"),
        ({"crop": 224, "short": 200}, "short 200"),
        ({"scale": (0.5, 0.2)}, "scale is"),
        ({"scale": (0.5, 1.2)}, "scale is"),
        ({"drop_every": 0.0}, "drop_every is 0.0"),
        ({"batch": 0}, "batch is 0, give at least 1"),
        ({"steps": -1}, "steps is -1, give at least 0"),
    ],
)
def test_mistakes_in_a_schedule(setting, word):
    with pytest.raises(CwdError, match=word):
        ClassificationSchedule(**setting)


@pytest.mark.parametrize("kind", [Schedule, DetectionSchedule])
def test_no_steps_are_for_classifiers_only(kind):
    assert ClassificationSchedule(steps=0).lr_factor(0) == 1
    with pytest.raises(CwdError, match="steps is 0, give at least 1"):
        kind(steps=0)
