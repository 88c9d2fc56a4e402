"""A run's checkpoint: all that it needs to go on as if it had never stopped."""

import torch

from cwd.system.distributed import agreed, rank
from cwd.system.errors import CwdError
from cwd.system.files import write_atomic
from cwd.training.student import Student

NAME = "checkpoint.pt"


def save(student: Student, step: int) -> None:
    """Write what a student has learnt after `step` steps; the file is either old or new.

    Random numbers aren't in it: those of a step depend on the run's seed and the step alone.
    """
    if rank() == 0:
        state = {"step": step, "learnt": student.learnt.state_dict()}
        state |= {name: each.state_dict() for name, each in student.optimizers.items()}
        state |= {"history": student.history.rows, "sessions": student.sessions}
        write_atomic(student.path / NAME, lambda file: torch.save(state, file))


def load(student: Student) -> int:
    """Restore what `save` wrote, if it's there; returns the step to go on from."""
    path = student.path / NAME
    found = path.exists()
    if found != agreed(found):
        raise CwdError(
            f"{path} isn't the same for all processes of run {student.run.name}: put the folder of "
            "the runs on a disk that their machines share."
        )
    if not found:
        return 0
    try:
        state = torch.load(path, map_location=student.fabric.device, weights_only=True)
        student.learnt.load_state_dict(state["learnt"])
        for name, optimizer in student.optimizers.items():
            optimizer.load_state_dict(state[name])
        student.history.rows, student.sessions = state["history"], state["sessions"]
        return state["step"]
    except Exception as error:  # torch raises whatever the damage happens to hit
        raise CwdError(
            f"{path} is damaged or of another run ({type(error).__name__}): delete it to train "
            "the run from its start."
        ) from error
