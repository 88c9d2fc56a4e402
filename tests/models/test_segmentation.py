"""The segmentation networks: the paper's counts, the shapes, and where gradients go."""

import pytest
import torch

from cwd.models.build import build_network, count_multiply_adds, count_parameters
from cwd.models.heads import AtrousPyramid
from cwd.system.errors import CwdError

SMALL = "PSPNet-R18(0.125)"


@pytest.mark.parametrize(
    ("name", "parameters", "printed", "multiply_adds"),
    [
        # printed: Table 6, in millions and in units of 10^9
        ("PSPNet-R101", 70.4373, 70.43, 574.9),
        ("PSPNet-R18", 13.0683, 13.07, 125.8),
        # the paper prints 3.835 M, which contradicts its own multiply-adds: 13.07 / 4 is 3.27
        ("PSPNet-R18(0.5)", 3.2717, 3.27, 31.53),
        ("PSPNet-MBV2", 1.9826, 1.98, 16.40),
        ("Deeplab-R18(0.5)", 3.1589, 3.15, 31.06),
        ("Deeplab-R18", 12.6173, 12.62, 123.9),
        ("Deeplab-MBV2", 2.4499, 2.45, 20.39),
    ],
)
def test_counts_are_the_papers(name, parameters, printed, multiply_adds):
    network = build_network(name, 19, device="meta")
    assert count_parameters(network) / 1e6 == pytest.approx(parameters, abs=1e-4)
    assert count_parameters(network) / 1e6 == pytest.approx(printed, abs=0.01)
    # of a network, or of its name
    counted = count_multiply_adds(network if "MBV2" in name else name)
    assert counted / 1e9 == pytest.approx(multiply_adds, rel=0.002)


@pytest.mark.parametrize(
    ("name", "published"),
    # as torchvision documents its weights of them, for 21 classes
    [("FCN-R101", 54_314_346), ("DeepLabV3-R101", 60_996_202), ("FCN-R50", 35_322_218),
     ("DeepLabV3-R50", 42_004_074)],
)  # fmt: skip
def test_torchvisions_networks(name, published):
    network = build_network(name, 21, device="meta")
    assert count_parameters(network) == published
    with torch.device("meta"):
        out = network(torch.empty(2, 3, 64, 96))
    assert out.score.shape == out.aux_score.shape == (2, 21, 8, 12)
    assert out.feature.shape == (2, network.feature_channels, 8, 12)


@pytest.mark.parametrize(
    "name",
    [SMALL, "PSPNet-MBV2(0.35)", "Deeplab-MBV2(0.35)", "Deeplab-R18(0.125)",
     "Classifier-R18(0.125, stride=8)", "Classifier-MBV1(0.25, stride=8)"],
)  # fmt: skip
def test_gradient_reaches_everything(name):
    network = build_network(name, 5)
    out = network(torch.randn(2, 3, 64, 64))
    terms = [term for term in out[:3] if term is not None]  # the fourth is what the head sees
    assert len(terms) == (3 if name in (SMALL, "Deeplab-R18(0.125)") else 2)
    sum(term.square().mean() for term in terms).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []
    assert network.eval()(torch.randn(1, 3, 64, 64)).score.shape[1:] == out.score.shape[1:]
    # timm starts the last norm of each residual branch at zero, so at first no gradient passes it
    for part in ("backbone.conv1.0", "head.bottleneck.0", "classifier", "aux_head.0"):
        assert name != SMALL or network.get_submodule(part).weight.grad.any(), part


def test_the_atrous_head_sees_at_its_rates():
    """A position's feature depends on those 0, 12, 24 and 36 away, and on the image's mean."""
    head = AtrousPyramid(4, 8).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.abs_()  # so that no ReLU is shut
        head.image[1].weight.zero_()  # the mean reaches everywhere
    x = torch.rand(1, 4, 81, 81, requires_grad=True)
    head(x)[0, :, 40, 40].square().sum().backward()
    reached = x.grad[0].abs().sum(dim=0).nonzero().tolist()
    steps = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    expected = {(40 + a * rate, 40 + b * rate) for rate in (12, 24, 36) for a, b in steps}
    assert {tuple(place) for place in reached} == expected


@pytest.mark.parametrize(
    ("size", "expected"), [((64, 128), (9, 17)), ((120, 160), (16, 21)), ((512, 512), (65, 65))]
)
def test_shapes(size, expected):
    network = build_network(SMALL, 7, device="meta")
    images = torch.empty(2, 3, *size, device="meta")
    out = network(images)
    assert out.score.shape == out.aux_score.shape == (2, 7, *expected)
    assert out.backbone.shape == (2, network.backbone_channels, *expected)
    assert out.feature.shape == (2, network.feature_channels, *expected) == (2, 16, *expected)
    assert network.eval()(images).aux_score is None
    with pytest.raises(CwdError, match="at least 2"):
        network.train()(images[:1])
