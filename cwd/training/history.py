"""The losses of a run over its steps, and whether they can teach."""

from pathlib import Path

import torch
from torch import Tensor

from cwd.config.run import Run
from cwd.system import distributed
from cwd.system.errors import CwdError


class History:
    """The losses of a run whose checkpoint is in the folder `path`.

    Attributes:
        rows: by look at the losses: the step, the learning rate, the mean of each term since then.
    """

    def __init__(self, run: Run, path: Path) -> None:
        self.run, self.path = run, path
        self.rows: list[dict[str, float]] = []
        self._seen: list[dict[str, Tensor]] = []

    def add(self, terms: dict[str, Tensor]) -> None:
        """Note a step's terms, without waiting for the device."""
        self._seen.append({name: value.detach() for name, value in terms.items()})

    def check(self, terms: dict[str, Tensor]) -> None:
        """Refuse a term that is exactly zero or depends on nothing that is trained."""
        means = distributed.average(torch.stack([value.detach() for value in terms.values()]))
        for (name, value), mean in zip(terms.items(), means.tolist(), strict=True):
            if not value.requires_grad or mean == 0:
                fault = "is exactly zero" if value.requires_grad else "is not in the graph"
                raise CwdError(
                    f"run {self.run.name}: the loss term {name} {fault}, so nothing can be learnt "
                    "from it: check that teacher and student are two networks and that the term's "
                    "map and weight are meant."
                )

    def look(self, done: int) -> None:
        """Fetch the terms since the last look and add their means; refuse what isn't finite."""
        if not self._seen:
            return
        names = list(self._seen[0])
        values = torch.stack([torch.stack([*terms.values()]) for terms in self._seen])
        values = distributed.average(values).cpu()
        if bad := (~values.isfinite()).nonzero().tolist():
            row, column = bad[0]
            raise CwdError(
                f"run {self.run.name}: the loss term {names[column]} is {values[row, column]} at "
                f"step {done - len(values) + row + 1}; the last good checkpoint stays in "
                f"{self.path}: lower the learning rate or the term's weight."
            )
        rate = self.run.schedule.lr * self.run.schedule.lr_factor(done - 1)
        means = dict(zip(names, values.mean(dim=0).tolist(), strict=True))
        self.rows.append({"step": done, "lr": rate} | means)
        self._seen.clear()
