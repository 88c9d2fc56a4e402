"""Measures of channels against counts of pairs and against maps whose answer is known."""

import itertools
import json

import pytest
import torch
from invented import Invented, find, recorded

from cwd.experiments.channels import class_auc, mean_auc, salience_gaps
from cwd.experiments.claims import verdicts


def by_pairs(channel, labels, c):
    """The share of pairs, one position inside and one outside, that the channel orders rightly."""
    inside = [v for v, y in zip(channel, labels, strict=True) if y == c]
    outside = [v for v, y in zip(channel, labels, strict=True) if y not in (c, 255)]
    pairs = list(itertools.product(inside, outside))
    return sum(a > b for a, b in pairs) / len(pairs)


def test_auc_is_the_share_of_pairs_in_order():
    generator = torch.Generator().manual_seed(0)
    score = torch.randn(4, 5, 6, generator=generator)
    target = torch.randint(0, 3, (5, 6), generator=generator)
    target[0] = 255
    labels = target.flatten().tolist()
    expected = [by_pairs(score[c].flatten().tolist(), labels, c) for c in range(3)]
    assert class_auc(score, target) == pytest.approx(expected)


def test_auc_of_clean_and_of_inverted_masks():
    target = torch.tensor([[0, 0, 1, 1]]).repeat_interleave(8, 0).repeat_interleave(8, 1)
    small = torch.tensor([[0.9, 0.8, 0.1, 0.2]])
    score = torch.stack([small, small])  # class 1's channel is active where class 0 is
    assert class_auc(score, target) == [1.0, 0.0]
    assert mean_auc(score[None], target[None]) == 0.5
    assert class_auc(score, torch.zeros(8, 8)) == []  # there is nothing to separate


def test_salience_by_hand():
    # ten positions, so that one is salient; the student is wrong there and nowhere else
    p = torch.tensor([0.55] + [0.05] * 9, dtype=torch.float64).view(1, 1, 2, 5)
    q = torch.tensor([0.10] + [0.10] * 9, dtype=torch.float64).view(1, 1, 2, 5)
    salient, background = salience_gaps(q.log(), p.log())
    assert salient == pytest.approx(torch.tensor(5.5).log().item())
    assert background == pytest.approx(torch.tensor(2.0).log().item())
    assert salience_gaps(p.log() + 3, p.log()) == (pytest.approx(0), pytest.approx(0))


def test_the_claims_read_them(tmp_path):
    records = recorded(tmp_path, Invented({}))
    lines = [{"recipe": "teacher", "seed": 0, "auc": 0.9, "salient": None, "background": None}]
    for recipe, auc, gaps in (("", 0.7, (2.0, 1.0)), ("AT_f", 0.7, (2.0, 1.0)),
                              ("CW_f", 0.6, (2.0, 1.0)), ("CW_s", 0.7, (1.0, 0.9))):  # fmt: skip
        for seed in range(3):
            jitter = 0.001 * seed * (1 + len(recipe))
            lines.append({"recipe": recipe, "seed": seed, "auc": auc + jitter,
                          "salient": gaps[0] + jitter, "background": gaps[1]})  # fmt: skip
    (tmp_path / "results" / "quick" / "channels.json").write_text(json.dumps({"lines": lines}))
    table = verdicts(records)
    teacher = find(table, "the teacher's channels")
    assert (teacher.verdict, teacher.n, teacher.unit) == ("supported", 3, "AUC")
    assert teacher.ours == pytest.approx(0.199)
    assert find(table, "CW's channels mark").verdict == "contradicted"
    salient = find(table, "copies the salient")
    assert salient.verdict == "supported"
    assert salient.ours == pytest.approx(0.9, abs=0.01)  # 1.0 nearer there, 0.1 elsewhere
