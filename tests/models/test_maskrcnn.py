"""Mask R-CNN: torchvision's own with the same weights, and its training."""

from dataclasses import replace

import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN
from torchvisions import TARGETS, Levels, untouched

from cwd.config.run import Data, Run
from cwd.config.schedule import DetectionSchedule
from cwd.data.detection.masks import decoded, pasted
from cwd.models.detection.detectors import build_detector
from cwd.models.detection.names import has_masks, is_detector, parse_detector
from cwd.recipes.parse import parse_recipe
from cwd.system.errors import CwdError
from cwd.training.loop import train
from cwd.training.tasks import score_of, task_of

NAME = "MaskRCNN-R18(0.125, fpn=16, anchor=16, regions=64)"
SIZE = (64, 96)


def outlined(objects):
    """Objects with an ellipse in each box."""
    masks = torch.zeros(len(objects.boxes), *SIZE, dtype=torch.uint8)
    y, x = (torch.arange(side)[:, None] for side in SIZE)
    for mask, (left, top, right, bottom) in zip(masks, objects.boxes.tolist(), strict=True):
        down = (y + 0.5 - (top + bottom) / 2) / (bottom - top)
        across = (x + 0.5 - (left + right) / 2) / (right - left)
        mask[down**2 + across.T**2 < 0.25] = 1
    return objects._replace(masks=masks)


@pytest.fixture
def images():
    return torch.randn(3, 3, *SIZE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def targets():
    return [outlined(target) for target in TARGETS]


@pytest.fixture
def detector():
    torch.manual_seed(0)
    return build_detector(NAME, 3)


def as_torchvisions(detector):
    """torchvision's whole Mask R-CNN around our pyramid and its heads."""
    whole = TorchvisionMaskRCNN(Levels(detector), detector.num_classes + 1)
    whole.rpn, whole.roi_heads = detector.rpn, detector.roi_heads
    whole.transform = untouched(SIZE)
    return whole


def test_losses_are_torchvisions(detector, images, targets):
    whole = as_torchvisions(detector.train()).train()
    for module in detector.modules():  # so that two passes see the same statistics
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    wanted = [{"boxes": t.boxes, "labels": t.labels + 1, "masks": t.masks} for t in targets]
    torch.manual_seed(1)
    theirs = whole(list(images), wanted)
    torch.manual_seed(1)  # regions are sampled
    ours = detector(images, targets).losses
    assert len(ours) == len(theirs) == 5
    assert ours["mask"].item() == pytest.approx(theirs["loss_mask"].item(), rel=1e-5)
    expected = sorted(value.item() for value in theirs.values())
    assert sorted(value.item() for value in ours.values()) == pytest.approx(expected, rel=1e-5)
    ours["mask"].backward()
    assert detector.pyramid.layer_blocks[0][0].weight.grad.any()
    assert detector.roi_heads.mask_head[0][0].weight.grad.any()


def test_all_but_masks_is_faster_rcnns(detector, images, targets):
    plain = build_detector(NAME.replace("Mask", "Faster"), 3)
    plain.load_state_dict(detector.state_dict(), strict=False)
    losses = []
    for network in (plain, detector):
        torch.manual_seed(1)
        losses.append(network.train()(images, targets).losses)
    assert list(losses[1]) == [*losses[0], "mask"]
    assert all(losses[1][name].equal(value) for name, value in losses[0].items())


def test_masks_are_torchvisions(detector, images):
    whole = as_torchvisions(detector.eval()).eval()
    nn.init.normal_(detector.roi_heads.mask_predictor.mask_fcn_logits.weight)  # else all are 0.5
    ours = detector.detect(images, [SIZE] * 3)
    with torch.no_grad():
        theirs = whole(list(images))
    for mine, other in zip(ours, theirs, strict=True):
        assert 0 < len(mine.boxes) <= 100
        assert mine.masks.shape == (len(mine.boxes), 28, 28)
        torch.testing.assert_close(mine.boxes, other["boxes"])
        assert torch.equal(mine.labels + 1, other["labels"])
        expected = other["masks"][:, 0]
        found = decoded(pasted(mine.masks, mine.boxes, SIZE), SIZE)
        sure = (expected - 0.5).abs() > 1e-4
        assert found[sure].bool().equal(expected[sure] > 0.5)
        assert found.any(dim=0).float().mean() > 0.1
        assert sure.float().mean() > 0.9


def test_nothing_found(detector, images):
    detector.roi_heads.score_thresh = 1.0
    for found in detector.eval().detect(images, [SIZE] * 3):
        assert found.masks.shape == (0, 28, 28)
        assert found.boxes.shape == (0, 4)


def test_images_without_objects_have_a_loss(detector, images, targets):
    losses = detector.train()(images, [targets[2]] * 3).losses
    assert losses["mask"].item() == 0
    sum(losses.values()).backward()


def test_targets_without_masks(detector, images):
    with pytest.raises(CwdError, match=r"learns masks and there are none .* masks=True\.$"):
        detector(images, TARGETS)


def test_parameters_are_the_published():
    detector = build_detector("MaskRCNN-R50", 90, device="meta")
    norms = sum(
        parameter.numel()
        for module in detector.backbone.modules()
        if isinstance(module, nn.BatchNorm2d)
        for parameter in module.parameters()
    )
    # torchvision counts with frozen norms, which have buffers for them
    published = torchvision.models.detection.MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta
    count = sum(parameter.numel() for parameter in detector.parameters())
    assert count - norms == published["num_params"] == 44_401_393


def test_names():
    arch = parse_detector(NAME)
    assert (arch.kind, arch.channels, arch.anchor, arch.regions) == ("MaskRCNN", 16, 16, 64)
    assert is_detector(NAME)
    assert has_masks(NAME)
    assert not has_masks("FasterRCNN-R50")
    assert not has_masks("PSPNet-R18")
    detector = build_detector("MaskRCNN-R18(anchor=16)", 3, device="meta")
    pools = detector.roi_heads.box_roi_pool, detector.roi_heads.mask_roi_pool
    assert [pool.output_size for pool in pools] == [(7, 7), (14, 14)]
    assert [pool.canonical_scale for pool in pools] == [112, 112]
    for name in ("MaskRCNN-R51", "MaskRCNN-R50(norm=group)", "MaskRCNN-R50(regions=4)"):
        with pytest.raises(CwdError):
            parse_detector(name)


DATA = Data("scenes", size=(64, 96), train=8, val=3)
SCHEDULE = DetectionSchedule(
    steps=4, batch=2, short=64, long=96, warmup=2, checkpoint_every=2, clip=10.0
)
STUDENT = Run(DATA, "MaskRCNN-R18(0.125, fpn=16, anchor=16, regions=16)", SCHEDULE)
TEACHER = replace(STUDENT, network="MaskRCNN-R18(0.25, fpn=24, anchor=16, regions=16)")


@pytest.mark.parametrize("recipe", ["CW_fpn", "MIMIC_fpn"])
def test_it_trains(data_root, tmp_path_factory, recipe):
    runs = tmp_path_factory.getbasetemp() / "instance"

    def go(run):
        return train(run, runs=runs, data_root=data_root, device="cpu", allow_weak_teacher=True)

    go(TEACHER)
    folder = go(replace(STUDENT, recipe=recipe, teacher=TEACHER))
    history = folder.history()
    assert (history[["mask", parse_recipe(recipe)[0].name]] > 0).all(axis=None)
    assert {"ap", "mask_ap", "mask_ap50", "mask_ap_s"} <= set(folder.metrics)
    assert task_of(STUDENT.network).measure == "mask_ap"
    assert score_of(STUDENT.network, folder.metrics).startswith("mask AP ")
    assert "mask_ap" in folder.read_json("provenance.json")["teacher"]
    weights = load_file(folder.done / "student.safetensors")
    assert set(weights) == set(build_detector(STUDENT.network, 8, device="meta").state_dict())
