"""The embedded dataset: procedural street scenes in Cityscapes' classes, ids and layout."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from cwd.config.run import Data
from cwd.data.base import SPLITS, made_once
from cwd.data.scenes import objects
from cwd.data.scenes.background import draw_ground, draw_hood, draw_roadside, draw_sky, draw_skyline
from cwd.data.scenes.canvas import IDS, LIGHTS, SUPERSAMPLING, THINGS, Thing, View, shade
from cwd.system.errors import CwdError
from cwd.system.extras import Lazy
from cwd.system.progress import report

rle = Lazy("pycocotools.mask")
VERSION = 1  # of the drawing; another version draws other pictures from the same seed
SMALLEST = 32  # pixels: below it, nothing can be told from anything
Size = tuple[int, int]  # height and width
# How strongly a surface's brightness varies from pixel to pixel, and over larger patches.
TEXTURES = {
    "road": (4, 9), "sidewalk": (7, 8), "building": (6, 8), "wall": (11, 9), "vegetation": (17, 17),
    "terrain": (13, 16),
}  # fmt: skip

# the chance of each of how many at most, nearest and farthest z, where, and what
_SCENES = (
    (0.45, 3, 2.0, 7.0, "lane", "car", objects.car),
    (0.4, 3, 1.8, 6.0, "kerb", "car", objects.car),
    (0.2, 1, 2.2, 4.5, "across", "car", objects.side_car),
    (0.2, 1, 2.0, 4.5, "lane", "truck", objects.tall_vehicle),
    (0.17, 1, 2.0, 4.5, "lane", "bus", objects.tall_vehicle),
    (0.15, 1, 2.0, 4.5, "lane", "train", objects.tall_vehicle),
    (0.42, 5, 1.5, 6.0, "beside", "person", objects.person),
    (0.18, 2, 1.7, 5.0, "across", "person", objects.person),
    (0.26, 1, 1.5, 3.6, "kerb", "bicycle", partial(objects.two_wheeler, ridden=True)),
    (0.28, 1, 1.4, 3.2, "beside", "bicycle", partial(objects.two_wheeler, ridden=False)),
    (0.26, 1, 1.5, 3.6, "kerb", "motorcycle", partial(objects.two_wheeler, ridden=True)),
    (0.28, 1, 1.4, 3.2, "beside", "motorcycle", partial(objects.two_wheeler, ridden=False)),
    (0.35, 4, 1.5, 7.0, "behind", "vegetation", objects.tree),
    (0.45, 2, 1.3, 4.5, "beside", "pole", objects.lamp),
    (0.45, 2, 1.3, 4.5, "beside", "pole", objects.traffic_light),
    (0.45, 2, 1.3, 4.5, "beside", "pole", objects.traffic_sign),
)
# the same things, closer and more of those that are rare
_STREETS = (
    (0.4, 2, 1.5, 4.0, "lane", "car", objects.car),
    (0.4, 2, 1.5, 4.0, "kerb", "car", objects.car),
    (0.2, 1, 2.0, 3.5, "across", "car", objects.side_car),
    (0.12, 1, 2.0, 4.0, "lane", "truck", objects.tall_vehicle),
    (0.12, 1, 2.0, 4.0, "lane", "bus", objects.tall_vehicle),
    (0.5, 5, 1.1, 3.0, "beside", "person", objects.person),
    (0.35, 2, 1.2, 3.0, "across", "person", objects.person),
    (0.5, 1, 1.2, 2.2, "kerb", "bicycle", partial(objects.two_wheeler, ridden=True)),
    (0.4, 1, 1.1, 2.0, "beside", "bicycle", partial(objects.two_wheeler, ridden=True)),
    (0.5, 1, 1.2, 2.2, "kerb", "motorcycle", partial(objects.two_wheeler, ridden=True)),
    (0.35, 4, 1.5, 7.0, "behind", "vegetation", objects.tree),
    (0.5, 2, 0.9, 2.2, "beside", "pole", objects.lamp),
    (0.5, 2, 0.9, 2.2, "beside", "pole", objects.traffic_light),
    (0.6, 2, 0.9, 2.2, "beside", "pole", objects.traffic_sign),
)
DRAWN = {"scenes": _SCENES, "streets": _STREETS}  # datasets by name


class Scene(NamedTuple):
    """A picture and what is in it, as in Cityscapes: 7 road ... 33 bicycle, 1 ego vehicle.

    `instances` are label id * 1000 + number for persons, riders and vehicles, the label id else.
    """

    image: np.ndarray  # uint8 [H, W, 3], RGB
    label_ids: np.ndarray  # uint8 [H, W]
    instances: np.ndarray  # int32 [H, W]


def draw_scene(rng: Generator, size: Size = (64, 128), kind: str = "scenes") -> Scene:
    """Draw a street scene of 32x32 pixels or more; it depends on the arguments alone.

    `kind` is of `DRAWN`: in "streets" things are closer, and more of them are rare ones.
    """
    height, width = map(int, size)
    if min(height, width) < SMALLEST:
        raise CwdError(f"size {height}x{width} is too small for a scene: give at least 32x32.")
    top, low, light = [*LIGHTS.values()][int(rng.choice(5, p=(0.35, 0.2, 0.15, 0.2, 0.1)))]
    view = View(rng, (height, width), light, haze=shade(low, 0.9))
    draw_sky(view, top, low)
    road = rng.uniform(3.2, 5.0)  # metres to either side
    walk = road + rng.uniform(1.6, 3.2)
    draw_skyline(view)
    draw_ground(view, road, walk)
    for side in (-1, 1):
        draw_roadside(view, side, walk)
    _draw_things(view, road, walk, DRAWN[kind])
    if rng.random() < 0.3:
        draw_hood(view)
    instances = np.array(view.values)
    label_ids = np.where(instances >= 1000, instances // 1000, instances).astype(np.uint8)
    return Scene(_develop(view.picture, label_ids, rng), label_ids, instances)


def _draw_things(view: View, road: float, walk: float, street: tuple) -> None:
    rng = view.rng
    places = {  # metres to the right of the camera
        "beside": lambda: rng.choice((-1, 1)) * rng.uniform(road + 0.3, walk),
        "lane": lambda: rng.choice((-0.5, 0.5)) * road + rng.normal(0, 0.25),
        "kerb": lambda: rng.choice((-1, 1)) * (road - 1.1),
        "across": lambda: rng.uniform(-road, road),
        "behind": lambda: 1.15 * places["beside"](),
    }
    plan = [
        (float(np.exp(rng.uniform(np.log(near), np.log(far)))), places[where], kind, draw)
        for chance, most, near, far, where, kind, draw in street
        for _ in range(int(rng.binomial(most, chance)))
    ]
    for z, where, kind, draw in sorted(plan, key=lambda item: -item[0]):  # the near hides the far
        draw(Thing(view, float(where()), z, kind))


def _develop(picture: Image.Image, label_ids: np.ndarray, rng: Generator) -> np.ndarray:
    """From what was drawn to what a camera would give: texture, blur, vignette, noise."""
    height, width = label_ids.shape
    small = picture.reduce(SUPERSAMPLING)
    if rng.random() < 0.5:
        small = small.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.6) * height / 64))
    grain, patches = np.zeros((2, 256), np.float32)
    for name, (small_scale, large_scale) in TEXTURES.items():
        grain[IDS[name]], patches[IDS[name]] = small_scale, large_scale
    fine = rng.standard_normal((height, width), np.float32)
    coarse = rng.standard_normal((max(2, height // 6), max(2, width // 6)), np.float32)
    coarse = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))
    texture = grain[label_ids] * fine + patches[label_ids] * coarse
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    vignette = 1 - rng.uniform(0.0, 0.22) * (y**2 + x**2) / 2
    noise = rng.uniform(1.0, 6.0) * rng.standard_normal((height, width, 3), np.float32)
    image = np.asarray(small, np.float32) + texture[..., None]
    image = image * vignette[..., None].astype(np.float32) + noise
    return np.clip(image, 0, 255).astype(np.uint8)


def write_dataset(
    root: Path,
    *,
    splits: dict[str, int],
    size: Size = (64, 128),
    seed: int = 0,
    kind: str = "scenes",
) -> Path:
    """Draw a dataset with so many images by split; returns `root`.

    `leftImg8bit/SPLIT/scenes/*_leftImg8bit.png` and `gtFine/SPLIT/scenes/*_gtFine_labelIds.png`,
    `*_gtFine_instanceIds.png`, which `torchvision.datasets.Cityscapes` reads as they are, and in
    COCO's format `annotations/instances_SPLIT.json`, boxes and masks of persons, riders, vehicles.

    The same arguments give the same bytes; a folder that holds this very dataset is left as it is.
    Arguments that make no sense are a `CwdError`, as is anything else in `root`.
    """
    if not splits.keys() <= {*SPLITS} or min(splits.values()) < 0 or seed < 0:
        raise CwdError(
            f"scenes of {splits}, seed {seed}: give numbers of images from 0 on for "
            f"{', '.join(SPLITS)}, and a seed from 0 on."
        )
    need = sum(splits.values()) * 3 * size[0] * size[1]  # about: noise hardly compresses
    place = next(place for place in root.parents if place.exists())
    if not root.exists() and need > (free := shutil.disk_usage(place).free):
        raise CwdError(
            f"{sum(splits.values()):,} scenes of {size[0]}x{size[1]} take {need / 2**30:,.0f} GiB "
            f"and {place} has {free / 2**30:.0f} free: lower data.train, data.val or data.size."
        )
    about = {"version": VERSION, "size": list(map(int, size)), "splits": splits, "seed": seed}
    about |= {} if kind == "scenes" else {"kind": kind}  # which came later

    def write(folder: Path) -> None:
        report(f"drawing {sum(splits.values())} scenes into {root}")
        for number, (split, count) in enumerate(splits.items()):
            _write_split(folder, split, count, size, (seed, number), kind)

    return made_once(root, "these scenes", "drawing the scenes", about, write)


def scenes_folder(data: Data, data_root: Path) -> Path:
    """Where the scenes that `data` describes lie, or would lie."""
    if not (data.size and data.train and data.val):
        raise CwdError(
            f"dataset {data.name}: size, train and val must say what to draw; set all three."
        )
    height, width = map(int, data.size)
    name = f"{height}x{width}-{data.train}-{data.val}-seed{data.seed}"
    # those of another split are other files than those of val
    return (
        data.place(data_root)
        / _kind(data)
        / (name if data.split == "val" else f"{name}-{data.split}")
    )


def scenes_root(data: Data, data_root: Path) -> Path:
    """As `scenes_folder`; they are drawn if they aren't there yet."""
    root, splits = scenes_folder(data, data_root), {"train": data.train}
    splits[data.split] = max(data.val, splits.get(data.split, 0))
    return write_dataset(root, size=data.size, splits=splits, seed=data.seed, kind=_kind(data))


def _kind(data: Data) -> str:
    return data.name if data.name in DRAWN else "scenes"  # which crops are cut out of


def _write_split(
    root: Path, split: str, count: int, size: Size, seed: tuple[int, int], kind: str
) -> None:
    folders = {name: root / name / split / "scenes" for name in ("leftImg8bit", "gtFine")}
    for folder in (*folders.values(), root / "annotations"):
        folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for index in range(count):
        scene = draw_scene(np.random.default_rng([*seed, index]), size, kind)
        name = f"scenes_{index // 1000:06d}_{index % 1000:06d}"  # city, sequence and frame
        for what, pixels in (
            ("leftImg8bit", scene.image),
            ("gtFine_labelIds", scene.label_ids),
            ("gtFine_instanceIds", scene.instances.astype(np.uint16)),
        ):
            path = folders[what.split("_")[0]] / f"{name}_{what}.png"
            Image.fromarray(pixels).save(path, compress_level=1)
        file = f"scenes/{name}_leftImg8bit.png"
        images.append({"id": index, "file_name": file, "height": size[0], "width": size[1]})
        annotations += _annotate(scene.instances, index)
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    categories = [{"id": number, "name": name} for number, name in enumerate(THINGS, start=1)]
    coco = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(coco))


def _annotate(instances: np.ndarray, image_id: int) -> list[dict]:
    """COCO annotations of what is visible of every instance."""
    annotations, ids = [], [IDS[name] for name in THINGS]
    for value in np.unique(instances[instances >= 1000]).tolist():
        mask = np.asfortranarray(instances == value, np.uint8)
        encoded = rle.encode(mask)
        annotations.append({
            "image_id": image_id,
            "category_id": ids.index(value // 1000) + 1,
            "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode()},
            "bbox": list(map(int, rle.toBbox(encoded))),
            "area": int(mask.sum()),
            "iscrowd": 0,
        })  # fmt: skip
    return annotations
