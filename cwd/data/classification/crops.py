"""Objects cut out of the scenes: a small dataset for classifiers, laid out as ImageNet is."""

from pathlib import Path

import torch
from torchvision.transforms.v2.functional import to_pil_image

from cwd.config.run import Data
from cwd.data.base import made_once
from cwd.data.detection.coco import CocoDataset, build_coco
from cwd.data.scenes.draw import scenes_folder, scenes_root
from cwd.system.errors import CwdError
from cwd.system.files import read_json
from cwd.system.progress import report

VERSION = 1  # of the cutting; another version cuts other pictures out of the same scenes
SMALLEST = 12  # pixels of both sides of a box; smaller objects are a few coloured dots
MARGIN = 0.1  # of a box's sides, around it


def crops_folder(data: Data, data_root: Path) -> Path:
    """Where the objects of the scenes that `data` describes lie, or would lie."""
    return data.place(data_root) / "crops" / scenes_folder(data, data_root).name


def crops_root(data: Data, data_root: Path) -> Path:
    """Folder of the objects of the scenes that `data` describes; both are made if need be.

    `SPLIT/CLASS/SCENE_NUMBER.png` for every object that isn't a crowd and whose box has at least
    12 pixels to both sides; if there is none in a split, that is a `CwdError`.
    """
    scenes, root = scenes_root(data, data_root), crops_folder(data, data_root)
    drawn = read_json(scenes / "dataset.json", "delete the folder, and the scenes are drawn again")
    about = {"version": VERSION, "scenes": drawn}

    def cut(folder: Path) -> None:
        report(f"cutting the objects of {scenes} out into {root}")
        for split in drawn["splits"]:
            write_split(build_coco("scenes", scenes, split), folder / split)

    return made_once(root, f"the objects of {scenes}", "cutting the objects", about, cut)


def write_split(scenes: CocoDataset, folder: Path) -> None:
    """Write the objects of a split; classes that have none get their folder too."""
    for name in scenes.classes:
        (folder / name).mkdir(parents=True)
    for index in range(len(scenes)):
        image, objects = scenes[index]
        sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
        fit = (sides >= SMALLEST).all(dim=1) & ~objects.crowd
        room = MARGIN * sides.double()
        first = (objects.boxes[:, :2] - room).floor().clamp(min=0)
        last = (objects.boxes[:, 2:] + room).ceil()  # a slice ends with the image
        windows = torch.cat([first, last], dim=1).long().tolist()
        for number in fit.nonzero().flatten().tolist():
            left, top, right, bottom = windows[number]
            name = scenes.classes[objects.labels[number]]
            path = folder / name / f"{index:06}_{number:02}.png"
            to_pil_image(image[:, top:bottom, left:right]).save(path, compress_level=1)
    if not any(folder.glob("*/*")):
        raise CwdError(
            f"{scenes.root} has no object of {SMALLEST}x{SMALLEST} pixels in the {len(scenes)} "
            f"scenes of {scenes.split}: draw more or larger scenes."
        )
