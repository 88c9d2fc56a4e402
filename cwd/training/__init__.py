"""Training: the loop, the teacher, the tasks, and what is written of a run."""

from cwd.training.loop import train

__all__ = ["train"]
