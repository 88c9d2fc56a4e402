"""The embedded dataset: procedural street scenes in Cityscapes' classes, ids and layout."""

import json
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter
from pycocotools import mask as rle

from cwd.data.scenes import objects
from cwd.data.scenes.background import draw_ground, draw_roadside, draw_sky, draw_skyline
from cwd.data.scenes.canvas import IDS, LIGHTS, PAINT, SUPERSAMPLING, Canvas, View, pick, shade
from cwd.system.errors import CwdError
from cwd.system.files import unwritable

VERSION = 1  # of the drawing; another version draws other pictures from the same seed
THINGS = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
SPLITS = ("train", "val", "test")
SMALLEST = 32  # pixels: below it, nothing can be told from anything
# How strongly a surface's brightness varies from pixel to pixel, and over larger patches.
GRAIN = {"road": 4, "sidewalk": 7, "building": 6, "wall": 11, "vegetation": 17, "terrain": 13}
PATCHES = {"road": 9, "sidewalk": 8, "building": 8, "wall": 9, "vegetation": 17, "terrain": 16}


class Scene(NamedTuple):
    """A picture and what is in it.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        label_ids: uint8 [H, W], Cityscapes' label ids (7 road ... 33 bicycle, 1 ego vehicle).
        instances: int32 [H, W], label id * 1000 + number for persons, riders and vehicles, the
            label id elsewhere, as in Cityscapes' instanceIds images.
    """

    image: np.ndarray
    label_ids: np.ndarray
    instances: np.ndarray


def draw_scene(rng: Generator, size: tuple[int, int] = (64, 128)) -> Scene:
    """Draw one street scene; it depends on nothing but the arguments.

    Args:
        rng: where all randomness comes from.
        size: height and width in pixels, at least 32 each.

    Raises:
        CwdError: the size is too small.
    """
    height, width = (int(n) for n in size)
    if min(height, width) < SMALLEST:
        raise CwdError(f"size {height}x{width} is too small for a scene: give at least 32x32.")
    canvas = Canvas(height, width)
    names = list(LIGHTS)
    top, low, light = LIGHTS[names[int(rng.choice(5, p=(0.35, 0.2, 0.15, 0.2, 0.1)))]]
    brightness = rng.uniform(0.85, 1.12)
    view = View(
        canvas,
        rng,
        horizon=height * rng.uniform(0.38, 0.5),
        vanishing=width * rng.uniform(0.36, 0.64),
        light=shade(light, brightness),
        haze=shade(low, 0.9),
        thickness=rng.uniform(0.01, 0.07),
    )
    draw_sky(view, top, low)
    road = rng.uniform(3.2, 5.0)  # metres to either side
    walk = road + rng.uniform(1.6, 3.2)
    draw_skyline(view)
    draw_ground(view, road, walk)
    for side in (-1, 1):
        draw_roadside(view, side, walk)
    draw_things(view, road, walk)
    if rng.random() < 0.3:
        hood = shade(pick(rng, PAINT), 0.5)
        reach = width * rng.uniform(0.3, 0.5), height * rng.uniform(0.06, 0.12)
        canvas.ellipse(width / 2, height, *reach, view.lit(hood, 1), IDS["ego vehicle"])
    instances = np.array(canvas.values)
    label_ids = np.where(instances >= 1000, instances // 1000, instances).astype(np.uint8)
    return Scene(develop(canvas.picture, label_ids, rng), label_ids, instances)


def draw_things(view: View, road: float, walk: float) -> None:
    """Everything that stands or moves, from far to near, so that the near hides the far."""
    rng = view.rng
    plan: list[tuple[float, Callable[[float], None]]] = []

    def place(
        chance: float, most: int, z: tuple[float, float], draw: Callable[[float], None]
    ) -> None:
        for _ in range(int(rng.binomial(most, chance))):
            plan.append((float(np.exp(rng.uniform(np.log(z[0]), np.log(z[1])))), draw))

    def beside() -> float:
        return float(rng.choice((-1, 1)) * rng.uniform(road + 0.3, walk))

    def lane() -> float:
        return float(rng.choice((-0.5, 0.5)) * road + rng.normal(0, 0.25))

    def kerb() -> float:
        return float(rng.choice((-1, 1)) * (road - 1.1))

    place(0.45, 3, (2.0, 7.0), lambda z: objects.car(view, lane(), z))
    place(0.4, 3, (1.8, 6.0), lambda z: objects.car(view, kerb(), z))
    place(0.2, 1, (2.2, 4.5), lambda z: objects.side_car(view, rng.uniform(-road, road), z))
    for kind, chance in (("truck", 0.2), ("bus", 0.17), ("train", 0.15)):
        place(chance, 1, (2.0, 4.5), partial(_vehicle, view, kind, lane))
    place(0.42, 5, (1.5, 6.0), lambda z: objects.person(view, beside(), z))
    place(0.18, 2, (1.7, 5.0), lambda z: objects.person(view, rng.uniform(-road, road), z))
    for kind in ("bicycle", "motorcycle"):
        place(0.26, 1, (1.5, 3.6), partial(_two_wheeler, view, kind, True, kerb))
        place(0.28, 1, (1.4, 3.2), partial(_two_wheeler, view, kind, False, beside))
    place(0.35, 4, (1.5, 7.0), lambda z: objects.tree(view, 1.15 * beside(), z))
    for top in ("lamp", "traffic light", "traffic sign"):
        place(0.45, 2, (1.3, 4.5), partial(_pole, view, top, beside))
    for z, draw in sorted(plan, key=lambda item: -item[0]):
        draw(z)


def _vehicle(view: View, kind: str, where: Callable[[], float], z: float) -> None:
    objects.tall_vehicle(view, where(), z, kind)


def _two_wheeler(view: View, kind: str, ridden: bool, where: Callable[[], float], z: float) -> None:
    objects.two_wheeler(view, where(), z, kind, ridden=ridden)


def _pole(view: View, top: str, where: Callable[[], float], z: float) -> None:
    objects.pole(view, where(), z, top)


def develop(picture: Image.Image, label_ids: np.ndarray, rng: Generator) -> np.ndarray:
    """From what was drawn to what a camera would give: texture, blur, vignette, noise."""
    height, width = label_ids.shape
    small = picture.reduce(SUPERSAMPLING)
    if rng.random() < 0.5:
        small = small.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.6) * height / 64))
    image = np.asarray(small, np.float32)
    grain, patches = np.zeros(256, np.float32), np.zeros(256, np.float32)
    for table, strengths in ((grain, GRAIN), (patches, PATCHES)):
        for name, strength in strengths.items():
            table[IDS[name]] = strength
    fine = rng.standard_normal((height, width), np.float32)
    coarse = rng.standard_normal((max(2, height // 6), max(2, width // 6)), np.float32)
    coarse = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))
    texture = grain[label_ids] * fine + patches[label_ids] * coarse
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    vignette = 1 - rng.uniform(0.0, 0.22) * (y**2 + x**2) / 2
    noise = rng.uniform(1.0, 6.0) * rng.standard_normal((height, width, 3), np.float32)
    image = (image + texture[..., None]) * vignette[..., None].astype(np.float32) + noise
    return np.clip(image, 0, 255).astype(np.uint8)


def write_dataset(
    root: str | Path,
    *,
    size: tuple[int, int] = (64, 128),
    splits: Mapping[str, int] | None = None,
    seed: int = 0,
    workers: int = 1,
) -> Path:
    """Draw a dataset in Cityscapes' layout, with COCO instance annotations.

    `leftImg8bit/SPLIT/scenes/*_leftImg8bit.png` and `gtFine/SPLIT/scenes/*_gtFine_labelIds.png`,
    `*_gtFine_instanceIds.png`, which `torchvision.datasets.Cityscapes` reads as they are;
    `annotations/instances_SPLIT.json` with boxes and masks of persons, riders and vehicles. The
    same arguments give the same bytes, whatever the number of workers.

    Args:
        root: the folder to create; one that holds this very dataset is left as it is.
        size: height and width in pixels.
        splits: number of images by split, {"train": 600, "val": 100} if None.
        seed: of the pictures.
        workers: processes.

    Returns:
        `root`.

    Raises:
        CwdError: an argument makes no sense, `root` holds something else, or can't be written.
    """
    root, splits = Path(root), dict(splits or {"train": 600, "val": 100})
    for split, count in splits.items():
        if split not in SPLITS or count < 0:
            raise CwdError(f"split {split!r} with {count} images: use counts from 0 on for "
                           f"{', '.join(SPLITS)}.")  # fmt: skip
    if seed < 0 or workers < 1:
        raise CwdError(f"seed {seed}, workers {workers}: give a seed from 0 and a worker or more.")
    about = {"version": VERSION, "size": list(map(int, size)), "splits": splits, "seed": seed}
    if root.exists():
        described = root / "dataset.json"
        if described.is_file() and json.loads(described.read_text()) == about:
            return root
        raise CwdError(f"{root} holds something else than these scenes: move it away or delete it.")
    part = root.with_name(f".{root.name}.partial")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for number, (split, count) in enumerate(splits.items()):
            write_split(part, split, count, size, (seed, number), workers)
        (part / "dataset.json").write_text(json.dumps(about))
        part.rename(root)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise unwritable(root, error) from error
    return root


def write_split(
    root: Path, split: str, count: int, size: tuple[int, int], seed: tuple[int, int], workers: int
) -> None:
    """Draw a split and write its files and annotations."""
    for folder in ("leftImg8bit", "gtFine"):
        (root / folder / split / "scenes").mkdir(parents=True)
    work = (range(count), repeat(root), repeat(split), repeat(size), repeat(seed))
    if workers == 1:
        found = list(map(write_scene, *work))
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            found = list(pool.map(write_scene, *work, chunksize=16))
    annotations = [annotation for per_image in found for annotation in per_image]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    images = [
        {"id": i, "file_name": f"scenes/{stem(i)}_leftImg8bit.png", "height": size[0],
         "width": size[1]} for i in range(count)
    ]  # fmt: skip
    categories = [{"id": THINGS.index(name) + 1, "name": name} for name in THINGS]
    path = root / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(exist_ok=True)
    coco = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(coco))


def stem(index: int) -> str:
    """What the files of an image are called, in Cityscapes' pattern city_sequence_frame."""
    return f"scenes_{index // 1000:06d}_{index % 1000:06d}"


def write_scene(
    index: int, root: Path, split: str, size: tuple[int, int], seed: tuple[int, int]
) -> list[dict]:
    """Draw one image from its own seed and write its files; returns its COCO annotations."""
    scene = draw_scene(np.random.default_rng([*seed, index]), size)
    name = stem(index)
    images, labels = root / "leftImg8bit" / split / "scenes", root / "gtFine" / split / "scenes"
    for path, pixels in (
        (images / f"{name}_leftImg8bit.png", scene.image),
        (labels / f"{name}_gtFine_labelIds.png", scene.label_ids),
        (labels / f"{name}_gtFine_instanceIds.png", scene.instances.astype(np.uint16)),
    ):
        Image.fromarray(pixels).save(path, compress_level=1)
    return annotate(scene.instances, index)


def annotate(instances: np.ndarray, image_id: int) -> list[dict]:
    """COCO annotations of what is visible of every instance."""
    annotations = []
    for value in np.unique(instances[instances >= 1000]).tolist():
        mask = instances == value
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        left, top = int(columns[0]), int(rows[0])
        encoded = rle.encode(np.asfortranarray(mask, np.uint8))
        kind = next(name for name in THINGS if IDS[name] == value // 1000)
        annotations.append(
            {
                "image_id": image_id,
                "category_id": THINGS.index(kind) + 1,
                "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode()},
                "bbox": [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
                "area": int(mask.sum()),
                "iscrowd": 0,
            }
        )
    return annotations
