"""Products with matrices are torch's own pooling and enlarging."""

import pytest
import torch
import torch.nn.functional as F

from cwd.models import heads
from cwd.models.separable import blends, means, resized

TORCHS = {
    means: F.adaptive_avg_pool2d,
    blends: lambda x, size: F.interpolate(x, size=size, mode="bilinear", align_corners=True),
}


@pytest.mark.parametrize("make", TORCHS)
@pytest.mark.parametrize("size", [(6, 6), (3, 5), (1, 1), (1, 7), (65, 13)])
@pytest.mark.parametrize("shape", [(2, 3, 8, 16), (1, 4, 7, 5), (2, 2, 1, 1), (2, 3, 6, 6)])
def test_values_and_gradients_are_torchs(make, size, shape):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    ours, theirs = resized(x, make, *size), TORCHS[make](x, size)
    assert torch.allclose(ours, theirs, atol=1e-12)
    weights = torch.randn_like(theirs)
    gradients = (torch.autograd.grad(y, x, weights)[0] for y in (ours, theirs))
    assert torch.allclose(*gradients, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_the_networks_formats(dtype):
    x = torch.randn(2, 8, 33, 17).to(dtype).to(memory_format=torch.channels_last)
    for make, size in ((means, (6, 6)), (blends, (65, 65))):
        ours = resized(x, make, *size)
        assert ours.dtype == dtype
        assert ours.is_contiguous(memory_format=torch.channels_last)
        tolerance = 8 * torch.finfo(dtype).eps
        assert torch.allclose(ours, TORCHS[make](x, size), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("head", [heads.PyramidPooling, heads.AtrousPyramid])
def test_a_head_gives_the_same_either_way(head, monkeypatch):
    torch.manual_seed(0)
    network = head(8, 4).double().eval()
    x = torch.randn(2, 8, 9, 12, dtype=torch.float64, requires_grad=True)
    plain = network(x)
    monkeypatch.setattr(heads, "as_products", lambda x: True)
    products = network(x)
    assert torch.allclose(plain, products, atol=1e-10)
    gradients = (torch.autograd.grad(y.square().sum(), x)[0] for y in (plain, products))
    assert torch.allclose(*gradients, atol=1e-10)
