"""The paper's notation: what it means, and what is refused."""

from types import SimpleNamespace

import pytest
import torch

from cwd.losses import (
    AttentionTransfer,
    ChannelMean,
    ChannelWise,
    Holistic,
    IntraClassVariation,
    LocalAffinity,
    Mimic,
    PairwiseAffinity,
    PixelWise,
    Unnormalised,
)
from cwd.recipes import Distiller, parse_recipe
from cwd.recipes.notation import NOTATION
from cwd.system.errors import CwdError


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
        ("MIMIC_f(T=2)", '"T=2"'),
        ("MIMIC_f(metric=l2)", '"metric=l2"'),
        ("PA_f(align=conv)", '"align=conv"'),
        ("LOCAL_f(align=conv)", '"align=conv"'),
        ("IFV_f(align=conv)", '"align=conv"'),
        ("PA_f(T=2)", "pool_scale"),
        ("PA_f(pool_scale=2)", "pool_scale=2"),
        ("PA_f(pool_scale=half)", "pool_scale=half"),
        ("AT_f(p=0)", "p=0"),
        ("CW_f(metric=cosine)", "metric=cosine"),
        ("CD_f(metric=swapped)", "metric=swapped"),
        ("HO(channels=3)", '"channels=3"'),
        ("HO(map_size=64)", '"map_size=64"'),
        ("HO_f", "write HO_s"),
        ("MIMIC", "MIMIC_f or MIMIC_s"),
        ("HO + HO_s", "HO twice"),
        ("IFV_f + IFVD_f", "IFV_f twice"),
    ],
)
def test_refused(text, word):
    with pytest.raises(CwdError) as error:
        parse_recipe(text)
    assert word in str(error.value)


SYMBOLS = {
    "MIMIC": (Mimic, 1, "fs"),
    "AT": (AttentionTransfer, 1000, "fs"),
    "PI": (PixelWise, 10, "fs"),
    "LOCAL": (LocalAffinity, 0.001, "fs"),
    "PA": (PairwiseAffinity, 0.5, "fs"),
    "IFV": (IntraClassVariation, 200, "fs"),
    "HO": (Holistic, 0.1, "s"),
    "CD": (ChannelMean, 1, "fs"),
    "RAW": (Unnormalised, 0.01, "fs"),
}


@pytest.mark.parametrize(
    ("symbol", "tap"), [(symbol, tap) for symbol, row in SYMBOLS.items() for tap in row[2]]
)
def test_every_symbol(symbol, tap):
    loss, weight, taps = SYMBOLS[symbol]
    (term,) = parse_recipe(f"{symbol}_{tap}")
    assert (term.symbol, term.tap, term.weight, term.align) == (symbol, tap, weight, "conv")
    assert type(term.build()) is loss
    assert set(NOTATION[symbol].defaults) == set(taps)
    assert set(SYMBOLS) | {"CW"} == set(NOTATION)


@pytest.mark.parametrize("tap", "fs")
def test_the_other_name_of_ifv(tap):
    assert parse_recipe(f"IFVD_{tap}") == parse_recipe(f"IFV_{tap}")
    assert parse_recipe(f"IFVD_{tap}")[0].name == f"IFV_{tap}"


@pytest.mark.parametrize(
    ("text", "option", "value"),
    [
        ("PA_f(pool_scale=0)", "pool_scale", 0),
        ("PA_f", "pool_scale", 0.5),
        ("AT_s(p=3)", "p", 3),
        ("AT_s", "p", 2),
        ("PI(T=2)", "temperature", 2),
        ("PI(metric=swapped)", "metric", "swapped"),
        ("CW_f(metric=bhattacharyya, T=2)", "metric", "bhattacharyya"),
        ("CW_s", "metric", "kl"),
        ("CD_f", "metric", "l2"),
        ("RAW_f(metric=kl)", "metric", "kl"),
    ],
)
def test_options_reach_the_loss(text, option, value):
    assert getattr(parse_recipe(text)[0].build(), option) == value


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


TABLE_5 = [
    "PI + HO",
    "PI + HO + PA_f",
    "PI + HO + IFV_f",
    "CW_s + CW_f",
    "PI + HO + CW_f",
    "PI + HO + CW_s + CW_f",
]
STRUCTURAL = "PA_s + PA_f + LOCAL_s + LOCAL_f + IFV_s + IFV_f"


@pytest.mark.parametrize("recipe", [*TABLE_5, STRUCTURAL])
def test_combinations(recipe):
    torch.manual_seed(0)
    distiller = Distiller(parse_recipe(recipe), network(5, 3), network(5, 8), map_size=(4, 4))
    student, teacher = outputs(5, 3, 0), outputs(5, 8, 1)
    student.score.requires_grad_()
    target, images = torch.arange(32).view(2, 4, 4) % 5, torch.randn(2, 3, 32, 32)
    values = distiller(student, teacher, target, images)
    assert list(values) == recipe.split(" + ")
    assert all(value.isfinite() and value.shape == () for value in values.values())
    assert (distiller.critic is not None) == ("HO" in recipe)
    sum(values.values()).backward()
    if "PI" in recipe:
        assert student.score.grad.isfinite().all()
    if distiller.critic:
        assert distiller.critic.critic.norm.num_features == 5
        assert all(p.grad is None for p in distiller.critic.parameters())


@pytest.mark.parametrize("symbol", ["MIMIC", "AT", "PI", "CW", "CD", "RAW"])
def test_aligned_on_the_feature_map_where_channels_differ(symbol):
    recipe = parse_recipe(f"{symbol}_s + {symbol}_f")
    (name,) = Distiller(recipe, network(5, 3), network(5, 8)).alignments
    assert name == f"{symbol}_f"
    assert not Distiller(recipe, network(5, 8), network(5, 8)).alignments


@pytest.mark.parametrize("symbol", ["LOCAL", "PA", "IFV"])
def test_not_aligned(symbol):
    distiller = Distiller(parse_recipe(f"{symbol}_s + {symbol}_f"), network(5, 3), network(5, 8))
    assert not list(distiller.parameters())
    target = torch.arange(32).view(2, 4, 4) % 5
    values = distiller(outputs(5, 3, 0), outputs(5, 8, 1), target)
    assert all(value > 0 for value in values.values())


def test_the_holistic_term():
    torch.manual_seed(0)
    distiller = Distiller(parse_recipe("HO"), network(5, 3), network(5, 8), map_size=(4, 4)).eval()
    student, teacher, images = outputs(5, 3, 0), outputs(5, 8, 1), torch.randn(2, 3, 32, 32)
    expected = distiller.critic(student.score, teacher.score, None, images)
    torch.testing.assert_close(distiller(student, teacher, None, images)["HO"], 0.1 * expected)
    assert not distiller.alignments
    with pytest.raises(CwdError, match="give it the images"):
        distiller(student, teacher, None)


def test_distiller_refuses_other_classes():
    with pytest.raises(CwdError, match="5 classes and the teacher 6"):
        Distiller(parse_recipe("PI"), network(5, 8), network(6, 8))


def test_reading_a_recipe_builds_no_critic(monkeypatch):
    # a run is described many times before it is trained, and a critic has millions of weights
    monkeypatch.setattr(Holistic, "__init__", lambda self, *args, **options: pytest.fail("built"))
    (term,) = parse_recipe("HO")
    with pytest.raises(pytest.fail.Exception):
        term.build()
