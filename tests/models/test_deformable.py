"""Deformable convolution by sampling: torchvision's, value and gradients."""

import pytest
import torch
from torchvision.ops import deform_conv2d

from cwd.models.detection.deformable import DeformableConv, sampled_conv


@pytest.mark.parametrize("size", [(5, 7), (1, 4), (3, 1), (1, 1)])
def test_equals_torchvisions(size):
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    x, weight = draw(2, 3, *size).requires_grad_(), draw(4, 3, 3, 3).requires_grad_()
    offset = (2 * draw(2, 18, *size)).requires_grad_()  # many of them beyond the border
    probe = draw(2, 4, *size)
    ours, theirs = (
        (out, *torch.autograd.grad((out * probe).sum(), (x, offset, weight)))
        for out in (sampled_conv(x, offset, weight), deform_conv2d(x, offset, weight, padding=1))
    )
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)


def test_without_offsets_it_is_a_convolution():
    conv = DeformableConv(3, 4)
    x = torch.randn(2, 3, 6, 5)
    expected = torch.nn.functional.conv2d(x, conv.weight, padding=1)
    torch.testing.assert_close(conv(x, torch.zeros(2, 18, 6, 5)), expected)
