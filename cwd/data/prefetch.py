"""Reading what is needed next while something is computed."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

AHEAD = 3  # batches that are read from disk before they are asked for
Asked, Item, Result = TypeVar("Asked"), TypeVar("Item"), TypeVar("Result")


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


def ahead(work: Callable[[Item], Result], items: Iterable[Item], count: int) -> Iterator[Result]:
    """What `work` gives for each item, in order; threads work on the next ones meanwhile.

    Args:
        work: is called once for each item.
        items: in order.
        count: how many results may wait.
    """
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(min(count, os.cpu_count() or 1)) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
