"""Time and memory of calls that take turns."""

import gc
import itertools
import os
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch.profiler import ProfilerActivity, profile

REPEATS = 15
Calls = Sequence[Callable[[], object]]


def laps(steps: Calls, device: str, repeats: int = REPEATS, warm: int = 3) -> list[list[float]]:
    """Seconds of each call, `repeats` of them after `warm` others (a compiled call compiles then).

    The calls take turns, so that whatever else the machine does slows all of them alike.
    """
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(repeats + warm):
        for step, taken in zip(steps, times, strict=True):
            began = time.perf_counter()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - began)
    return [taken[warm:] for taken in times]


def race(steps: Calls, device: str, repeats: int = REPEATS, warm: int = 3) -> list[float]:
    """Median seconds of each call, as `laps` measures them."""
    return [statistics.median(taken) for taken in laps(steps, device, repeats, warm)]


def peak_bytes(step: Callable[[], object], device: str) -> int:
    """The most memory that a call holds at once, beyond what is there before it.

    On a CPU it is the highest running sum of what one thread allocates and releases, the same at
    every call. The step leaves nothing behind that it frees at its next call.
    """
    if device == "cuda":
        step()  # libraries allocate their workspaces now
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler announces itself
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.disable()  # a collection now would release what others have left
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            step()
    finally:
        gc.enable()
        torch.set_num_threads(threads)
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    return int(max(itertools.accumulate((e.nbytes() for e in events), initial=0)))
