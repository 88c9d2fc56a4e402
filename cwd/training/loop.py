"""The loop: one student, an optional frozen teacher, a recipe, a schedule."""

import logging
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from cwd.config.run import Run
from cwd.config.schedule import step_seed
from cwd.models.build import count_parameters
from cwd.system import distributed
from cwd.system.device import pick_device, pick_precision
from cwd.system.distributed import agreed, join, open_fabric, rank, tell
from cwd.system.errors import CwdError
from cwd.system.files import write_atomic, write_csv, write_json
from cwd.system.progress import report
from cwd.system.sync_layers import synchronise
from cwd.training import provenance
from cwd.training.run_folder import RunFolder
from cwd.training.tasks.choice import score_of, task_of
from cwd.training.teacher import Teacher, check_teacher

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces the precision
CRITIC_LR, CRITIC_BETAS = 4e-4, (0.9, 0.99)  # SKDS's; the rate follows the student's schedule
WINDOW = 20  # steps between two looks at the losses: a look makes the device wait


def train(
    run: Run,
    *,
    runs: Path,
    data_root: Path,
    device: str = "auto",
    allow_weak_teacher: bool = False,
) -> RunFolder:
    """Train a run, or go on where it was interrupted; a finished run is returned as it is.

    Processes that torchrun started train it together and share every batch; all of them call this.

    Args:
        run: what to train.
        runs: folder of all runs.
        data_root: folder of the datasets.
        device: "auto", "cpu" or "cuda".
        allow_weak_teacher: distil even from a teacher that is worse than the student alone.

    Raises:
        CwdError: the data, the teacher or a setting is unfit; a loss is zero, not in the graph or
            not finite; the disk is full; another process trains the run; the batch can't be
            shared equally.
    """
    join(device)
    folder = RunFolder(Path(runs), run)
    if not agreed(folder.finished):
        teacher = check_teacher(run, folder.root, allow_weak_teacher) if run.teacher else None
        # one process holds the run, for all that train it
        with folder.training() if rank() == 0 else nullcontext(folder.partial) as path:
            if not agreed(folder.finished):
                Training(run, path, teacher, Path(data_root), device).go()
        distributed.wait()  # until the folder has its name
    return folder


class Training:
    """One run in training: what the loop holds in its hands.

    Args:
        run: what to train.
        path: the folder to write into.
        teacher: the teacher's finished run, or None.
        data_root: folder of the datasets.
        device: "auto", "cpu" or "cuda".
    """

    def __init__(
        self, run: Run, path: Path, teacher: RunFolder | None, data_root: Path, device: str
    ) -> None:
        self.run, self.path, self.schedule = run, path, run.schedule
        self.task = task_of(run.network)
        accelerator = pick_device(device)
        precision = pick_precision(run.schedule.precision, accelerator)
        self.fabric = open_fabric(accelerator, precision)
        rows = distributed.rows(run.schedule.batch)
        self.data, self.val = distributed.in_turns(lambda: self.task.open_data(run.data, data_root))
        self.batches = self.task.batches(
            self.data, run.schedule, run.seed, self.fabric.device, rows
        )
        self.teacher, self.critic = None, None
        if teacher:
            self.teacher = Teacher(teacher, self.data.num_classes, self.place)
            seen = self.data.checksum, run.seed, precision, accelerator, rows.start, rows.stop
            self.teacher.keep(run.schedule, *seen)
        fused = accelerator == "cuda"
        self.student = self.place(synchronise(self.first_student(), fused))
        learnt = nn.ModuleList([self.student])
        descended = list(self.student.parameters())
        if self.teacher:
            distiller = self.task.distiller(run, self.student, self.teacher.network)
            synchronise(distiller.trained, fused)
            synchronise(distiller.losses)  # the critic, which is differentiated twice
            self.distiller, self.critic = self.place(distiller), distiller.critic
            distributed.same_tensors(distiller)  # as DDP does with the student
            learnt.append(self.distiller)
            descended += self.distiller.trained.parameters()
        self.learnt = learnt
        self.optimizer = torch.optim.SGD(
            descended,
            lr=self.schedule.lr,
            momentum=self.schedule.momentum,
            weight_decay=self.schedule.weight_decay,
            fused=True,
        )
        self.optimizers = {"optimizer": self.optimizer}
        if self.critic:
            self.optimizers["critic"] = torch.optim.Adam(
                self.critic.parameters(), CRITIC_LR, betas=CRITIC_BETAS, fused=True
            )
        self.history: list[dict[str, float]] = []
        self.window: list[dict[str, Tensor]] = []
        # one entry for each time the run was started; a resumed run has several
        self.sessions: list[dict] = []
        self.origin = {
            "precision": precision,
            "seed": run.seed,
            "dataset": {"train": self.data.checksum, "val": self.val.checksum},
            "images": {"train": len(self.data), "val": len(self.val)},
            "init": provenance.first_weights(run.init, self.student.init_report),
            "teacher": self.teacher and self.teacher.record,
        }

    def first_student(self) -> nn.Module:
        """The student with its first weights, which the run's seed decides."""
        torch.manual_seed(self.run.seed)
        return self.task.student(self.run, self.data.num_classes)

    def place(self, module: nn.Module) -> nn.Module:
        """`module` on the device, its convolutions in the memory format that is fastest there."""
        return module.to(self.fabric.device, memory_format=torch.channels_last)

    def go(self) -> None:
        """Train from the last checkpoint to the end, then measure and write the results."""
        start, self.began = self.resume(), time.monotonic()
        place = provenance.session(self.fabric.device)
        self.sessions.append(place | {"from_step": start, "seconds": 0.0})
        schedule = self.schedule
        student, optimizer = self.fabric.setup(self.student, self.optimizer)
        self.learnt.train()
        for step in range(start, schedule.steps):
            optimizer.param_groups[0]["lr"] = schedule.lr * schedule.lr_factor(step)
            torch.manual_seed(step_seed(self.run.seed, step))
            batch, target = self.batches(step)
            batch = batch.contiguous(memory_format=torch.channels_last)

            out = self.task.forward(student, batch, target)
            with self.fabric.autocast():
                teacher_out = self.teacher(batch, step) if self.teacher else None
            terms = self.loss_terms(out, teacher_out, batch, target)
            if step == start:
                self.check_graph(terms)
            optimizer.zero_grad()
            self.fabric.backward(sum(terms.values()))
            if self.teacher:
                distributed.average_gradients(self.distiller.trained)
            if schedule.clip:
                clip_grad_norm_(optimizer.param_groups[0]["params"], schedule.clip)
            optimizer.step()
            if self.critic:
                terms["HO_critic"] = self.teach_critic(out, teacher_out, batch, step)

            self.window.append({name: value.detach() for name, value in terms.items()})
            done = step + 1
            save = done % schedule.checkpoint_every == 0 or done == schedule.steps
            if save or done % WINDOW == 0:
                self.record_window(done)
                rate = (done - start) / (time.monotonic() - self.began)
                left = (schedule.steps - done) / rate
                tell(
                    f"{self.run.title}  {done}/{schedule.steps}  {rate:.1f} steps/s  "
                    f"{left // 60:.0f}:{left % 60:02.0f} left",
                    transient=True,
                )
            if save:
                self.save_checkpoint(done)
        self.finish()

    def loss_terms(
        self, out: Any, teacher_out: Any, batch: Tensor, target: Any
    ) -> dict[str, Tensor]:
        """Every term of eq. 5 and 8, weighted, by name.

        Args:
            out: the student's output for the batch.
            teacher_out: the teacher's, or None.
            batch: float32 [B, 3, H, W], normalised.
            target: the task's.
        """
        terms = self.task.losses(out, target, self.schedule)
        if teacher_out:
            with self.fabric.autocast():
                terms |= self.distiller(out, teacher_out, target, batch)
        return terms

    def teach_critic(self, out: Any, teacher_out: Any, batch: Tensor, step: int) -> Tensor:
        """The second step of supplement S4: the networks fixed, the critic learns; its loss."""
        optimizer = self.optimizers["critic"]
        optimizer.param_groups[0]["lr"] = CRITIC_LR * self.schedule.lr_factor(step)
        where = distributed.mine(torch.rand(self.schedule.batch, 1, 1, 1, device=batch.device))
        loss = self.critic.critic_loss(out.score, teacher_out.score, batch, where)
        optimizer.zero_grad()
        loss.backward()
        distributed.average_gradients(self.critic)
        optimizer.step()
        return loss

    def check_graph(self, terms: dict[str, Tensor]) -> None:
        """Refuse a term that can't teach.

        Raises:
            CwdError: a term is exactly zero, or nothing in it depends on the student.
        """
        means = distributed.average(torch.stack([value.detach() for value in terms.values()]))
        for (name, value), mean in zip(terms.items(), means.tolist(), strict=True):
            if not value.requires_grad or mean == 0:
                fault = "is exactly zero" if value.requires_grad else "is not in the graph"
                raise CwdError(
                    f"run {self.run.name}: the loss term {name} {fault}, so nothing can be learnt "
                    "from it: check that teacher and student are two networks and that the term's "
                    "map and weight are meant."
                )

    def record_window(self, done: int) -> None:
        """Fetch the losses since the last look, check them, and add their means to the history.

        Raises:
            CwdError: a term was not finite.
        """
        names = list(self.window[0]) if self.window else []
        if not names:
            return
        values = torch.stack([torch.stack(list(row.values())) for row in self.window])
        values = distributed.average(values).cpu()
        bad = (~values.isfinite()).nonzero()
        if len(bad):
            row, column = bad[0].tolist()
            raise CwdError(
                f"run {self.run.name}: the loss term {names[column]} is {values[row, column]} at "
                f"step {done - len(values) + row + 1}; the last good checkpoint stays in "
                f"{self.path}: lower the learning rate or the term's weight."
            )
        means = dict(zip(names, values.mean(dim=0).tolist(), strict=True))
        rate = self.schedule.lr * self.schedule.lr_factor(done - 1)
        self.history.append({"step": done, "lr": rate} | means)
        self.window.clear()

    def save_checkpoint(self, step: int) -> None:
        """Write all that `resume` needs, in one file that is either old or new."""
        if rank():
            return
        self.sessions[-1]["seconds"] = round(time.monotonic() - self.began, 1)
        state = {
            "step": step,
            "learnt": self.learnt.state_dict(),
            **{name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "history": self.history,
            "sessions": self.sessions,
        }
        write_atomic(self.path / "checkpoint.pt", lambda file: torch.save(state, file))

    def resume(self) -> int:
        """Load the last checkpoint, if there is one; returns the step to go on from.

        Raises:
            CwdError: the checkpoint can't be read, or this process doesn't find it and another did.
        """
        path = self.path / "checkpoint.pt"
        found = path.exists()
        if found != agreed(found):
            raise CwdError(
                f"{path} isn't the same for all processes that train run {self.run.name}: put the "
                "folder of the runs on a disk that their machines share."
            )
        if not found:
            return 0
        try:
            state = torch.load(path, map_location=self.fabric.device, weights_only=True)
            self.learnt.load_state_dict(state["learnt"])
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(state[name])
        except Exception as error:  # torch raises whatever the damage happens to hit
            raise CwdError(
                f"{path} is damaged or of another run ({type(error).__name__}): delete it to train "
                "the run from its start."
            ) from error
        self.history, self.sessions = state["history"], state["sessions"]
        return state["step"]

    def finish(self) -> None:
        """Measure the student and write what makes the run complete."""
        metrics = self.task.evaluate(
            self.student,
            self.val,
            self.schedule,
            device=self.fabric.device,
            autocast=self.fabric.autocast,
        )
        if rank():
            return
        metrics["parameters"] = count_parameters(self.student)
        # a network that is measured as it comes has no steps, and no history but its columns
        write_csv(self.path / "history.csv", self.history, ("step", "lr"))
        weights = {k: v.contiguous().cpu() for k, v in self.student.state_dict().items()}
        about = {"run": self.run.name}  # one entry: safetensors writes several in any order
        write_atomic(
            self.path / "student.safetensors", lambda file: save_file(weights, file, about)
        )
        write_json(self.path / "config.json", asdict(self.run))
        seconds = sum(session["seconds"] for session in self.sessions)
        origin = self.origin | {"seconds": round(seconds, 1), "sessions": self.sessions}
        write_json(self.path / "provenance.json", origin)
        write_json(self.path / "metrics.json", metrics)
        score = score_of(self.run.network, metrics)
        report(f"{self.run.title}: {score} after {seconds:.0f} s")
