"""One job: a process of its own that trains a run, or a few of them."""

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
from cwd.system.errors import CwdError
from cwd.system.files import write_text
from cwd.system.progress import VARIABLE
from cwd.training.loop import train

JOB, REFUSED = "job.pickle", "refused.txt"  # between a job and the processes of its torchrun


@dataclass(frozen=True)
class Job(Checkpointable):
    """What a worker does. When SLURM's time is over it is queued again, and goes on."""

    runs: tuple[Run, ...]  # to be trained one after the other
    place: dict[str, Any]  # the other arguments of `cwd.training.loop.train`
    processes: int = 1  # that train a run together
    threads: int = 0  # of each process; 0 for torch's choice
    gpus: tuple[str, ...] | None = None  # that it sees; None for all that the process was given
    leader: int = 0  # the process of this machine that gave it out, and with which it ends

    def __call__(self) -> str:
        """Train the runs, up to the first that can't be; returns the sentence that says why, or "".

        A RuntimeError says that the processes that train together died.
        """
        if self.leader:
            threading.Thread(target=_follow, args=(self.leader,), daemon=True).start()
        os.environ.pop(VARIABLE, None)  # what it reports goes into the job's log
        if self.gpus is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        return self._train_together() if self.processes > 1 else self.train()

    def train(self) -> str:
        """The same in this process, or in each of those that torchrun started."""
        torch.set_float32_matmul_precision("high")  # as `cwd.experiments.workspace.open_profile`
        if self.threads:
            torch.set_num_threads(self.threads)
        try:
            for run in self.runs:
                train(run, **self.place)
        except CwdError as error:
            return str(error)
        return ""

    def _train_together(self) -> str:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / JOB).write_bytes(pickle.dumps(self))
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            command += ["--nproc-per-node", str(self.processes), "-m", "cwd.tools.worker", name]
            threads = {"OMP_NUM_THREADS": str(self.threads)} if self.threads else {}
            # in a session of its own: SLURM's signals are for this process, which would be queued
            # again, and a keyboard's reach torchrun through it
            torchrun = subprocess.Popen(command, env=os.environ | threads, start_new_session=True)
            try:
                status = torchrun.wait()
            except BaseException:
                torchrun.terminate()  # it stops its processes
                raise
            if (folder / REFUSED).is_file():
                return (folder / REFUSED).read_text()
        if status:
            raise RuntimeError(f"torchrun ended with status {status}")
        return ""


def _follow(leader: int) -> None:
    """Interrupt this process, as a keyboard does, once its leader has ended, however that was."""
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
        write_text(folder / REFUSED, refused)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
