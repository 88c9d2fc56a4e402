"""A student at work on images: the class of every pixel, as a label image and as an overlay."""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cwd.data.base import channels_first, decode
from cwd.data.datasets import LAYOUTS
from cwd.evaluation.miou import PIXELS, predict
from cwd.models.names import SEGMENTATION, kind_of
from cwd.models.student_file import CONFIG, HUB, WEIGHTS, load
from cwd.models.weights import MEAN, STD
from cwd.system import paths
from cwd.system.device import pick_device
from cwd.system.errors import CwdError
from cwd.system.files import read_json, sha256, write_atomic
from cwd.system.progress import report
from cwd.training.forms import CONFIG_FORM
from cwd.training.run_folder import PROVENANCE

TILE, MARGIN = 1024, 128  # pixels to a side; and of its edge, which other tiles know better
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


def open_student(source: str) -> tuple[nn.Module, Path]:
    """A student with its classes' names and colours, and its file.

    `source` is a run's name, its folder, or a student's file; or "hf://name/of-it", without a file.
    """
    if source.startswith(HUB):
        return load(source), Path(source)
    named = Path(os.path.expanduser(source))
    places = (named, paths.below_root(source), paths.RUNS / named, paths.WEIGHTS / named)
    files = [place / WEIGHTS if place.is_dir() else place for place in places]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        known = sorted(p.name for p in paths.RUNS.glob("*") if (p / WEIGHTS).is_file())
        some = f", such as {known[0]}" if known else ", after training one"
        raise CwdError(f"there is no student {source!r}: give a run's name{some}, or a file.")
    provenance, remedy = file.with_name(PROVENANCE), "restore it"
    if provenance.is_file():
        measured = read_json(provenance, remedy).get("sha256")
        if measured not in (None, sha256(file)):
            raise CwdError(f"{file} holds other weights than those that were measured: restore it.")
    student = load(file)
    if (kind := kind_of(student.name)) != SEGMENTATION:
        raise CwdError(f"{file} holds {kind}: predict and export are for {SEGMENTATION}.")
    if (tuple(student.mean), tuple(student.std)) != (MEAN, STD):
        raise CwdError(f"{file} is for images of another normalisation: call the network yourself.")
    if student.about["palette"] is None and file.with_name(CONFIG).is_file():
        layout = LAYOUTS[read_json(file.with_name(CONFIG), remedy, CONFIG_FORM)["data"]["name"]]
        student.classes = student.about["classes"] = list(layout.classes)
        student.about["palette"] = layout.palette.tolist()
    return student, file


def found_images(places: Iterable[str]) -> list[Path]:
    """Image files, and those in folders; no two of a name, which would be written as one."""
    files: dict[str, Path] = {}
    for place in map(Path, places):
        inside = sorted(p for p in place.glob("[!.]*") if p.suffix.lower() in IMAGES)
        if not (some := inside if place.is_dir() else [place]):
            raise CwdError(f"{place} holds no images: give files, or a folder that has some.")
        for file in some:
            if files.setdefault(file.stem, file) != file:
                raise CwdError(f"{files[file.stem]} and {file} have one name: take one at a time.")
    return list(files.values())


def _outputs(image: Path, out: Path) -> tuple[Path, Path]:
    return out / f"{image.stem}.png", out / f"{image.stem}_overlay.png"


def _check_outputs(images: Sequence[Path], out: Path) -> None:
    """Refuse a folder where one image's files would be written over an image, or another's."""
    written, read = {}, {image.resolve() for image in images}
    for image in images:
        for path in _outputs(image, out):
            if path.resolve() in read:
                raise CwdError(f"{path} is one of the images: give another folder as --out.")
            if (other := written.setdefault(path, image)) != image:
                raise CwdError(f"{other} and {image} would both be written to {path}: rename one.")


def spans(length: int, tile: int, margin: int) -> Iterator[tuple[slice, slice]]:
    """Tiles along an axis: what is looked at, and what of it is kept, which together is all."""
    step = tile - 2 * margin
    count = max(1, math.ceil((length - 2 * margin) / step))
    for number in range(count):
        start = max(0, min(number * step, length - tile))
        first = number * step + margin if number else 0
        last = length if number == count - 1 else (number + 1) * step + margin
        yield slice(start, min(start + tile, length)), slice(first, last)


def label(
    network: nn.Module,
    image: Tensor,
    *,
    limit: int = PIXELS,
    tile: int = TILE,
    margin: int = MARGIN,
) -> Tensor:
    """The class of every pixel of an image, uint8 [3, H, W]: int64 [H, W].

    One of more pixels than `limit` is looked at in tiles that overlap.
    """
    if image[0].numel() <= limit:
        return predict(network, image[None])[0]
    classes = torch.empty(image.shape[1:], dtype=torch.int64, device=image.device)
    for rows, kept_rows in spans(image.shape[1], tile, margin):
        for columns, kept in spans(image.shape[2], tile, margin):
            part = predict(network, image[None, :, rows, columns])[0]
            top, left = kept_rows.start - rows.start, kept.start - columns.start
            height, width = kept_rows.stop - kept_rows.start, kept.stop - kept.start
            classes[kept_rows, kept] = part[top : top + height, left : left + width]
    return classes


def predict_images(source: str, images: Sequence[str], out: Path, device: str = "auto") -> int:
    """Write two files for each image, NAME.png and NAME_overlay.png; returns how many images.

    The first has the number of its class at every pixel, and the classes' colours as its palette;
    the second shows these over the image. Both are upright where a camera turned its image.
    """
    student, _ = open_student(source)
    files, place = found_images(images), torch.device(pick_device(device))
    _check_outputs(files, out)
    if student.about["palette"] is None:
        raise CwdError(f"{source} has no colours for its classes: export it again from its run.")
    palette = np.array(student.about["palette"], np.uint8)
    student = student.to(place, memory_format=torch.channels_last)
    for number, file in enumerate(files, start=1):
        pixels = decode(file, "RGB", own=True)
        seen = channels_first(pixels).to(place)
        classes = label(student, seen).cpu().numpy().astype(np.uint8)
        labels = Image.fromarray(classes)
        labels.putpalette(palette.flatten().tolist())
        overlay = Image.fromarray((pixels // 2 + palette[classes] // 2).astype(np.uint8))
        for path, image in zip(_outputs(file, out), (labels, overlay), strict=True):
            write_atomic(path, lambda to, image=image: image.save(to, "png"))
        report(f"predicting {number}/{len(files)}", transient=True)
    return len(files)
