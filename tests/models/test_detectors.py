"""The detectors: torchvision's own with the same weights, and known parameter counts."""

from collections import OrderedDict

import pytest
import timm
import torch
import torchvision
from timm.layers import convert_sync_batchnorm
from torch import nn
from torchvision.models import detection as torchvisions
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from cwd.data.detection.masks import decoded, pasted
from cwd.models.build import build_network, count_parameters
from cwd.models.detection.outputs import Objects
from cwd.models.detection.pyramid import Backbone, Pyramid
from cwd.system.errors import CwdError

KINDS = ("FasterRCNN", "MaskRCNN", "RetinaNet")
SIZE = (64, 96)
IMAGES = torch.randn(3, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def objects(*rows):
    """Objects from rows of label, left, top, right, bottom, with an ellipse in each box."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
    masks = torch.zeros(len(table), *SIZE, dtype=torch.uint8)
    y, x = (torch.arange(side)[:, None] for side in SIZE)
    for mask, (left, top, right, bottom) in zip(masks, table[:, 1:].tolist(), strict=True):
        down = (y + 0.5 - (top + bottom) / 2) / (bottom - top)
        across = (x + 0.5 - (left + right) / 2) / (right - left)
        mask[down**2 + across.T**2 < 0.25] = 1
    ones = torch.ones(len(table))
    return Objects(table[:, 1:], table[:, 0].long(), ones, ones < 0, masks)


TARGETS = [
    objects((0, 4, 8, 40, 30), (2, 60, 20, 90, 60), (1, 30, 30, 44, 40)),
    objects((1, 10, 10, 30, 50)),
    objects(),
]


def small(kind):
    torch.manual_seed(0)
    regions = "" if kind == "RetinaNet" else ", regions=64"
    return build_network(f"{kind}-R18(0.125, fpn=16, anchor=16{regions})", 3)


class Levels(nn.Module):
    """A detector's pyramid as torchvision's detectors expect their backbone."""

    def __init__(self, detector):
        super().__init__()
        self.detector, self.out_channels = detector, detector.channels

    def forward(self, images):
        names = ("0", "1", "2", "3", "pool")
        return OrderedDict(zip(names, self.detector(images).levels, strict=True))


def as_torchvisions(detector):
    """torchvision's whole detector around our pyramid and its heads; and its first class."""
    kind = type(detector).__name__
    if kind == "RetinaNet":
        whole = torchvisions.RetinaNet(
            Levels(detector), 3, anchor_generator=detector.anchor_generator,
            head=detector.whole.head, detections_per_img=100,
        )  # fmt: skip
    else:
        whole = getattr(torchvisions, kind)(Levels(detector), 4)
        whole.rpn, whole.roi_heads = detector.rpn, detector.roi_heads
    whole.transform = GeneralizedRCNNTransform(*SIZE, [0.0] * 3, [1.0] * 3, size_divisible=32)
    whole.transform.resize = lambda image, target: (image, target)  # draws no random numbers
    return whole, int(kind != "RetinaNet")


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_torchvisions(kind):
    detector = small(kind).train()
    whole, first = as_torchvisions(detector)
    for module in detector.modules():  # so that two passes see the same statistics
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    wanted = [{"boxes": t.boxes, "labels": t.labels + first, "masks": t.masks} for t in TARGETS]
    torch.manual_seed(1)
    theirs = whole.train()(list(IMAGES), wanted)
    torch.manual_seed(1)  # regions are sampled
    ours = detector(IMAGES, TARGETS).losses
    assert len(ours) == len(theirs) == {"RetinaNet": 2, "FasterRCNN": 4, "MaskRCNN": 5}[kind]
    expected = sorted(value.item() for value in theirs.values())
    assert sorted(value.item() for value in ours.values()) == pytest.approx(expected, rel=1e-5)
    if kind == "MaskRCNN":
        assert ours["mask"].item() == pytest.approx(theirs["loss_mask"].item(), rel=1e-5)
        ours["mask"].backward()
        assert detector.pyramid.layer_blocks[0][0].weight.grad.any()
        assert detector.roi_heads.mask_head[0][0].weight.grad.any()


@pytest.mark.parametrize("kind", KINDS)
def test_detections_are_torchvisions(kind):
    detector = small(kind).eval()
    whole, first = as_torchvisions(detector)
    if kind == "RetinaNet":  # else no score passes the threshold with random weights
        nn.init.zeros_(detector.whole.head.classification_head.cls_logits.bias)
    if kind == "MaskRCNN":  # else all are 0.5
        nn.init.normal_(detector.roi_heads.mask_predictor.mask_fcn_logits.weight)
    ours = detector.detect(IMAGES, [SIZE] * 3)
    with torch.no_grad():
        theirs = whole.eval()(list(IMAGES))
    for mine, other in zip(ours, theirs, strict=True):
        assert 0 < len(mine.boxes) <= 100
        torch.testing.assert_close(mine.boxes, other["boxes"])
        torch.testing.assert_close(mine.scores, other["scores"])
        assert torch.equal(mine.labels + first, other["labels"])
        if kind == "MaskRCNN":
            assert mine.masks.shape == (len(mine.boxes), 28, 28)
            expected = other["masks"][:, 0]
            found = decoded(pasted(mine.masks, mine.boxes, SIZE), SIZE)
            sure = (expected - 0.5).abs() > 1e-4
            assert found[sure].bool().equal(expected[sure] > 0.5)
            assert found.any(dim=0).float().mean() > 0.1
            assert sure.float().mean() > 0.9


def test_nothing_to_find_and_nothing_found():
    detector = small("MaskRCNN")
    losses = detector.train()(IMAGES, [TARGETS[2]] * 3).losses
    assert losses["mask"].item() == 0
    sum(losses.values()).backward()
    detector.roi_heads.score_thresh = 1.0
    for found in detector.eval().detect(IMAGES, [SIZE] * 3):
        assert found.masks.shape == (0, 28, 28)
        assert found.boxes.shape == (0, 4)
    with pytest.raises(CwdError, match=r"learns masks and there are none .* masks=True\.$"):
        detector(IMAGES, [target._replace(masks=None) for target in TARGETS])


def test_parameters_are_the_published():
    ours = {
        kind: build_network(f"{kind}-R50", 90 if kind == "MaskRCNN" else 80, device="meta")
        for kind in (*KINDS, "RepPoints")
    }
    with torch.device("meta"):
        plain = {"weights": None, "weights_backbone": None}
        faster = torchvisions.fasterrcnn_resnet50_fpn(num_classes=81, **plain)
        retina = torchvisions.retinanet_resnet50_fpn(num_classes=80, **plain)
    assert count_parameters(ours["FasterRCNN"]) == count_parameters(faster)
    p6 = (2048 - 256) * 256 * 3 * 3  # from C5, not from P5
    assert count_parameters(ours["RetinaNet"]) == count_parameters(retina) + p6
    ours["RepPoints"].backbone.freeze()
    trained = sum(p.numel() for p in ours["RepPoints"].parameters() if p.requires_grad)
    assert round(trained / 1e6, 2) == 36.62  # Table 9
    norms = [m for m in ours["MaskRCNN"].backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    # torchvision counts with frozen norms, which have buffers for them
    published = torchvisions.MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["num_params"]
    count = count_parameters(ours["MaskRCNN"]) - sum(map(count_parameters, norms))
    assert count == published == 44_401_393


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
    with torch.no_grad():
        for ours, theirs in zip(backbone(IMAGES[:1]), original(IMAGES[:1]), strict=True):
            assert (ours < 0).any()
            torch.testing.assert_close(ours.relu(), theirs)
    norms = backbone.last_norms()
    assert [n.num_features for n in norms] == original.feature_info.channels()
    assert norms[1] is getattr(body["layer2"][-1], "bn2" if model == "resnet18" else "bn3")


def test_coarse_levels_by_hand():
    torch.manual_seed(0)
    pyramid = Pyramid((4, 8), 16, extra="conv")
    stages = [torch.randn(1, 4, 8, 12), torch.randn(1, 8, 4, 6)]
    convs, levels = pyramid(stages)
    for (conv,), x, level in zip(pyramid.coarse, (stages[-1], levels[2]), levels[2:], strict=True):
        expected = nn.functional.conv2d(x, conv.weight, conv.bias, 2, 1)  # no ReLU between
        torch.testing.assert_close(level, expected)
    inner = pyramid.inner_blocks[0](stages[0])
    inner += pyramid.inner_blocks[1](stages[1]).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(levels[0], pyramid.layer_blocks[0](inner))
    assert all(a is b for a, b in zip(convs, levels, strict=True))


def test_a_pretrained_backbone_is_partly_frozen(tmp_path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    name, path = "RetinaNet-R18(fpn=16)", str(tmp_path / "resnet18.pth")
    backbone = build_network(name, 3, init=path).train().backbone
    body, fixed = backbone.body, {n for n, p in backbone.named_parameters() if not p.requires_grad}
    assert {name.split(".")[1] for name in fixed} == {"conv1", "bn1", "layer1"}
    assert body["layer4"].training
    assert body["layer4"][1].bn2.weight.requires_grad
    # also where processes share batches
    backbone = convert_sync_batchnorm(backbone).train()
    norms = [m for m in backbone.modules() if isinstance(m, nn.SyncBatchNorm)]
    assert len(norms) == 20
    assert not any(norm.training for norm in norms)


def test_what_the_options_of_a_name_do():
    name = "MaskRCNN-R18(0.25, fpn=64, anchor=16, regions=32)"
    detector = build_network(name, 3, device="meta")
    assert detector.stage_channels == (16, 32, 64, 128)
    assert detector.channels == 64
    heads = detector.roi_heads
    assert heads.fg_bg_sampler.batch_size_per_image == 32
    assert detector.rpn.fg_bg_sampler.batch_size_per_image == 16
    pools = heads.box_roi_pool, heads.mask_roi_pool
    assert [pool.output_size for pool in pools] == [(7, 7), (14, 14)]
    assert [pool.canonical_scale for pool in pools] == [112, 112]


@pytest.mark.parametrize("kind", ["FasterRCNN", "RetinaNet"])
def test_anchors_by_hand(kind):
    detector = small(kind).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        levels = detector(torch.randn(1, 3, 64, 544)).levels
    assert levels[0].dtype == torch.bfloat16
    first, *_, last = detector.anchors(levels, (64, 544))
    sides, stride = (1 if kind == "FasterRCNN" else 3), detector.strides[0]
    assert len(first) == (64 // stride) * (544 // stride) * 3 * sides
    square = first[sides]  # the first shape of ratio 1, on the first position
    assert square.tolist() == [-8, -8, 8, 8]
    moved = first[3 * sides + sides]  # the same, one position to the right
    assert moved.tolist() == [stride - 8, -8, stride + 8, 8]
    assert len(last) == levels[-1].shape[2] * levels[-1].shape[3] * 3 * sides
    assert first.dtype == torch.float32  # bfloat16 has no such numbers
    assert (first[-1, 0] + first[-1, 2]).item() / 2 == 544 - stride
