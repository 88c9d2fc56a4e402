"""The holistic loss: its two steps, its critic's layers, its penalty by hand."""

import math

import pytest
import torch
from maps import gradient, maps
from torch import nn
from torch.nn.utils import parametrize

from cwd.losses import Holistic
from cwd.losses.holistic import SelfAttention
from cwd.system.errors import CwdError

SIZE = (8, 16)


def scene(classes=4, size=SIZE, dtype=torch.float32, batch=2):
    """A loss with its critic, two score maps and the images."""
    torch.manual_seed(0)
    student, teacher = maps((batch, classes, *size), dtype)
    images = torch.randn(batch, 3, 8 * size[0], 8 * size[1])
    return Holistic(classes, size), student, teacher, images


def test_it_is_the_critics_distance():
    loss, student, teacher, images = scene()
    loss.eval()  # the same weights for two calls
    expected = sum(loss.critic(teacher, images).tolist()) / 2
    expected -= sum(loss.critic(student, images).tolist()) / 2
    value = loss(student, teacher, None, images)
    assert value.shape == ()
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert loss(teacher, teacher, None, images).item() == 0
    # and it depends on the images
    assert not torch.isclose(loss(student, teacher, None, images.flip(0)), value)
    assert not torch.isclose(loss(student, teacher, None, images + 1), value)


def test_the_critics_step():
    loss, student, teacher, images = scene()
    loss(student, teacher, None, images)  # holds the critic fixed
    for module in loss.modules():
        if isinstance(module, SelfAttention):
            nn.init.ones_(module.gamma)  # at 0, no gradient reaches what it multiplies
    loss.critic_loss(student, teacher, images).backward()
    assert student.grad is None
    assert teacher.grad is None
    without = [n for n, p in loss.critic.named_parameters() if p.grad is None or not p.grad.any()]
    # a softmax ignores one number added to all keys' products; the distance ignores one constant
    assert [n for n in without if not n.endswith(("query.bias", "key.bias", "last.bias"))] == []


class Linear(nn.Module):
    """A critic whose gradient is known."""

    def __init__(self, classes, factor):
        super().__init__()
        self.weight = nn.Parameter(torch.full((classes, 1, 1), factor))

    def forward(self, score, images):
        return (self.weight * score).sum(dim=(1, 2, 3))


@pytest.mark.parametrize("factor", [0.0, 0.01, 0.5])
def test_penalty_by_hand(factor):
    loss, student, teacher, images = scene()
    loss.critic = Linear(4, factor)
    long = factor * math.sqrt(4 * SIZE[0] * SIZE[1])  # of the gradient of one image
    penalty = loss.penalty(student, teacher, images)
    assert penalty.item() == pytest.approx((long - 1) ** 2, rel=1e-5)
    distance = factor * (student.sum() - teacher.sum()).item() / 2
    value = loss.critic_loss(student, teacher, images).item()
    assert value == pytest.approx(distance + 10 * (long - 1) ** 2, rel=1e-5)
    if factor:  # its gradient is one of a gradient
        slope = gradient(penalty, loss.critic.weight)
        expected = 2 * (long - 1) * SIZE[0] * SIZE[1] * factor / long
        torch.testing.assert_close(slope, torch.full_like(slope, expected))


def test_penalty_is_taken_between_the_maps():
    loss, student, teacher, images = scene()
    loss.critic, seen = Linear(4, 1.0), []
    loss.critic.register_forward_hook(lambda critic, given, out: seen.append(given[0].detach()))
    loss.penalty(student.detach(), teacher.detach(), images)
    share = (seen[0] - student) / (teacher - student)
    assert share.std(dim=(1, 2, 3)).max() < 1e-3  # one point of the line for each image
    assert share.min() > -1e-3
    assert share.max() < 1.001
    assert (share[0].mean() - share[1].mean()).abs() > 1e-3


@pytest.mark.parametrize("size", [(64, 64), (65, 65), (64, 128)])
def test_the_published_critic(size):
    critic = Holistic(19, size).critic
    convolutions = [(19 + 3, 64), (64, 128), (128, 256), (256, 512)]  # classes, and the image's 3
    expected = sum(16 * a * b + b for a, b in convolutions)
    expected += sum(2 * (c * (c // 8) + c // 8) + c * c + c + 1 for c in (256, 512))  # attention
    expected += 2 * 19 + 16 * 512 + 1
    assert sum(p.numel() for p in critic.parameters()) == expected
    kinds = [type(layer).__name__.removeprefix("Parametrized") for layer in critic.body]
    stage = ["Conv2d", "LeakyReLU"]
    assert kinds == [*stage * 3, "SelfAttention", *stage, "SelfAttention"]
    stages = [layer for layer in critic.body if isinstance(layer, nn.Conv2d)]
    assert [conv.out_channels for conv in stages] == [64, 128, 256, 512]
    assert {(c.kernel_size, c.stride, c.padding) for c in stages} == {((4, 4), (2, 2), (1, 1))}
    assert all(parametrize.is_parametrized(conv, "weight") for conv in stages)
    normed = [m for m in critic.modules() if parametrize.is_parametrized(m)]
    assert len(normed) == 4  # neither the attention nor the last layer
    assert {x.negative_slope for x in critic.body if isinstance(x, nn.LeakyReLU)} == {0.1}
    assert (critic.last.kernel_size, critic.last.stride) == ((4, 4), (1, 1))
    with torch.no_grad():
        out = critic.eval()(torch.randn(2, 19, *size), torch.randn(2, 3, 128, 128))
    assert out.shape == (2,)


@pytest.mark.parametrize("size", [(8, 16), (16, 8), (5, 9), (2, 2), (3, 3), (31, 33)])
def test_the_students_step(size):
    loss, student, teacher, images = scene(size=size)
    loss(student, teacher, None, images).backward()
    assert student.grad.abs().max() > 0
    assert teacher.grad is None
    assert all(p.grad is None for p in loss.parameters())
    assert loss.critic_loss(student, teacher, images).isfinite()
    flat = torch.zeros_like(student).requires_grad_()
    value = loss(flat, torch.zeros_like(flat), None, images)
    assert value == 0
    assert gradient(value, flat).isfinite().all()
    loss.critic_loss(flat, torch.zeros_like(flat), images).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in loss.parameters())


def test_self_attention_is_torchs():
    torch.manual_seed(0)
    attention, x = SelfAttention(8).double(), torch.randn(2, 8, 2, 3, dtype=torch.float64)
    assert torch.equal(attention(x), x)  # gamma is 0
    nn.init.constant_(attention.gamma, 0.5)
    parts = (attention.query, attention.key, attention.value)
    q, k, v = (f(x).flatten(2).mT for f in parts)  # a row for each position
    out = nn.functional.scaled_dot_product_attention(q, k, v, scale=1.0).mT.view(x.shape)
    torch.testing.assert_close(attention(x), x + 0.5 * out)


def test_autocast_leaves_it_in_float32():
    loss, student, teacher, images = scene(dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(student, teacher, None, images)
        critics = loss.critic_loss(student, teacher, images)
    assert value.dtype == critics.dtype == torch.float32
    assert value.isfinite()
    assert critics.isfinite()
    assert gradient(value, student).isfinite().all()
    critics.backward()
    assert all(p.grad.isfinite().all() and p.grad.dtype == torch.float32 for p in loss.parameters())


def test_what_is_refused():
    loss, student, teacher, images = scene()
    with pytest.raises(CwdError, match="give it the images"):
        loss(student, teacher)
    with pytest.raises(CwdError, match="channels"):
        loss(student[:, :3], teacher, None, images)
    with pytest.raises(CwdError, match="batch"):
        loss(student[:1], teacher, None, images)
    for size in ((1, 1), (1, 8)):
        with pytest.raises(CwdError, match="larger crop"):
            Holistic(4, size)
