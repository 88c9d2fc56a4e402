"""Losses by hand in float64, and as their authors published them."""

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from maps import agree, channels, cosine, features, length, maps, mean_squares, positions, softmax

from cwd.losses import (
    AttentionTransfer,
    ChannelAlignment,
    ChannelMean,
    ChannelWise,
    IntraClassVariation,
    LocalAffinity,
    Mimic,
    PairwiseAffinity,
    PixelWise,
    Unnormalised,
    pairwise,
)

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
@pytest.mark.parametrize(("kind", "parts"), [(ChannelWise, channels), (PixelWise, positions)])
def test_equations_4_and_6_by_hand(kind, parts, metric, tau):
    student, teacher = maps()
    pairs = list(zip(parts(student), parts(teacher), strict=True))
    total = sum(METRICS[metric](softmax(t, tau), softmax(s, tau)) for s, t in pairs)
    value = kind(tau, metric)(student, teacher).item()
    assert value == pytest.approx(total * tau**2 / len(pairs), rel=1e-11)


def test_pi_as_released():
    """The published code takes KLDivLoss() with its default mean, over all elements."""
    student, teacher = maps()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of what that mean is
        expected = torch.nn.KLDivLoss()(student.log_softmax(1), teacher.softmax(1))
    assert torch.allclose(PixelWise(norm="released")(student, teacher), expected)
    # 10 of it are 10 / 19 of equation 6's on Cityscapes
    student, teacher = torch.randn(2, 2, 19, 4, 4, dtype=torch.float64)
    ratio = PixelWise(norm="released")(student, teacher) / PixelWise()(student, teacher)
    assert ratio.item() == pytest.approx(1 / 19)


@pytest.mark.parametrize("metric", ["kl", "l2"])
@pytest.mark.parametrize(
    ("kind", "parts"),
    [(ChannelMean, lambda x: [[sum(v) / len(v)] for v in channels(x)]), (Unnormalised, positions)],
)
def test_activations_by_hand(kind, parts, metric):
    student, teacher = (x.abs() + 0.1 for x in maps())
    pairs = list(zip(parts(student), parts(teacher), strict=True))
    expected = sum(METRICS[metric](t, s) for s, t in pairs) / len(pairs)
    assert kind(metric)(student, teacher).item() == pytest.approx(expected, rel=1e-11)


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


def local_distances(feature):
    """Table 1: for every position the sum of its distances to its neighbours."""
    total = []
    for i, j in feature:
        around = [(i + a, j + b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)]
        gaps = [
            [x - y for x, y in zip(feature[k], feature[i, j], strict=True)]
            for k in around
            if k in feature
        ]
        total.append(sum(map(length, gaps)))
    return total


@pytest.mark.parametrize("size", [(4, 5), (1, 5), (5, 1), (1, 1), (2, 2)])
def test_local_by_hand(size):
    student, teacher = maps((2, 3, *size), teacher_channels=4)
    pairs = zip(features(student), features(teacher), strict=True)
    expected = sum(mean_squares(local_distances(s), local_distances(t)) for s, t in pairs) / 2
    value = LocalAffinity()(student, teacher).item()
    assert value == pytest.approx(expected, rel=1e-12, abs=1e-15)


def pooled(feature, window):
    """Largest value of each channel in each window; the last windows may be cut off."""
    height, width = (1 + max(i[axis] for i in feature) for axis in (0, 1))
    rows = [range(a, min(a + window[0], height)) for a in range(0, height, window[0])]
    columns = [range(a, min(a + window[1], width)) for a in range(0, width, window[1])]
    return [
        [max(values) for values in zip(*(feature[i, j] for i in r for j in c), strict=True)]
        for r in rows
        for c in columns
    ]


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (4, 7), (1, 3)])
@pytest.mark.parametrize("scale", [0, 0.3, 0.5, 1])
def test_pairwise_by_hand(scale, size):
    student, teacher = maps((2, 3, *size), teacher_channels=4)
    window = [max(1, math.floor(side * scale)) for side in size]
    expected = 0.0
    for maps_ in zip(features(student), features(teacher), strict=True):
        s, t = (pooled(feature, window) for feature in maps_)
        pairs = [(i, j) for i in range(len(s)) for j in range(len(s))]
        u = [cosine(s[i], s[j]) for i, j in pairs]
        v = [cosine(t[i], t[j]) for i, j in pairs]
        expected += mean_squares(u, v) / 2
    value = PairwiseAffinity(scale)(student, teacher).item()
    assert value == pytest.approx(expected, rel=1e-11, abs=1e-15)


@pytest.mark.parametrize("block", [1, 2 * 42 * 5, 2 * 42 * 41, 2 * 42 * 42])
def test_pairwise_in_blocks_is_pairwise_at_once(block, monkeypatch):
    student, teacher = maps((2, 3, 6, 7))
    loss = PairwiseAffinity(0)
    whole, again = (loss(student, teacher) for _ in range(2))
    monkeypatch.setattr(pairwise, "BLOCK", block)
    agree(loss(student, teacher), whole, student)
    compiled = torch.compile(loss, dynamic=False, backend="aot_eager")
    agree(compiled(student, teacher), again, student)


def drawn(*size):
    return torch.randint(0, 3, size, generator=torch.Generator().manual_seed(3))


def labels():
    """Label maps for maps of 4x5, by what they try."""
    ignored, alone, nothing = (drawn(2, 4, 5) for _ in range(3))
    ignored[0, :2], ignored[1, 3] = 255, 255
    alone[0][alone[0] == 1] = 2  # classes 1 and 18 are in one image only
    alone[1, 0, 0] = 18
    nothing[0] = 255
    return {
        "plain": drawn(2, 4, 5),
        "ignored": ignored,
        "one image only": alone,
        "all ignored in one image": nothing,
        "larger than the map": drawn(2, 8, 10),
        "of an odd size": drawn(2, 9, 13),
    }


@pytest.mark.parametrize("target", labels().values(), ids=labels())
def test_intra_class_as_published(target):
    # YukangWang/IFVD: CriterionIFV, whose ignored pixels are their own mean, of cosine 1
    def similarity(x, target):
        small = F.interpolate(target[:, None].to(x.dtype), x.shape[2:], mode="nearest")
        small, center = small.expand(x.shape), x.clone()
        for i in range(19):
            mask = (small == i).to(x.dtype)
            mean = (mask * x).sum(-1).sum(-1) / (mask.sum(-1).sum(-1) + 1e-6)
            center = (1 - mask) * center + mask * mean[:, :, None, None]
        return F.cosine_similarity(x, center, dim=1)

    student, teacher = maps(teacher_channels=6)
    published = F.mse_loss(similarity(student, target), similarity(teacher.detach(), target))
    agree(IntraClassVariation()(student, teacher, target), published, student)


@pytest.mark.parametrize("loss", [LocalAffinity(), PairwiseAffinity(0), IntraClassVariation()])
def test_dead_features_keep_the_gradient_small(loss):
    student, teacher = (x.detach().float() for x in maps())
    student[:, :, :2] = 0
    value = loss(student.requires_grad_(), teacher, torch.zeros(2, 4, 5, dtype=torch.long))
    value.backward()
    assert student.grad.abs().max() < 100  # dividing by |y| + 1e-8 gives 10^6 and more


@pytest.mark.parametrize("ignored", [19, -1, -100, 300])
def test_intra_class_may_ignore_another_label(ignored):
    target = labels()["ignored"]
    expected = IntraClassVariation()(*maps(), target)
    other = target.masked_fill(target == 255, ignored)
    assert IntraClassVariation(ignored)(*maps(), other) == expected


@pytest.mark.parametrize("tau", [0.03, 1.0, 4.0, 1000.0])
def test_the_gradient_by_hand_is_autograds(tau):
    student, teacher = (x.double() for x in maps())
    log_t, log_s = (
        F.log_softmax(x.flatten(2) / tau, 2) for x in (teacher, student.requires_grad_())
    )
    expected = tau**2 * (log_t.exp() * (log_t - log_s)).sum(2).mean()
    (slope,) = torch.autograd.grad(3 * expected, student)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        loss = ChannelWise(tau)(student, teacher)
    assert [x.numel() for x in kept] == [student.numel()]  # one map alone
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(3 * loss, student)[0], slope)
