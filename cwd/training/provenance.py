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
HERE = Path(__file__).resolve().parents[1]


def git_state() -> dict[str, Any]:
    """The commit that the package's source is at, and whether it has uncommitted changes.

    Both are None outside a git checkout.
    """

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(HERE), *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        changes = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changes)}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in PACKAGES
    }


def hardware(device: torch.device) -> dict[str, Any]:
    """What computed: processor or GPU, how many threads in how many processes."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    threads = torch.get_num_threads()
    return {"device": device.type, "name": name, "threads": threads, "processes": processes()}


def session(device: torch.device) -> dict[str, Any]:
    """All of the above for a training that starts now on `device`."""
    return git_state() | {"versions": versions(), "hardware": hardware(device)}


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def first_weights(init: str, report: dict[str, list[str]]) -> dict[str, Any]:
    """Where a network's first weights came from, and how much of the file was used.

    Args:
        init: the run's.
        report: the network's `init_report`.
    """
    if not report["matched"]:
        return {"from": init}
    counts = {name: len(tensors) for name, tensors in report.items()}
    return {"from": init, "sha256": sha256(paths.below_root(init)), **counts}


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
