"""The paper's notation: what it means, what is refused, and what it makes of two networks."""

import inspect
from types import SimpleNamespace

import pytest
import torch

from cwd import losses
from cwd.losses import ChannelWise, Holistic, PixelWise
from cwd.models.build import build_network
from cwd.recipes import Distiller, parse_recipe
from cwd.recipes.notation import NOTATION, SYMBOLS
from cwd.system.errors import CwdError


@pytest.mark.parametrize(
    ("text", "name", "weight", "options"),
    [
        ("CW_f", "CW_f", 35, {"temperature": 1, "metric": "kl"}),
        ("CW_s", "CW_s", 3, {"temperature": 4, "metric": "kl"}),
        ("PI", "PI", 10, {"temperature": 1}),
        ("PI_s", "PI", 10, {"temperature": 1}),
        ("PI_f(metric=swapped)", "PI_f", 10, {"metric": "swapped"}),
        ("CW_f(T=4, weight=5)", "CW_f", 5, {"temperature": 4}),
        ("CW_f( weight = 1e+1, metric=l2 )", "CW_f", 10, {"temperature": 1, "metric": "l2"}),
        ("PA_f", "PA_f", 0.5, {"pool_scale": 0.5}),
        ("PA_f(pool_scale=0)", "PA_f", 0.5, {"pool_scale": 0}),
        ("AT_s(p=3)", "AT_s", 1000, {"p": 3}),
        ("CD_f", "CD_f", 1, {"metric": "l2"}),
        ("RAW_f(metric=kl)", "RAW_f", 0.01, {"metric": "kl"}),
    ],
)
def test_one_term(text, name, weight, options):
    (term,) = parse_recipe(text)
    assert (term.name, term.weight) == (name, weight)
    loss = term.build()
    assert {option: getattr(loss, option) for option in options} == options


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
        ("CW_f(weight=nan)", "weight=nan"),
        ("CW_f(weight=much)", "weight=much"),
        ("CW_f(align=no)", "align=no"),
        ("CW_f(T=1", "CW_f"),
        ("MIMIC_f(T=2)", '"T=2"; write option=value with one of weight, align.'),
        ("PA_f(align=conv)", '"align=conv"'),
        ("IFV_f(ignore_index=3)", '"ignore_index=3"'),
        ("PA_f(T=2)", "pool_scale"),
        ("PA_f(pool_scale=2)", "pool_scale=2"),
        ("AT_f(p=0)", "p=0"),
        ("CW_f(metric=cosine)", "metric=cosine"),
        ("CD_f(metric=swapped)", "metric=swapped"),
        ("HO(channels=3)", '"channels=3"'),
        ("HO_f", "write HO_s"),
        ("MIMIC", "MIMIC_f or MIMIC_s"),
        ("HO + HO_s", "HO twice"),
        ("IFV_f + IFVD_f", "IFV_f twice"),
        ("Chen(mu=1.1)", "mu=1.1 is no share"),
        ("Chen(nu=half)", "nu=half is no weight"),
        ("Chen(gamma=inf)", "gamma=inf is no weight"),
        ("Chen(margin=nan)", "margin=nan is no margin"),
        ("Wang(threshold=1)", "threshold=1.0 is no share"),
        ("Wang(threshold=-0.5)", "threshold=-0.5 is no share"),
        ("Wang(relu=maybe)", "relu=maybe is unknown"),
        ("Zhang(T=0)", "T=0.0 is no temperature"),
        ("Zhang(T=warm)", "T=warm is no temperature"),
        ("Heo(T=1)", "write option=value with one of weight."),
        ("CT", "write CT_f or CT_b or CT_fpn or CT_neck"),
        ("CT_s", "write CT_f"),
        ("CT_f(align=conv)", '"align=conv"'),
        ("CT_f(hidden=99)", "hidden=99"),
    ],
)
def test_refused(text, word):
    with pytest.raises(CwdError) as error:
        parse_recipe(text)
    assert word in str(error.value)


WEIGHTS = {
    "MIMIC": (losses.Mimic, 1, "fs"),
    "AT": (losses.AttentionTransfer, 1000, "fs"),
    "PI": (losses.PixelWise, 10, "fs"),
    "LOCAL": (losses.LocalAffinity, 0.001, "fs"),
    "PA": (losses.PairwiseAffinity, 0.5, "fs"),
    "IFV": (losses.IntraClassVariation, 200, "fs"),
    "HO": (losses.Holistic, 0.1, "s"),
    "CD": (losses.ChannelMean, 1, "fs"),
    "RAW": (losses.Unnormalised, 0.01, "fs"),
}


@pytest.mark.parametrize("symbol", WEIGHTS)
def test_every_symbol(symbol):
    loss, weight, taps = WEIGHTS[symbol]
    for tap in taps:
        (term,) = parse_recipe(f"{symbol}_{tap}")
        assert (term.symbol, term.tap, term.weight, term.align) == (symbol, tap, weight, "conv")
        assert type(term.build()) is loss
        if symbol == "IFV":  # Table 2's word
            assert parse_recipe(f"IFVD_{tap}") == (term,)
    assert set(NOTATION[symbol].defaults) == set(taps)
    assert set(WEIGHTS) | {"CW"} == set(NOTATION)


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_the_table_lists_a_losss_arguments(symbol):
    notation = SYMBOLS[symbol]
    networks = ("student", "teacher") if symbol in ("Chen", "Wang", "Heo", "Zhang") else ()
    listed = {*notation.options, *notation.told, *networks}
    # which positions have no class is the dataset's to say
    assert listed == inspect.signature(notation.loss).parameters.keys() - {
        "ignore_index",
        "args",
        "kwargs",
    }


def distiller(recipe, channels=(3, 8), classes=(5, 5)):
    """A recipe for maps of 4x4 of a student and a teacher, and what the two give."""
    torch.manual_seed(0)
    sizes = list(zip(classes, channels, strict=True))
    networks = [SimpleNamespace(num_classes=k, feature_channels=c) for k, c in sizes]
    outputs = [
        SimpleNamespace(score=torch.randn(2, k, 4, 4), feature=torch.randn(2, c, 4, 4))
        for k, c in sizes
    ]
    return Distiller(parse_recipe(recipe), *networks, (4, 4)), *outputs


def test_weights_and_taps():
    built, student, teacher = distiller("PI + CW_s(T=2) + CW_f", channels=(8, 8))
    values = built(student, teacher, None)
    assert list(values) == ["PI", "CW_s", "CW_f"]
    assert values["PI"] == 10 * PixelWise()(student.score, teacher.score)
    assert values["CW_s"] == 3 * ChannelWise(2)(student.score, teacher.score)
    assert values["CW_f"] == 35 * ChannelWise()(student.feature, teacher.feature)
    assert not list(built.parameters())


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
    built, student, teacher = distiller(recipe)
    student.score.requires_grad_()
    target, images = torch.arange(32).view(2, 4, 4) % 5, torch.randn(2, 3, 32, 32)
    values = built(student, teacher, target, images)
    assert list(values) == recipe.split(" + ")
    assert all(value.isfinite() and value.shape == () for value in values.values())
    assert (built.critic is not None) == ("HO" in recipe)
    sum(values.values()).backward()
    if "PI" in recipe:
        assert student.score.grad.isfinite().all()
    if built.critic:
        assert built.critic.critic.norm.num_features == 5
        assert all(p.grad is None for p in built.critic.parameters())


@pytest.mark.parametrize("symbol", ["MIMIC", "AT", "PI", "CW", "CD", "RAW", "LOCAL", "PA", "IFV"])
def test_features_are_aligned_where_channels_differ_and_the_loss_compares_them(symbol):
    recipe = f"{symbol}_s + {symbol}_f"
    built, student, teacher = distiller(recipe)
    assert not distiller(recipe, channels=(8, 8))[0].alignments
    values = built(student, teacher, torch.arange(32).view(2, 4, 4) % 5)
    assert all(value > 0 for value in values.values())
    if symbol in ("LOCAL", "PA", "IFV"):
        assert not list(built.parameters())
    else:
        assert list(built.alignments) == [f"{symbol}_f"]
        values[f"{symbol}_f"].backward()
        weight = built.alignments[f"{symbol}_f"][0].weight
        assert weight.grad.abs().max() > 0
        assert torch.equal(
            built.compared(f"{symbol}_f", student), built.alignments[f"{symbol}_f"](student.feature)
        )


def test_the_holistic_term():
    built, student, teacher = distiller("HO")
    built.eval()
    images = torch.randn(2, 3, 32, 32)
    expected = built.critic(student.score, teacher.score, None, images)
    torch.testing.assert_close(built(student, teacher, None, images)["HO"], 0.1 * expected)
    assert not built.alignments
    with pytest.raises(CwdError, match="give it the images"):
        built(student, teacher, None)


def test_other_classes_are_refused():
    with pytest.raises(CwdError, match="5 classes and the teacher 6"):
        distiller("PI", classes=(5, 6))


@pytest.mark.parametrize("recipe", ["CW_s", "CW_f", "AT_f", "PA_s"])
def test_swapped_maps_are_refused(recipe):
    built, student, teacher = distiller(recipe)
    for outputs, odd in (
        ((swapped(student), teacher), "student"),
        ((student, swapped(teacher)), "teacher"),
    ):
        with pytest.raises(
            CwdError, match=rf"{recipe}: the {odd}'s \w+ map has \d channels and not \d"
        ):
            built(*outputs, None)


def swapped(output):
    return SimpleNamespace(score=output.feature, feature=output.score)


def test_a_distillers_teacher_is_frozen():
    networks = [build_network(f"PSPNet-R18({width})", 5) for width in (0.125, 0.25)]
    built = Distiller(parse_recipe("CW_f"), *networks)
    assert not any(module.training for module in networks[1].modules())
    assert not any(p.requires_grad for p in networks[1].parameters())
    learnt = {id(p) for p in built.parameters()}
    assert not learnt & {id(p) for p in networks[1].parameters()}
    assert networks[0].training


def test_reading_a_recipe_builds_no_critic(monkeypatch):
    # a run is described many times before it is trained, and a critic has millions of weights
    monkeypatch.setattr(Holistic, "__init__", lambda self, *args, **options: pytest.fail("built"))
    (term,) = parse_recipe("HO")
    with pytest.raises(pytest.fail.Exception):
        term.build()


# Reading and building a recipe draw random numbers, and recorded runs began with what came next.
@pytest.mark.parametrize(
    ("recipe", "after_reading", "after_building"),
    [
        ("CW_f", 0.08847743, 0.15067977),
        ("CT_f", 0.04920423, 0.45993322),
        ("PI + HO + CW_f", 0.49009341, 0.35976988),
        ("MIMIC_f", 0.08847743, 0.15067977),
    ],
)
def test_recorded_runs_draw_the_same_random_numbers(recipe, after_reading, after_building):
    torch.manual_seed(0)
    terms = parse_recipe(recipe)
    read = torch.get_rng_state()
    assert torch.rand(()).item() == pytest.approx(after_reading, abs=1e-6)
    torch.set_rng_state(read)
    networks = [SimpleNamespace(num_classes=5, feature_channels=c) for c in (3, 8)]
    Distiller(terms, *networks, (8, 16))
    assert torch.rand(()).item() == pytest.approx(after_building, abs=1e-6)
