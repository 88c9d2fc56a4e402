"""mIoU and its relatives against a confusion matrix counted by hand."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cwd.data import fake_trees
from cwd.data.datasets import build_dataset
from cwd.data.decoded import load_cached
from cwd.data.segmentation import Sample
from cwd.evaluation import miou
from cwd.evaluation.miou import classes_at, evaluate, in_batches, scores, upsample
from cwd.models.segmentation import SegmentationOutput
from cwd.system.errors import CwdError

CLASSES = ("road", "car", "sky")


class Oracle(nn.Module):
    """Predicts what its single-channel image says, at the image's size."""

    num_classes = 3

    def forward(self, images):
        # normalise() maps 0, 1, 2 to increasing numbers; undo it
        wanted = (images[:, 0] * 0.229 + 0.485).mul(255).round().long()
        score = nn.functional.one_hot(wanted, 3).permute(0, 3, 1, 2).float()
        return SegmentationOutput(score, score, None)


class Hand(list):
    """Samples; what the network shall predict is in the image."""

    name, classes, num_classes = "hand", CLASSES, 3


def dataset(predicted, target):
    return Hand(
        Sample(torch.tensor(p, dtype=torch.uint8).expand(3, -1, -1), torch.tensor(t))
        for p, t in zip(predicted, target, strict=True)
    )


def test_by_hand():
    # two images of 2x3 pixels; 255 is not counted, whatever is predicted there
    predicted = [[[0, 0, 1], [0, 1, 1]], [[0, 1, 0], [1, 1, 0]]]
    target = [[[0, 0, 1], [1, 1, 0]], [[0, 255, 0], [0, 1, 255]]]
    # true 0: predicted 0 four times, 1 twice; true 1: predicted 0 once, 1 three times
    result = evaluate(Oracle(), dataset(predicted, target), batch=1)
    assert result["class_iou"]["road"] == pytest.approx(100 * 4 / 7)
    assert result["class_iou"]["car"] == pytest.approx(100 * 3 / 6)
    assert result["class_iou"]["sky"] is None  # in neither labels nor predictions
    assert result["miou"] == pytest.approx(100 * (4 / 7 + 3 / 6) / 2)
    assert result["macc"] == pytest.approx(100 * (4 / 6 + 3 / 4) / 2)
    assert result["accuracy"] == pytest.approx(100 * 7 / 10)
    assert result["images"] == 2


def test_a_class_that_is_only_predicted_counts_as_zero():
    result = scores(torch.tensor([[3, 1], [0, 0]]), ("a", "b"))
    assert result["class_iou"] == {"a": 75.0, "b": 0.0}
    assert result["miou"] == 37.5
    assert result["macc"] == 75.0  # recall of b is not defined


def test_modes_and_classes():
    network = Oracle().train()
    evaluate(network, dataset([[[0]]], [[[0]]]))
    assert network.training
    network.num_classes = 4
    with pytest.raises(CwdError, match="4 classes and hand 3"):
        evaluate(network, dataset([[[0]]], [[[0]]]))


class Noise(nn.Module):
    """A network whose score map is random and smaller than its image."""

    num_classes = 150

    def forward(self, images):
        height, width = images.shape[-2:]
        generator = torch.Generator().manual_seed(height * width)
        size = (len(images), self.num_classes, height // 4 + 1, width // 4 + 1)
        score = torch.randn(size, generator=generator)
        return SegmentationOutput(score, score, None)


def test_classes_in_groups_are_the_same():
    score = torch.randn(2, 23, 5, 7, generator=torch.Generator().manual_seed(0))
    whole = upsample(score, (31, 40)).argmax(dim=1)
    for limit in (1, 2 * 31 * 40, 5 * 2 * 31 * 40, 10**9):
        assert torch.equal(classes_at(score, (31, 40), limit), whole)
    tie = torch.zeros(1, 5, 2, 2)
    assert (classes_at(tie, (4, 4), limit=1) == 0).all()


def test_memory_is_bounded(monkeypatch):
    """No enlarged scores are larger than the limit, or than one class of one image."""
    sizes = []
    original = nn.functional.interpolate

    def watched(score, **options):
        found = original(score, **options)
        sizes.append(found.numel())
        return found

    monkeypatch.setattr(miou.F, "interpolate", watched)
    score = torch.randn(1, 150, 8, 8)
    classes_at(score, (64, 64), limit=20 * 64 * 64)
    assert len(sizes) == 8  # 7 groups of 20, and one of 10
    assert max(sizes) == 20 * 64 * 64


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
    """150 classes, unlabelled pixels, images of many sizes: mIoU and mAcc by another route."""
    tree = fake_trees.ade20k(tmp_path / "ade20k", val=5, size=(12, 20))
    files = build_dataset("ade20k", tree, "val")
    network = Noise()
    found = evaluate(network, load_cached(files, tmp_path / "cache"), batch=2)
    assert found == evaluate(network, files)  # on disk as it is

    true, predicted = [], []
    for path in sorted((tree / "annotations" / "validation").iterdir()):
        label = np.asarray(Image.open(path)).astype(int) - 1  # -1 is unlabelled
        score = network(torch.zeros(1, 3, *label.shape)).score
        full = nn.functional.interpolate(score, label.shape, mode="bilinear", align_corners=True)
        true.append(label[label >= 0])
        predicted.append(full[0].numpy().argmax(axis=0)[label >= 0])
    true, predicted = np.concatenate(true), np.concatenate(predicted)
    iou, recall = [], []
    for k in range(150):
        hit = np.sum((true == k) & (predicted == k))
        if union := np.sum((true == k) | (predicted == k)):
            iou.append(hit / union)
        if np.any(true == k):
            recall.append(hit / np.sum(true == k))
    assert found["miou"] == pytest.approx(100 * np.mean(iou), rel=1e-9)
    assert found["macc"] == pytest.approx(100 * np.mean(recall), rel=1e-9)
    assert found["images"] == 5
