"""CW, PI and the metrics of Table 3: by hand in float64, and as their authors published them."""

import math

import pytest
import torch.nn.functional as F
from maps import agree, channels, maps, positions, softmax

from cwd.losses import ChannelMean, ChannelWise, PixelWise, Unnormalised

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


@pytest.mark.parametrize("tau", [1.0, 4.0])
@pytest.mark.parametrize("divergence", ["kl", "mse"])
@pytest.mark.parametrize("norm_type", ["channel", "spatial", "channel_mean", "none"])
def test_as_published_by_the_authors(norm_type, divergence, tau):
    # irfanICMLL/TorchDistiller: CriterionCWD, but for `none`, which compares preds[0] only there
    student, teacher = (x.abs() + 0.1 for x in maps())
    b, c, h, w = student.shape
    metric = "kl" if divergence == "kl" else "l2"
    normalise, loss, count = {
        "channel": (
            lambda x: (x / tau).view(b, c, -1).softmax(-1),
            ChannelWise(tau, metric),
            b * c / tau**2,
        ),
        "spatial": (lambda x: (x / tau).softmax(1), PixelWise(tau, metric), b * h * w / tau**2),
        "channel_mean": (lambda x: x.view(b, c, -1).mean(-1), ChannelMean(metric), b * c),
        "none": (lambda x: x, Unnormalised(metric), b * h * w),
    }[norm_type]
    s, t = normalise(student), normalise(teacher.detach())
    published = (
        F.kl_div(s.log(), t, reduction="sum") if divergence == "kl" else (s - t).pow(2).sum()
    )
    agree(loss(student, teacher), published / count, student)
