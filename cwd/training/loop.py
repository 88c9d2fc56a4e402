"""The loop: students that see the same batches, their frozen teacher, a schedule."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from cwd.config.run import Run
from cwd.system import distributed
from cwd.system.device import pick_device, pick_precision, training_threads
from cwd.system.distributed import agreed, join, open_fabric, processes, rank
from cwd.system.errors import CwdError
from cwd.system.progress import report
from cwd.training import checkpoint, provenance
from cwd.training.log import check_log
from cwd.training.order import alike
from cwd.training.results import check_origin, origin, write
from cwd.training.run_folder import RunFolder
from cwd.training.student import LossError, Student
from cwd.training.tasks import check_parts, score_of, task_of
from cwd.training.teacher import Teacher, check_teacher

WINDOW = 20  # steps between two looks at the losses: a look makes the device wait


def train(
    run: Run,
    *,
    runs: Path,
    data_root: Path,
    device: str = "auto",
    allow_weak_teacher: bool = False,
    log: str = "",
) -> RunFolder:
    """Train a run, or go on where it was interrupted; a finished run is returned as it is.

    Processes that torchrun started train it together and share every batch; all of them call this.
    It distils from a teacher that is worse than the student alone only with `allow_weak_teacher`.
    `runs` is the folder of all runs, `data_root` that of the datasets. `log` is "tensorboard",
    or nothing: losses, learning rate and what was measured as curves in the run's folder. A
    `CwdError` says what is unfit: the data, the teacher, a setting, a loss, the disk; or that
    another process trains it.
    """
    place = {"runs": runs, "data_root": data_root, "device": device, "log": log}
    for error in train_together([run], **place, allow_weak_teacher=allow_weak_teacher).values():
        raise error
    return RunFolder(Path(runs), run)


def train_together(
    group: Sequence[Run],
    *,
    runs: Path,
    data_root: Path,
    device: str,
    allow_weak_teacher: bool,
    log: str = "",
) -> dict[Run, CwdError]:
    """As `train`, for runs that differ in recipe or student alone: one batch, one teacher for all.

    What a run gives is what it gives alone. Returned are those that failed, and why. A `CwdError`
    is raised where the runs aren't alike, or the data is unfit.
    """
    if len({alike(run) for run in group}) > 1:
        raise CwdError(
            f"{' and '.join(run.name for run in group)} see other batches or another teacher: "
            "train them one after the other."
        )
    check_log(log)
    join(device)
    failed: dict[Run, CwdError] = {}
    with contextlib.ExitStack() as locks:
        ready = []
        for folder in (RunFolder(Path(runs), run) for run in sorted(group, key=lambda r: r.name)):
            with noted(failed, folder.run):
                check_parts(folder.run)
                if agreed(folder.finished):
                    continue
                folder.run.check_code()
                teacher = folder.run.teacher and check_teacher(
                    folder.run, folder.root, allow_weak_teacher
                )
                if rank() == 0:  # for all that train it; by name, lest two wait for each other
                    locks.enter_context(folder.held())
                if not agreed(folder.finished):  # no other process was quicker
                    ready.append(folder)
        if ready:
            with training_threads(pick_device(device)):
                Training(ready, teacher, Path(data_root), device, failed).go(log)
    distributed.wait()  # until the folders have their names
    return failed


@contextlib.contextmanager
def noted(failed: dict[Run, CwdError], run: Run) -> Iterator[None]:
    """Note a run's error, so that others of its group go on."""
    try:
        yield
    except CwdError as error:
        # what isn't the same for all processes would leave some of them waiting
        if processes() > 1 and not isinstance(error, LossError):
            raise
        failed[run] = error


class Training:
    """Runs in training: their images, batches and teacher, and a student for each."""

    def __init__(
        self,
        folders: Sequence[RunFolder],
        teacher: RunFolder | None,
        data_root: Path,
        device: str,
        failed: dict[Run, CwdError],
    ) -> None:
        run, self.failed = folders[0].run, failed
        self.task, self.schedule = task_of(run.network), run.schedule
        accelerator = pick_device(device)
        precision = pick_precision(run.schedule.precision, accelerator)
        self.fabric = open_fabric(accelerator, precision)
        data, self.val = distributed.in_turns(lambda: self.task.open_data(run.data, data_root))
        device, classes = self.fabric.device, data.num_classes
        rows = distributed.rows(run.schedule.batch)
        self.batches = self.task.batches(data, run.schedule, run.seed, device, rows)
        self.teacher = Teacher(teacher, classes, device) if teacher else None
        self.students: list[Student] = []
        parts = {"train": data, "val": self.val}
        for folder in folders:
            with noted(failed, folder.run):
                student = Student(folder.run, folder.partial, self.fabric, classes, self.teacher)
                student.origin = origin(student, parts, precision, self.teacher)
                check_origin(student, RunFolder(folder.root, folder.run.baseline()), teacher)
                checkpoint.load(student)
                self.students.append(student)
        self.compiled = self.task.compile(self.students, self.teacher, run.schedule, accelerator)

    def go(self, log: str) -> None:
        """Train from the last checkpoints to the end, then measure and write the results."""
        for student in self.students:
            student.begin(provenance.session(self.fabric.device, self.compiled), log)
        began = min((student.done for student in self.students), default=0)
        start = last = time.monotonic()
        for step in range(began, self.schedule.steps):
            if not (active := [student for student in self.students if student.done == step]):
                continue
            seen = self.seen(step, self.teacher)
            for student in active:
                with noted(self.failed, student.run):
                    self.advance(student, step, *seen)
            now = time.monotonic()
            for student in active:  # each has its share: all together took what it took
                student.seconds += (now - last) / len(active)
            last = now
            self.students = [each for each in self.students if each.run not in self.failed]
            self._report(step + 1, (step + 1 - began) / (now - start))
        for student in self.students:
            with noted(self.failed, student.run):
                self.finish(student)

    def _report(self, done: int, rate: float) -> None:
        ends = WINDOW, self.schedule.checkpoint_every, self.schedule.steps
        if rank() or not self.students or all(done % end for end in ends):
            return
        left, others = (self.schedule.steps - done) / rate, len(self.students) - 1
        title = self.students[0].run.title + (f" and {others} more" if others else "")
        line = f"{title}  {done}/{self.schedule.steps}  {rate:.1f} steps/s  "
        report(f"{line}{left // 60:.0f}:{left % 60:02.0f} left", transient=True)

    def seen(self, step: int, teacher: Teacher | None) -> tuple[torch.Tensor, Any, Any]:
        """What students see at a step: images, targets, and a teacher's output or None."""
        batch, target = self.batches(step)
        batch = batch.contiguous(memory_format=torch.channels_last)
        with self.fabric.autocast():
            return batch, target, teacher(batch) if teacher else None

    def advance(self, student: Student, step: int, *seen: Any) -> None:
        """One step of a student, a look at its losses now and then, and its checkpoint."""
        terms, schedule = student.step(step, *seen), student.schedule
        if step == student.began:
            student.history.check(terms)
        student.history.add(terms)
        student.done = step + 1
        save = student.done % schedule.checkpoint_every == 0 or student.done == schedule.steps
        if save or student.done % WINDOW == 0:
            student.log.add(student.done, student.history.look(student.done))
        if save:
            checkpoint.save(student)

    def finish(self, student: Student) -> None:
        """Measure a student, write what makes its run complete, and give the folder its name."""
        run, fabric = student.run, self.fabric
        where = {"device": fabric.device, "autocast": fabric.autocast}
        metrics = self.task.evaluate(student.network, self.val, run.schedule, **where)
        if rank() == 0:
            write(student, metrics, self.val)
            report(f"{run.title}: {score_of(run.network, metrics)} after {student.account():.0f} s")
