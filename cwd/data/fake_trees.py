"""Small datasets in their official layouts, for rehearsals and tests; the pixels are random.

Every label value that a dataset has occurs in every label image; COCO has boxes instead.
"""

import json
from pathlib import Path

import numpy as np

from cwd.data.ade20k import fake as ade20k
from cwd.data.camvid import fake as camvid
from cwd.data.cityscapes import fake as cityscapes
from cwd.data.classification.folders import fake as imagenet
from cwd.data.fake_images import SIZE, Size, image, labels, save
from cwd.data.voc import fake as voc

__all__ = [
    "SIZE", "ade20k", "camvid", "cityscapes", "coco", "image", "imagenet", "labels", "save", "voc",
]  # fmt: skip
GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # category ids up to 90 that COCO 2017 hasn't


def coco(root: Path, *, train: int = 4, val: int = 3, size: Size = (64, 96)) -> Path:
    """COCO 2017: 80 classes; the images differ in width, and are listed in no order.

    The first image of a split is grey and its last object a crowd; of several images the last has
    no objects.
    """
    categories = [{"id": i, "name": f"class {i}"} for i in range(1, 91) if i not in GAPS]
    for seed, (split, count) in enumerate((("train", train), ("val", val))):
        rng = np.random.default_rng(seed)
        images, annotations = [], []
        for i in range(count):
            shape = size[0], size[1] + 8 * i
            name = f"{100 * i + 7:012}.jpg"
            pixels = image(100 * seed + i, shape)
            save(root / f"{split}2017" / name, pixels if i else pixels[..., 0])
            images.append(
                {"id": 100 * i + 7, "file_name": name, "height": shape[0], "width": shape[1]}
            )
            if i == 0 or i < count - 1:
                annotations += coco_objects(rng, 100 * i + 7, shape, crowd=i == 0)
        for number, annotation in enumerate(annotations):
            annotation["id"] = 1000 - number
        content = {"images": images[::-1], "annotations": annotations, "categories": categories}
        path = root / "annotations" / f"instances_{split}2017.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return root


def coco_objects(rng: np.random.Generator, image_id: int, size: Size, *, crowd: bool) -> list[dict]:
    """Annotations of an image: three objects of the classes 1, 13 and 90, and a crowd if asked."""
    annotations = []
    for category in (1, 13, 90, *[1] * crowd):
        height, width = rng.uniform(0.2, 0.6, 2) * size
        top, left = rng.uniform(0, 1, 2) * (np.array(size) - (height, width))
        box = [round(float(value), 2) for value in (left, top, width, height)]
        annotation = {
            "image_id": image_id,
            "category_id": category,
            "bbox": box,
            "area": round(0.7 * box[2] * box[3], 4),
            "iscrowd": 0,
            "segmentation": [[left, top, left + width, top, left, top + height]],
        }
        annotations.append(annotation)
    if crowd:
        counts = [0, size[0] * size[1] // 2, size[0] * size[1] - size[0] * size[1] // 2]
        annotations[-1] |= {"iscrowd": 1, "segmentation": {"size": list(size), "counts": counts}}
    return annotations
