"""One job: a process of its own that trains a run, or a group of them."""

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from submitit.helpers import Checkpointable

from cwd.config.run import Run
from cwd.recipes import load_losses
from cwd.system.errors import CwdError
from cwd.system.files import write_json
from cwd.system.progress import VARIABLE
from cwd.training.loop import train_together

JOB, REFUSED = "job.pickle", "refused.json"  # between a job and the processes of its torchrun


@dataclass(frozen=True)
class Job(Checkpointable):
    """What a worker does. When SLURM's time is over it is queued again, and goes on."""

    runs: tuple[Run, ...]  # to be trained together
    place: dict[str, Any]  # the other arguments of `cwd.training.loop.train_together`
    processes: int = 1  # that train a run together
    gpus: tuple[str, ...] | None = None  # that it sees; None for all that the process was given
    losses: tuple[str, ...] = ()  # files that register losses of one's own
    leader: int = 0  # the process of this machine that gave it out, and with which it ends

    def __call__(self) -> dict[str, str]:
        """Train the runs; returns why some can't be, a sentence by the run's name.

        A RuntimeError says that the processes that train together died.
        """
        if self.leader:
            follow(self.leader)
        os.environ.pop(VARIABLE, None)  # what it reports goes into the job's log
        if self.gpus is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        return self._in_processes() if self.processes > 1 else self.train()

    def train(self) -> dict[str, str]:
        """The same in this process, or in each of those that torchrun started."""
        torch.set_float32_matmul_precision("high")  # as `cwd.experiments.workspace.open_profile`
        try:
            load_losses(*self.losses)
            failed = train_together(self.runs, **self.place)
        except CwdError as error:
            failed = dict.fromkeys(self.runs, error)
        return {run.name: str(error) for run, error in failed.items()}

    def _in_processes(self) -> dict[str, str]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / JOB).write_bytes(pickle.dumps(self))
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            command += ["--nproc-per-node", str(self.processes), "-m", "cwd.tools.worker", name]
            # in a session of its own: SLURM's signals are for this process, which would be queued
            # again, and a keyboard's reach torchrun through it
            torchrun = subprocess.Popen(command, start_new_session=True)
            try:
                status = torchrun.wait()
            except BaseException:
                torchrun.terminate()  # it stops its processes
                raise
            if (folder / REFUSED).is_file():
                return json.loads((folder / REFUSED).read_text())
        if status:
            raise RuntimeError(f"torchrun ended with status {status}")
        return {}


def follow(leader: int) -> None:
    """Interrupt this process, as a keyboard does, once its leader has ended, however that was."""
    # ignored in what a shell starts in the background, and in all that is started by it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_watch, args=(leader,), daemon=True).start()


def _watch(leader: int) -> None:
    while True:
        try:
            state = Path(f"/proc/{leader}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            state = "Z"
        if state == "Z":  # ended, and nobody has asked yet how
            os.kill(os.getpid(), signal.SIGINT)
            return
        time.sleep(1)


def main(folder: Path) -> int:
    """Train as one of a job's processes; returns the exit status."""
    refused = pickle.loads((folder / JOB).read_bytes()).train()
    if refused:
        write_json(folder / REFUSED, refused)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
