"""What the benchmark compares with computes the same as what it times."""

import functools

import pytest
import torch

from cwd.experiments.profile import load_profile
from cwd.losses import ChannelWise, IntraClassVariation, PairwiseAffinity, PixelWise
from cwd.tools.bench import plain_step, published, published_ifvd, published_pa

PAIRS = {
    "CW": (published, ChannelWise()),
    "PI": (functools.partial(published, dim=1), PixelWise()),
    "PA": (published_pa, PairwiseAffinity(0)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_published_forms(name):
    maps = torch.randn(2, 2, 19, 8, 6, dtype=torch.float64)
    theirs, ours = (form(*maps) for form in PAIRS[name])
    assert torch.allclose(theirs, ours, rtol=1e-6)


def test_published_ifvd():
    maps, target = torch.randn(2, 2, 16, 8, 6, dtype=torch.float64), torch.randint(19, (2, 64, 48))
    theirs, ours = (form(*maps, target) for form in (published_ifvd, IntraClassVariation()))
    assert torch.allclose(theirs, ours, rtol=1e-4)


def test_the_plain_step_learns():
    run = load_profile("smoke").run("CW_f", 0)
    plain_step(run, "cpu")()
