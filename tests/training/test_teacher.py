"""The teacher's maps, kept from run to run; the critic, which learns in turns with the student."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cwd.models.segmentation import SegmentationOutput
from cwd.training import loop, teacher
from cwd.training.loop import train
from cwd.training.teacher import Kept

KIB = 1024


def maps(kib):
    """Maps of that many KiB."""
    return SegmentationOutput(torch.zeros(kib * KIB, dtype=torch.uint8), torch.zeros(0), None)


@pytest.fixture
def go(tmp_path, data_root):
    def call(run, runs="runs"):
        place = {"runs": tmp_path / runs, "data_root": data_root, "device": "cpu"}
        if run.teacher:
            train(run.teacher, **place)
        return train(run, allow_weak_teacher=True, **place)

    return call


@pytest.fixture
def asked(monkeypatch):
    """How often a teacher's network was run since the list was last cleared."""
    calls = []
    original = teacher.Teacher.__init__

    def init(self, *args):
        original(self, *args)
        self.network.register_forward_hook(lambda *_: calls.append(1))

    monkeypatch.setattr(teacher.Teacher, "__init__", init)
    monkeypatch.setattr(teacher, "KEPT", Kept(2**30))
    return calls


def test_a_second_recipe_does_not_ask_again(go, student, teacher, asked):
    go(replace(student, recipe="CW_f", teacher=teacher))
    assert len(asked) == student.schedule.steps
    go(replace(student, recipe="CW_s", teacher=teacher))
    assert len(asked) == student.schedule.steps
    # another seed sees other batches, another crop other pixels
    go(replace(student, recipe="CW_s", teacher=teacher, seed=1))
    assert len(asked) == 2 * student.schedule.steps
    smaller = replace(student.schedule, crop=(32, 48))
    go(replace(student, recipe="CW_s", teacher=teacher, schedule=smaller))
    assert len(asked) == 3 * student.schedule.steps
    distorted = replace(student.schedule, photometric=True)
    go(replace(student, recipe="CW_s", teacher=teacher, schedule=distorted))
    assert len(asked) == 4 * student.schedule.steps


def test_what_is_kept_changes_no_number(go, student, teacher, asked, monkeypatch):
    run = replace(student, recipe="PI + CW_f", teacher=teacher)
    go(replace(run, recipe="CW_s"))
    kept = go(run)
    asked.clear()
    monkeypatch.setattr(teacher, "KEPT", Kept(0))
    computed = go(run, runs="others")
    assert len(asked) == student.schedule.steps
    for name in ("student.safetensors", "history.csv", "metrics.json"):
        assert (kept.done / name).read_bytes() == (computed.done / name).read_bytes()


def test_only_what_fits_is_kept():
    kept = Kept(10 * KIB)
    assert kept.room(("large",), 11 * KIB) is None
    first = kept.room(("first",), 6 * KIB)
    first[0] = maps(6)
    assert kept.room(("first",), 6 * KIB) is first
    second = kept.room(("second",), 4 * KIB)
    second[0] = maps(4)
    assert kept.room(("first",), 6 * KIB) is first  # both fit; first is now the newer
    assert kept.room(("third",), 4 * KIB) == {}
    assert kept.room(("first",), 6 * KIB) is first  # the older one went
    assert kept.room(("second",), 4 * KIB) == {}


def test_the_critic_learns_and_is_no_part_of_the_student(go, student, teacher, monkeypatch):
    run = replace(student, recipe="PI + HO", teacher=teacher)
    seen = {}
    original = loop.Training.go

    def go_on(self):
        if not self.critic:  # the teacher's own training
            return original(self)
        before = {k: v.clone() for k, v in self.critic.named_parameters()}
        original(self)
        return seen.update(training=self, before=before)

    monkeypatch.setattr(loop.Training, "go", go_on)
    go(run)
    training = seen["training"]
    now = dict(training.critic.named_parameters())
    same = {name for name, value in seen["before"].items() if value.equal(now[name])}
    assert same == {"critic.last.bias"}  # it is added to both networks' scores
    critics = {id(p) for p in training.critic.parameters()}
    (group,) = training.optimizer.param_groups
    assert not critics & {id(p) for p in group["params"]}
    (group,) = training.optimizers["critic"].param_groups
    assert critics == {id(p) for p in group["params"]}
    assert group["betas"] == (0.9, 0.99)
    # on the student's schedule: the last step's share of 4e-4
    last = 1 - (run.schedule.steps - 1) / run.schedule.steps
    assert group["lr"] == pytest.approx(4e-4 * last**0.9)
    history = training.history[-1]
    assert {"HO", "HO_critic"} <= history.keys()


def test_the_students_step_leaves_the_critic_alone(student, teacher, data_root, tmp_path):
    place = {"runs": tmp_path, "data_root": data_root, "device": "cpu"}
    folder = train(teacher, **place)
    run = replace(student, recipe="HO", teacher=teacher)
    training = loop.Training(run, Path(tmp_path), folder, data_root, "cpu")
    batch = torch.randn(4, 3, 32, 64)
    target = torch.zeros(4, 32, 64, dtype=torch.long)
    out, taught = training.student(batch), training.teacher(batch, 0)
    sum(training.loss_terms(out, taught, batch, target).values()).backward()
    assert all(p.grad is None for p in training.critic.parameters())
    assert training.student.classifier.weight.grad.abs().max() > 0
    before = training.student.classifier.weight.grad.clone()
    training.teach_critic(out, taught, batch, 0)
    assert training.student.classifier.weight.grad.equal(before)
