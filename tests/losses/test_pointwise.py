"""Point-wise and channel-wise losses: by hand in float64, and as their authors published them."""

import math

import pytest
import torch
import torch.nn.functional as F
from maps import agree, features, length, maps, softmax

from cwd.losses import (
    AttentionTransfer,
    ChannelMean,
    ChannelWise,
    Mimic,
    PixelWise,
    Unnormalised,
)
from cwd.system.errors import CwdError

METRICS = {
    "kl": lambda p, q: sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)),
    "swapped": lambda p, q: sum(b * math.log(b / a) for a, b in zip(p, q, strict=True)),
    "bhattacharyya": lambda p, q: (
        -math.log(sum(math.sqrt(a * b) for a, b in zip(p, q, strict=True)))
    ),
    "l2": lambda p, q: sum((a - b) ** 2 for a, b in zip(p, q, strict=True)),
}


@pytest.mark.parametrize("tau", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("metric", METRICS)
def test_channel_wise_metrics_by_hand(metric, tau):
    student, teacher = maps()
    total = 0.0
    for b in range(2):
        for c in range(3):
            p = softmax(teacher[b, c].flatten().tolist(), tau)
            q = softmax(student[b, c].flatten().tolist(), tau)
            total += METRICS[metric](p, q)
    value = ChannelWise(tau, metric)(student, teacher).item()
    assert value == pytest.approx(total * tau**2 / (2 * 3), rel=1e-11)


@pytest.mark.parametrize("tau", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("metric", METRICS)
def test_pixel_wise_metrics_by_hand(metric, tau):
    student, teacher = maps()
    total = 0.0
    for s, t in zip(features(student), features(teacher), strict=True):
        total += sum(METRICS[metric](softmax(t[i], tau), softmax(s[i], tau)) for i in s)
    value = PixelWise(tau, metric)(student, teacher).item()
    assert value == pytest.approx(total * tau**2 / (2 * 4 * 5), rel=1e-11)


def test_mimic_by_hand():
    student, teacher = maps()
    s, t = student.flatten().tolist(), teacher.flatten().tolist()
    total = sum((a - b) ** 2 for a, b in zip(s, t, strict=True))
    assert Mimic()(student, teacher).item() == pytest.approx(total / (2 * 3 * 4 * 5), rel=1e-12)


@pytest.mark.parametrize("p", [1, 2, 3, 2.5])
def test_attention_transfer_by_hand(p):
    student, teacher = maps(teacher_channels=5)
    total = 0.0
    for s, t in zip(features(student), features(teacher), strict=True):
        q_s = [sum(abs(a) ** p for a in s[i]) for i in s]
        q_t = [sum(abs(a) ** p for a in t[i]) for i in s]
        long_s, long_t = length(q_s), length(q_t)
        total += sum((a / long_s - b / long_t) ** 2 for a, b in zip(q_s, q_t, strict=True))
    value = AttentionTransfer(p)(student, teacher).item()
    assert value == pytest.approx(total / (2 * 4 * 5), rel=1e-12)


@pytest.mark.parametrize("metric", ["l2", "kl"])
def test_channel_mean_by_hand(metric):
    student, teacher = maps()
    student, teacher = student + 3, teacher + 3  # positive means, for the logarithm
    total = 0.0
    for b in range(2):
        for c in range(3):
            s = sum(student[b, c].flatten().tolist()) / 20
            t = sum(teacher[b, c].flatten().tolist()) / 20
            total += (s - t) ** 2 if metric == "l2" else t * math.log(t / s)
    value = ChannelMean(metric)(student, teacher).item()
    assert value == pytest.approx(total / (2 * 3), rel=1e-12)


@pytest.mark.parametrize("metric", ["l2", "kl"])
def test_unnormalised_by_hand(metric):
    student, teacher = (x.abs() + 0.1 for x in maps())
    total = 0.0
    for s, t in zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True):
        total += (s - t) ** 2 if metric == "l2" else t * math.log(t / s)
    value = Unnormalised(metric)(student, teacher).item()
    assert value == pytest.approx(total / (2 * 4 * 5), rel=1e-12)


@pytest.mark.parametrize("loss", [ChannelMean("kl"), Unnormalised("kl")])
def test_activations_below_the_least_count_as_it(loss):
    negative, positive = torch.full((1, 1, 1, 2), -3.0), torch.full((1, 1, 1, 2), 2.0)
    assert loss(negative, positive).item() == pytest.approx(2 * math.log(2e6), rel=1e-6)
    assert loss(positive, negative).item() == pytest.approx(1e-6 * math.log(5e-7), rel=1e-6)


def test_unnormalised_sees_every_image():
    student, teacher = (x.detach() for x in maps())
    loss = Unnormalised()
    before = loss(student, teacher)
    student[1] += 1
    assert loss(student, teacher) != before


def test_unnormalised_is_c_times_mimic():
    student, teacher = maps()
    torch.testing.assert_close(Unnormalised()(student, teacher), 3 * Mimic()(student, teacher))


def test_attention_transfer_as_published():
    # zagoruyko/attention-transfer: at() and at_loss()
    def at(x):
        return F.normalize(x.pow(2).mean(1).view(x.size(0), -1))

    student, teacher = maps(teacher_channels=7)
    published = (at(student) - at(teacher.detach())).pow(2).mean()
    agree(AttentionTransfer()(student, teacher), published, student)


@pytest.mark.parametrize("tau", [1.0, 4.0])
@pytest.mark.parametrize("divergence", ["kl", "mse"])
@pytest.mark.parametrize("norm_type", ["channel", "spatial", "channel_mean", "none"])
def test_as_published_by_the_authors(norm_type, divergence, tau):
    # irfanICMLL/TorchDistiller: CriterionCWD, but for `none`, which compares preds[0] only there
    student, teacher = (x.abs() + 0.1 for x in maps())
    b, c, h, w = student.shape
    s, t = student, teacher.detach()
    if norm_type == "channel":
        s, t = ((x / tau).view(b, c, -1).softmax(-1) for x in (s, t))
        loss = ChannelWise(tau, "kl" if divergence == "kl" else "l2")
    elif norm_type == "spatial":
        s, t = ((x / tau).softmax(1) for x in (s, t))
        loss = PixelWise(tau, "kl" if divergence == "kl" else "l2")
    elif norm_type == "channel_mean":
        s, t = (x.view(b, c, -1).mean(-1) for x in (s, t))
        loss = ChannelMean("kl" if divergence == "kl" else "l2")
    else:
        loss = Unnormalised("kl" if divergence == "kl" else "l2")
    published = (
        F.kl_div(s.log(), t, reduction="sum") if divergence == "kl" else (s - t).pow(2).sum()
    )
    published = published / (b * c if norm_type in {"channel", "channel_mean"} else b * h * w)
    if norm_type in {"channel", "spatial"}:
        published = published * tau**2
    agree(loss(student, teacher), published, student)


@pytest.mark.parametrize("metric", METRICS)
def test_a_channels_constant_changes_nothing(metric):
    student, teacher = maps()
    moved = student + torch.randn(2, 3, 1, 1, dtype=torch.float64)
    loss = ChannelWise(2.0, metric)
    torch.testing.assert_close(loss(moved, teacher), loss(student, teacher))
    other = student + torch.randn(2, 1, 4, 5, dtype=torch.float64)
    assert not torch.isclose(loss(other, teacher), loss(student, teacher))


@pytest.mark.parametrize("metric", METRICS)
def test_a_pixels_constant_changes_nothing(metric):
    student, teacher = maps()
    moved = student + torch.randn(2, 1, 4, 5, dtype=torch.float64)
    loss = PixelWise(2.0, metric)
    torch.testing.assert_close(loss(moved, teacher), loss(student, teacher))


@pytest.mark.parametrize("p", [1, 2, 3])
def test_attention_ignores_scale_and_sign(p):
    student, teacher = maps()
    loss = AttentionTransfer(p)
    factor = torch.tensor([0.01, -7.0], dtype=torch.float64).view(2, 1, 1, 1)  # one per image
    torch.testing.assert_close(loss(factor * student, teacher), loss(student, teacher))


def test_channel_mean_ignores_where():
    student, teacher = maps()
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    moved = student.flatten(2)[:, :, order].view(student.shape)
    torch.testing.assert_close(ChannelMean()(moved, teacher), ChannelMean()(student, teacher))
    assert not torch.isclose(Mimic()(moved, teacher), Mimic()(student, teacher))


def test_bhattacharyya_and_l2_are_symmetric_and_kl_is_not():
    student, teacher = maps()
    for kind in (ChannelWise, PixelWise):
        for metric in ("bhattacharyya", "l2"):
            loss = kind(1.0, metric)
            torch.testing.assert_close(loss(student, teacher), loss(teacher, student))
        there, back = kind(1.0, "kl"), kind(1.0, "swapped")
        torch.testing.assert_close(there(student, teacher), back(teacher, student))
        assert not torch.isclose(there(student, teacher), back(student, teacher))


@pytest.mark.parametrize("kind", [ChannelWise, PixelWise, ChannelMean, Unnormalised])
def test_unknown_metric(kind):
    with pytest.raises(CwdError, match="metric=cosine is unknown"):
        kind(metric="cosine")


@pytest.mark.parametrize("p", [0, -1, math.inf, math.nan, "two"])
def test_bad_power(p):
    with pytest.raises(CwdError, match=f"p={p} is no power"):
        AttentionTransfer(p)
