"""A run's checkpoint: all that it needs to go on as if it had never stopped."""

import zipfile
from pathlib import Path
from typing import Any

import torch

from cwd.system.distributed import agreed, rank
from cwd.system.errors import CwdError
from cwd.system.files import write_atomic
from cwd.training.provenance import different
from cwd.training.student import Student

NAME = "checkpoint.pt"


def save(student: Student) -> None:
    """Write what a student has learnt so far; the file is either old or new.

    Random numbers aren't in it: those of a step depend on the run's seed and the step alone.
    """
    if rank() == 0:
        state = {"run": student.run.name, "origin": student.origin, "step": student.done}
        student.account()
        state |= {"learnt": student.learnt.state_dict()}
        state |= {name: each.state_dict() for name, each in student.optimizers.items()}
        state |= {"history": student.history.rows, "sessions": student.sessions}
        write_atomic(student.path / NAME, lambda file: torch.save(state, file))


def load(student: Student) -> None:
    """Restore what `save` wrote, if it's there.

    Raises:
        CwdError: the file is damaged or another run's; or the data, the teacher, the first weights
            or the number format aren't those that the run began with.
    """
    path = student.path / NAME
    found = path.exists()
    if found != agreed(found):
        raise CwdError(
            f"{path} isn't the same for all processes of run {student.run.name}: put the folder of "
            "the runs on a disk that their machines share."
        )
    if not found:
        return
    state = _read(path, student)
    if odd := different(state["origin"], student.origin):
        name, began, now = odd
        raise CwdError(
            f"run {student.run.name} began with {name} {began} and would go on with {now}: put "
            f"back what it began with, or delete {path} to train it from its start."
        )
    student.done = state["step"]


def _read(path: Path, student: Student) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as file:
            if file.testzip():  # torch itself doesn't look at the checksums
                raise ValueError("checksum")
        state = torch.load(path, map_location=student.fabric.device, weights_only=True)
        if state["run"] != student.run.name or not 0 < state["step"] <= student.schedule.steps:
            raise ValueError("run or step")
        student.learnt.load_state_dict(state["learnt"])
        for name, optimizer in student.optimizers.items():
            optimizer.load_state_dict(state[name])
        student.history.rows, student.sessions = list(state["history"]), list(state["sessions"])
        return state
    except Exception as error:  # torch raises whatever the damage happens to hit
        raise CwdError(
            f"{path} is damaged or of another run ({type(error).__name__}: {error!s:.60}): delete "
            "it to train the run from its start."
        ) from error
