"""The loop: one student, an optional frozen teacher, a recipe, a schedule."""

import logging
import math
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import save_file

from cwd.config.run import Run
from cwd.models.build import count_parameters
from cwd.system import distributed
from cwd.system.device import pick_device, pick_precision
from cwd.system.distributed import agreed, join, open_fabric, rank
from cwd.system.errors import CwdError
from cwd.system.files import sha256, write_atomic, write_json
from cwd.system.progress import report
from cwd.training import checkpoint, provenance
from cwd.training.run_folder import HISTORY, METRICS, PROVENANCE, WEIGHTS, RunFolder
from cwd.training.student import Student
from cwd.training.tasks import score_of, task_of
from cwd.training.teacher import Teacher, check_teacher

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces the precision
WINDOW = 20  # steps between two looks at the losses: a look makes the device wait


def train(
    run: Run, *, runs: Path, data_root: Path, device: str = "auto", allow_weak_teacher: bool = False
) -> RunFolder:
    """Train a run, or go on where it was interrupted; a finished run is returned as it is.

    Processes that torchrun started train it together and share every batch; all of them call this.
    It distils from a teacher that is worse than the student alone only with `allow_weak_teacher`.
    `runs` is the folder of all runs, `data_root` that of the datasets. A `CwdError` says what is
    unfit: the data, the teacher, a setting, a loss, the disk; or that another process trains it.
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
    """A run in training: its images, teacher and student, and what is written into `path`."""

    def __init__(
        self, run: Run, path: Path, teacher: RunFolder | None, data_root: Path, device: str
    ) -> None:
        self.run, self.task, schedule = run, task_of(run.network), run.schedule
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
        self.student = Student(run, path, self.fabric, data.num_classes, self.teacher)
        self.student.origin = {
            "precision": precision,
            "seed": run.seed,
            "dataset": {"train": data.checksum, "val": self.val.checksum},
            # of detectors, whose checksums are those of annotations
            "pixels": {
                "train": getattr(data, "pixels", ""),
                "val": getattr(self.val, "pixels", ""),
            },
            "images": {"train": len(data), "val": len(self.val)},
            "init": provenance.first_weights(run.init, self.student.network.init_report),
            "teacher": self.teacher and self.teacher.record,
        }
        self._check_images(RunFolder(path.parent, run.baseline()), teacher)

    def _check_images(self, *others: RunFolder | None) -> None:
        """Refuse images that aren't those of the teacher and of the student alone."""
        for other in others:
            if other is None or other.run.data != self.run.data or not other.finished:
                continue
            known, ours = other.provenance, self.student.origin
            for name in ("dataset", "pixels"):
                if odd := provenance.different(known.get(name, ours[name]), ours[name]):
                    part, theirs, now = odd
                    raise CwdError(
                        f"run {self.run.name}: its {part} images have the checksum {now} and those "
                        f"of {other.run.name} had {theirs}: put the images back, or delete "
                        f"{other.done} to train it again."
                    )

    def go(self) -> None:
        """Train from the last checkpoint to the end, then measure and write the results."""
        student, schedule = self.student, self.run.schedule
        start, began = checkpoint.load(student), time.monotonic()
        session = provenance.session(self.fabric.device) | {"from_step": start, "seconds": 0.0}
        student.sessions.append(session)
        student.learnt.train()
        for step in range(start, schedule.steps):
            batch, target = self.batches(step)
            batch = batch.contiguous(memory_format=torch.channels_last)
            terms = student.step(step, batch, target, self.teacher)
            if step == start:
                student.history.check(terms)
            student.history.add(terms)
            done = step + 1
            save = done % schedule.checkpoint_every == 0 or done == schedule.steps
            if save or done % WINDOW == 0:
                student.history.look(done)
                seconds = time.monotonic() - began
                session["seconds"] = round(seconds, 1)
                if rank() == 0:
                    rate = (done - start) / seconds
                    left = (schedule.steps - done) / rate
                    line = f"{self.run.title}  {done}/{schedule.steps}  {rate:.1f} steps/s  "
                    report(f"{line}{left // 60:.0f}:{left % 60:02.0f} left", transient=True)
            if save:
                checkpoint.save(student, done)
        self.finish()

    def finish(self) -> None:
        """Measure the student and write what makes the run complete."""
        run, fabric, student, path = self.run, self.fabric, self.student, self.student.path
        metrics = self.task.evaluate(
            student.network, self.val, run.schedule, device=fabric.device, autocast=fabric.autocast
        )
        if rank():
            return
        if not math.isfinite(metrics[self.task.measure]):
            raise CwdError(
                f"run {run.name}: its {self.task.unit} is {metrics[self.task.measure]}, so nothing "
                f"of it was measured on {run.data.split}: see that this split has labels."
            )
        metrics["parameters"] = count_parameters(student.network)
        # a network that is measured as it comes has no steps, and no history but its columns
        history = pd.DataFrame(student.history.rows or {"step": [], "lr": []})
        write_atomic(path / HISTORY, lambda file: history.to_csv(file, index=False))
        weights = {k: v.contiguous().cpu() for k, v in student.network.state_dict().items()}
        about = {"run": run.name}  # one entry: safetensors writes several in any order
        write_atomic(path / WEIGHTS, lambda file: save_file(weights, file, about))
        write_json(path / "config.json", asdict(run))
        seconds = sum(session["seconds"] for session in student.sessions)
        origin = student.origin | {"sha256": sha256(path / WEIGHTS)}
        origin |= {"seconds": round(seconds, 1), "sessions": student.sessions}
        write_json(path / PROVENANCE, origin)
        write_json(path / METRICS, metrics)
        report(f"{run.title}: {score_of(run.network, metrics)} after {seconds:.0f} s")
