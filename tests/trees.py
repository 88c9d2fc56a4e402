"""Small datasets in their official layouts, written to disk as their makers distribute them."""

import numpy as np
from PIL import Image
from scipy.io import savemat

SIZE = (10, 16)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def image(seed=0, size=SIZE):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def labels(values, size=SIZE):
    """A label image that begins with the values and repeats them."""
    return np.resize(np.array(values, np.uint8), size)


def save_palette(path, label):
    """A PNG with a palette, as VOC's label images are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(label, mode="P")
    picture.putpalette(np.arange(768, dtype=np.uint8).tobytes())
    picture.save(path)


def save_sbd(path, label):
    """SBD's .mat: a struct with the segmentation, its boundaries and the categories present."""
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"GTcls": {"Segmentation": label, "Boundaries": [], "CategoriesPresent": [1]}})


def voc(root, *, train=2, val=1, added=3, size=SIZE):
    """VOC 2012 and SBD below `root`; SBD also has the images of both VOC sets."""
    devkit, sbd = root / "VOCdevkit" / "VOC2012", root / "sbd"
    sets = {
        "train": [f"2007_{i:06}" for i in range(train)],
        "val": [f"2008_{i:06}" for i in range(val)],
    }
    for name, stems in sets.items():
        for i, stem in enumerate(stems):
            path = devkit / "JPEGImages" / f"{stem}.jpg"
            save(path, image(i, (size[0] + i, size[1])))
            label = labels([*range(21), 255], (size[0] + i, size[1]))
            save_palette(devkit / "SegmentationClass" / f"{stem}.png", label)
        lists = devkit / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{name}.txt").write_text("".join(f"{stem}\n" for stem in stems))
    others = [f"2009_{i:06}" for i in range(added)]
    for i, stem in enumerate([*sets["train"], *sets["val"], *others]):
        save(sbd / "img" / f"{stem}.jpg", image(50 + i, size))
        save_sbd(sbd / "cls" / f"{stem}.mat", labels([5, 6], size))
    (sbd / "train.txt").write_text("".join(f"{s}\n" for s in [*sets["val"], *others[:-1]]))
    (sbd / "val.txt").write_text("".join(f"{s}\n" for s in [*sets["train"], *others[-1:]]))
    return root


def ade20k(root, *, train=2, val=1, size=SIZE):
    """ADE20K as the scene parsing challenge distributes it; images differ in size."""
    for folder, short, count in (("training", "train", train), ("validation", "val", val)):
        for i in range(count):
            stem, shape = f"ADE_{short}_{i + 1:08}", (size[0], size[1] + 2 * i)
            save(root / "images" / folder / f"{stem}.jpg", image(i, shape))
            save(root / "annotations" / folder / f"{stem}.png", labels(range(151), shape))
    return root


def cityscapes(root, *, splits=("train",), count=1, size=SIZE, city="aachen"):
    """Cityscapes with every label id; the files' names are the official ones."""
    for split in splits:
        for i in range(count):
            stem = f"{city}_{i:06}_000019"
            folder = root / "leftImg8bit" / split / city
            save(folder / f"{stem}_leftImg8bit.png", image(i, size))
            label = root / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png"
            save(label, labels(range(34), size))
    return root


def camvid(root, *, names=("0001TP_006690.png", "0001TP_006720.png"), size=SIZE):
    """Training images as the SegNet tutorial distributes them; its lists have foreign paths."""
    for i, name in enumerate(names):
        save(root / "train" / name, image(i, size))
        label = np.full(size, 3, np.uint8)
        label[0, :12] = range(12)
        save(root / "trainannot" / name, label)
    lines = [f"/SegNet/CamVid/train/{n} /SegNet/CamVid/trainannot/{n}\n" for n in names]
    (root / "train.txt").write_text("".join(lines))
    return root
