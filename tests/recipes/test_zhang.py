"""Zhang and Ma's attention and non-local blocks, position by position and as published."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from fake_detectors import detectors, identity, pointwise, seen
from maps import softmax
from torch import nn

from cwd.recipes.detection import zhang
from cwd.recipes.detection.zhang import AttentionGuidedNonLocal, Level, NonLocal, Published

KINDS = {1: (0.1, 4.2e-4, 2.4e-2, True), 2: (0.5, 7e-5, 4e-3, False)}


def spatial(x, temperature):
    """G of an image [C, H, W] as a list over positions."""
    channels, height, width = x.shape
    values = x.abs().flatten(1).tolist()
    means = [sum(row[n] for row in values) / channels for n in range(height * width)]
    return [v * height * width for v in softmax(means, temperature)]


def channelwise(x, temperature):
    """K of an image [C, H, W] as a list over channels."""
    means = [sum(map(abs, row)) / len(row) for row in x.flatten(1).tolist()]
    return [v * len(means) for v in softmax(means, temperature)]


def length(values):
    return math.sqrt(sum(v * v for v in values))


def naive_features(adapted, s, t, temperature, by_channel):
    """The masked term of a level: sums over a whole batch in numbers."""
    total = 0.0
    for a, x, y in zip(adapted, s, t, strict=True):
        masks = [spatial(z, temperature) for z in (x, y)]
        mask = [sum(pair) / 2 for pair in zip(*masks, strict=True)]
        weights = [1.0] * len(y)
        if by_channel:
            weights = channelwise(y, temperature)
            if len(x) == len(y):
                both = zip(channelwise(x, temperature), weights, strict=True)
                weights = [sum(pair) / 2 for pair in both]
        for c, weight in enumerate(weights):
            gaps = (y[c] - a[c]).flatten().tolist()
            total += sum(g * g * m * weight for g, m in zip(gaps, mask, strict=True))
    return math.sqrt(total)


def published_block(block, x, stride):
    """A non-local block with the [HW, N] matrix of all pairs, in training."""
    sides = [min(stride, side) for side in x.shape[2:]]
    rows, columns = (n // side for n, side in zip(x.shape[2:], sides, strict=True))

    def pooled(y):
        windows = [
            y[:, :, i * sides[0] : (i + 1) * sides[0], j * sides[1] : (j + 1) * sides[1]]
            for i in range(rows)
            for j in range(columns)
        ]
        return torch.stack([w.amax(dim=(2, 3)) for w in windows], dim=2)  # [B, I, N]

    theta = pointwise(block.theta, x).flatten(2)
    phi, g = (pooled(pointwise(conv, x)) for conv in (block.phi, block.g))
    pairs = torch.einsum("bip,bin->bpn", theta, phi) / (rows * columns)
    y = torch.einsum("bpn,bin->bip", pairs, g).reshape(len(x), -1, *x.shape[2:])
    y = pointwise(block.outer, y)
    if x[:, 0].numel() > 1:
        mean = y.mean(dim=(0, 2, 3), keepdim=True)
        y = (y - mean) / ((y - mean).square().mean(dim=(0, 2, 3), keepdim=True) + 1e-5).sqrt()
    else:  # one value has no variance: the running statistics, 0 and 1 at first
        y = y / math.sqrt(1 + 1e-5)
    return x + y * block.norm.weight[:, None, None] + block.norm.bias[:, None, None]


def naive_level(level, s, t, stride, settings):
    temperature, a, b, by_channel = settings
    total = a * naive_features(pointwise(level.features, s), s, t, temperature, by_channel)
    relation = pointwise(level.relations, published_block(level.student, s, stride))
    gaps = published_block(level.teacher, t, stride) - relation
    total += a * length(gaps.flatten().tolist())
    linear = level.over_positions
    gaps = []
    for x, y in zip(s.mean(dim=(2, 3)).tolist(), t.mean(dim=(2, 3)).tolist(), strict=True):
        for c, row in enumerate(linear.weight.tolist()):
            answer = sum(w * v for w, v in zip(row, x, strict=True)) + linear.bias[c].item()
            gaps.append(y[c] - answer)
    total += b * length(gaps)
    conv, gaps = level.over_channels, []
    for x, y in zip(s, t, strict=True):
        mean = F.pad(x.mean(0), (1, 1, 1, 1))
        for i, j in itertools.product(*map(range, y.shape[1:])):
            near = (mean[i : i + 3, j : j + 3] * conv.weight[0, 0]).sum() + conv.bias
            gaps.append((y[:, i, j].mean() - near).item())
    return total + b * length(gaps)


def disturbed(loss):
    """Norms that aren't zero, as after some training."""
    for module in loss.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return loss.double()


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize(("stages", "channels"), [(1, 4), (2, 4), (1, 6), (2, 6)])
def test_by_hand(stages, channels, batch):
    student, teacher = detectors(stages, teacher_channels=channels)
    loss = disturbed(AttentionGuidedNonLocal(student, teacher))
    size = (64, 96) if stages == 1 else (32, 64)
    s, t = seen(student, batch, size), seen(teacher, batch, size, seed=1, scale=2)
    value = loss(s, t, []).item()
    levels = zip(loss.levels, s.levels, t.levels, (8, 4, 2, 2, 2), strict=True)
    expected = sum(naive_level(*level, KINDS[stages]) for level in levels)
    assert value == pytest.approx(expected * math.sqrt(2 / batch), rel=1e-10)


def test_temperature_is_an_option_and_decides_the_masks():
    student, teacher = detectors()
    s, t = seen(student), seen(teacher, seed=1)
    values = []
    for options in ({}, {"temperature": 0.5}, {"temperature": 0.1}):
        torch.manual_seed(0)
        values.append(AttentionGuidedNonLocal(student, teacher, **options).double()(s, t, []))
    assert values[0] == values[1]
    assert values[0] != values[2]


def test_no_temperature_is_too_small_or_too_large():
    student, teacher = detectors(1)
    s, t = seen(student), seen(teacher, seed=1)
    for temperature in (1e-6, 1e6):
        loss = AttentionGuidedNonLocal(student, teacher, temperature=temperature).double()
        value = loss(s, t, [])
        assert all(g.isfinite().all() for g in torch.autograd.grad(value, s.levels))


def test_attention_is_one_on_average():
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    for mask, dims in ((zhang.over_positions, (2, 3)), (zhang.over_channels, 1)):
        means = mask(x, 0.3).mean(dim=dims)
        torch.testing.assert_close(means, torch.ones_like(means))


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


def test_images_seen_twice_change_nothing():
    # the published loss would grow with the root of the batch
    student, teacher = detectors()
    loss = disturbed(AttentionGuidedNonLocal(student, teacher))
    once = seen(student), seen(teacher, seed=1)
    twice = [x._replace(levels=[y.repeat(2, 1, 1, 1) for y in x.levels]) for x in once]
    torch.testing.assert_close(loss(*twice, []), loss(*once, []))


@pytest.mark.parametrize("by_channel", [False, True])
def test_gradient_with_masks_that_are_constants(by_channel, monkeypatch):
    level = disturbed(Level(4, 6, Published(0.5, 0.7, 0.4, by_channel), 4, 2))
    s = torch.randn(2, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    t = torch.randn(2, 6, 5, 6, dtype=torch.float64)
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
