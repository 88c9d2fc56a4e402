"""Small datasets in their official layouts: random pixels, in each label image every label."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from cwd.data.segmentation import IGNORED
from cwd.data.voc import DEVKIT

SIZE = (10, 16)  # height and width
Size = tuple[int, int]
GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # category ids up to 90 that COCO 2017 hasn't


def save(path: Path, pixels: np.ndarray, *, palette: bool = False) -> None:
    """Write an image file, and the folders it needs; with a palette, as VOC's label images are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels)
    if palette:
        picture.putpalette(np.arange(768, dtype=np.uint8).tobytes())
    picture.save(path)


def image(seed: int = 0, size: Size = SIZE) -> np.ndarray:
    """Random pixels, uint8 [H, W, 3]; large images are smooth, with files like photographs'."""
    rng = np.random.default_rng(seed)
    if min(size) < 64:
        return rng.integers(0, 256, (*size, 3), np.uint8)
    coarse = rng.integers(0, 240, (size[0] // 32, size[1] // 32, 3), np.uint8)
    smooth = Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)
    return np.asarray(smooth) + rng.integers(0, 12, (*size, 3), np.uint8)


def labels(values: Iterable[int], size: Size = SIZE) -> np.ndarray:
    """A label image, uint8 [H, W], that begins with the values and repeats them."""
    return np.resize(np.array(list(values), np.uint8), size)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def cityscapes(
    root: Path, *, splits: Sequence[str] = ("train",), count: int = 1, size: Size = SIZE
) -> Path:
    """Cityscapes, `count` images a split, of one city."""
    for number, split in enumerate(splits):
        for i in range(count):
            stem = f"{split}/aachen/aachen_{i:06}_000019"
            pixels = image(1000 * number + i, size)
            save(root / "leftImg8bit" / f"{stem}_leftImg8bit.png", pixels)
            save(root / "gtFine" / f"{stem}_gtFine_labelIds.png", labels(range(34), size))
    return root


def voc(root: Path, *, train: int = 2, val: int = 1, added: int = 3, size: Size = SIZE) -> Path:
    """VOC 2012 and SBD, `added` images of which VOC doesn't have; images differ in height."""
    devkit, sbd, stems = root / DEVKIT, root / "sbd", {}
    for split, year, count in (("train", 2007, train), ("val", 2008, val)):
        stems[split] = [f"{year}_{i:06}" for i in range(count)]
        for i, stem in enumerate(stems[split]):
            shape = size[0] + i, size[1]
            save(devkit / "JPEGImages" / f"{stem}.jpg", image(year + i, shape))
            label = labels([*range(21), IGNORED], shape)
            save(devkit / "SegmentationClass" / f"{stem}.png", label, palette=True)
        _write(devkit / "ImageSets/Segmentation" / f"{split}.txt", "\n".join(stems[split]))
    others = [f"2009_{i:06}" for i in range(added)]
    (sbd / "cls").mkdir(parents=True)
    for i, stem in enumerate([*stems["train"], *stems["val"], *others]):  # SBD has VOC's too
        save(sbd / "img" / f"{stem}.jpg", image(50 + i, size))
        parts = {"Segmentation": labels([5, 6], size), "Boundaries": [], "CategoriesPresent": [1]}
        savemat(sbd / "cls" / f"{stem}.mat", {"GTcls": parts})
    _write(sbd / "train.txt", "\n".join([*stems["val"], *others[:-1]]))
    _write(sbd / "val.txt", "\n".join([*stems["train"], *others[-1:]]))
    return root


def ade20k(root: Path, *, train: int = 2, val: int = 1, size: Size = SIZE) -> Path:
    """ADE20K; images differ in width."""
    for folder, short, count in (("training", "train", train), ("validation", "val", val)):
        for i in range(count):
            stem, shape = f"ADE_{short}_{i + 1:08}", (size[0], size[1] + 2 * i)
            save(
                root / "images" / folder / f"{stem}.jpg",
                image((1000 if short == "val" else 0) + i, shape),
            )
            save(root / "annotations" / folder / f"{stem}.png", labels(range(151), shape))
    return root


def camvid(
    root: Path,
    *,
    names: Sequence[str] = ("0001TP_006690.png", "0001TP_006720.png"),
    size: Size = SIZE,
) -> Path:
    """CamVid with the same names in train and val; its lists have foreign paths."""
    label = np.full(size, 3, np.uint8)
    label[0, :12] = range(12)
    for number, split in enumerate(("train", "val")):
        for i, name in enumerate(names):
            save(root / split / name, image(1000 * number + i, size))
            save(root / f"{split}annot" / name, label)
        lines = (f"/SegNet/CamVid/{split}/{n} /SegNet/CamVid/{split}annot/{n}" for n in names)
        _write(root / f"{split}.txt", "\n".join(lines))
    return root


def imagenet(
    root: Path, *, train: int = 2, val: int = 1, size: Size = SIZE, classes: int = 3
) -> Path:
    """ImageNet, `train` and `val` images of every class; they differ in width, some are grey."""
    for offset, (split, count) in enumerate((("train", train), ("val", val))):
        for i in range(classes * count):
            wnid, number = f"n{1440764 + i // count:08}", i % count
            pixels = image(2 * i + offset, (size[0], size[1] + 2 * number))
            path = root / split / wnid / f"{wnid}_{number}.JPEG"
            save(path, pixels if number else pixels[..., 0])
    return root


def coco(root: Path, *, train: int = 4, val: int = 3, size: Size = (64, 96)) -> Path:
    """COCO 2017: 80 classes; the images differ in width, and are listed in no order.

    The first is grey and its last object a crowd; of several images the last has no objects.
    """
    categories = [{"id": i, "name": f"class {i}"} for i in range(1, 91) if i not in GAPS]
    for seed, (split, count) in enumerate((("train", train), ("val", val))):
        rng, images, annotations = np.random.default_rng(seed), [], []
        for i in range(count):
            shape, number = (size[0], size[1] + 8 * i), 100 * i + 7
            about = {"id": number, "file_name": f"{number:012}.jpg"}
            images.append(about | dict(zip(("height", "width"), shape, strict=True)))
            pixels = image(100 * seed + i, shape)
            save(root / f"{split}2017" / about["file_name"], pixels if i else pixels[..., 0])
            if i == 0 or i < count - 1:
                annotations += _objects(rng, number, shape, crowd=i == 0)
        for number, annotation in enumerate(annotations):
            annotation["id"] = 1000 - number
        content = {"images": images[::-1], "annotations": annotations, "categories": categories}
        _write(root / "annotations" / f"instances_{split}2017.json", json.dumps(content))
    return root


def _objects(rng: np.random.Generator, image_id: int, size: Size, *, crowd: bool) -> list[dict]:
    # annotations of an image: three objects of the classes 1, 13 and 90, and a crowd if asked
    annotations = []
    for category in (1, 13, 90, *[1] * crowd):
        height, width = rng.uniform(0.2, 0.6, 2) * size
        top, left = rng.uniform(0, 1, 2) * (np.array(size) - (height, width))
        box = [round(float(value), 2) for value in (left, top, width, height)]
        annotations.append({
            "image_id": image_id,
            "category_id": category,
            "bbox": box,
            "area": round(0.7 * box[2] * box[3], 4),
            "iscrowd": 0,
            "segmentation": [[left, top, left + width, top, left, top + height]],
        })  # fmt: skip
    if crowd:
        half = size[0] * size[1] // 2
        encoded = {"size": list(size), "counts": [0, half, size[0] * size[1] - half]}
        annotations[-1] |= {"iscrowd": 1, "segmentation": encoded}
    return annotations
