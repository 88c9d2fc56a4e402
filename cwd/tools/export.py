"""A student taken home: its file and card, and the network for onnxruntime or TorchScript."""

import contextlib
import json
import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from safetensors.torch import save
from torch import Tensor, nn

from cwd.config.settings import Size, read
from cwd.data.scenes import draw_scene
from cwd.data.transforms import normalise
from cwd.evaluation.miou import upsample
from cwd.models.build import count_parameters, whole_tensors
from cwd.models.student_file import CONFIG, WEIGHTS, own_file, push
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.extras import Lazy
from cwd.system.files import make_folder, read_json, write_atomic, write_text
from cwd.tools.predict import open_student
from cwd.training.forms import CONFIG_FORM, METRICS_FORMS, PROVENANCE_FORM
from cwd.training.run_folder import METRICS, PROVENANCE

onnxruntime, _onnx, _onnxscript = Lazy("onnxruntime"), Lazy("onnx"), Lazy("onnxscript")
CARD = "README.md"  # as the Hugging Face hub expects it
TOLERANCE = 1e-3  # of the largest score; other libraries add in another order


class Whole(nn.Module):
    """From pixels to scores of pixels, so that nobody has to know how images are normalised.

    Shape:
        RGB [1, 3, H, W] from 0 to 255, float32, to scores [1, K, H, W] before a softmax.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        return upsample(self.network(normalise(images)).score, images.shape[-2:])


def as_onnx(whole: nn.Module, image: Tensor, path: Path) -> np.ndarray:
    """Write a network as ONNX, "images" to "scores"; gives what onnxruntime makes of an image."""
    _ = _onnx.__version__, _onnxscript.__version__  # torch needs them
    names = {"input_names": ["images"], "output_names": ["scores"]}
    file = {"external_data": False, "verbose": False}
    torch.onnx.export(whole, (image,), path, dynamo=True, **names, **file)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["scores"], {"images": image.numpy()})[0]


def as_torchscript(whole: nn.Module, image: Tensor, path: Path) -> np.ndarray:
    """Write a network for `torch.jit.load`; gives what that makes of an image."""
    torch.jit.save(torch.jit.trace(whole, (image,), check_trace=False), path)
    return torch.jit.load(path)(image).numpy()


FORMATS = {"onnx": ("student.onnx", as_onnx), "torchscript": ("student.pt", as_torchscript)}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters say of themselves."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)


def agreement(path: Path, found: np.ndarray, wanted: np.ndarray) -> float:
    """The share of pixels with the network's own class; a file that differs is a `CwdError`."""
    error = np.abs(found - wanted).max() / np.abs(wanted).max()
    if not error <= TOLERANCE:  # nan, too
        path.unlink()
        raise CwdError(
            f"{path.name} differs from the network by {error:.1e} of its largest score on a test "
            f"image, more than {TOLERANCE}: use another format, or another version of torch."
        )
    return float((found.argmax(1) == wanted.argmax(1)).mean())


@torch.no_grad()
def export(
    source: str,
    formats: Sequence[str] = (),
    out: Path | None = None,
    size: tuple[int, int] | None = None,
    repo: str = "",
) -> Path:
    """Write a student's folder: its file, a card, and the network in `formats` of `FORMATS`.

    Networks in these formats take images of one size, that which the student learnt on if None.
    Each is loaded again and compared with the network on a drawn scene. A folder for a repository
    of the Hugging Face hub is uploaded. Returns the folder, `build/export/RUN` if None.
    """
    student, file = open_student(source)
    high, wide = read(Size, size or tuple(student.about["size"]), "size")
    folder = make_folder(out or paths.BUILD / "export" / student.about["run"])
    weights = whole_tensors(student)
    header = {"student": json.dumps(student.about)}
    write_atomic(folder / WEIGHTS, lambda to: to.write_bytes(save(weights, header)))
    own = own_file(student.about, file)
    if own and own.parent != folder.resolve():  # what builds it goes with it
        shutil.copyfile(own, folder / own.name)
    pixels = draw_scene(np.random.default_rng(0), (max(32, high), max(32, wide))).image
    image = torch.from_numpy(pixels[None, :high, :wide]).permute(0, 3, 1, 2).float()
    whole, agreed = Whole(student).requires_grad_(False), {}
    for name, write in map(FORMATS.get, formats):
        with _quiet():
            found = write(whole, image, folder / name)
        agreed[name] = agreement(folder / name, found, whole(image).numpy())
    write_text(folder / CARD, card(student, file.parent, (high, wide), agreed))
    if repo:
        push(folder, repo)
    return folder


def card(student: nn.Module, record: Path, size: tuple[int, int], agreed: dict[str, float]) -> str:
    """A model card, in Markdown: what a student's file and its run's folder know of it."""

    def known(name: str, form: TypeAdapter) -> dict[str, Any]:
        return read_json(record / name, "restore it", form) if (record / name).is_file() else {}

    about, run = student.about, known(CONFIG, CONFIG_FORM)
    metrics = known(METRICS, METRICS_FORMS["miou"])
    facts = {"network": about["network"], "parameters": f"{count_parameters(student):,}"}
    if run and metrics:
        data, teacher, schedule = run["data"], run["teacher"], run["schedule"]
        facts["learnt from"] = f"{teacher['network']}, by {run['recipe']}" if teacher else "labels"
        facts["training"] = f"{schedule['steps']} steps of {schedule['batch']} images"
        facts["data"] = f"{data['name']}, measured on {metrics['images']} images of {data['split']}"
        facts["mIoU"] = f"{metrics['miou']:.2f} %"
        facts |= {key: run[key] for key in ("init", "seed")}
    if sessions := known(PROVENANCE, PROVENANCE_FORM).get("sessions"):
        facts |= {"commit": sessions[-1]["commit"], "torch": sessions[-1]["versions"]["torch"]}
    lines = ["---", "library_name: cwd", "pipeline_tag: image-segmentation", "---", ""]
    lines += [f"# {about['run']}", "", "| | |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    lines += [
        f"\nLoad it by `cwd.models.load(FOLDER)`. It takes RGB images, normalised by mean "
        f"{about['mean']} and deviation {about['std']} of pixels from 0 to 1."
    ]
    lines += [
        f"\n`{name}` takes RGB from 0 to 255, float32 [1, 3, {size[0]}, {size[1]}], and gives "
        f"scores of the classes [1, K, {size[0]}, {size[1]}]; on a test image {share:.2%} of the "
        "pixels have the network's own class."
        for name, share in agreed.items()
    ]
    iou = {name: value for name, value in metrics.get("class_iou", {}).items() if value is not None}
    lines += ["", "| class | IoU (%) |", "| --- | --- |"]
    lines += [f"| {c} | {iou[c]:.1f} |" if c in iou else f"| {c} | |" for c in student.classes]
    return "\n".join(lines) + "\n"
