"""A student taken home: its file and card, and the network for onnxruntime or TorchScript."""

import contextlib
import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cwd.data.scenes import draw_scene
from cwd.data.transforms import normalise
from cwd.evaluation.miou import upsample
from cwd.models.build import count_parameters
from cwd.models.student_file import CONFIG, WEIGHTS, push
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.extras import Lazy
from cwd.system.files import make_folder, read_json, write_atomic, write_text
from cwd.system.own_code import named
from cwd.tools.predict import open_student
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


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what exporters say of themselves."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)


def to_onnx(whole: nn.Module, image: Tensor, path: Path) -> None:
    """Write a network as ONNX: "images" to "scores", for images of one size."""
    _ = _onnx.__version__, _onnxscript.__version__  # what torch needs, asked for in a sentence
    names = {"input_names": ["images"], "output_names": ["scores"]}
    torch.onnx.export(
        whole, (image,), path, dynamo=True, external_data=False, verbose=False, **names
    )


def by_onnx(path: Path, image: Tensor) -> np.ndarray:
    """What onnxruntime makes of an exported network and an image."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["scores"], {"images": image.numpy()})[0]


def to_torchscript(whole: nn.Module, image: Tensor, path: Path) -> None:
    """Write a network as TorchScript, for `torch.jit.load` in Python or C++."""
    torch.jit.save(torch.jit.trace(whole, (image,), check_trace=False), path)


def by_torchscript(path: Path, image: Tensor) -> np.ndarray:
    """What TorchScript makes of an exported network and an image."""
    return torch.jit.load(path)(image).numpy()


FORMATS: dict[str, tuple[str, Callable[..., None], Callable[..., np.ndarray]]] = {
    "onnx": ("student.onnx", to_onnx, by_onnx),
    "torchscript": ("student.pt", to_torchscript, by_torchscript),
}


@torch.no_grad()
def check(path: Path, run: Callable[..., np.ndarray], whole: nn.Module, image: Tensor) -> float:
    """The share of pixels with the network's own class; a network that differs is a `CwdError`."""
    wanted, found = whole(image).numpy(), run(path, image)
    error = np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-12)
    if not error <= TOLERANCE:  # nan, too
        raise CwdError(
            f"{path.name} differs from the network by {error:.1e} of its largest score on a test "
            f"image, more than {TOLERANCE}: use another format, or another version of torch."
        )
    return float((found.argmax(1) == wanted.argmax(1)).mean())


def export(
    source: str, formats: list[str], out: Path | None = None, size: tuple[int, int] | None = None
) -> Path:
    """Write a student's folder: its file, a card, and the network in `formats` of `FORMATS`.

    Networks in these formats take images of one size, that which the student learnt on if None.
    Each is loaded again and compared with the network on a drawn scene. Returns the folder,
    `build/export/RUN` if None.
    """
    student, file = open_student(source)
    about = student.about
    size = tuple(size or about["size"])
    folder = make_folder(out or paths.BUILD / "export" / about["run"])
    weights = {name: value.contiguous() for name, value in student.state_dict().items()}
    header = {"student": json.dumps(about)}
    write_atomic(folder / WEIGHTS, lambda to: save_file(weights, to, header))
    if own := named(about["network"]):  # what builds it goes with it
        places = file.parent / Path(own[0]).name, paths.below_root(own[0])
        place = next(place for place in places if place.is_file())
        if place.parent != folder.resolve():
            shutil.copyfile(place, folder / place.name)
    pixels = draw_scene(np.random.default_rng(0), tuple(max(32, side) for side in size)).image
    image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None, :, : size[0], : size[1]]
    whole, agreed = Whole(student), {}
    for name in formats:
        path, write, run = folder / FORMATS[name][0], *FORMATS[name][1:]
        with quiet():
            write_atomic(path, lambda to, write=write: write(whole, image.float(), to))
            agreed[path.name] = check(path, run, whole, image.float())
    write_text(folder / CARD, card(student, file.parent, size, agreed))
    return folder


def card(student: nn.Module, record: Path, size: tuple[int, int], agreed: dict[str, float]) -> str:
    """A model card, in Markdown: what a run's folder knows of its student."""
    about = student.about

    def known(name: str) -> dict[str, Any]:
        path = record / name
        return read_json(path, "restore it") if path.is_file() else {}

    run, metrics, provenance = known(CONFIG), known(METRICS), known(PROVENANCE)
    facts = {"network": about["network"], "parameters": f"{count_parameters(student):,}"}
    if run:
        data, teacher = run["data"], run["teacher"]
        facts["learnt from"] = f"{teacher['network']}, by {run['recipe']}" if teacher else "labels"
        facts["dataset"] = f"{data['name']}, {len(student.classes)} classes"
        facts["training"] = f"{run['schedule']['steps']} steps of {run['schedule']['batch']} images"
        facts["seed"] = run["seed"]
    if metrics:
        facts["mIoU"] = f"{metrics['miou']:.2f} % on {metrics['images']} images of {data['split']}"
    if sessions := provenance.get("sessions"):
        facts["commit of cwd"] = sessions[-1]["commit"]
        facts["torch"] = sessions[-1]["versions"]["torch"]
    lines = ["---", "library_name: cwd", "pipeline_tag: image-segmentation", "---", ""]
    lines += [f"# {about['run']}", "", "| | |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    lines += ["", "```python", "from cwd.models import load", "", 'student = load("FOLDER")']
    lines += ["```", "", f"Images are RGB, normalised by mean {about['mean']} and deviation "]
    lines[-1] += f"{about['std']} of pixels from 0 to 1; the file's header says so too."
    for name, share in agreed.items():
        lines += ["", f"`{name}` takes RGB from 0 to 255, float32 [1, 3, {size[0]}, {size[1]}], "]
        lines[-1] += f"and gives scores of the classes; {share:.2%} of a test image's pixels agree."
    lines += ["", "| class | IoU (%) |", "| --- | --- |"]
    iou = metrics.get("class_iou", {})
    lines += [f"| {name} | {_number(iou.get(name))} |" for name in student.classes]
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def export_and_push(repo: str, *given: Any) -> Path:
    """`export`, then upload the folder to a repository of the Hugging Face hub if one is named."""
    folder = export(*given)
    if repo:
        push(folder, repo)
    return folder
