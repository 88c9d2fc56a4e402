"""What the benchmark compares with computes the same as what it times."""

import torch

from cwd.experiments.profile import load_profile
from cwd.losses import ChannelWise, IntraClassVariation, PairwiseAffinity, PixelWise
from cwd.tools.bench import plain_step, published, published_ifvd, published_pa


def test_published_forms():
    maps, target = torch.randn(2, 2, 16, 8, 6, dtype=torch.float64), torch.randint(19, (2, 64, 48))
    for theirs, ours, rtol in (
        (published(*maps), ChannelWise()(*maps), 1e-6),
        (published(*maps, dim=1), PixelWise()(*maps), 1e-6),
        (published_pa(*maps), PairwiseAffinity(0)(*maps), 1e-6),
        (published_ifvd(*maps, target), IntraClassVariation()(*maps, target), 1e-4),
    ):
        torch.testing.assert_close(theirs, ours, rtol=rtol, atol=0)


def test_the_plain_step_learns():
    run = load_profile("smoke").run("CW_f", 0)
    plain_step(run, "cpu")()
