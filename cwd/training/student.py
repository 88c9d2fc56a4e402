"""A student in training: all that one run learns, one step of it, and its losses so far."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from cwd.config.run import Run
from cwd.config.schedule import step_seed
from cwd.system import distributed
from cwd.system.errors import CwdError
from cwd.system.sync_layers import synchronise
from cwd.training.log import Log
from cwd.training.tasks import task_of
from cwd.training.teacher import Teacher

CRITIC_LR, CRITIC_BETAS = 4e-4, (0.9, 0.99)  # SKDS's; the rate follows the student's schedule


class LossError(CwdError):
    """A loss that can't be trained, found by all processes at the same step."""


class History:
    """The losses of a run whose checkpoint is in `path`.

    Its `rows`, one a look: the step, the learning rate, the mean of each term since the last.
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
                raise LossError(
                    f"run {self.run.name}: the loss term {name} {fault} and can teach nothing: "
                    "check that the networks differ, and that its map and weight are meant."
                )

    def look(self, done: int) -> dict[str, float]:
        """Fetch the terms since the last look and add their means; refuse what isn't finite."""
        names = list(self._seen[0])
        values = torch.stack([torch.stack([*terms.values()]) for terms in self._seen])
        values = distributed.average(values).cpu()
        if bad := (~values.isfinite()).nonzero().tolist():
            row, column = bad[0]
            raise LossError(
                f"run {self.run.name}: the loss term {names[column]} is {values[row, column]} at "
                f"step {done - len(values) + row + 1}; the last good checkpoint stays in "
                f"{self.path}: lower the learning rate or the term's weight."
            )
        rate = self.run.schedule.lr * self.run.schedule.lr_factor(done - 1)
        row = {"lr": rate} | dict(zip(names, values.mean(dim=0).tolist(), strict=True))
        self.rows.append({"step": done} | row)
        self._seen.clear()
        return row


class Student:
    """What one run trains: a network, and what its recipe trains with it.

    Attributes:
        log: what it is watched by, see `cwd.training.log`.
        origin: what its result depends on beside its settings, see `cwd.training.results.origin`.
        sessions: where and for how long it was trained, each time that it was started.
        began, done: the step that it goes on from, and how many steps it has made.
        seconds: its share of the time since then.
        distiller: the recipe at work on the network and its teacher, or None without one.
        critic: the distiller's, which learns in turns with the network, or None.
        trained: what of the distiller is trained together with the network.
        learnt: network and distiller, as a checkpoint has them, beside the `optimizers` by name.
    """

    def __init__(
        self, run: Run, path: Path, fabric: Any, num_classes: int, teacher: Teacher | None
    ) -> None:
        self.run, self.path, self.schedule, self.fabric = run, path, run.schedule, fabric
        self.history, self.sessions = History(run, path), []
        self.origin: dict[str, Any] = {}
        self.began, self.done, self.seconds = 0, 0, 0.0
        self.task, fused = task_of(run.network), fabric.device.type == "cuda"
        place = {"device": fabric.device, "memory_format": torch.channels_last}
        torch.manual_seed(run.seed)
        self.network = synchronise(self.task.student(run, num_classes), fused).to(**place)
        self.distiller, self.critic, self.trained = None, None, nn.ModuleList()
        if teacher:
            distiller = self.task.distiller(run, self.network, teacher.network)
            synchronise(distiller.trained, fused)
            synchronise(distiller.losses)  # the critic, which is differentiated twice
            self.distiller = distiller.to(**place)
            distributed.same_tensors(distiller)  # as DDP does with the network
            self.critic, self.trained = distiller.critic, distiller.trained
        self.learnt = nn.ModuleList([self.network, self.distiller] if teacher else [self.network])
        self.optimizer = torch.optim.SGD(
            [*self.network.parameters(), *self.trained.parameters()],
            lr=self.schedule.lr,
            momentum=self.schedule.momentum,
            weight_decay=self.schedule.weight_decay,
            fused=True,
        )
        self.optimizers: dict[str, torch.optim.Optimizer] = {"optimizer": self.optimizer}
        if self.critic:
            self.optimizers["critic"] = torch.optim.Adam(
                self.critic.parameters(), CRITIC_LR, betas=CRITIC_BETAS, fused=True
            )
        self.model = fabric.setup_module(self.network)

    def begin(self, session: dict[str, Any], log: str) -> None:
        """Note where and from which step it is trained from now on; `log` is of `LOGS`."""
        self.began, self.log = self.done, Log(log, self.path, self.done)
        self.sessions.append(session | {"from_step": self.done, "seconds": 0.0})
        self.learnt.train()

    def account(self) -> float:
        """Bring the session's seconds up to date; returns those of all sessions."""
        self.sessions[-1]["seconds"] = round(self.seconds, 1)
        return round(sum(session["seconds"] for session in self.sessions), 1)

    def step(self, step: int, batch: Tensor, target: Any, teacher_out: Any) -> dict[str, Tensor]:
        """One step of training; gives every term of eq. 5 and 8 by name, times its weight."""
        self._prepare(step)
        out = self.task.forward(self.model, batch, target)
        terms = self.task.losses(out, target, self.schedule)
        if self.distiller:
            with self.fabric.autocast():
                terms |= self.distiller(out, teacher_out, target, batch)
        self._backward(sum(terms.values()))
        self.optimizer.step()
        if self.critic:
            terms["HO_critic"] = self.critic_step(out.score, teacher_out.score, batch)
        return terms

    def _prepare(self, step: int) -> None:  # random numbers and rates depend on the step alone
        torch.manual_seed(step_seed(self.run.seed, step))
        for name, optimizer in self.optimizers.items():
            rate = CRITIC_LR if name == "critic" else self.schedule.lr
            optimizer.param_groups[0]["lr"] = rate * self.schedule.lr_factor(step)

    def _backward(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        distributed.average_gradients(self.trained)  # DDP does it with the network's
        if self.schedule.clip:
            clip_grad_norm_(self.optimizer.param_groups[0]["params"], self.schedule.clip)

    def critic_step(self, score: Tensor, teacher_out: Tensor, batch: Tensor) -> Tensor:
        """The second step of supplement S4: the networks fixed, the critic learns; its loss."""
        optimizer = self.optimizers["critic"]
        where = distributed.mine(torch.rand(self.schedule.batch, 1, 1, 1, device=batch.device))
        loss = self.critic.critic_loss(score, teacher_out, batch, where)
        optimizer.zero_grad()
        loss.backward()
        distributed.average_gradients(self.critic)
        optimizer.step()
        return loss
