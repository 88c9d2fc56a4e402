"""Random images and labels, and writing them: what the generated datasets are made of."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (10, 16)  # height and width
Size = tuple[int, int]


def save(path: Path, pixels: np.ndarray) -> None:
    """Write an image file, and the folders it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def image(seed: int = 0, size: Size = SIZE) -> np.ndarray:
    """Random pixels, uint8 [H, W, 3]; large images are smooth, so their files are as photographs'.

    A large one is a coarse grid, enlarged, and noise on it.
    """
    rng = np.random.default_rng(seed)
    if min(size) < 64:
        return rng.integers(0, 256, (*size, 3), np.uint8)
    coarse = rng.integers(0, 240, (size[0] // 32, size[1] // 32, 3), np.uint8)
    smooth = Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)
    return np.asarray(smooth) + rng.integers(0, 12, (*size, 3), np.uint8)


def labels(values: Iterable[int], size: Size = SIZE) -> np.ndarray:
    """A label image, uint8 [H, W], that begins with the values and repeats them."""
    return np.resize(np.array(list(values), np.uint8), size)


def write_list(path: Path, names: Iterable[str]) -> None:
    """Write a list of files, a name a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))
