"""Datasets of detectors, on which they are measured."""

import json

import pytest

from cwd.data import fake_trees
from cwd.data.detection.coco import build_coco
from cwd.data.scenes.draw import write_dataset


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """The scenes; COCO with polygons, crowds and images without objects; some without extent."""
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
    def call(name, *, masks=False):
        return build_coco(name.replace("odd", "coco"), folders / name, "val", masks=masks)

    return call
