"""Classifiers: their published sizes, what they give, and torchvision's weights in them."""

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from cwd.models.build import build_network, count_parameters
from cwd.system.errors import CwdError

TINY = "Classifier-MBV1(0.25, stride=8)"
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # torchvision's documentation of its weights
        ("R18", 11_689_512), ("R34", 21_797_672), ("R50", 25_557_032), ("R101", 44_549_160),
        ("R152", 60_192_808),
        # Tables 6 of MobileNet's paper: 4.2, 2.6, 1.3 and 0.5 million
        ("MBV1", 4_231_976), ("MBV1(0.75)", 2_585_560), ("MBV1(0.5)", 1_331_592),
        ("MBV1(0.25)", 470_072),
    ],
)  # fmt: skip
def test_published_numbers_of_parameters(name, parameters):
    network = build_network(f"Classifier-{name}", 1000, device="meta")
    assert count_parameters(network) == parameters


@pytest.mark.parametrize(
    ("name", "channels", "side"),
    [("R18(0.25)", 128, 2), ("R50(0.125, stride=16)", 256, 4), ("MBV1(0.25)", 256, 2),
     ("MBV1(stride=8, 0.5)", 512, 8), ("R18(stride=8)", 512, 8)],
)  # fmt: skip
def test_maps(name, channels, side):
    network = build_network(f"Classifier-{name}", 7).eval()
    score, feature = network(IMAGES)
    assert feature.shape == (2, channels, side, side)
    assert network.feature_channels == channels
    assert network.stride == 64 // side
    weight, bias = network.classifier.weight, network.classifier.bias
    expected = feature.double().mean(dim=(2, 3)) @ weight.double().T + bias.double()
    assert torch.allclose(score.double(), expected, atol=1e-5)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """torchvision's ResNet-18 with norms that are no identities, and its file."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(network.state_dict(), path)
    return network, path


def test_torchvisions_file(published):
    theirs, path = published
    ours = build_network("Classifier-R18", 1000, init=str(path)).eval()
    assert torch.allclose(ours(IMAGES).score, theirs(IMAGES), atol=1e-4)
    assert ours.init_report["ignored"] == []
    assert len(ours.init_report["matched"]) == len(theirs.state_dict())
    other = build_network("Classifier-R18", 8, init=str(path)).eval()
    assert torch.allclose(other(IMAGES).feature, ours(IMAGES).feature, atol=1e-4)
    assert other.init_report["ignored"] == ["fc.bias", "fc.weight"]


def test_public_weights(published, monkeypatch):
    """timm itself loads them, from a file in the place of its server."""
    theirs, path = published
    original = timm.create_model

    def local(name, *, pretrained, **settings):
        overlay = {"file": str(path), "url": "", "hf_hub_id": None} if pretrained else None
        return original(name, pretrained=pretrained, pretrained_cfg_overlay=overlay, **settings)

    monkeypatch.setattr(timm, "create_model", local)
    for init in ("imagenet", "timm:resnet18.a1_in1k"):
        ours = build_network("Classifier-R18", 1000, init=init).eval()
        assert torch.allclose(ours(IMAGES).score, theirs(IMAGES), atol=1e-4)
    other = build_network("Classifier-R18(stride=16)", 8, init="imagenet")
    state = theirs.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in other.backbone.state_dict().items())
    assert other.classifier.weight.shape == (8, 512)
    with pytest.raises(CwdError, match="another structure"):
        build_network("Classifier-R34", 8, init="timm:resnet18.tv_in1k")


def test_a_saved_classifier_is_a_beginning(tmp_path):
    whole = build_network(TINY, 5)
    save_file(whole.state_dict(), tmp_path / "student.safetensors")
    same = build_network(TINY, 5, init=str(tmp_path / "student.safetensors"))
    assert all(torch.equal(v, whole.state_dict()[k]) for k, v in same.state_dict().items())
    with pytest.raises(CwdError, match=r"covers .* tensors of Classifier-MBV1's backbone"):
        build_network("Classifier-MBV1", 5, init=str(tmp_path / "student.safetensors"))
