"""The runs of a profile as jobs, on this machine or on a SLURM cluster, through submitit."""

import contextlib
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import submitit
import torch
from submitit.core.utils import FailedJobError, FailedSubmissionError

from cwd.config.run import Run
from cwd.recipes.registered import REGISTERED, files_of
from cwd.system import paths
from cwd.system.device import pick_device
from cwd.system.errors import CwdError
from cwd.system.progress import report
from cwd.tools.train import Settings
from cwd.tools.worker import Job
from cwd.training.order import groups, needed
from cwd.training.run_folder import RunFolder
from cwd.training.tasks import score_of

PAUSE = 0.5  # seconds between two looks at the jobs
GRACE = 5.0  # seconds that cancelled jobs of this machine have to end
FOREVER = 60 * 24 * 365  # minutes: on this machine no job is stopped for its time
DAY = 60 * 24  # minutes; SLURM's limit of a job, if none is given
RETRIES = 2  # of a run whose job died, if no number is given
SHOWN = 3  # runs that failed, in the sentence that ends a command
REQUEUES = 1000  # a run may need that many times the time limit of a cluster


class Crew:
    """Workers for a list of runs: hands out what is ready, and starts again what died.

    The runs begin in their order, what they need before them, in so many workers at most. `place`
    are the other arguments of `cwd.training.loop.train`; the jobs' logs go into the folder, a new
    one in `build/jobs` if None. Fewer GPUs than a run shall have are a `CwdError`.
    """

    def __init__(
        self,
        runs: Iterable[Run],
        place: dict[str, Any],
        workers: int,
        settings: Settings,
        folder: Path | None = None,
    ) -> None:
        now = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        self.place, self.workers, self.settings = place, workers, settings
        self.retries = RETRIES if settings.retries is None else settings.retries
        self.folder = folder or paths.BUILD / "jobs" / now
        whole = dict.fromkeys(each for run in runs for each in (*needed(run), run))
        own = {name for run in whole for name, _ in run.code if name in REGISTERED}
        self.losses = files_of(sorted(own))
        self.waiting = [run for run in whole if not self.finished(run)]
        self.total, self.submitted, self.shown = len(whole), 0, ""
        self.running: dict[int, tuple[submitit.Job, Job]] = {}  # by the worker's number
        self.deaths: Counter[Run] = Counter()
        self.failed: dict[Run, str] = {}  # and why
        self.local = settings.cluster != "slurm"
        self.device = pick_device(place["device"]) if self.local else place["device"]
        self.gpus = _visible_gpus() if self.local and self.device == "cuda" else []
        if self.gpus and len(self.gpus) < settings.gpus_per_run:
            raise CwdError(
                f"a run shall have {settings.gpus_per_run} GPUs and this machine has "
                f"{len(self.gpus)}: lower --gpus-per-run."
            )

    def finished(self, run: Run) -> bool:
        """Whether a run is complete on disk."""
        return RunFolder(self.place["runs"], run).finished

    def go(self) -> None:
        """Train all runs; those that are finished stay.

        A `CwdError` lists those that could not be trained, or says that SLURM refused a job.
        """
        try:
            self._hand_out()
            while self.running:  # what waits in the end needs a run that failed
                self._show()
                time.sleep(PAUSE)
                self._collect()
                self._hand_out()
        finally:
            self._cancel()
        if self.failed:
            each = [f"{run.name} ({why})" for run, why in self.failed.items()]
            shown, more = each[:SHOWN], ""
            if len(each) > SHOWN:
                more = f", and {len(each) - SHOWN} others, whose logs are in {self.folder}"
            more += f", and {len(self.waiting)} that need them" if self.waiting else ""
            raise CwdError(
                f"{len(each) + len(self.waiting)} of {self.total} runs weren't trained: "
                f"{', '.join(shown)}{more}: what is finished is kept, and the same command tries "
                "the others again."
            )

    def _collect(self) -> None:
        for worker, (handle, job) in list(self.running.items()):
            if handle.done():
                del self.running[worker]
                self._settle(job, self.outcome(handle), paths.for_people(handle.paths.stderr))

    def _settle(self, job: Job, refused: dict[str, str], log: str) -> None:
        """What becomes of a job's runs: finished, failed, or waiting again."""
        again = []
        for run in job.runs:
            if self.finished(run):
                metrics = RunFolder(self.place["runs"], run).metrics
                report(f"{run.title}: {score_of(run.network, metrics)}")
                continue
            if run.name in refused:
                self.failed[run] = f"{refused[run.name].rstrip('.')}; log in {log}"
                continue
            self.deaths[run] += 1
            report(f"{run.title}: its job died, see {log}")
            if self.deaths[run] > self.retries and len(job.runs) == 1:
                self.failed[run] = f"its job died {self.deaths[run]} times; log in {log}"
            else:
                again.append(run)
        self.waiting = again + self.waiting

    def outcome(self, handle: submitit.Job) -> dict[str, str]:
        """What a job returned, see `cwd.tools.worker.Job`; nothing if it died."""
        # submitit waits for a result that a shared disk may be late with; here is none
        dead = self.local and not handle.paths.result_pickle.exists()
        return {} if dead or handle.exception() else handle.result()

    def _hand_out(self) -> None:
        """Give every idle worker a job, as long as runs are ready."""
        for worker in range(self.workers):
            if worker not in self.running and (runs := self._next_runs()):
                self.waiting = [run for run in self.waiting if run not in runs]
                together, gpus = self.settings.gpus_per_run, self._gpus_of(worker)
                leader = os.getpid() if self.local else 0
                job = Job(runs, self.place, together, gpus, self.losses, leader)
                self.running[worker] = self.submit(job), job

    def _next_runs(self) -> tuple[Run, ...]:
        """The runs of the next job, whose teachers and baselines are finished."""
        ready = [run for run in self.waiting if all(map(self.finished, needed(run)))]
        if not ready:
            return ()
        # one that died is tried alone; on a cluster every run has a job and its time limit
        if self.deaths[ready[0]] or not self.local:
            return (ready[0],)
        healthy = [run for run in ready if not self.deaths[run]]
        busy = sum(len(job.runs) for _, job in self.running.values())
        share = math.ceil((len(healthy) + busy) / self.workers)
        return tuple(groups(healthy)[0][:share])

    def _gpus_of(self, worker: int) -> tuple[str, ...] | None:
        """The GPUs of a worker; where there are too few, workers share them."""
        each = range(worker * self.settings.gpus_per_run, (worker + 1) * self.settings.gpus_per_run)
        return tuple(self.gpus[i % len(self.gpus)] for i in each) if self.gpus else None

    def submit(self, job: Job) -> submitit.Job:
        """Start a job, whose files get a folder of their own; a CwdError if SLURM refuses it."""
        self.submitted += 1
        folder = self.folder / f"{self.submitted:03}-{job.runs[0].name}"
        cluster = "local" if self.local else "slurm"
        try:
            executor = submitit.AutoExecutor(folder, cluster, slurm_max_num_timeout=REQUEUES)
            executor.update_parameters(**self.parameters())
            with _errors_into(folder / "controller.log"):
                return executor.submit(job)
        except (FailedJobError, FailedSubmissionError) as error:
            raise CwdError(
                f"{job.runs[0].name}: SLURM refused the job ({' '.join(str(error).split())}): "
                "check --partition, --minutes and --parameter."
            ) from error

    def parameters(self) -> dict[str, Any]:
        """The settings in submitit's words; on SLURM the device "auto" asks for GPUs."""
        if self.local:
            return {"name": "cwd", "timeout_min": FOREVER}
        settings, gpus = self.settings, self.settings.gpus_per_run
        named = (text.split("=", 1) for text in settings.parameter)
        more = {name.replace("-", "_"): value for name, value in named}
        return ({} if self.device == "cpu" else {"gpus_per_node": gpus}) | {
            "name": "cwd",
            "timeout_min": settings.minutes or DAY,
            "cpus_per_task": 4 * gpus,
            "slurm_partition": settings.partition or None,
            "slurm_additional_parameters": more or None,
        }

    def _show(self) -> None:
        jobs = [job for _, job in self.running.values()]
        still = len(self.waiting) + sum(len(job.runs) for job in jobs)
        done = self.total - still - len(self.failed)
        titles = "; ".join(job.runs[0].title for job in jobs)
        line = f"{done}/{self.total} done, {len(jobs)} running: {titles}"
        if line != self.shown:
            report(line, transient=True)
        self.shown = line

    def _cancel(self) -> None:
        """Stop the jobs that run; they leave their checkpoints."""
        for handle, _ in self.running.values():
            handle.cancel(check=False)
        until = time.monotonic() + (GRACE if self.local else 0)
        while time.monotonic() < until and not all(h.done() for h, _ in self.running.values()):
            time.sleep(0.1)


@contextlib.contextmanager
def _errors_into(path: Path) -> Iterator[None]:
    """Write standard error to a file, that of processes too which begin while the block runs.

    A job of this machine has a process that watches it, and shows a traceback when it is cancelled.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    kept = os.dup(2)
    with open(path, "a") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


def _visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
