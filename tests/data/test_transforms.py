"""Augmentation against crops worked out by hand."""

import pytest
import torch
from torch.nn import functional as F

from cwd.data.transforms import MEAN, STD, RandomScaleCropFlip, distort, normalise
from cwd.system.errors import CwdError


def batch(count=4, height=12, width=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, 3, height, width), generator=generator, dtype=torch.uint8)
    targets = torch.randint(19, (count, height, width), generator=generator, dtype=torch.uint8)
    return images, targets


def test_normalise_by_hand():
    image = torch.tensor([255, 0, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]
    assert normalise(image).flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_a_crop_is_a_window_of_the_image():
    images, targets = batch()
    augment = RandomScaleCropFlip((5, 7), scale=(1, 1))
    found, labels = augment(images, targets, torch.Generator().manual_seed(1))
    assert labels.dtype == torch.int64
    corners = set()
    for image, target, crop, label in zip(normalise(images), targets, found, labels, strict=True):
        ((top, left, mirror),) = [
            (top, left, mirror)
            for top in range(8)
            for left in range(14)
            for mirror in (False, True)
            if torch.equal(
                target[top : top + 5, left : left + 7], (label.flip(1) if mirror else label).byte()
            )
        ]
        window = image[:, top : top + 5, left : left + 7]
        torch.testing.assert_close(crop, window.flip(2) if mirror else window, atol=2e-5, rtol=0)
        corners.add((top, left))
    assert len(corners) > 1


def test_scaling_is_bilinear_with_pixels_as_areas():
    images, targets = batch()
    augment = RandomScaleCropFlip((24, 40), scale=(2, 2), flip=False)
    found, labels = augment(images, targets, torch.Generator())
    expected = F.interpolate(normalise(images), scale_factor=2, mode="bilinear")
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    expected = F.interpolate(targets[:, None].float(), scale_factor=2, mode="nearest-exact")
    assert torch.equal(labels, expected[:, 0].long())


def test_a_small_image_is_padded_below_and_at_the_right():
    images, targets = batch()
    augment = RandomScaleCropFlip((12, 20), scale=(0.5, 0.5), flip=False)
    found, labels = augment(images, targets, torch.Generator())
    inside = torch.zeros(12, 20, dtype=torch.bool)
    inside[:6, :10] = True
    assert ((labels != 255) == inside).all()
    assert (found[:, :, ~inside] == 0).all()  # the mean colour, after normalisation


def test_scales_are_the_published_ones():
    augment = RandomScaleCropFlip((4, 4))
    assert augment.scales.tolist() == pytest.approx([0.7 + k / 10 for k in range(15)])
    drawn = augment.draw(3000, (10, 10), torch.Generator().manual_seed(0))
    assert sorted(set(drawn[:, 0].tolist())) == pytest.approx(augment.scales.tolist())
    assert 0.45 < drawn[:, 3].mean() < 0.55
    found = RandomScaleCropFlip((4, 4), scale=(0.7, 1.06)).scales.tolist()
    assert found == pytest.approx([0.7, 0.8, 0.9, 1.0])  # none above the largest


@pytest.mark.parametrize("size", [55, 375])
def test_every_side_that_fits_is_filled(size):
    """1.1 * 375 is 412.5: rounded in single precision, its last row would count as padding."""
    images, targets = batch(1, size, 8)
    for scale in RandomScaleCropFlip((1, 1)).scales.tolist():
        augment = RandomScaleCropFlip((round(scale * size), 4), scale=(scale, scale), flip=False)
        assert (augment(images, targets, torch.Generator())[1] != 255).all()


def test_ignored_stays_ignored():
    images, targets = batch()
    _, labels = RandomScaleCropFlip((12, 20))(images, targets.fill_(255), torch.Generator())
    assert (labels == 255).all()


@pytest.mark.parametrize(
    "wrong", [{"crop": (0, 4)}, {"scale": (2, 1)}, {"scale": (0, 1)}, {"scale": (1, float("inf"))}]
)
def test_bad_arguments(wrong):
    with pytest.raises(CwdError, match="give"):
        RandomScaleCropFlip(**({"crop": (4, 4)} | wrong))
    images, targets = batch()
    with pytest.raises(CwdError, match="of one batch"):
        RandomScaleCropFlip((4, 4))(images, targets[:, 1:], torch.Generator())


def test_photometric_distortion_by_hand(monkeypatch):
    """With all changes but one switched off, that one is what it says."""
    images, _ = batch(count=2)
    plain = normalise(images)
    drawn = torch.rand(2, 4, generator=torch.Generator().manual_seed(5))

    def only(number):
        used = torch.ones(2, 4)
        used[:, number] = 0  # below 1/2: this change alone is made
        numbers = iter((drawn, used, torch.zeros(2)))
        with monkeypatch.context() as patch:
            patch.setattr(torch, "rand", lambda *_, generator: next(numbers))
            found = distort(plain, torch.Generator(), 2)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
        return found * std + mean

    pixels = images / 255
    shift = (2 * drawn[:, 0] - 1).view(2, 1, 1, 1) * 32 / 255
    torch.testing.assert_close(only(0), (pixels + shift).clamp(0, 1), atol=1e-5, rtol=0)
    factor = (0.5 + drawn[:, 1]).view(2, 1, 1, 1)
    torch.testing.assert_close(only(1), (pixels * factor).clamp(0, 1), atol=1e-5, rtol=0)
    grey = (pixels * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    factor = (0.5 + drawn[:, 2]).view(2, 1, 1, 1)
    expected = (factor * pixels + (1 - factor) * grey).clamp(0, 1)
    torch.testing.assert_close(only(2), expected, atol=1e-3, rtol=0)
    turned = only(3)  # the hue alone: each pixel's largest and smallest channel keep their values
    torch.testing.assert_close(turned.amax(1), pixels.amax(1), atol=1e-4, rtol=0)
    torch.testing.assert_close(turned.amin(1), pixels.amin(1), atol=1e-4, rtol=0)
    assert not torch.allclose(turned, pixels, atol=1e-2)


def test_photometric_distortion_leaves_padding():
    plain = normalise(batch()[0])
    plain[:, :, 8:] = 0
    found = distort(plain, torch.Generator().manual_seed(1), 4)
    assert (found[:, :, 8:] == 0).all()
    assert not torch.equal(found, plain)
