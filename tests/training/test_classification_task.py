"""Classifiers measured, against torchmetrics and by hand, and trained by the loop."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torchmetrics.functional.classification import multiclass_accuracy
from torchvision.transforms import v2

from cwd.config.run import Data, Run
from cwd.config.schedule import ClassificationSchedule
from cwd.data import fake_trees
from cwd.data.classification.folders import build_folders
from cwd.evaluation import measuring, top1
from cwd.evaluation.top1 import counted, evaluate, scores
from cwd.models.classification import ClassificationOutput
from cwd.system.errors import CwdError

SCHEDULE = ClassificationSchedule(
    steps=4, batch=4, crop=32, short=36, lr=0.05, checkpoint_every=2, precision="fp32"
)
DATA = Data("crops", size=(96, 160), train=6, val=4)


@pytest.fixture(scope="module")
def val(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "imagenet"
    return build_folders(
        "imagenet", fake_trees.imagenet(root, val=3, classes=7, size=(40, 50)), "val"
    )


class Linear(nn.Module):
    """Scores of the image's pixels; its dropout shows whether it is in eval mode."""

    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes
        draws = torch.Generator().manual_seed(5)
        self.weight = torch.randn(3 * 32 * 32, num_classes, generator=draws) / 50
        self.dropout = nn.Dropout(0.9)

    def forward(self, images):
        assert images.shape[1:] == (3, 32, 32)
        return ClassificationOutput(self.dropout(images.flatten(1) @ self.weight), images)


def test_accuracy_is_torchmetrics(val):
    steps = v2.Resize(36, antialias=True), v2.CenterCrop(32), v2.ToDtype(torch.float32, scale=True)
    prepare = v2.Compose([*steps, v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
    network = Linear(7)
    images = torch.stack([prepare(val[index].image) for index in range(len(val))])
    labels = torch.tensor([val[index].label for index in range(len(val))])
    score = network.eval()(images).score
    network.train()
    for batch in (4, 64):
        found = evaluate(network, val, SCHEDULE, batch=batch)
        kinds = {"top1": (1, "micro"), "top5": (5, "micro"), "mean_class": (1, "macro")}
        for name, (top, average) in kinds.items():
            share = multiclass_accuracy(score, labels, 7, average=average, top_k=top)
            assert found[name] == pytest.approx(100 * share.item(), rel=1e-5)
        each = multiclass_accuracy(score, labels, 7, average=None).tolist()
        assert list(found["class_accuracy"]) == list(val.classes)
        assert [*found["class_accuracy"].values()] == pytest.approx([100 * x for x in each])
        assert found["images"] == 21
        assert 0 < found["top1"] < found["top5"] < 100
    assert network.training


def test_accuracy_by_hand():
    #           label 0, 0, 0, 2: right, second of all, last, right
    score = torch.tensor([[9.0, 1, 2, 3, 4, 5, 6], [8, 9, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5, 6],
                          [1, 0, 9, 5, 4, 3, 2]])  # fmt: skip
    counts = counted(score, torch.tensor([0, 0, 0, 2]))
    assert counts.tolist() == [
        [3, 0, 1, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0, 0], [2, 0, 1, 0, 0, 0, 0]
    ]  # fmt: skip
    found = scores(counts, tuple("abcdefg"))
    assert (found["top1"], found["top5"]) == (50, 75)
    assert found["mean_class"] == pytest.approx((100 / 3 + 100) / 2)
    assert found["class_accuracy"] == {
        "a": pytest.approx(100 / 3), "b": None, "c": 100, "d": None, "e": None, "f": None, "g": None
    }  # fmt: skip
    few = scores(counted(score[:, :3], torch.tensor([0, 0, 0, 2])), tuple("abc"))
    assert few["top5"] is None
    assert few["top1"] == 50


def test_processes_share_the_images(val, monkeypatch):
    network = Linear(7)
    whole, parts = evaluate(network, val, SCHEDULE), []

    def keep(counts):
        parts.append(counts)
        return sum(parts)

    monkeypatch.setattr(measuring, "processes", lambda: 2)
    monkeypatch.setattr(top1, "total", keep)
    for rank in (0, 1):
        monkeypatch.setattr(measuring, "rank", lambda rank=rank: rank)
        found = evaluate(network, val, SCHEDULE, batch=4)
    assert [int(part[0].sum()) for part in parts] == [11, 10]
    assert found == whole
    with pytest.raises(CwdError, match="the network has 8 classes and imagenet 7"):
        evaluate(Linear(8), val, SCHEDULE)


def test_a_classifier_learns_crops_by_heart(go):
    data = Data("crops", size=(96, 160), train=4, val=4, split="train")
    schedule = replace(
        SCHEDULE, steps=80, batch=16, scale=(0.9, 1.0), flip=False, lr=0.1, drop_every=0.7
    )
    folder = go(Run(data, "Classifier-R18(0.25, stride=8)", schedule))
    assert folder.metrics["images"] >= 16
    assert folder.metrics["top1"] > 90
    assert folder.history()["CE"].iloc[-1] < 0.3
