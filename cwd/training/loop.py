"""The loop: one student, an optional frozen teacher, a recipe, a schedule."""

import logging
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from cwd.config.run import Run
from cwd.models.segmentation import count_parameters
from cwd.system import distributed
from cwd.system.device import pick_device, pick_precision
from cwd.system.distributed import agreed, rank, tell
from cwd.system.engine import join, open_fabric
from cwd.system.files import write_atomic, write_csv, write_json
from cwd.training import checkpoint, provenance
from cwd.training.history import History
from cwd.training.run_folder import RunFolder
from cwd.training.student import Student
from cwd.training.tasks import score_of, task_of
from cwd.training.teacher import Teacher, check_teacher

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces the precision
WINDOW = 20  # steps between two looks at the losses: a look makes the device wait


def train(
    run: Run,
    *,
    runs: Path,
    data_root: Path,
    device: str = "auto",
    allow_weak_teacher: bool = False,
) -> RunFolder:
    """Train a run, or go on where it was interrupted; a finished run is returned as it is.

    Processes that torchrun started train it together and share every batch; all of them call this.

    Args:
        run: what to train.
        runs: folder of all runs.
        data_root: folder of the datasets.
        device: "auto", "cpu" or "cuda".
        allow_weak_teacher: distil even from a teacher that is worse than the student alone.

    Raises:
        CwdError: the data, the teacher or a setting is unfit; a loss is zero, not in the graph or
            not finite; the disk is full; another process trains the run; the batch can't be
            shared equally.
    """
    join(device)
    folder = RunFolder(Path(runs), run)
    if not agreed(folder.finished):
        teacher = check_teacher(run, folder.root, allow_weak_teacher) if run.teacher else None
        # one process holds the run, for all that train it
        with folder.training() if rank() == 0 else nullcontext(folder.partial) as path:
            if not agreed(folder.finished):
                Training(run, path, teacher, Path(data_root), device).go()
        distributed.wait()  # until the folder has its name
    return folder


class Training:
    """A run in training: its images, its teacher and its student, and what is written of them.

    Args:
        run: what to train.
        path: the folder to write into.
        teacher: the teacher's finished run, or None.
        data_root: folder of the datasets.
        device: "auto", "cpu" or "cuda".
    """

    def __init__(
        self, run: Run, path: Path, teacher: RunFolder | None, data_root: Path, device: str
    ) -> None:
        self.run, self.path, self.task, schedule = run, path, task_of(run.network), run.schedule
        accelerator = pick_device(device)
        precision = pick_precision(schedule.precision, accelerator)
        self.fabric = open_fabric(accelerator, precision)
        rows = distributed.rows(schedule.batch)
        data, self.val = distributed.in_turns(lambda: self.task.open_data(run.data, data_root))
        self.batches = self.task.batches(data, schedule, run.seed, self.fabric.device, rows)
        self.teacher = Teacher(teacher, data.num_classes, self.fabric.device) if teacher else None
        if self.teacher:
            seen = data.checksum, run.seed, precision, accelerator, rows.start, rows.stop
            self.teacher.keep(schedule, *seen)
        self.student = Student(run, self.fabric, data.num_classes, self.teacher)
        self.history = History(run, path)
        # one entry for each time the run was started; a resumed run has several
        self.sessions: list[dict] = []
        self.origin = {
            "precision": precision,
            "seed": run.seed,
            "dataset": {"train": data.checksum, "val": self.val.checksum},
            "images": {"train": len(data), "val": len(self.val)},
            "init": provenance.first_weights(run.init, self.student.network.init_report),
            "teacher": self.teacher and self.teacher.record,
        }

    def go(self) -> None:
        """Train from the last checkpoint to the end, then measure and write the results."""
        saved = {"history": self.history.rows, "sessions": self.sessions}
        path, steps = self.path / "checkpoint.pt", self.run.schedule.steps
        start, began = checkpoint.load(path, self.student, **saved), time.monotonic()
        session = provenance.session(self.fabric.device) | {"from_step": start, "seconds": 0.0}
        self.sessions.append(session)
        self.student.learnt.train()
        for done in range(start + 1, steps + 1):
            batch, target = self.batches(done - 1)
            batch = batch.contiguous(memory_format=torch.channels_last)
            self.history.add(self.student.step(done - 1, batch, target, self.teacher))
            save = done % self.run.schedule.checkpoint_every == 0 or done == steps
            if save or done % WINDOW == 0:
                self.history.look(done)
                session["seconds"] = round(time.monotonic() - began, 1)
                self.progress(done, (done - start) / (time.monotonic() - began))
            if save:
                checkpoint.save(path, done, self.student, **saved)
        self.finish()

    def progress(self, done: int, rate: float) -> None:
        """Show how far the run is, at so many steps a second."""
        steps = self.run.schedule.steps
        left = (steps - done) / rate
        tell(
            f"{self.run.title}  {done}/{steps}  {rate:.1f} steps/s  "
            f"{left // 60:.0f}:{left % 60:02.0f} left",
            transient=True,
        )

    def finish(self) -> None:
        """Measure the student and write what makes the run complete."""
        network, fabric = self.student.network, self.fabric
        metrics = self.task.evaluate(
            network, self.val, self.run.schedule, device=fabric.device, autocast=fabric.autocast
        )
        if rank():
            return
        metrics["parameters"] = count_parameters(network)
        # a network that is measured as it comes has no steps, and no history but its columns
        write_csv(self.path / "history.csv", self.history.rows, ("step", "lr"))
        weights = {k: v.contiguous().cpu() for k, v in network.state_dict().items()}
        about = {"run": self.run.name}  # one entry: safetensors writes several in any order
        write_atomic(
            self.path / "student.safetensors", lambda file: save_file(weights, file, about)
        )
        write_json(self.path / "config.json", asdict(self.run))
        seconds = sum(session["seconds"] for session in self.sessions)
        origin = self.origin | {"seconds": round(seconds, 1), "sessions": self.sessions}
        write_json(self.path / "provenance.json", origin)
        write_json(self.path / "metrics.json", metrics)
        tell(f"{self.run.title}: {score_of(self.run.network, metrics)} after {seconds:.0f} s")
