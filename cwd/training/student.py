"""A student in training: all that one run learns, and one step of it."""

from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from cwd.config.run import Run
from cwd.config.schedule import step_seed
from cwd.system import distributed
from cwd.system.sync_layers import synchronise
from cwd.training.history import History
from cwd.training.tasks import task_of
from cwd.training.teacher import Teacher

CRITIC_LR, CRITIC_BETAS = 4e-4, (0.9, 0.99)  # SKDS's; the rate follows the student's schedule


class Student:
    """What one run trains: a network, and what its recipe trains with it.

    Attributes:
        path: the folder that the run's files are written into.
        history: the losses so far.
        sessions: where and for how long it was trained, each time that it was started.
        network: the network that learns.
        distiller: the recipe at work on it and its teacher, or None without one.
        critic: the distiller's, which learns in turns with the network, or None.
        trained: what of the distiller is trained together with the network.
        learnt: network and distiller, as a checkpoint has them.
        optimizers: by their names in a checkpoint.
    """

    def __init__(
        self, run: Run, path: Path, fabric: Fabric, num_classes: int, teacher: Teacher | None
    ) -> None:
        self.run, self.path, self.schedule, self.fabric = run, path, run.schedule, fabric
        self.history, self.sessions = History(run, path), []
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

    def step(
        self, step: int, batch: Tensor, target: Any, teacher: Teacher | None
    ) -> dict[str, Tensor]:
        """One step of training; gives every term of eq. 5 and 8 by name, times its weight."""
        self.prepare(step)
        out = self.task.forward(self.model, batch, target)
        terms = self.task.losses(out, target, self.schedule)
        if teacher:
            with self.fabric.autocast():
                taught = teacher(batch, step)
                terms |= self.distiller(out, taught, target, batch)
        self.backward(sum(terms.values()))
        self.optimizer.step()
        if self.critic:
            terms["HO_critic"] = self.critic_step(out.score, taught.score, batch)
        return terms

    def prepare(self, step: int) -> None:
        """Set random numbers and learning rates, which depend on the step alone."""
        torch.manual_seed(step_seed(self.run.seed, step))
        for name, optimizer in self.optimizers.items():
            rate = CRITIC_LR if name == "critic" else self.schedule.lr
            optimizer.param_groups[0]["lr"] = rate * self.schedule.lr_factor(step)

    def backward(self, loss: Tensor) -> None:
        """The gradients of a step, the mean over several processes, clipped."""
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        distributed.average_gradients(self.trained)  # DDP does it with the network's
        if self.schedule.clip:
            clip_grad_norm_(self.optimizer.param_groups[0]["params"], self.schedule.clip)

    def critic_step(self, score: Tensor, taught: Tensor, batch: Tensor) -> Tensor:
        """The second step of supplement S4: the networks fixed, the critic learns; its loss."""
        optimizer = self.optimizers["critic"]
        where = distributed.mine(torch.rand(self.schedule.batch, 1, 1, 1, device=batch.device))
        loss = self.critic.critic_loss(score, taught, batch, where)
        optimizer.zero_grad()
        loss.backward()
        distributed.average_gradients(self.critic)
        optimizer.step()
        return loss
