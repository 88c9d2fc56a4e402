"""The batch of every step: read ahead of time, and the same wherever a run begins."""

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor

from cwd.config.schedule import BaseSchedule, check_batch, step_seed

AHEAD = 3  # batches that are read from disk before they are asked for
Item, Result = TypeVar("Item"), TypeVar("Result")


def ahead(work: Callable[[Item], Result], items: Iterable[Item], count: int) -> Iterator[Result]:
    """`work(item)` for each item, in order; threads work on the next `count` items meanwhile."""
    waiting: deque[Future] = deque()
    pool = ThreadPoolExecutor(min(count, os.cpu_count() or 1))
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # after an error, or where nobody asks for the rest
        pool.shutdown(cancel_futures=True)


class BatchSource(ABC):
    """The batch of every step, the same for a seed however often and from where it is asked.

    Threads read what the next steps need while one is computed. Of each batch, `rows` is this
    process's part. Fewer images than a batch has are a `CwdError`, as is an image that can't be
    read.
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
        self.due = -1  # the step whose images are the next of those that are coming
        self._prepare()

    @abstractmethod
    def _prepare(self) -> None: ...

    def draws(self, step: int) -> torch.Generator:
        """The generator of a step's augmentation, on the CPU and at its beginning."""
        return torch.Generator().manual_seed(step_seed(self.seed, step))

    @abstractmethod
    def plan(self, step: int) -> list[tuple]:
        """What `read` has to know of every image of the whole batch: its index, what is random."""

    @abstractmethod
    def read(self, index: int, *drawn: Any) -> Any:
        """An image as a batch needs it, by one of several threads."""

    def take(self, step: int) -> list[Any]:
        """This process's images of a step, as `read` gives them."""
        count = len(range(self.schedule.batch)[self.rows])
        if not step == self.due < self.schedule.steps:
            steps = range(step, max(step + 1, self.schedule.steps))
            images = (image for each in steps for image in self.plan(each)[self.rows])
            self.coming = ahead(lambda image: self.read(*image), images, AHEAD * count)
        self.due = -1  # an error ends what is coming
        found = list(islice(self.coming, count))
        self.due = step + 1
        return found

    @abstractmethod
    def __call__(self, step: int) -> tuple[Tensor, Any]:
        """The batch of a step: images float32 [B, 3, H, W], normalised, and their targets."""
