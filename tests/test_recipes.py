"""The paper's notation: what it means, and what is refused."""

from types import SimpleNamespace

import pytest
import torch

from cwd.errors import CwdError
from cwd.losses import ChannelWise, PixelWise
from cwd.recipes import Distiller, parse_recipe


@pytest.mark.parametrize(
    ("text", "name", "weight", "temperature"),
    [
        ("CW_f", "CW_f", 35, 1),
        ("CW_s", "CW_s", 3, 4),
        ("PI", "PI", 10, 1),
        ("PI_s", "PI", 10, 1),
        ("PI_f", "PI_f", 10, 1),
        ("CW_f(T=4, weight=5)", "CW_f", 5, 4),
        ("CW_f( weight = 1e+1 )", "CW_f", 10, 1),
    ],
)
def test_one_term(text, name, weight, temperature):
    (term,) = parse_recipe(text)
    assert (term.name, term.weight) == (name, weight)
    assert term.build().temperature == temperature


def test_several_terms():
    terms = parse_recipe("PI + CW_s(weight=1e+0)+CW_f(align=conv-bn-relu)")
    assert [t.name for t in terms] == ["PI", "CW_s", "CW_f"]
    assert [type(t.build()) for t in terms] == [PixelWise, ChannelWise, ChannelWise]
    assert terms[2].align == "conv-bn-relu"
    assert parse_recipe("") == ()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("CWD_f", "CWD_f"),
        ("CW", "CW_f or CW_s"),
        ("CW_x", "CW_f or CW_s"),
        ("CW_f +", "known term"),
        ("CW_f + CW_f(T=2)", "twice"),
        ("CW_f(T=2, T=3)", "twice"),
        ("CW_f(tau=2)", "tau=2"),
        ("CW_f(T)", '"T"'),
        ("CW_f(T=warm)", "warm"),
        ("CW_f(T=0)", "positive"),
        ("CW_f(weight=0)", "weight=0"),
        ("CW_f(weight=-1)", "weight=-1"),
        ("CW_f(weight=nan)", "weight=nan"),
        ("CW_f(weight=much)", "weight=much"),
        ("CW_f(align=no)", "align=no"),
        ("CW_f(T=1", "CW_f"),
    ],
)
def test_refused(text, word):
    with pytest.raises(CwdError) as error:
        parse_recipe(text)
    assert word in str(error.value)


def network(classes, channels):
    return SimpleNamespace(num_classes=classes, feature_channels=channels)


def outputs(classes, channels, seed):
    generator = torch.Generator().manual_seed(seed)
    return SimpleNamespace(
        score=torch.randn(2, classes, 4, 4, generator=generator),
        feature=torch.randn(2, channels, 4, 4, generator=generator),
    )


def test_distiller_weights_and_taps():
    distiller = Distiller(parse_recipe("PI + CW_s(T=2) + CW_f"), network(5, 8), network(5, 8))
    student, teacher = outputs(5, 8, 0), outputs(5, 8, 1)
    values = distiller(student, teacher, None)
    assert list(values) == ["PI", "CW_s", "CW_f"]
    assert values["PI"] == 10 * PixelWise()(student.score, teacher.score)
    assert values["CW_s"] == 3 * ChannelWise(2)(student.score, teacher.score)
    assert values["CW_f"] == 35 * ChannelWise()(student.feature, teacher.feature)
    assert not list(distiller.parameters())


def test_distiller_aligns_channels_only_where_they_differ():
    distiller = Distiller(parse_recipe("CW_s + CW_f"), network(5, 3), network(5, 8))
    assert list(distiller.alignments) == ["CW_f"]
    values = distiller(outputs(5, 3, 0), outputs(5, 8, 1), None)
    values["CW_f"].backward()
    assert all(p.grad.abs().max() > 0 for n, p in distiller.named_parameters() if "weight" in n)


def test_distiller_refuses_other_classes():
    with pytest.raises(CwdError, match="5 classes and the teacher 6"):
        Distiller(parse_recipe("PI"), network(5, 8), network(6, 8))
