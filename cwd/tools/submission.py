"""Predictions for the Cityscapes test server: `make submission`."""

import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cwd.config.run import Run
from cwd.data import cityscapes
from cwd.data.base import photograph
from cwd.data.datasets import LAYOUTS
from cwd.data.scenes.draw import scenes_root
from cwd.evaluation.miou import predict
from cwd.models.build import build_network
from cwd.models.names import SEGMENTATION, kind_of
from cwd.system import paths
from cwd.system.device import pick_device
from cwd.system.errors import CwdError
from cwd.system.files import write_atomic
from cwd.system.progress import report
from cwd.training.run_folder import RunFolder

# of a class, by train id: what the server counts
LABEL_IDS = np.array([cls.id for cls in cityscapes.CLASSES], np.uint8)


def submission(run: Run, data_root: Path, split: str, device: str, output: Path) -> Path:
    """Write the zip that the server expects: a PNG of label ids for each image, at full size.

    The files are called as their images, CITY_SEQUENCE_FRAME_leftImg8bit.png; the server finds an
    image's prediction by the first three words. The run is a finished one on Cityscapes (or on the
    scenes, which have its layout); another one, or a split without images, is a `CwdError`.
    """
    check_submittable(run)
    folder = RunFolder(paths.RUNS, run)
    if not folder.finished:
        raise CwdError(f"{folder.done} does not exist: train the run first, see README.md.")
    scenes = run.data.name == "scenes"
    place = run.data.place(data_root)
    root = scenes_root(run.data, data_root) if scenes else LAYOUTS["cityscapes"].find(place)
    images = cityscapes.images(root, split) if root else []  # a split needs no labels
    if not images:
        remedy = LAYOUTS[run.data.name].remedy
        raise CwdError(f"{root or data_root} has no images in leftImg8bit/{split}/: {remedy}")
    official = (LAYOUTS["cityscapes"].counts or {}).get(split)
    if len(images) != official:
        report(f"{len(images)} images in {split}: the server expects {official}")
    network = build_network(run.network, len(LABEL_IDS))
    folder.load_into(network)
    place = torch.device(pick_device(device))
    network = network.to(place, memory_format=torch.channels_last).eval()

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for number, image in enumerate(images, start=1):
                pixels = photograph(image)[None]
                classes = predict(network, pixels.to(place))[0].cpu().numpy()
                buffer = io.BytesIO()
                Image.fromarray(LABEL_IDS[classes]).save(buffer, "png")
                archive.writestr(image.name, buffer.getvalue())
                report(f"predicting {number}/{len(images)}", transient=True)

    write_atomic(output, write)
    return output


def check_submittable(run: Run) -> None:
    """Raise CwdError for a run that is no segmentation network for Cityscapes' classes."""
    if run.data.name not in ("cityscapes", "scenes") or kind_of(run.network) != SEGMENTATION:
        raise CwdError(
            f"{run.network} was trained on {run.data.name}: only segmentation networks for "
            "Cityscapes' classes can be submitted to its server."
        )
