"""The networks: the paper's counts, the shapes, what they refuse."""

import os

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from cwd.models.heads import AtrousPyramid
from cwd.models.segmentation import (
    build_network,
    count_multiply_adds,
    count_parameters,
    load_network_weights,
)
from cwd.models.weights import STEM
from cwd.system import paths
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
    assert count_multiply_adds(network) / 1e9 == pytest.approx(multiply_adds, rel=0.002)
    assert count_multiply_adds(name) == count_multiply_adds(network)


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


@pytest.mark.parametrize("name", ["PSPNet-MBV2(0.35)", "Deeplab-MBV2(0.35)", "Deeplab-R18(0.125)"])
def test_other_students_train(name):
    network = build_network(name, 5)
    out = network(torch.randn(2, 3, 64, 64))
    assert out.score.shape[:2] == (2, 5)
    assert (out.aux_score is None) == ("MBV2" in name)
    terms = [out.score, out.feature] + ([out.aux_score] if out.aux_score is not None else [])
    sum(term.square().mean() for term in terms).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []
    assert network.eval()(torch.randn(1, 3, 64, 64)).score.shape[2:] == out.score.shape[2:]


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


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict"])
def test_a_checkpoint_around_the_weights(tmp_path, wrapper):
    wanted = build_network(SMALL, 5).backbone.state_dict()
    inside = {f"model.backbone.{key}": value.half() for key, value in wanted.items()}
    torch.save({wrapper: inside | {"iterations": 7}, "epoch": 3}, tmp_path / "checkpoint.pth")
    network = build_network(SMALL, 7, init=str(tmp_path / "checkpoint.pth"))
    assert len(network.init_report["matched"]) == len(wanted)
    found = network.backbone.conv1[0].weight
    assert torch.equal(found, wanted["conv1.0.weight"].half().float())


@pytest.mark.parametrize("name", ["FCN-R50", "DeepLabV3-R101", SMALL])
@pytest.mark.parametrize("init", ["timm:", "timm:nonsense"])
def test_a_name_of_no_weights(name, init):
    with pytest.raises(CwdError, match=r"names no weights|can't be had"):
        build_network(name, 5, init=init)


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


def test_torchvisions_resnet(tmp_path):
    """Its plain stem doesn't fit the authors' deep one, and does where the name asks for it."""
    path = tmp_path / "resnet18.pth"
    whole = torchvision.models.resnet18()
    torch.save(whole.state_dict(), path)
    with pytest.raises(CwdError, match=r"use such a file, or the network PSPNet-R18\(stem=plain\)"):
        build_network("PSPNet-R18", 5, init=str(path))
    network = build_network("PSPNet-R18(stem=plain)", 5, init=str(path))
    assert network.init_report["ignored"] == ["fc.bias", "fc.weight"]
    assert len(network.init_report["matched"]) == len(whole.state_dict()) - 2
    images = torch.randn(1, 3, 64, 64)
    whole.eval()
    first = whole.layer1(whole.maxpool(whole.relu(whole.bn1(whole.conv1(images)))))
    backbone = network.eval().backbone
    backbone.maxpool.ceil_mode = False
    mine = backbone.layer1(backbone.maxpool(backbone.act1(backbone.bn1(backbone.conv1(images)))))
    torch.testing.assert_close(mine, first)


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


def test_torchvisions_resnet_in_its_own_network(tmp_path):
    torch.save(torchvision.models.resnet50().state_dict(), tmp_path / "resnet50.pth")
    network = build_network("DeepLabV3-R50", 5, init=str(tmp_path / "resnet50.pth"))
    assert network.init_report["ignored"] == ["fc.bias", "fc.weight"]


def test_a_relative_path_is_taken_from_the_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    save_file(build_network(SMALL, 5).backbone.state_dict(), tmp_path / "small.safetensors")
    assert build_network(SMALL, 7, init="small.safetensors").init_report["matched"]


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
    def unreachable(*names, **options):
        if options["pretrained"]:
            raise OSError("no network")
        return original(*names, **options)

    original = timm.create_model

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(CwdError, match=r"resnet101s\.gluon_in1k can't be had"):
        build_network("PSPNet-R101", 19, init="imagenet")
    for name, weights in (
        ("Deeplab-MBV2", r"mobilenetv2_100\.ra_in1k"),
        ("PSPNet-R18(stem=plain)", r"resnet18\.tv_in1k"),
    ):
        with pytest.raises(CwdError, match=f"{weights} can't be had"):
            build_network(name, 19, init="imagenet")
    for name in ("PSPNet-R18", "PSPNet-R101(0.5)", "PSPNet-MBV2(0.35)"):
        with pytest.raises(CwdError, match="no public ImageNet weights"):
            build_network(name, 19, init="imagenet")


def test_timms_weights_by_name(monkeypatch):
    """They are loaded where they have the structure, and refused where they haven't."""

    def pretrained(name, **options):
        if options.pop("pretrained"):
            asked.append(name)
            found = original(name, pretrained=False, **options)
            torch.nn.init.constant_(found.bn1.weight, 3.0)
            return found
        return original(name, pretrained=False, **options)

    asked, original = [], timm.create_model
    monkeypatch.setattr(timm, "create_model", pretrained)
    network = build_network("PSPNet-R18(stem=plain)", 5, init="timm:resnet18.a1_in1k")
    assert asked == ["resnet18.a1_in1k"]
    assert (network.backbone.bn1.weight == 3).all()
    with pytest.raises(CwdError, match=r"resnet34\.a1_in1k can't be had, or have another"):
        build_network("PSPNet-R18(stem=plain)", 5, init="timm:resnet34.a1_in1k")


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
