"""Lightning Fabric, in one process or in those that torchrun started."""

import atexit
import os
from datetime import timedelta

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch.distributed import is_torchelastic_launched

from cwd.system import distributed
from cwd.system.device import pick_device
from cwd.system.errors import CwdError

# The longest that processes wait for each other: one of them may have to decode a dataset. A
# process that died is noticed at once, by torchrun.
PATIENCE = timedelta(hours=2)


def open_fabric(accelerator: str, precision: str) -> Fabric:
    """Fabric on one device; under torchrun on one device for each of its processes.

    Args:
        accelerator: "cpu" or "cuda".
        precision: in Fabric's words.

    Raises:
        CwdError: torchrun started more processes on this machine than it has GPUs.
    """
    if not is_torchelastic_launched():
        return Fabric(accelerator=accelerator, devices=1, precision=precision)
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    gpus = torch.cuda.device_count()
    if accelerator == "cuda" and here > gpus:
        raise CwdError(
            f"torchrun started {here} processes on a machine with {gpus} GPUs: start it with "
            f"--nproc-per-node {gpus}, or train with --device cpu."
        )
    fabric = Fabric(
        accelerator=accelerator,
        devices=here,
        num_nodes=int(os.environ["GROUP_WORLD_SIZE"]),
        strategy=DDPStrategy(timeout=PATIENCE),
        precision=precision,
    )
    fabric.launch()
    return fabric


def join(device: str) -> None:
    """Meet the other processes that torchrun started, if it did.

    Args:
        device: "auto", "cpu" or "cuda".

    Raises:
        CwdError: the device isn't there, or as `open_fabric`.
    """
    if is_torchelastic_launched() and not distributed.connected():
        open_fabric(pick_device(device), "32-true")
        atexit.register(leave)


def leave() -> None:
    """Part from the other processes; gloo's threads abort a process that ends without this."""
    if distributed.connected():
        torch.distributed.destroy_process_group()
