"""MIMIC, AT, the controls and the alignment: by hand in float64, and as published."""

import math

import pytest
import torch
import torch.nn.functional as F
from maps import agree, features, length, maps, mean_squares

from cwd.losses import AttentionTransfer, ChannelAlignment, ChannelMean, Mimic, Unnormalised
from cwd.system.errors import CwdError


def test_mimic_by_hand():
    student, teacher = maps()
    expected = mean_squares(student.flatten().tolist(), teacher.flatten().tolist())
    assert Mimic()(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(Unnormalised()(student, teacher), 3 * Mimic()(student, teacher))


@pytest.mark.parametrize("p", [1, 2, 3, 2.5])
def test_attention_transfer_by_hand(p):
    student, teacher = maps(teacher_channels=5)
    total = 0.0
    for s, t in zip(features(student), features(teacher), strict=True):
        q_s, q_t = ([sum(abs(a) ** p for a in x[i]) for i in x] for x in (s, t))
        total += mean_squares([a / length(q_s) for a in q_s], [a / length(q_t) for a in q_t])
    value = AttentionTransfer(p)(student, teacher).item()
    assert value == pytest.approx(total / 2, rel=1e-12)


def test_attention_transfer_as_published():
    # zagoruyko/attention-transfer: at() and at_loss()
    def at(x):
        return F.normalize(x.pow(2).mean(1).view(x.size(0), -1))

    student, teacher = maps(teacher_channels=7)
    published = (at(student) - at(teacher.detach())).pow(2).mean()
    agree(AttentionTransfer()(student, teacher), published, student)


@pytest.mark.parametrize("loss", [ChannelMean("kl"), Unnormalised("kl")])
def test_activations_below_the_least_count_as_it(loss):
    negative, positive = torch.full((1, 1, 1, 2), -3.0), torch.full((1, 1, 1, 2), 2.0)
    assert loss(negative, positive).item() == pytest.approx(2 * math.log(2e6), rel=1e-6)
    assert loss(positive, negative).item() == pytest.approx(1e-6 * math.log(5e-7), rel=1e-6)


def test_alignment():
    x = torch.randn(2, 3, 4, 5)
    plain = ChannelAlignment(3, 7)
    assert plain(x).shape == (2, 7, 4, 5)
    assert sum(p.numel() for p in plain.parameters()) == 3 * 7 + 7
    published = ChannelAlignment(3, 7, "conv-bn-relu")
    assert published(x).min() == 0
    assert sum(p.numel() for p in published.parameters()) == 3 * 7 + 7 + 7
    with pytest.raises(CwdError, match="align=linear"):
        ChannelAlignment(3, 7, "linear")
