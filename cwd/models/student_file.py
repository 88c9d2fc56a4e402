"""A student taken home: a file that says what its network is, and is loaded without a run."""

import contextlib
import json
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from safetensors import SafetensorError, safe_open
from torch import nn
from typing_extensions import TypedDict

from cwd.models.build import build_network, load_network_weights
from cwd.models.weights import MEAN, STD, read_weights
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.extras import Lazy
from cwd.system.files import check_form, read_json
from cwd.system.own_code import load_file, named

WEIGHTS, CONFIG = "student.safetensors", "config.json"  # of a run's folder
HUB = "hf://"
hub = Lazy("huggingface_hub")
_three = Annotated[list[float], Field(min_length=3, max_length=3)]  # of red, green and blue
_rgb = Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)]
_size = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)]
# of what `described` writes
ABOUT = {"run": str, "network": str, "classes": list[str], "palette": list[_rgb] | None}
ABOUT |= {"size": _size, "code": dict[str, str], "mean": _three, "std": _three}
FORM = TypeAdapter(TypedDict("About", ABOUT))


def described(run: Any, dataset: Any) -> dict[str, str]:
    """The header of a run's student: one entry, as safetensors writes several in any order.

    Of its classes the names and the colours, RGB or None; of its network's own code the digest; the
    size of images that it learnt on; and what they are normalised by, for pixels from 0 to 1.
    """
    palette = getattr(dataset, "palette", None)
    about = {
        "run": run.name,
        "network": run.network,
        "classes": list(dataset.classes),
        "palette": None if palette is None else [[int(part) for part in rgb] for rgb in palette],
        "size": run.data.size or run.schedule.size,
        "code": dict(run.code),
        "mean": MEAN,
        "std": STD,
    }
    return {"student": json.dumps(about)}


def _header(path: Path) -> dict[str, Any]:
    """What `described` wrote; of a file of an earlier version the run's name."""
    try:
        with safe_open(path, "pt") as file:
            found = file.metadata() or {}
        about = json.loads(found["student"]) if "student" in found else found
        if not isinstance(about, dict):
            raise ValueError(f"its header is {about!r:.40}")
        return about
    except (OSError, ValueError, SafetensorError) as error:
        raise CwdError(f"{path} can't be read ({error}): give a student's file.") from error


def run_of(path: Path) -> str | None:
    """The run that a file says it is of; None if it says nothing, or can't be read."""
    with contextlib.suppress(CwdError):
        return _header(path).get("run")
    return None


def read_description(path: Path) -> dict[str, Any]:
    """What a student's file says of it, see `described`.

    A run's file of an earlier version names the run alone: the rest is in config.json beside it,
    and its classes, as many as its last layer has, have numbers for names.
    """
    found = _header(path)
    if "network" in found:
        check_form(found, FORM, path, "export the student again")
        if found["palette"] and len(found["palette"]) != len(found["classes"]):
            raise CwdError(f"{path} has not a colour a class: export the student again.")
        return found
    last = read_weights(path).get("classifier.weight", ())
    if "run" not in found or not (path.parent / CONFIG).is_file() or not len(last):
        raise CwdError(
            f"{path} doesn't say what its network is: give the file of a run or of `export`; one "
            f"of an earlier version needs {CONFIG} beside it."
        )
    config = read_json(path.parent / CONFIG, "restore it")
    about = {"run": found["run"], "network": config["network"], "code": {}, "palette": None}
    about |= {"classes": [str(number) for number in range(len(last))], "mean": MEAN, "std": STD}
    return about | {"size": config["data"]["size"] or config["schedule"]["crop"]}


def own_file(about: dict[str, Any], path: Path) -> Path | None:
    """Where the code that builds a student's network lies, beside its file or where the run had it.

    None for a network of ours. One that isn't the run's is a `CwdError`.
    """
    name = about["network"]
    if not (own := named(name)):
        return None
    places = (path.parent / Path(own[0]).name, paths.below_root(own[0]))
    found = next((place.resolve() for place in places if place.is_file()), None)
    if not found or load_file(found)[1] != about["code"][name]:
        raise CwdError(
            f"{path} needs the {own[0]} that it was trained with, which builds its network: put it "
            "beside the student."
        )
    return found


def load(path: str | Path) -> nn.Module:
    """A student from its file, the folder that holds it, or "hf://name/of-it"; in eval mode.

    The network has what its file says as `about`, its classes' names as `classes`, and `mean` and
    `std` of the images that it expects. What can't be found or isn't as it was is a `CwdError`.
    """
    path = _fetched(str(path)) if str(path).startswith(HUB) else Path(os.path.expanduser(path))
    path = path / WEIGHTS if path.is_dir() else path
    about = read_description(path)
    own = own_file(about, path)
    name = f"{own}:{named(about['network'])[1]}" if own else about["network"]
    network = build_network(name, len(about["classes"]))
    load_network_weights(network, path)
    network.name, network.about, network.classes = about["network"], about, about["classes"]
    network.mean, network.std = about["mean"], about["std"]
    return network.eval()


def push(folder: str | Path, repo: str) -> None:
    """Upload an exported student's folder to a repository of the Hugging Face hub that is there."""
    try:
        hub.upload_folder(repo_id=repo, folder_path=str(folder))
    except Exception as error:  # the hub's, and its connection's
        raise CwdError(
            f"{folder} can't be pushed to {repo} ({error}): see `hf auth login`."
        ) from error


def _fetched(place: str) -> Path:
    try:
        repo = place.removeprefix(HUB)
        return Path(hub.hf_hub_download(repo_id=repo, filename=WEIGHTS))
    except Exception as error:
        raise CwdError(f"{place} can't be had ({error}): load a file.") from error
