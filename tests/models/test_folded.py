"""A network whose norms are folded: the same maps, and no norm left."""

import pytest
import torch
from torch import nn

from cwd.models.build import build_network
from cwd.models.folded import fold_norms

NAMES = ("PSPNet-R18(0.25)", "Deeplab-R50(0.25)", "PSPNet-MBV2", "Deeplab-EL0", "FCN-R50")


@pytest.mark.parametrize("name", NAMES)
def test_maps_stay_as_they_are(name):
    torch.manual_seed(0)
    network = build_network(name, 5).double().eval()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():  # as if it had been trained
        for norm in norms:
            norm.running_mean.normal_(std=0.1)
            norm.running_var.uniform_(0.5, 2)
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(std=0.1)
        images = torch.randn(2, 3, 65, 97, dtype=torch.float64)
        plain = network(images)
        fold_norms(network)
        folded = network(images)
    assert norms
    assert not [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for kind in ("score", "feature", "backbone"):
        torch.testing.assert_close(getattr(folded, kind), getattr(plain, kind))
        assert getattr(plain, kind).std() > 1e-3


def test_the_networks_of_others_are_left_alone():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
    fold_norms(network)
    assert isinstance(network[1], nn.BatchNorm2d)
