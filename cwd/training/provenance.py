"""Where a result comes from: code, versions, hardware, data."""

import hashlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from cwd.system import paths
from cwd.system.distributed import processes

PACKAGES = ("torch", "torchvision", "timm", "lightning-fabric", "torchmetrics", "numpy")


def session(device: torch.device) -> dict[str, Any]:
    """The code's commit, versions and hardware of what starts now on `device`.

    `commit` and `dirty` (whether it has uncommitted changes) are None outside a git checkout.
    """
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in PACKAGES}
    return _git_state() | {"versions": versions, "hardware": hardware(device)}


def hardware(device: torch.device) -> dict[str, Any]:
    """What computes: processor or GPU, how many threads in how many processes."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    threads = torch.get_num_threads()
    return {"device": device.type, "name": name, "threads": threads, "processes": processes()}


def first_weights(init: str, report: dict[str, list[str]]) -> dict[str, Any]:
    """Where a network's first weights came from: its run's `init`, and its own report."""
    if not report["matched"]:
        return {"from": init}
    counts = {name: len(tensors) for name, tensors in report.items()}
    return {"from": init, "sha256": sha256(paths.below_root(init)), **counts}


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_state() -> dict[str, Any]:
    git = ["git", "-C", str(Path(__file__).parent)]
    package = ["status", "--porcelain", "--untracked-files=no", "--", ".."]
    try:
        commit, changes = (
            subprocess.check_output([*git, *words], stderr=subprocess.DEVNULL, text=True).strip()
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
