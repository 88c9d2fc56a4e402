"""mIoU and its relatives against numpy, and in how much memory."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cwd.data import fake_trees
from cwd.data.datasets import build_dataset
from cwd.data.decoded import load_cached
from cwd.data.segmentation import Sample
from cwd.data.transforms import normalise
from cwd.evaluation import miou
from cwd.evaluation.miou import classes_at, evaluate, in_batches, upsample
from cwd.models.segmentation import SegmentationOutput
from cwd.system.errors import CwdError


def test_modes_and_classes(tmp_path):
    files = build_dataset("ade20k", fake_trees.ade20k(tmp_path / "ade20k"), "val")
    network = Random().train()
    evaluate(network, files)
    assert network.training
    network.num_classes = 4
    with pytest.raises(CwdError, match="4 classes and ade20k 150"):
        evaluate(network, files)


class Random(nn.Module):
    """A network whose score map is of an eighth of the image's size; it never says class 140."""

    num_classes = 150

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.last = nn.Conv2d(3, 150, 4, stride=4, padding=2).double()
        nn.init.constant_(self.last.bias[140:], -1e4)

    def forward(self, images):
        score = self.last(images.double())
        return SegmentationOutput(score, score, None)


def test_classes_in_groups_are_the_same(monkeypatch):
    """And no enlarged scores are more than the limit, or than one class of the images."""
    score = torch.randn(2, 23, 5, 7, generator=torch.Generator().manual_seed(0))
    whole = upsample(score, (31, 40)).argmax(dim=1)
    sizes, pixels = [], 2 * 31 * 40
    monkeypatch.setattr(
        miou, "upsample", lambda part, size: sizes.append(part.shape[1]) or upsample(part, size)
    )
    for limit, groups in ((1, [1] * 23), (pixels, [1] * 23), (5 * pixels, [5, 5, 5, 5, 3]),
                          (10**9, [23])):  # fmt: skip
        assert torch.equal(classes_at(score, (31, 40), limit), whole)
        assert sizes == groups
        sizes.clear()
    tie = torch.zeros(1, 5, 2, 2)
    assert (classes_at(tie, (4, 4), limit=1) == 0).all()


def test_images_are_computed_together_where_they_are_of_one_size(monkeypatch):
    monkeypatch.setattr(miou, "PIXELS", 80)
    sizes = [(4, 6), (4, 8), (4, 6), (4, 6), (10, 20), (4, 6), (4, 8), (4, 8)]
    read = []

    class Sized:
        def __getitem__(self, index):
            read.append(index)
            height, width = sizes[index]
            return Sample(torch.full((3, height, width), index), torch.full(sizes[index], index))

    found = []
    for images, targets in in_batches(Sized(), range(len(sizes)), 8):
        assert (images[:, 0] == targets).all()
        found.append(targets[:, 0, 0].tolist())
    # three images of 24 pixels fit into 80, two of 32, and one of 200 has to be alone
    assert found == [[0, 2, 3], [4], [1, 6], [5], [7]]
    assert read == list(range(len(sizes)))
    assert [t.shape[0] for _, t in in_batches(Sized(), [0, 2, 3], 2)] == [2, 1]


def test_few_images_wait_for_others_of_their_size(monkeypatch):
    """However many sizes there are, no more than about `PIXELS` pixels are held."""
    monkeypatch.setattr(miou, "PIXELS", 100)
    given, taken, held = 0, 0, []

    class Different:
        def __getitem__(self, index):
            nonlocal given
            given += 2 * (index + 1)
            return Sample(torch.zeros(3, 2, index + 1), torch.zeros(2, index + 1))

    for _, targets in in_batches(Different(), range(30), 8):
        held.append(given - taken)
        taken += targets.numel()
    assert max(held) <= 200
    assert taken == given


def test_images_of_many_sizes_against_numpy(tmp_path):
    """150 classes, unlabelled pixels, images of many sizes: all numbers by another route."""
    tree = fake_trees.ade20k(tmp_path / "ade20k", val=5, size=(12, 20))
    paths = sorted((tree / "annotations" / "validation").iterdir())
    for path in paths:  # some classes are predicted alone, others are nowhere
        label = np.asarray(Image.open(path))
        fake_trees.save(path, np.where(label > 130, 0, label).astype(np.uint8))
    files = build_dataset("ade20k", tree, "val")
    network = Random()
    found = evaluate(network, load_cached(files, tmp_path / "cache"), batch=2)
    assert found == evaluate(network, files)  # on disk as it is

    true, predicted = [], []
    for path, sample in zip(paths, files, strict=True):
        label = np.asarray(Image.open(path)).astype(int) - 1  # -1 is unlabelled
        score = network(normalise(sample.image[None])).score.detach().float()
        full = nn.functional.interpolate(score, label.shape, mode="bilinear", align_corners=True)
        true.append(label[label >= 0])
        predicted.append(full[0].numpy().argmax(axis=0)[label >= 0])
    true, predicted = np.concatenate(true), np.concatenate(predicted)
    iou, recall = {}, []
    for k, name in enumerate(files.classes):
        hit = np.sum((true == k) & (predicted == k))
        union = np.sum((true == k) | (predicted == k))
        iou[name] = 100 * hit / union if union else None
        if np.any(true == k):
            recall.append(hit / np.sum(true == k))
    assert found["class_iou"] == iou
    known = [value for value in iou.values() if value is not None]
    assert 130 < len(known) < 150
    assert found["miou"] == pytest.approx(np.mean(known), rel=1e-9)
    assert found["macc"] == pytest.approx(100 * np.mean(recall), rel=1e-9)
    assert found["accuracy"] == pytest.approx(100 * np.mean(true == predicted), rel=1e-9)
    assert found["images"] == 5
