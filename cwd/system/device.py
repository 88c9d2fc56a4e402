"""What this machine can do: device, number format, compiler."""

import contextlib
import functools
import logging
import os
import re
import shutil
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import nn

from cwd.system.errors import CwdError

# what the compiler says on a GPU of reductions that it splits, which is no fault of ours
warnings.filterwarnings("ignore", message=r"\s*Online softmax is disabled")
logging.getLogger("torch._inductor").setLevel(logging.ERROR)

PRECISIONS = {"auto": "", "bf16": "bf16-mixed", "fp32": "32-true"}  # ours and Fabric's words
AMPERE = (8, 0)  # the first GPUs that multiply bfloat16 in hardware
LARGE_MAP = 32 * 32  # positions
MANY_PIXELS = 2 * 10**10  # that a training sees: a quarter of what the paper's does
FORMS = 256  # of a class that are compiled in a process
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86 and Arm names in /proc/cpuinfo


def pick_device(device: str) -> str:
    """Resolve "auto"; a device that is unknown or not there is a `CwdError`."""
    if device not in ("auto", "cpu", "cuda"):
        raise CwdError(f"device {device!r} is unknown: use auto, cpu or cuda.")
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise CwdError("device cuda was asked for and torch sees no GPU: use DEVICE=cpu or auto.")
    return ("cuda" if there else "cpu") if device == "auto" else device


def pick_precision(precision: str, device: str) -> str:
    """A key of `PRECISIONS` in Fabric's words; "auto" is bfloat16 where the hardware has it."""
    if precision == "auto":
        # torch.cuda.is_bf16_supported() is true where it's emulated, which is slow
        fast = torch.cuda.get_device_capability() >= AMPERE if device == "cuda" else cpu_has_bf16()
        precision = "bf16" if fast else "fp32"
    return PRECISIONS[precision]


@functools.cache
def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware (elsewhere it is slower than fp32)."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return not BF16_FLAGS.isdisjoint(text.split())


@contextlib.contextmanager
def training_threads(device: str) -> Iterator[None]:
    """One thread for a training on a CPU, unless OMP_NUM_THREADS says how many.

    Two threads wait for each other wherever something else runs on their cores: 300 steps took 106
    s so, and 43 s with one. Processes side by side share the cores better: beside a notebook kernel
    that kept both cores busy two trainings took 2.0 times as long as alone, their share. And what a
    run gives, to the last digit, doesn't depend on how many there were.
    """
    before = torch.get_num_threads()
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if device == "cpu" and not re.match("[1-9]", asked):  # torch itself passes over "0" and "abc"
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def side_by_side(device: str) -> int:
    """How many trainings this machine has room for: one a core of its processor, or one a GPU."""
    return torch.cuda.device_count() if device == "cuda" else len(os.sched_getaffinity(0))


@functools.cache
def has_compiler() -> bool:
    """Whether `torch.compile` finds what it needs: a C++ compiler and Python's headers."""
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return header.is_file() and any(map(shutil.which, ("g++", "clang++", "c++")))


def compile_where_it_pays(losses: Iterable[nn.Module], positions: int) -> bool:
    """Compile losses in place where maps have enough positions, H times W; whether it did.

    On a [8, 512, 64, 64] map a compiled loss is several times faster; on the small maps of a quick
    run it isn't, and compiling takes longer than the whole run.
    """
    return positions >= LARGE_MAP and _compile(losses)


def compile_networks(networks: Iterable[nn.Module], pixels: int, device: str) -> bool:
    """Compile networks in place where their trainings see enough pixels for it; whether it did.

    On a GPU a step on 8 crops of 512x512 from PSPNet-R101 to PSPNet-R18 takes a sixth less time so,
    and compiling a minute or two. For images of other sizes than the crops', call them under
    `torch.compiler.set_stance("force_eager")`.
    """
    return device == "cuda" and pixels >= MANY_PIXELS and _compile(networks)


def _compile(modules: Iterable[nn.Module]) -> bool:
    """Compile each once for its class, settings and shapes, if there is a compiler."""
    if not (modules := [*modules]) or not has_compiler():
        return False
    # by itself torch keeps eight forms of a class, and runs the ninth temperature uncompiled
    torch.compiler.config.recompile_limit = FORMS
    for module in modules:
        module.compile(dynamic=False)
    return True
