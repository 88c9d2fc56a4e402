"""The teacher at work; the critic, which learns in turns with the student."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from cwd.system.distributed import open_fabric
from cwd.training import teacher as teaching
from cwd.training.student import Student


@pytest.fixture
def made(trained, student, teacher, tmp_path):
    """A student with its teacher, as a recipe has them, and a batch."""

    def call(recipe):
        run = replace(student, recipe=recipe, teacher=teacher)
        fabric = open_fabric("cpu", "32-true")
        taught = teaching.Teacher(trained(teacher), 19, fabric.device)
        learner = Student(run, tmp_path, fabric, 19, taught)
        learner.learnt.train()
        batch, target = torch.randn(4, 3, 32, 64), torch.zeros(4, 32, 64).long()
        return learner, taught, (batch, target, taught(batch))

    return call


def test_the_critic_learns_and_is_no_part_of_the_student(made):
    learner, taught, batch = made("PI + HO")
    before = {k: v.clone() for k, v in learner.critic.named_parameters()}
    frozen = [value.clone() for value in taught.network.state_dict().values()]
    for step in range(4):  # at first the attention's share is 0
        terms = learner.step(step, *batch)
    assert {"HO", "HO_critic"} <= terms.keys()
    assert all(map(torch.equal, frozen, taught.network.state_dict().values()))
    now = dict(learner.critic.named_parameters())
    same = {name for name, value in before.items() if value.equal(now[name])}
    assert same == {"critic.last.bias"}  # it is added to both networks' scores
    critics = {id(p) for p in learner.critic.parameters()}
    (group,) = learner.optimizer.param_groups
    assert not critics & {id(p) for p in group["params"]}
    (group,) = learner.optimizers["critic"].param_groups
    assert critics == {id(p) for p in group["params"]}
    assert group["betas"] == (0.9, 0.99)
    # on the student's schedule: the step's share of 4e-4
    assert group["lr"] == pytest.approx(4e-4 * (1 - 3 / learner.schedule.steps) ** 0.9)


def test_the_students_step_leaves_the_critic_alone(made, monkeypatch):
    learner, _, batch = made("HO")
    original = learner.critic_step
    weight = learner.network.classifier.weight

    def critic_step(*args):
        assert all(p.grad is None for p in learner.critic.parameters())
        assert weight.grad.abs().max() > 0
        before = weight.grad.clone()
        loss = original(*args)
        assert weight.grad.equal(before)
        return loss

    monkeypatch.setattr(learner, "critic_step", critic_step)
    assert "HO_critic" in learner.step(0, *batch)


def test_what_is_trained(made):
    for recipe, count in (("CW_f", 2), ("CW_s", 0)):  # weight and bias of one convolution
        learner, taught, _ = made(recipe)
        (group,) = learner.optimizer.param_groups
        learnt = {id(p) for p in group["params"]}
        assert len(list(learner.distiller.parameters())) == count
        assert learnt == {id(p) for p in learner.learnt.parameters()}
        assert not [p for p in taught.network.parameters() if p.requires_grad]


def test_the_teacher_stays_as_it_is(made):
    learner, taught, (batch, target, _) = made("CW_s")
    before = {name: value.clone() for name, value in taught.network.state_dict().items()}
    taught.network.train()
    out = taught(batch)
    assert out.aux_score is None  # as in eval mode
    learner.step(0, batch, target, out)
    now = taught.network.state_dict()  # running statistics among them
    assert all(value.equal(now[name]) for name, value in before.items())


def test_a_gpus_teacher_has_no_norms(trained, teacher):
    folder = trained(teacher)
    for place, folded in (("cpu", False), ("meta", True)):
        network = teaching.Teacher(folder, 19, torch.device(place)).network
        norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
        assert (not norms) is folded
        assert not [p for p in network.parameters() if p.requires_grad]
