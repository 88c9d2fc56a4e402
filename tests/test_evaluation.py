"""mIoU and its relatives against a confusion matrix counted by hand."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cwd.errors import CwdError
from cwd.evaluation import evaluate, scores
from cwd.models import SegmentationOutput

CLASSES = ("road", "car", "sky")


class Oracle(nn.Module):
    """Predicts what its single-channel image says, at the image's size."""

    num_classes = 3

    def forward(self, images):
        # normalise() maps 0, 1, 2 to increasing numbers; undo it
        wanted = (images[:, 0] * 0.229 + 0.485).mul(255).round().long()
        score = nn.functional.one_hot(wanted, 3).permute(0, 3, 1, 2).float()
        return SegmentationOutput(score, score, None)


def dataset(predicted, target):
    predicted = torch.tensor(predicted, dtype=torch.uint8)
    images = predicted[:, None].expand(-1, 3, -1, -1).contiguous()
    return SimpleNamespace(
        name="hand",
        classes=CLASSES,
        num_classes=3,
        images=images,
        targets=torch.tensor(target, dtype=torch.uint8),
        sizes=torch.tensor(predicted.shape[1:]).expand(len(predicted), 2),
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


def test_the_network_stays_in_its_mode():
    network = Oracle().train()
    evaluate(network, dataset([[[0]]], [[[0]]]))
    assert network.training


def test_another_number_of_classes():
    network = Oracle()
    network.num_classes = 4
    with pytest.raises(CwdError, match="4 classes and hand 3"):
        evaluate(network, dataset([[[0]]], [[[0]]]))
