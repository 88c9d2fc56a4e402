"""A run's checkpoint: all that it needs to go on as if it had never stopped."""

import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from cwd.config.run import Run
from cwd.system.distributed import agreed, rank
from cwd.system.errors import CwdError
from cwd.system.files import write_atomic
from cwd.training.provenance import different, digest
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
        state |= {"sha256": digest(state)}
        write_atomic(student.path / NAME, lambda file: torch.save(state, file))


def load(student: Student) -> None:
    """Restore what `save` wrote, if it's there.

    Raises:
        CwdError: the file is damaged, or its content isn't what was saved, or it is another run's;
            or the data, the teacher, the first weights or the number format aren't those that the
            run began with.
    """
    path = student.path / NAME
    found = os.path.lexists(path)  # a link to a disk that isn't there is no new beginning
    if found != agreed(found):
        raise CwdError(
            f"{path} isn't the same for all processes of run {student.run.name}: put the folder of "
            "the runs on a disk that their machines share."
        )
    if not found:
        return
    try:
        state = _read(path, student.run)
        odd = different(state["origin"], student.origin)
        if not odd:
            _restore(student, state)
    except Exception as error:  # torch raises whatever the damage happens to hit
        raise CwdError(
            f"{path} is damaged or of another run or version ({type(error).__name__}: "
            f"{error!s:.60}): delete it to train the run from its start."
        ) from error
    if odd:
        name, began, now = odd
        raise CwdError(
            f"run {student.run.name} began with {name} {began} and would go on with {now}: put "
            f"back what it began with, or delete {path} to train it from its start."
        )


def _read(path: Path, run: Run) -> dict[str, Any]:
    with zipfile.ZipFile(path) as file:
        if file.testzip():  # torch itself doesn't look at the checksums
            raise ValueError("checksum")
    state = dict(torch.load(path, map_location="cpu", weights_only=True))
    if state["run"] != run.name:
        raise ValueError("another run's")
    return state


def _restore(student: Student, state: dict[str, Any]) -> None:
    if state.pop("sha256") != digest(state):
        raise ValueError("not what was saved")
    student.learnt.load_state_dict(state["learnt"])
    for name, optimizer in student.optimizers.items():
        optimizer.load_state_dict(state[name])
    student.done, student.sessions = state["step"], state["sessions"]
    student.history.rows = state["history"]
