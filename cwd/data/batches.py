"""The batch of every step: read ahead of time, and the same wherever a run begins."""

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from cwd.config.schedule import BaseSchedule, check_batch, step_seed

AHEAD = 3  # batches that are read from disk before they are asked for
Asked, Item, Result = TypeVar("Asked"), TypeVar("Item"), TypeVar("Result")


def ahead(work: Callable[[Item], Result], items: Iterable[Item], count: int) -> Iterator[Result]:
    """`work(item)` for each item, in order; threads work on the next `count` items meanwhile."""
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(min(count, os.cpu_count() or 1)) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class BatchSource(ABC, Generic[Asked]):
    """The batch of every step, the same for a seed however often and from where it is asked.

    Threads (`pool`) read what the next steps need while one is computed: `take(step)` is what
    `_ask(step)` began to read. Of each batch, `rows` is this process's part. Fewer images than a
    batch has are a `CwdError`, as is an image that can't be read.
    """

    def __init__(
        self,
        dataset: Any,
        schedule: BaseSchedule,
        seed: int,
        device: torch.device | str,
        rows: slice = slice(None),
    ) -> None:
        check_batch(dataset, schedule)
        self.dataset, self.schedule, self.seed, self.rows = dataset, schedule, seed, rows
        self.device = torch.device(device)
        self.pool = ThreadPoolExecutor(min(schedule.batch, os.cpu_count() or 1))
        self.ready: dict[int, Asked] = {}  # what was asked for by step, and not yet taken
        self._prepare()

    @abstractmethod
    def _prepare(self) -> None: ...

    def draws(self, step: int) -> torch.Generator:
        """The generator of a step's augmentation, on the CPU and at its beginning."""
        return torch.Generator().manual_seed(step_seed(self.seed, step))

    @abstractmethod
    def _ask(self, step: int) -> Asked: ...

    def take(self, step: int) -> Asked:
        """What was asked for a step; the run's next ones are asked for, and past ones dropped."""
        last = min(step + AHEAD, self.schedule.steps - 1)
        for soon in range(step, max(step, last) + 1):
            if soon not in self.ready:
                self.ready[soon] = self._ask(soon)
        self.ready = {soon: asked for soon, asked in self.ready.items() if soon >= step}
        return self.ready.pop(step)

    @abstractmethod
    def __call__(self, step: int) -> tuple[Tensor, Any]:
        """The batch of a step: images float32 [B, 3, H, W], normalised, and their targets."""
