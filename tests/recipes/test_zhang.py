"""Zhang and Ma's attention and non-local blocks, position by position and as published."""

import math

import pytest
import torch
import torch.nn.functional as F
from fake_detectors import detectors, identity, pointwise, seen
from torch import nn

from cwd.recipes.detection.zhang import AttentionGuidedNonLocal, Level, NonLocal, Published

KINDS = {1: (0.1, 4.2e-4, 2.4e-2, True), 2: (0.5, 7e-5, 4e-3, False)}


def published_block(block, x, stride):
    """A non-local block with the [HW, N] matrix of all pairs, in training."""
    window = [min(stride, side) for side in x.shape[2:]]
    theta, phi, g = (pointwise(conv, x) for conv in (block.theta, block.phi, block.g))
    phi, g = (F.max_pool2d(y, window).flatten(2) for y in (phi, g))
    pairs = torch.einsum("bip,bin->bpn", theta.flatten(2), phi) / phi.shape[2]
    y = torch.einsum("bpn,bin->bip", pairs, g).unflatten(2, x.shape[2:])
    y = pointwise(block.outer, y)
    if x[:, 0].numel() > 1:
        mean = y.mean(dim=(0, 2, 3), keepdim=True)
        y = (y - mean) / ((y - mean).square().mean(dim=(0, 2, 3), keepdim=True) + 1e-5).sqrt()
    else:  # one value has no variance: the running statistics, 0 and 1 at first
        y = y / math.sqrt(1 + 1e-5)
    return x + y * block.norm.weight[:, None, None] + block.norm.bias[:, None, None]


def naive_level(level, s, t, stride, settings):
    """All terms of a level, as the docstring's formula has them."""
    temperature, a, b, by_channel = settings

    def attention(energy):  # [B, N], 1 on average
        p = (energy / temperature).exp()
        return p / p.mean(dim=1, keepdim=True)

    weights = sum(attention(x.abs().mean(1).flatten(1)) for x in (s, t)) / 2
    weights = weights.unflatten(1, s.shape[2:])[:, None]  # [B, 1, H, W]
    if by_channel:
        both = [s, t] if s.shape[1] == t.shape[1] else [t]
        channels = sum(attention(x.abs().mean((2, 3))) for x in both) / len(both)
        weights = weights * channels[:, :, None, None]
    blocks = published_block(level.student, s, stride), published_block(level.teacher, t, stride)
    linear, conv = level.over_positions, level.over_channels
    near = F.unfold(s.mean(1, keepdim=True), 3, padding=1)  # [B, 9, HW]
    gaps = (
        (a, weights.sqrt() * (t - pointwise(level.features, s))),
        (a, blocks[1] - pointwise(level.relations, blocks[0])),
        (b, t.mean((2, 3)) - s.mean((2, 3)) @ linear.weight.T - linear.bias),
        (b, t.mean(1).flatten(1) - conv.weight.flatten() @ near - conv.bias),
    )
    return sum(factor * gap.square().sum().sqrt().item() for factor, gap in gaps)


def disturbed(loss):
    """Norms that aren't zero, as after some training."""
    for module in loss.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return loss.double()


@pytest.mark.parametrize(
    ("stages", "channels", "batch"), [(1, 4, 1), (2, 4, 3), (1, 6, 2), (2, 6, 1)]
)
def test_by_hand(stages, channels, batch):
    student, teacher = detectors(stages, teacher_channels=channels)
    loss = disturbed(AttentionGuidedNonLocal(student, teacher))
    size = (64, 96) if stages == 1 else (32, 64)
    s, t = seen(student, batch, size), seen(teacher, batch, size, seed=1, scale=2)
    value = loss(s, t, []).item()
    levels = zip(loss.levels, s.levels, t.levels, (8, 4, 2, 2, 2), strict=True)
    expected = sum(naive_level(*level, KINDS[stages]) for level in levels)
    assert value == pytest.approx(expected * math.sqrt(2 / batch), rel=1e-10)


def test_temperature_decides_the_masks_and_none_is_too_small_or_too_large():
    student, teacher = detectors()
    s, t = seen(student), seen(teacher, seed=1)
    values = {}
    for temperature in (None, 0.5, 0.1, 1e-6, 1e6):
        torch.manual_seed(0)
        loss = AttentionGuidedNonLocal(student, teacher, temperature=temperature).double()
        values[temperature] = loss(s, t, [])
        gradients = torch.autograd.grad(values[temperature], s.levels)
        assert all(g.isfinite().all() for g in gradients)
    assert values[None] == values[0.5]
    assert values[None] != values[0.1]


def test_equal_maps_are_zero_with_a_finite_gradient():
    student, _ = detectors()
    loss, output = AttentionGuidedNonLocal(student, student).double(), seen(student)
    for level in loss.levels:
        for layer in (level.features, level.over_positions, level.over_channels, level.relations):
            identity(layer)
    value = loss(output, output._replace(levels=[x.detach() for x in output.levels]), [])
    value.backward()
    assert value == 0
    assert all((x.grad == 0).all() for x in output.levels)


def test_gradient_with_masks_that_are_constants(monkeypatch):
    level = disturbed(Level(4, 6, Published(0.5, 0.7, 0.4, True), 4, 2))
    s = torch.randn(2, 4, 3, 4, dtype=torch.float64, requires_grad=True)
    t = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    value = level(s, t)
    (gradient,) = torch.autograd.grad(value, s)
    mask = level.attention(s, t)
    assert not mask.requires_grad
    monkeypatch.setattr(level, "attention", lambda *_: mask)
    torch.testing.assert_close(level(s, t), value, rtol=0, atol=0)
    torch.testing.assert_close(torch.autograd.grad(level(s, t), s)[0], gradient)
    assert torch.autograd.gradcheck(lambda x: level(x, t), s)


def test_a_new_block_is_the_identity_and_can_leave_it():
    block, x = NonLocal(8, 4, 2), torch.randn(2, 8, 5, 7)
    z = block(x)
    assert torch.equal(z, x)
    z.square().sum().backward()
    assert block.norm.weight.grad.abs().sum() > 0


def test_parameters_at_the_published_width():
    # by hand for 256 channels: adapters 2 x (256 * 256 + 256), linear the same, 3x3 1 -> 1: 10;
    # non-local blocks of I inner channels: 3 (256 I + I) + 256 I + 256 + norm 512
    student, teacher = detectors(teacher_channels=256)
    student.channels = 256
    loss = AttentionGuidedNonLocal(student, teacher)
    expected = 5 * (3 * (256 * 256 + 256) + 10)
    for inner in (64, 64, 128, 128, 128):
        expected += 2 * (3 * (256 * inner + inner) + 256 * inner + 256 + 512)
    assert sum(p.numel() for p in loss.parameters()) == expected
