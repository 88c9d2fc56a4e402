"""RepPoints' head: what it computes, what it starts from, and that its gradient is sound."""

import math
from itertools import chain

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import deform_conv2d

from cwd.models.detection.outputs import Objects
from cwd.models.detection.points import kernel_points
from cwd.models.detection.reppoints import RepPointsHead, group_norm
from cwd.system.errors import CwdError

STRIDES = (4, 8, 16)
SHAPES = ((6, 5), (3, 3), (2, 2))
K = 3


def objects(boxes=(), labels=()):
    boxes = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    none = torch.zeros(len(boxes))
    return Objects(boxes, torch.tensor(labels, dtype=torch.long), none, none.bool())


TARGETS = [objects([[2, 3, 14, 15], [6, 2, 14, 16]], [0, 2]), objects([[0, 0, 20, 24]], [1])]


def head(channels=8, strides=STRIDES, **options):
    torch.manual_seed(0)
    built = RepPointsHead(channels, K, strides, **options).double()
    for parameter in built.parameters():  # larger than at the start, so that everything matters
        parameter.data += 0.1 * torch.randn_like(parameter)
    return built


def levels(channels=8, shapes=SHAPES, images=2, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(images, channels, *shape, generator=generator, dtype=torch.float64).to(dtype)
        for shape in shapes
    ]


def shifted(x, down, right):
    """`x` [B, C, h, w] where every position holds what lies further down and right, 0 outside."""
    height, width = x.shape[2:]
    x = F.pad(x, (8, 8, 8, 8))
    return x[:, :, 8 + down : 8 + down + height, 8 + right : 8 + right + width]


@pytest.mark.parametrize(("down", "right"), [(0, 0), (1, 0), (0, 1), (2, -1)])
def test_deformable_convolutions_look_where_the_points_are(down, right):
    network, (x, *_) = head(), levels()
    network.init_out.weight.data.zero_()
    step = torch.tensor([down, right] * 9)  # y first
    network.init_out.bias.data = kernel_points().double() + step
    scores, initial, refined = network.level(x)
    about_class, about_points = network.class_tower(x), network.point_tower(x)
    for features, deform, out, found in (
        (about_class, network.class_deform, network.class_out, scores),
        (about_points, network.refine_deform, network.refine_out, refined - initial),
    ):
        # the whole kernel moved, so the padded map is convolved and then moved
        moved = F.conv2d(F.pad(features, (8, 8, 8, 8)), deform.weight, padding=1)
        moved = shifted(moved, down, right)[:, :, 8:-8, 8:-8]
        torch.testing.assert_close(found, out(F.relu(moved)))


def test_each_point_is_looked_at_by_its_own_weight():
    # at positions between the pixels, written out: the point k of y 2k and x 2k + 1
    network, (x, *_) = head(), levels()
    _, initial, refined = network.level(x)
    features = F.pad(network.point_tower(x), (20, 20, 20, 20)).detach()
    row, column = 2, 3
    total = 0
    for k, weight in enumerate(network.refine_deform.weight.flatten(2).unbind(2)):
        y = 20 + row + initial[1, 2 * k, row, column].item()
        z = 20 + column + initial[1, 2 * k + 1, row, column].item()
        up, left = math.floor(y), math.floor(z)
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
            share = (1 - abs(y - up - i)) * (1 - abs(z - left - j))
            total = total + share * weight @ features[1, :, up + i, left + j]
    expected = network.refine_out(F.relu(total)[None, :, None, None]).flatten()
    torch.testing.assert_close(refined[1, :, row, column], expected + initial[1, :, row, column])


def test_a_tenth_of_the_gradient_reaches_the_initial_points():
    network, (x, *_) = head(), levels()
    scores, initial, refined = network.level(x)
    for found, tower, deform, out in (
        (scores, network.class_tower, network.class_deform, network.class_out),
        (refined, network.point_tower, network.refine_deform, network.refine_out),
    ):
        offset = (initial - network.kernel).detach().requires_grad_()
        direct = out(F.relu(deform_conv2d(tower(x), offset, deform.weight, padding=1)))
        (whole,) = torch.autograd.grad(direct.square().sum(), offset)
        through = (found if found is scores else found - initial.detach()).square().sum()
        (part,) = torch.autograd.grad(through, initial, retain_graph=True)
        assert whole.abs().max() > 0
        torch.testing.assert_close(part, 0.1 * whole)


def test_parameters_as_published():
    network = RepPointsHead(256, 80)
    towers = 2 * 3 * (256 * 256 * 9 + 2 * 256)  # without bias, with GroupNorm
    first = 256 * 256 * 9 + 256 + 256 * 18 + 18
    second = 2 * 256 * 256 * 9 + 256 * 80 + 80 + 256 * 18 + 18
    count = sum(p.numel() for p in network.parameters())
    assert count == towers + first + second + 2 == 5_341_558
    # with a ResNet-50, the pyramid and its norms, and without what stays as it is on ImageNet,
    # the stem and the first stage, they are the 36.62 million of Table 9
    pyramid = (512 + 1024 + 2048) * 256 + 4 * 256 * 256 * 9 + 2048 * 256 * 9 + 8 * 512
    assert round((count + pyramid + 23_508_032 - 225_344) / 1e6, 2) == 36.62


def test_the_start():
    network = RepPointsHead(64, K)
    for module in network.modules():
        if hasattr(module, "weight") and module.weight.ndim == 4 and module.weight.numel() > 1000:
            assert module.weight.std().item() == pytest.approx(0.01, rel=0.15)
    assert network.class_out.bias.sigmoid().tolist() == pytest.approx([0.01] * K)
    output = network([torch.randn(1, 64, n, n) for n in (8, 4, 2, 1, 1)])
    assert max(x.abs().max() for x in output.initial) < 0.1  # points start on the cell


@pytest.mark.parametrize(
    ("channels", "groups", "expected"),
    [(256, 32, 32), (64, 32, 16), (96, 32, 24), (12, 32, 3), (10, 32, 2), (7, 32, 1), (3, 32, 1)],
)
def test_groups_of_narrow_towers(channels, groups, expected):
    assert group_norm(channels, groups).num_groups == expected


def test_a_batch_without_objects_trains():
    network = RepPointsHead(8, K, STRIDES)
    losses = network.losses(network(levels(dtype=torch.float32)), [objects(), objects()])
    assert losses["class"] > 0
    assert losses["init"] == losses["refine"] == 0
    sum(losses.values()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert network.class_tower[0].weight.grad.abs().max() > 0


def test_points_all_in_one_place_train():
    network = RepPointsHead(8, K, STRIDES)
    for part in (network.init_out, network.refine_out):
        part.weight.data.zero_()
    losses = network.losses(network(levels(dtype=torch.float32)), TARGETS)
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
    assert network.init_out.bias.grad.abs().max() > 0


def test_under_autocast_the_output_is_in_full_precision():
    torch.manual_seed(0)
    network, inputs = RepPointsHead(8, K, STRIDES), levels(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(inputs)
        losses = network.losses(output, TARGETS)
    assert {x.dtype for x in chain(*output)} == {torch.float32}
    sum(losses.values()).backward()
    exact = network.losses(network(inputs), TARGETS)
    for name, value in losses.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact[name].item(), rel=0.05)


def test_numbers_that_are_none_do_not_end_the_process():
    network = RepPointsHead(8, K, STRIDES)
    network.init_out.bias.data[:] = torch.nan
    losses = network.losses(network(levels(dtype=torch.float32)), TARGETS)
    assert losses["init"].isnan()
    sum(losses.values()).backward()


@pytest.mark.parametrize("strides", [(8, 16, 64), (6, 12, 24), (16, 8)])
def test_bad_strides(strides):
    with pytest.raises(CwdError, match="no powers of two, each twice the one before"):
        RepPointsHead(8, K, strides)


def test_another_number_of_levels():
    network = RepPointsHead(8, K, (4, 8))
    with pytest.raises(CwdError, match="got 3 levels and has 2 strides"):
        network(levels(dtype=torch.float32))
