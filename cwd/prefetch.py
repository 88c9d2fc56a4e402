"""Reading what the next steps need while a step is computed."""

from collections.abc import Callable
from typing import TypeVar

AHEAD = 3  # batches that are read from disk before they are asked for
Asked = TypeVar("Asked")


class Prefetch(dict[int, Asked]):
    """What was asked for by step, and not yet taken.

    Args:
        ask: begins to read what a step needs, and returns what is then waited for.
        steps: of the run; nothing after them is asked for.
    """

    def __init__(self, ask: Callable[[int], Asked], steps: int) -> None:
        super().__init__()
        self.ask, self.steps = ask, steps

    def take(self, step: int) -> Asked:
        """What was asked for a step; the next steps' are asked for, and what is past is dropped."""
        last = min(step + AHEAD, self.steps - 1)
        for soon in range(step, max(step, last) + 1):
            if soon not in self:
                self[soon] = self.ask(soon)
        for past in [known for known in self if known < step]:
            del self[past]
        return self.pop(step)
