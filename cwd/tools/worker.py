"""One job: a process of its own that trains a run, or a few of them."""

import json
import os
import pickle
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from submitit.helpers import Checkpointable

from cwd.config.run import Run
from cwd.system.errors import CwdError
from cwd.system.files import write_json
from cwd.system.progress import VARIABLE
from cwd.training.loop import train

JOB, FAILURES = "job.pickle", "failures.json"  # between a job and the processes of its torchrun


@dataclass(frozen=True)
class Job(Checkpointable):
    """What a worker does. When SLURM's time is over it is queued again, and goes on.

    Attributes:
        runs: to be trained one after the other.
        place: the other arguments of `cwd.training.loop.train`.
        processes: how many train a run together.
        threads: of each process; 0 for torch's choice.
        gpus: which GPUs of this machine it sees; None for all that the process was given.
    """

    runs: tuple[Run, ...]
    place: dict[str, Any]
    processes: int = 1
    threads: int = 0
    gpus: tuple[str, ...] | None = None

    def __call__(self) -> dict[str, str]:
        """Train the runs, up to the first that can't be.

        Returns:
            That run's name and the sentence that says why; nothing if all are trained.

        Raises:
            RuntimeError: the processes that train together died.
        """
        os.environ.pop(VARIABLE, None)  # what it reports goes into the job's log
        if self.gpus is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        return self.train_together() if self.processes > 1 else self.train()

    def train(self) -> dict[str, str]:
        """The same in this process, or in each of those that torchrun started."""
        torch.set_float32_matmul_precision("high")  # as `cwd.experiments.workspace.open_profile`
        if self.threads:
            torch.set_num_threads(self.threads)
        for run in self.runs:
            try:
                train(run, **self.place)
            except CwdError as error:
                return {run.name: str(error)}
        return {}

    def train_together(self) -> dict[str, str]:
        """Start torchrun, every process of which comes to `main`."""
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / JOB).write_bytes(pickle.dumps(self))
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            command += ["--nproc-per-node", str(self.processes), "-m", "cwd.tools.worker", folder]
            threads = {"OMP_NUM_THREADS": str(self.threads)} if self.threads else {}
            # in a session of its own: SLURM's signals are for this process, which would be queued
            # again, and a keyboard's reach torchrun through it
            torchrun = subprocess.Popen(command, env=os.environ | threads, start_new_session=True)
            try:
                status = torchrun.wait()
            except BaseException:
                torchrun.terminate()  # it stops its processes
                raise
            failures = Path(folder) / FAILURES
            if failures.is_file():
                return json.loads(failures.read_text())
        if status:
            raise RuntimeError(f"torchrun ended with status {status}")
        return {}


def main(folder: Path) -> int:
    """Train as one of a job's processes; returns the exit status."""
    failures = pickle.loads((folder / JOB).read_bytes()).train()
    if failures:
        write_json(folder / FAILURES, failures)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
