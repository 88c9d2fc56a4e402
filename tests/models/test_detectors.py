"""The detectors: torchvision's own with the same weights, and known parameter counts."""

import pytest
import timm
import torch
import torchvision
from timm.layers import convert_sync_batchnorm
from torch import nn
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvisions import TARGETS, Levels, untouched

from cwd.experiments.network_costs import parameters_of
from cwd.models.detection.detectors import build_detector
from cwd.models.detection.names import parse_detector
from cwd.models.detection.pyramid import Backbone, Pyramid
from cwd.system.errors import CwdError

SMALL = "(0.125, fpn=16, anchor=16)"


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def images():
    return torch.randn(3, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def as_torchvisions(detector):
    """torchvision's whole detector around our pyramid and its heads."""
    backbone = Levels(detector)
    if detector.name.startswith("Faster"):
        whole = TorchvisionFasterRCNN(backbone, detector.num_classes + 1)
        whole.rpn, whole.roi_heads = detector.rpn, detector.roi_heads
    else:
        head, anchors = detector.whole.head, detector.anchor_generator
        whole = TorchvisionRetinaNet(
            backbone, detector.num_classes, anchor_generator=anchors, head=head,
            detections_per_img=100,
        )  # fmt: skip
    whole.transform = untouched((64, 96))
    return whole


@pytest.mark.parametrize(("kind", "first"), [("FasterRCNN", 1), ("RetinaNet", 0)])
def test_losses_are_torchvisions(kind, first, images):
    torch.manual_seed(0)
    detector = build_detector(f"{kind}-R18{SMALL}", 3).train()
    whole = as_torchvisions(detector).train()
    for module in detector.modules():  # so that two passes see the same statistics
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    wanted = [{"boxes": t.boxes, "labels": t.labels + first} for t in TARGETS]
    torch.manual_seed(1)
    theirs = whole(list(images), wanted)
    torch.manual_seed(1)  # regions are sampled
    ours = detector(images, TARGETS).losses
    assert len(ours) == len(theirs)
    expected = sorted(value.item() for value in theirs.values())
    assert sorted(value.item() for value in ours.values()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("kind", "first"), [("FasterRCNN", 1), ("RetinaNet", 0)])
def test_detections_are_torchvisions(kind, first, images):
    torch.manual_seed(0)
    detector = build_detector(f"{kind}-R18{SMALL}", 3).eval()
    if first == 0:  # else no score passes the threshold with random weights
        nn.init.zeros_(detector.whole.head.classification_head.cls_logits.bias)
    whole = as_torchvisions(detector).eval()
    ours = detector.detect(images, [(64, 96)] * 3)
    with torch.no_grad():
        theirs = whole(list(images))
    for mine, other in zip(ours, theirs, strict=True):
        assert 0 < len(mine.boxes) <= 100
        torch.testing.assert_close(mine.boxes, other["boxes"])
        torch.testing.assert_close(mine.scores, other["scores"])
        assert torch.equal(mine.labels + first, other["labels"])


def test_faster_rcnn_has_torchvisions_parameters():
    with torch.device("meta"):
        whole = torchvision.models.detection.fasterrcnn_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=81
        )
    assert 1e6 * parameters_of("FasterRCNN-R50") == pytest.approx(count(whole))


def test_retinanet_differs_from_torchvisions_in_p6_alone():
    with torch.device("meta"):
        whole = torchvision.models.detection.retinanet_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=80
        )
    p6 = (2048 - 256) * 256 * 3 * 3  # from C5, not from P5
    assert 1e6 * parameters_of("RetinaNet-R50") == pytest.approx(count(whole) + p6)


def test_trainable_parameters_of_reppoints_are_the_papers():
    assert round(parameters_of("RepPoints-R50", trainable=True), 2) == 36.62  # Table 9


@pytest.mark.parametrize("model", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_stages_are_timms_before_the_relu(model):
    torch.manual_seed(0)
    settings = {"features_only": True, "out_indices": (1, 2, 3, 4)}
    original = timm.create_model(model, **settings).eval()
    for module in original.modules():  # so that the residual branches count
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
    body = timm.create_model(model, **settings)
    body.load_state_dict(original.state_dict())
    backbone = Backbone(body).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(backbone(images), original(images), strict=True):
            assert (ours < 0).any()
            torch.testing.assert_close(ours.relu(), theirs)


def test_last_norms_are_those_before_the_stages_end():
    body = timm.create_model("resnet50", features_only=True, out_indices=(1, 2, 3, 4))
    norms = Backbone(body).last_norms()
    assert [norm.num_features for norm in norms] == [256, 512, 1024, 2048]
    assert norms[1] is body["layer2"][3].bn3


def test_coarse_levels_by_hand():
    torch.manual_seed(0)
    pyramid = Pyramid((4, 8), 16, extra="conv")
    stages = [torch.randn(1, 4, 8, 12), torch.randn(1, 8, 4, 6)]
    convs, levels = pyramid(stages)
    p6 = nn.functional.conv2d(
        stages[-1], pyramid.coarse[0][0].weight, pyramid.coarse[0][0].bias, 2, 1
    )
    p7 = nn.functional.conv2d(p6, pyramid.coarse[1][0].weight, pyramid.coarse[1][0].bias, 2, 1)
    torch.testing.assert_close(levels[2], p6)
    torch.testing.assert_close(levels[3], p7)  # no ReLU between
    inner = pyramid.inner_blocks[0](stages[0])
    inner += pyramid.inner_blocks[1](stages[1]).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(levels[0], pyramid.layer_blocks[0](inner))
    assert all(a is b for a, b in zip(convs, levels, strict=True))


def test_a_pretrained_backbone_is_partly_frozen():
    body = timm.create_model("resnet18", features_only=True, out_indices=(1, 2, 3, 4))
    backbone = Backbone(body, pretrained=True).train()
    fixed = {name for name, p in backbone.body.named_parameters() if not p.requires_grad}
    assert {name.partition(".")[0] for name in fixed} == {"conv1", "bn1", "layer1"}
    assert not body["layer4"][1].bn2.training
    assert body["layer4"].training
    assert body["layer4"][1].bn2.weight.requires_grad


def test_it_stays_frozen_where_processes_share_batches():
    body = timm.create_model("resnet18", features_only=True, out_indices=(1, 2, 3, 4))
    backbone = convert_sync_batchnorm(Backbone(body, pretrained=True)).train()
    norms = [m for m in backbone.modules() if isinstance(m, nn.SyncBatchNorm)]
    assert len(norms) == 20
    assert not any(norm.training for norm in norms)


def test_weights_from_a_local_file(tmp_path):
    path = tmp_path / "resnet18.pth"
    source = timm.create_model("resnet18")
    torch.save(source.state_dict(), path)
    detector = build_detector("RetinaNet-R18(fpn=16)", 3, init=str(path))
    assert torch.equal(
        detector.backbone.body["layer4"][1].conv2.weight, source.layer4[1].conv2.weight
    )
    assert detector.init_report["ignored"] == ["fc.bias", "fc.weight"]
    assert detector.backbone.pretrained
    with pytest.raises(CwdError, match=r"resnet18\.pth covers"):
        build_detector("RetinaNet-R34(fpn=16)", 3, init=str(path))


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("RetinaNet-R51", "R51"),
        ("SSD-R50", "SSD"),
        ("RepPoints-R50(anchor=16)", "anchor=16"),
        ("RetinaNet-R50(regions=16)", "regions=16"),
        ("FasterRCNN-R50(norm=group)", "norm=group"),
        ("FasterRCNN-R50(fpn=20)", "fpn=20"),
        ("FasterRCNN-R50(0.3)", "0.3"),
        ("FasterRCNN-X101-32x4d(0.5)", "0.5"),
        ("FasterRCNN-R50(fpn=16, fpn=16)", "fpn=16"),
        ("FasterRCNN", "FasterRCNN"),
    ],
)
def test_unknown_names(name, word):
    with pytest.raises(CwdError, match=word.replace("(", r"\(")):
        parse_detector(name)


def test_a_name_says_it_all():
    arch = parse_detector("FasterRCNN-R18(0.25, fpn=64, anchor=16, regions=32)")
    assert (arch.factor, arch.channels, arch.anchor, arch.regions) == (0.25, 64, 16, 32)
    detector = build_detector(arch.name, 3, device="meta")
    assert detector.stage_channels == (16, 32, 64, 128)
    assert detector.roi_heads.fg_bg_sampler.batch_size_per_image == 32
    assert detector.rpn.fg_bg_sampler.batch_size_per_image == 16


@pytest.mark.parametrize("name", ["FasterRCNN-R18", "RetinaNet-R18"])
def test_anchors_by_hand(name):
    detector = build_detector(f"{name}{SMALL}", 2)
    size = (64, 96)
    levels = [torch.zeros(1, 16, -(-64 // stride), -(-96 // stride)) for stride in detector.strides]
    first, *_, last = detector.anchors(levels, size)
    sides = 1 if name.startswith("Faster") else 3
    stride = detector.strides[0]
    assert len(first) == (64 // stride) * (96 // stride) * 3 * sides
    square = first[sides]  # the first shape of ratio 1, on the first position
    assert square.tolist() == [-8, -8, 8, 8]
    moved = first[3 * sides + sides]  # the same, one position to the right
    assert moved.tolist() == [stride - 8, -8, stride + 8, 8]
    assert len(last) == levels[-1].shape[2] * levels[-1].shape[3] * 3 * sides


@pytest.mark.parametrize("name", ["FasterRCNN-R18", "RetinaNet-R18"])
def test_anchors_are_exact_where_maps_are_bfloat16(name):
    detector = build_detector(f"{name}{SMALL}", 2).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        levels = detector(torch.randn(1, 3, 64, 544)).levels
    assert levels[0].dtype == torch.bfloat16
    last = detector.anchors(levels, (64, 544))[0][-1]
    assert last.dtype == torch.float32
    assert (last[0] + last[2]).item() / 2 == 544 - detector.strides[0]
