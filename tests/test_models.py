"""The networks: the paper's counts, the shapes, what they refuse."""

import os

import pytest
import timm
import torch
from safetensors.torch import save_file

from cwd.errors import CwdError
from cwd.models import (
    build_network,
    count_multiply_adds,
    count_parameters,
    load_network_weights,
)
from cwd.weights import STEM

SMALL = "PSPNet-R18(0.125)"


@pytest.mark.parametrize(
    ("name", "parameters", "printed", "multiply_adds"),
    [
        # printed: Table 6, in millions and in units of 10^9
        ("PSPNet-R101", 70.4373, 70.43, 574.9),
        ("PSPNet-R18", 13.0683, 13.07, 125.8),
        # the paper prints 3.835 M, which contradicts its own multiply-adds: 13.07 / 4 is 3.27
        ("PSPNet-R18(0.5)", 3.2717, 3.27, 31.53),
    ],
)
def test_counts_are_the_papers(name, parameters, printed, multiply_adds):
    network = build_network(name, 19, device="meta")
    assert count_parameters(network) / 1e6 == pytest.approx(parameters, abs=1e-4)
    assert count_parameters(network) / 1e6 == pytest.approx(printed, abs=0.01)
    assert count_multiply_adds(network) / 1e9 == pytest.approx(multiply_adds, rel=0.002)
    assert count_multiply_adds(name) == count_multiply_adds(network)


@pytest.mark.parametrize(("size", "expected"), [((64, 128), (9, 17)), ((120, 160), (16, 21))])
def test_shapes(size, expected):
    network = build_network(SMALL, 7)
    images = torch.randn(2, 3, *size)
    out = network(images)
    assert out.score.shape == out.aux_score.shape == (2, 7, *expected)
    assert out.feature.shape == (2, network.feature_channels, *expected) == (2, 16, *expected)
    assert network.eval()(images).aux_score is None


def test_a_crop_of_512_gives_maps_of_65():
    with torch.device("meta"):
        out = build_network("PSPNet-R18", 19)(torch.empty(2, 3, 512, 512))
    assert out.score.shape == (2, 19, 65, 65)
    assert out.feature.shape == (2, 128, 65, 65)


def test_gradient_reaches_everything():
    network = build_network(SMALL, 5)
    out = network(torch.randn(2, 3, 64, 64))
    (out.score.square().mean() + out.aux_score.square().mean()).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []
    # timm starts the last norm of each residual branch at zero, so at first no gradient passes it
    for part in ("backbone.conv1.0", "head.bottleneck.0", "classifier", "aux_head.0"):
        assert network.get_submodule(part).weight.grad.any(), part


def test_the_same_seed_gives_the_same_network():
    a, b = ((torch.manual_seed(3), build_network(SMALL, 5))[1] for _ in range(2))
    assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


@pytest.mark.parametrize(
    "name",
    ["PSPNet", "PSPNet-R19", "pspnet-r18", "PSPNet-R18(0)", "PSPNet-R18(0.1)", "PSPNet-R18(-1)",
     "PSPNet-R18(1.2.3)", "PSPNet-R18(1e400)", "PSPNet-R18(999999)", "PSPNet-R18(٣)",
     "PSPNet-R18(half)", "Deeplab-R19", "PSPNet-MBV1", "PSPNet-R18 ", "PSPNet-MBV2(0.3)",
     "PSPNet-R18(stem=deeper)", "PSPNet-R18(0.5, 0.5)", "PSPNet-R18(depth=2)", "FCN-R18",
     "PSPNet-MBV2(stem=plain)", "FCN-R50(0.5)", "PSPNet-R18(0.5, stem=plain)"],
)  # fmt: skip
def test_unknown_names(name):
    with pytest.raises(CwdError) as error:
        build_network(name, 19)
    assert name in str(error.value)


def test_one_class_is_too_few():
    with pytest.raises(CwdError, match="num_classes is 1"):
        build_network(SMALL, 1)


def test_a_batch_of_one_in_training():
    with pytest.raises(CwdError, match="at least 2"):
        build_network(SMALL, 5)(torch.zeros(1, 3, 64, 64))


def published_names(state):
    """A backbone's tensors as the authors' code and its checkpoints call them."""
    back = {timms: theirs for theirs, timms in STEM.items()}
    renamed = {}
    for key, value in state.items():
        first = next((t for t in back if key.startswith(t + ".")), None)
        renamed["module." + (back[first] + key[len(first) :] if first else key)] = value
    return {"state_dict": renamed | {"module.fc.weight": torch.zeros(3)}}


@pytest.mark.parametrize("form", ["timm.safetensors", "timm.pth", "published.pth"])
def test_backbone_from_a_local_file(tmp_path, form):
    wanted = build_network(SMALL, 5).backbone.state_dict()
    path = tmp_path / form
    if path.suffix == ".safetensors":
        save_file(wanted, path)
    else:
        torch.save(published_names(wanted) if "published" in form else wanted, path)
    network = build_network(SMALL, 7, init=str(path))
    found = network.backbone.state_dict()
    assert all(torch.equal(found[k], v) for k, v in wanted.items())
    assert network.init_report["matched"] == list(wanted)
    assert network.init_report["ignored"] == (["fc.weight"] if "published" in form else [])


@pytest.mark.parametrize("prefix", ["", "module."])
def test_backbone_from_a_whole_network(tmp_path, prefix):
    whole = build_network(SMALL, 5).state_dict()
    torch.save({prefix + key: value for key, value in whole.items()}, tmp_path / "whole.pth")
    network = build_network(SMALL, 7, init=str(tmp_path / "whole.pth"))
    found = network.backbone.state_dict()
    assert all(torch.equal(v, whole["backbone." + k]) for k, v in found.items())
    assert "classifier.weight" in network.init_report["ignored"]


@pytest.mark.parametrize(
    "content",
    [[1, 2], torch.zeros(2), {1: torch.zeros(1)}, {"conv1.0.weight": 3}, {"state_dict": 3}],
    ids=["list", "tensor", "numbered", "number", "wrapped-number"],
)
def test_a_file_with_anything_else(tmp_path, content):
    path = tmp_path / "odd.pth"
    torch.save(content, path)
    with pytest.raises(CwdError, match="read safely"):
        build_network(SMALL, 5, init=str(path))
    with pytest.raises(CwdError, match="read safely"):
        load_network_weights(build_network(SMALL, 5), path)


def test_a_file_that_does_not_cover_the_backbone(tmp_path):
    state = build_network(SMALL, 5).backbone.state_dict()
    del state["layer3.0.conv1.weight"]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(CwdError, match=r"covers .*, 1 are missing .*layer3\.0\.conv1\.weight"):
        build_network(SMALL, 5, init=str(tmp_path / "part.safetensors"))


def test_a_plain_stem_does_not_fit(tmp_path):
    plain = timm.create_model("resnet18", pretrained=False)
    torch.save(plain.state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(CwdError, match="deep stem"):
        build_network("PSPNet-R18", 5, init=str(tmp_path / "resnet18.pth"))


def test_a_missing_and_an_unsafe_file(tmp_path):
    with pytest.raises(CwdError, match="does not exist"):
        build_network(SMALL, 5, init=str(tmp_path / "nowhere.pth"))

    class Stranger:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    torch.save({"conv1.0.weight": Stranger()}, tmp_path / "stranger.pth")
    with pytest.raises(CwdError, match="read safely"):
        build_network(SMALL, 5, init=str(tmp_path / "stranger.pth"))
    assert not (tmp_path / "executed").exists()


def test_imagenet_is_never_silently_random(monkeypatch):
    def unreachable(*_, **options):
        assert options["pretrained"]
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(CwdError, match=r"resnet101s\.gluon_in1k can't be had"):
        build_network("PSPNet-R101", 19, init="imagenet")
    for name in ("PSPNet-R18", "PSPNet-R101(0.5)"):
        with pytest.raises(CwdError, match="no public ImageNet weights"):
            build_network(name, 19, init="imagenet")


def test_weights_of_another_network(tmp_path):
    path = tmp_path / "student.safetensors"
    save_file(build_network(SMALL, 5).state_dict(), path)
    load_network_weights(build_network(SMALL, 5), path)
    for other in (build_network(SMALL, 6), build_network("PSPNet-R18(0.25)", 5)):
        with pytest.raises(CwdError, match=r"student\.safetensors belongs to another network"):
            load_network_weights(other, path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CwdError, match="read safely"):
        load_network_weights(build_network(SMALL, 5), path)
