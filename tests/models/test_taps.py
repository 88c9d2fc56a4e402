"""Any network as teacher or student: what Taps gives is what the library's network gives."""

import copy
import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.segmentation import deeplabv3_resnet50

from cwd.losses import ChannelWise
from cwd.models import Taps, build_network
from cwd.recipes import Distiller
from cwd.system.errors import CwdError


@functools.cache
def deeplab():
    return deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=5, aux_loss=True)


def segformer():
    transformers = pytest.importorskip("transformers")
    widths = {"hidden_sizes": [8, 16, 32, 64], "decoder_hidden_size": 32}
    config = transformers.SegformerConfig(
        num_labels=5, depths=[1] * 4, num_attention_heads=[1, 1, 2, 2], **widths
    )
    return transformers.SegformerForSemanticSegmentation(config)


class Doubled(nn.Module):
    """A network in which a module runs twice, another never, and another gives no map."""

    def __init__(self):
        super().__init__()
        self.twice, self.never, self.flat = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 5, 1), nn.Flatten()
        self.last = nn.Conv2d(3, 5, 1)

    def forward(self, images):
        self.flat(images)
        return self.last(self.twice(self.twice(images)))


IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def test_torchvisions_network():
    network = deeplab()
    taps = Taps(
        network,
        score="classifier.4",
        feature="classifier.3",
        backbone="backbone.layer4",
        aux="aux_classifier",
    )
    assert (taps.num_classes, taps.feature_channels, taps.backbone_channels) == (5, 256, 2048)
    out = taps.eval()(IMAGES)
    whole = network(IMAGES)["out"]
    enlarged = F.interpolate(out.score, IMAGES.shape[2:], mode="bilinear")
    torch.testing.assert_close(enlarged, whole)
    torch.testing.assert_close(network.classifier[4](out.feature), out.score)
    torch.testing.assert_close(network.classifier(out.backbone), out.score)
    assert out.aux_score is None
    # by itself the network's output is the score map
    torch.testing.assert_close(Taps(network, feature="classifier").eval()(IMAGES).score, whole)
    assert taps.train()(IMAGES).aux_score.shape == (2, 5, 8, 12)


def test_segmentation_models_network_at_a_size_that_it_does_not_take():
    smp = pytest.importorskip("segmentation_models_pytorch")
    network = smp.FPN("resnet18", encoder_weights=None, classes=5)
    names = {"score": "segmentation_head", "feature": "decoder"}
    taps = Taps(network, **names, multiple=32).eval()
    torch.testing.assert_close(taps(IMAGES).score, network(IMAGES))
    odd = IMAGES[:, :, :50, :90]
    whole = F.interpolate(odd, (64, 96), mode="bilinear")
    torch.testing.assert_close(taps(odd).score, network(whole))
    with pytest.raises(CwdError, match=r"FPN fails on images \[2, 3, 50, 90\].*`multiple`"):
        Taps(network, **names).eval()(odd)


def test_a_network_stays_as_it_was():
    network = copy.deepcopy(deeplab()).train()
    network.classifier.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    taps = Taps(network, feature="classifier.3")
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training
    assert not network.classifier.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    taps.eval()(IMAGES)
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"feature": "clasifier.3"}, "no module 'clasifier.3' to tap as feature.* classifier.3"),
        ({"feature": 3}, "no module 3 to tap as feature"),
        ({"feature": "classifier.3", "multiple": 0}, "multiple=0 counts nothing"),
        ({"feature": ""}, "no module '' to tap as feature.*such as backbone, classifier"),
        ({"feature": "classifier.4", "score": "classifier.3"}, "256 channels.* 5 classes.*exchang"),
        ({"feature": "classifier.3", "score": "backbone.layer1"}, "256 channels.*tap its last"),
        ({"feature": "classifier.3", "num_classes": 6}, "5 channels.* 6 classes: build it for"),
        ({"feature": "backbone.layer1.0.relu"}, "ran 3 times"),
        ({"feature": "classifier.0.convs.4.0"}, None),  # a pooled map of 1x1 is a map
    ],
)
def test_taps_that_are_refused(names, words):
    if words is None:
        assert Taps(deeplab(), **names).feature_channels == 2048
        return
    with pytest.raises(CwdError, match=words):
        Taps(deeplab(), **names)


@pytest.mark.parametrize(
    ("name", "words"),
    [("twice", "ran 2 times"), ("never", "did not run"), ("flat", r"gives \[1, 12288\]")],
)
def test_a_module_that_gives_no_one_map(name, words):
    with pytest.raises(CwdError, match=words):
        Taps(Doubled(), feature=name)


def test_a_segformer_taught_by_a_deeplab():
    """Other strides, other widths: maps are resized and channels aligned by themselves."""
    network = segformer().eval()
    student = Taps(network, feature="decode_head.dropout").eval()
    out = student(IMAGES)
    assert (student.num_classes, student.feature_channels) == (5, 32)
    torch.testing.assert_close(out.score, network(IMAGES).logits)
    torch.testing.assert_close(network.decode_head.classifier(out.feature), out.score)
    student.train()
    teacher = Taps(copy.deepcopy(deeplab()), score="classifier.4", feature="classifier.3")
    teacher.eval().requires_grad_(False)
    distiller = Distiller("CW_s + CW_f", student, teacher)
    assert [tuple(a[0].weight.shape) for a in distiller.alignments.values()] == [(256, 32, 1, 1)]
    out, wanted = student(IMAGES), teacher(IMAGES)
    values = distiller(out, wanted, None)
    resized = F.interpolate(out.score, wanted.score.shape[2:], mode="bilinear")
    torch.testing.assert_close(values["CW_s"], 3 * ChannelWise(4)(resized, wanted.score))
    sum(values.values()).backward()
    assert next(student.parameters()).grad.abs().max() > 0
    assert all(p.grad is None for p in teacher.parameters())


def test_what_a_distiller_refuses():
    student, teacher = (build_network("PSPNet-R18(0.125)", 5) for _ in range(2))
    with pytest.raises(CwdError, match="a Sequential, doesn't say where its maps are: give Taps"):
        Distiller("CW_s", nn.Sequential(), teacher)
    with pytest.raises(CwdError, match=r"MGD_b looks at a map.* Taps\(network, backbone="):
        Distiller("MGD_b", Taps(deeplab(), feature="classifier.3"), teacher)
    with pytest.raises(CwdError, match="share weights"):
        Distiller("CW_s", student, student)
    assert all(p.requires_grad for p in student.parameters())
    out = student(IMAGES)
    distiller = Distiller("CW_s", student, teacher)
    with pytest.raises(CwdError, match="label -1 and the networks 5 classes"):
        distiller(out, teacher(IMAGES), torch.tensor([0, -1, 255, 4]).view(1, 2, 2))
    with pytest.raises(CwdError, match="label 5 and the networks 5 classes: give 0 to 4, and 255"):
        distiller(out, teacher(IMAGES), torch.tensor([0, 4, 255, 5]).view(1, 2, 2))
    assert distiller(out, teacher(IMAGES), torch.tensor([0, 4, 255, 1]).view(1, 2, 2))["CW_s"] > 0
    with pytest.raises(CwdError, match="isn't frozen"):  # as Lightning's train() does
        distiller(out, teacher.train()(IMAGES), None)
