"""Several processes that train one run together: what each of them has to know of the others.

torchrun starts them. Each computes the same step on its rows of the batch, and what they compute
together is what one computes on the whole batch; detectors alone sample regions and count objects
in each process's images. In one process nothing here does anything.
"""

import atexit
import contextlib
import importlib.metadata
import logging
import os
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib.util import find_spec
from types import ModuleType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cwd.system.device import pick_device
from cwd.system.errors import CwdError

PATIENCE = timedelta(hours=2)  # of processes for one that decodes a dataset
VARIABLES = ("TORCHELASTIC_RUN_ID", "GROUP_WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_RANK",
             "WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")  # fmt: skip
Value = TypeVar("Value")


def launched() -> bool:
    """Whether torchrun started this process: one of its variables alone doesn't say so."""
    return all(name in os.environ for name in VARIABLES)


def open_fabric(accelerator: str, precision: str) -> Any:
    """Lightning's Fabric on one device; under torchrun on one for each of its processes.

    `precision` is in Fabric's words. More processes on this machine than GPUs are a `CwdError`.
    """
    with _version_alone("torchmetrics"):  # it isn't used, and takes two seconds to import
        from lightning_fabric import Fabric  # noqa: PLC0415
        from lightning_fabric.plugins.environments import LightningEnvironment  # noqa: PLC0415
        from lightning_fabric.strategies import DDPStrategy  # noqa: PLC0415

    # its import sets the level: it would announce the precision
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    if not launched():
        # SLURM's variables, in an interactive allocation, don't mean that it started processes
        alone = {"devices": 1, "plugins": LightningEnvironment()}
        return Fabric(accelerator=accelerator, precision=precision, **alone)
    here, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if accelerator == "cuda" and here > gpus:
        raise CwdError(
            f"torchrun started {here} processes on a machine with {gpus} GPUs: start it with "
            f"--nproc-per-node {gpus}, or train with --device cpu."
        )
    several = {"devices": here, "num_nodes": int(os.environ["GROUP_WORLD_SIZE"])}
    ddp = DDPStrategy(timeout=PATIENCE)
    fabric = Fabric(accelerator=accelerator, strategy=ddp, precision=precision, **several)
    fabric.launch()
    return fabric


@contextlib.contextmanager
def _version_alone(name: str) -> Iterator[None]:
    """Let what imports a package to see its version see that, without the package."""
    if name in sys.modules or not find_spec(name):
        yield
        return
    sys.modules[name] = ModuleType(name)
    sys.modules[name].__version__ = importlib.metadata.version(name)
    try:
        yield
    finally:
        del sys.modules[name]


def join(device: str) -> None:
    """Meet the other processes that torchrun started, if it did."""
    if launched() and not _connected():
        open_fabric(pick_device(device), "32-true")
        atexit.register(_leave)


def _leave() -> None:
    if _connected():  # gloo's threads abort a process that ends without this
        dist.destroy_process_group()


def _connected() -> bool:
    return dist.is_available() and dist.is_initialized()


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if _connected() else 1


def rank() -> int:
    """Which of them this is; process 0 alone writes and reports."""
    return dist.get_rank() if _connected() else 0


def rows(batch: int) -> slice:
    """This process's rows of a batch; one that can't be shared equally is a `CwdError`."""
    count = processes()
    if batch % count:
        fitting = ", ".join(str(n) for n in range(1, batch + 1) if batch % n == 0)
        raise CwdError(
            f"a batch of {batch} images can't be shared equally by {count} processes: start as "
            f"many as divide it ({fitting}), or change the schedule's batch."
        )
    size = batch // count
    return slice(rank() * size, (rank() + 1) * size)


def mine(whole: Tensor) -> Tensor:
    """This process's rows of something that every process drew for the whole batch."""
    return whole[rows(len(whole))]


class _Total(torch.autograd.Function):
    """Sum over processes, to be differentiated any number of times.

    What is differentiated is the sum of all processes' losses: a value that all of them use gets
    the sum of their gradients.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Total.apply(gradient)


def total(x: Tensor) -> Tensor:
    """Sum of a tensor over all processes."""
    return _Total.apply(x) if processes() > 1 else x


@torch.no_grad()
def average(x: Tensor) -> Tensor:
    """Mean of a tensor over all processes, without a gradient."""
    return total(x) / processes() if processes() > 1 else x


@torch.no_grad()
def average_gradients(module: nn.Module) -> None:
    """Give every process the mean gradient of a module's parameters, which no wrapper does."""
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    if processes() == 1 or not gradients:
        return
    means = average(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, mean in zip(gradients, means.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view(gradient.shape))


def same_tensors(module: nn.Module) -> None:
    """Give every process the parameters and buffers of process 0."""
    if processes() > 1:
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor.detach(), src=0)


def agreed(value: Value) -> Value:
    """What process 0 says, so that all go the same way."""
    said = [value]
    if processes() > 1:
        dist.broadcast_object_list(said, src=0)
    return said[0]


def wait() -> None:
    """Wait until all processes have come here."""
    if processes() > 1:
        dist.barrier()


def in_turns(work: Callable[[], Value]) -> Value:
    """Do work that may write files: process 0 first, then one on each machine, then the rest.

    What the first wrote, the others find: scenes are drawn once, a dataset is decoded once.
    """
    turn = 0 if rank() == 0 else 1 if os.environ.get("LOCAL_RANK") == "0" else 2
    for number in range(3 if processes() > 1 else 1):
        if turn == number:
            result = work()
        wait()
    return result
