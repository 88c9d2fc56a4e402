"""The losses of a run over its steps, and whether they can teach."""

from pathlib import Path

import torch
from torch import Tensor

from cwd.config.run import Run
from cwd.system import distributed
from cwd.system.errors import CwdError


class History:
    """The losses of a run.

    Args:
        run: the run.
        path: the folder that its checkpoint is in.

    Attributes:
        rows: of every look at the losses the step, the learning rate, and the mean of each term
            since the look before.
    """

    def __init__(self, run: Run, path: Path) -> None:
        self.run, self.path = run, path
        self.rows: list[dict[str, float]] = []
        self.seen: list[dict[str, Tensor]] = []  # since the last look
        self.checked = False

    def add(self, terms: dict[str, Tensor]) -> None:
        """Note the terms of a step, without waiting for the device.

        Raises:
            CwdError: one of the first step's is exactly zero, or nothing in it depends on what is
                trained.
        """
        self.seen.append({name: value.detach() for name, value in terms.items()})
        if not self.checked:
            self.checked = True
            means = distributed.average(torch.stack([*self.seen[-1].values()])).tolist()
            for (name, value), mean in zip(terms.items(), means, strict=True):
                if not value.requires_grad or mean == 0:
                    fault = "is exactly zero" if value.requires_grad else "is not in the graph"
                    raise CwdError(
                        f"run {self.run.name}: the loss term {name} {fault}, so nothing can be "
                        "learnt from it: check that teacher and student are two networks and that "
                        "the term's map and weight are meant."
                    )

    def look(self, done: int) -> None:
        """Fetch the terms since the last look at step `done`, and add a row of their means.

        Raises:
            CwdError: a term was not finite.
        """
        if not self.seen:
            return
        names = list(self.seen[0])
        values = torch.stack([torch.stack([*terms.values()]) for terms in self.seen])
        values = distributed.average(values).cpu()
        if bad := (~values.isfinite()).nonzero().tolist():
            row, column = bad[0]
            raise CwdError(
                f"run {self.run.name}: the loss term {names[column]} is {values[row, column]} at "
                f"step {done - len(values) + row + 1}; the last good checkpoint stays in "
                f"{self.path}: lower the learning rate or the term's weight."
            )
        means = dict(zip(names, values.mean(dim=0).tolist(), strict=True))
        rate = self.run.schedule.lr * self.run.schedule.lr_factor(done - 1)
        self.rows.append({"step": done, "lr": rate} | means)
        self.seen.clear()
