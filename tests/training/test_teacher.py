"""The teacher's maps, kept from run to run; the critic, which learns in turns with the student."""

from dataclasses import replace

import pytest
import torch

from cwd.models.segmentation import SegmentationOutput
from cwd.system.distributed import open_fabric
from cwd.training import teacher as teaching
from cwd.training.student import Student
from cwd.training.teacher import Kept

KIB = 1024


def maps(kib):
    """Maps of that many KiB."""
    return SegmentationOutput(torch.zeros(kib * KIB, dtype=torch.uint8), torch.zeros(0), None)


@pytest.fixture
def asked(monkeypatch):
    """How often a teacher's network was run since the list was last cleared."""
    calls = []
    original = teaching.Teacher.__init__

    def init(self, *args):
        original(self, *args)
        self.network.register_forward_hook(lambda *_: calls.append(1))

    monkeypatch.setattr(teaching.Teacher, "__init__", init)
    monkeypatch.setattr(teaching, "KEPT", Kept(2**30))
    return calls


def test_a_second_recipe_does_not_ask_again(go, student, teacher, asked):
    go(teacher)
    smaller = replace(student.schedule, crop=(32, 48))
    distorted = replace(student.schedule, photometric=True)
    # another seed sees other batches, another crop other pixels
    for count, changes in (
        (1, {"recipe": "CW_f"}), (1, {}), (2, {"seed": 1}), (3, {"schedule": smaller}),
        (4, {"schedule": distorted}),
    ):  # fmt: skip
        go(replace(student, **{"recipe": "CW_s", "teacher": teacher} | changes))
        assert len(asked) == count * student.schedule.steps


def test_what_is_kept_changes_no_number(go, student, teacher, asked, tmp_path, monkeypatch):
    run = replace(student, recipe="PI + CW_f", teacher=teacher)
    go(teacher)
    go(replace(run, recipe="CW_s"))
    kept = go(run)
    monkeypatch.setattr(teaching, "KEPT", Kept(0))
    go(teacher, tmp_path / "others")
    asked.clear()
    computed = go(run, tmp_path / "others")
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


@pytest.fixture
def made(go, student, teacher, tmp_path):
    """A student with its teacher, as a recipe has them, and a batch."""

    def call(recipe):
        run = replace(student, recipe=recipe, teacher=teacher)
        fabric = open_fabric("cpu", "32-true")
        taught = teaching.Teacher(go(teacher), 19, fabric.device)
        learner = Student(run, tmp_path, fabric, 19, taught)
        learner.learnt.train()
        return learner, (torch.randn(4, 3, 32, 64), torch.zeros(4, 32, 64).long(), taught)

    return call


def test_the_critic_learns_and_is_no_part_of_the_student(made):
    learner, batch = made("PI + HO")
    before = {k: v.clone() for k, v in learner.critic.named_parameters()}
    frozen = [value.clone() for value in batch[-1].network.state_dict().values()]
    for step in range(4):  # at first the attention's share is 0
        terms = learner.step(step, *batch)
    assert {"HO", "HO_critic"} <= terms.keys()
    assert all(map(torch.equal, frozen, batch[-1].network.state_dict().values()))
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
    learner, batch = made("HO")
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
        learner, (*_, taught) = made(recipe)
        (group,) = learner.optimizer.param_groups
        learnt = {id(p) for p in group["params"]}
        assert len(list(learner.distiller.parameters())) == count
        assert learnt == {id(p) for p in learner.learnt.parameters()}
        assert not taught.network.training
        assert not [p for p in taught.network.parameters() if p.requires_grad]
