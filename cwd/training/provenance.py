"""Where a result comes from: code, versions, hardware, data, first weights."""

import functools
import hashlib
import importlib.metadata
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cwd.models.weights import is_public
from cwd.system import paths
from cwd.system.distributed import processes
from cwd.system.files import sha256

GIT = ("git", "-C", str(Path(__file__).parent))
PACKAGES = ("torch", "torchvision", "timm", "lightning-fabric", "numpy")


def session(device: torch.device, compiled: Sequence[str] = ()) -> dict[str, Any]:
    """The code's commit, versions and hardware of what starts now on `device`.

    `commit` and `dirty` (whether it has uncommitted changes) are None outside a git checkout;
    `compiled` names what is: losses, networks.
    """
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in PACKAGES}
    about = {"versions": versions, "hardware": hardware(device), "compiled": [*compiled]}
    return _git_state() | about


def hardware(device: torch.device) -> dict[str, Any]:
    """What computes: processor or GPU, how many threads in how many processes."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    threads = torch.get_num_threads()
    return {"device": device.type, "name": name, "threads": threads, "processes": processes()}


def digest(value: Any) -> str:
    """SHA-256 of tensors, numbers and texts, by what they are in dictionaries and lists."""
    if isinstance(value, dict):
        value = list(value.items())
    if isinstance(value, list | tuple):
        found = " ".join(map(digest, value)).encode()
    elif isinstance(value, Tensor):
        kind = digest([str(value.dtype), tuple(value.shape)]).encode()
        found = kind + value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
    else:
        found = repr(value).encode()
    return hashlib.sha256(found).hexdigest()


def first_weights(init: str, network: nn.Module) -> dict[str, Any]:
    """Where a network's first weights came from: its run's `init`, and which they were.

    Of a file it has the checksum and what was taken of it; of public weights, whose files lie where
    timm, torchvision or a package has them, the backbone's own.
    """
    if init == "random":
        return {"from": init}
    if is_public(init):
        return {"from": init, "sha256": digest(network.backbone.state_dict())}
    counts = {name: len(tensors) for name, tensors in network.init_report.items()}
    return {"from": init, "sha256": sha256(paths.below_root(init)), **counts}


def finished_at(record: dict[str, Any]) -> str:
    """At which commit a run was finished, by its provenance, and whether the code is the same."""
    commit = record["sessions"][-1]["commit"]
    return _since(commit) if commit else "finished by code of no known commit"


@functools.cache  # a profile has hundreds of runs
def _since(commit: str) -> str:
    same = subprocess.run(
        [*GIT, "diff", "--quiet", commit, "--", ".."], stderr=subprocess.DEVNULL, check=False
    )
    since = {0: "", 1: "; the code has changed since"}.get(same.returncode, ", which isn't here")
    return f"finished at commit {commit[:7]}{since}"


def recorded_at(record: dict[str, Any]) -> str:
    """At which commit and on what hardware a recorded run was measured, by its provenance."""
    last = record["sessions"][-1]
    return f"commit {(last['commit'] or 'unknown')[:7]}, {in_words(last['hardware'])}"


def in_words(machine: dict[str, Any]) -> str:
    """`hardware` for people: a processor with the threads that were used."""
    count = machine["threads"]
    threads = f", {count} thread{'s' * (count != 1)}" if machine["device"] == "cpu" else ""
    return machine["name"] + threads


def different(began: Any, now: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """The first entry in which two mappings differ: its name and both values; None if none does."""
    if not (isinstance(began, dict) and isinstance(now, dict)):
        return None if began == now else (name, began, now)
    pairs = ((key, began.get(key), now.get(key)) for key in {**began, **now})
    odd = (different(old, new, f"{name} {key}".strip()) for key, old, new in pairs)
    return next(filter(None, odd), None)


def _git_state() -> dict[str, Any]:
    package = ["status", "--porcelain", "--untracked-files=no", "--", ".."]
    try:
        commit, changes = (
            subprocess.check_output([*GIT, *words], stderr=subprocess.DEVNULL, text=True).strip()
            for words in (["rev-parse", "HEAD"], package)
        )
        return {"commit": commit, "dirty": bool(changes)}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
