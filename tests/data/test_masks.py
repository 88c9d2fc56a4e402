"""Masks of annotation files: as pycocotools decodes them, and every way in which they're broken."""

import numpy as np
import pytest
from pycocotools import mask as rle

from cwd.data.detection.coco import build_coco
from cwd.data.detection.masks import decoded, encoded, read_rle
from cwd.system.errors import CwdError

SIZE = (64, 96)  # of the generated COCO's first image
POLYGONS = "polygons of three points or more, each an x and a y in pixels"
NOTHING = "polygons or a run-length encoding"
PIXELS = "a run-length encoding of 6144 pixels"
FITTING = r"a run-length encoding of the image's size, \[64, 96\]"
EYE = rle.encode(np.asfortranarray(np.eye(*SIZE, dtype=np.uint8)))["counts"].decode()


def rle_of(counts, size=SIZE):
    return {"size": list(size), "counts": counts}


@pytest.fixture
def changed(coco, edit):
    """The generated COCO, its first annotation's segmentation another."""

    def call(**segmentation):
        def change(content):
            del content["annotations"][0]["segmentation"]
            content["annotations"][0] |= segmentation

        edit(change)
        return build_coco("coco", coco, "val", masks=True)

    return call


def test_masks_only_where_they_are_asked_for(changed, coco):
    found = r"instances_val2017\.json has no annotations\[0\]\.segmentation: correct it"
    with pytest.raises(CwdError, match=found):
        changed()
    dataset = build_coco("coco", coco, "val")  # what is broken isn't looked at
    assert not dataset.masked
    assert dataset[0].objects.masks is None


def test_several_polygons_are_one_object(changed):
    left, right = [10, 10, 20, 10, 20, 30, 10, 30], [50, 10, 60, 10, 60, 30, 50, 30]
    mask = next(
        m for m in changed(segmentation=[left, right])[0].objects.masks if m[20, 55] and m[20, 15]
    )
    assert mask.sum() == 400
    assert not mask[20, 30]


@pytest.mark.parametrize("seed", range(4))
def test_run_lengths(seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros((57, 300), np.uint8)
    for _ in range(seed * 4):
        top, left = rng.integers(0, 50), rng.integers(0, 280)
        mask[top : top + rng.integers(1, 60), left : left + rng.integers(1, 200)] ^= 1
    flat = mask.flatten(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *([0] if flat[0] else []), *changes, len(flat)])
    text = rle.encode(np.asfortranarray(mask))["counts"].decode()
    for counts in (text, runs.tolist()):
        kept = read_rle({"size": [57, 300], "counts": counts}, (57, 300))
        assert (decoded([encoded(kept, (57, 300))], (57, 300))[0].numpy() == mask).all()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((value, NOTHING) for value in ([], None, "dog", 7)),
        ([[1, 2, 3, 4, 5, 6, 7]], POLYGONS),
        ([[1, 2, 3, 4]], POLYGONS),
        ([1, 2, 9, 9, 1, 9], POLYGONS),
        *(([[1, 2, 9, 9, 1, bad]], POLYGONS) for bad in ("9", None, [9], float("nan"), 1e12)),
        *((bad, FITTING) for bad in ({}, {"counts": [6144]}, rle_of([6144], [96, 64]))),
        (rle_of([6144], [10**6, 10**6]), FITTING),
        ({"size": [64, 96]}, PIXELS),
        *((rle_of(runs), PIXELS) for runs in ([], [6143], [6150, -6], [6144.0], [10**30])),
        *((rle_of(text), PIXELS) for text in ("", "5", "garbage !", "é", "o" * 40, "o" * 40 + "0")),
        *((rle_of(text), PIXELS) for text in ("@" * 5000, "_O" * 400, EYE[:-1], EYE[:-9], EYE[1:])),
        (rle_of(EYE + "3"), PIXELS),
    ],
)
def test_bad_segmentation(changed, value, expected):
    found = r"instances_val2017\.json has .* for annotations\[0\]\.segmentation.*, expected"
    with pytest.raises(CwdError, match=rf"{found} .*{expected}: correct it, or get the .* again"):
        changed(segmentation=value)
