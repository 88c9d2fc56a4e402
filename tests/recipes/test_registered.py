"""Losses of one's own: what a recipe makes of them, and that an edited one is another."""

import linecache
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cwd.recipes import Distiller, load_losses, loss, parse_recipe
from cwd.recipes.notation import SYMBOLS
from cwd.recipes.registered import REGISTERED, files_of, source
from cwd.system.errors import CwdError


@pytest.fixture(autouse=True)
def forgotten():
    """Afterwards, recipes know the losses that they knew before."""
    before = dict(SYMBOLS)
    yield
    SYMBOLS.clear()
    SYMBOLS.update(before)
    REGISTERED.clear()


def networks(channels=(3, 8), size=(4, 4)):
    both = [SimpleNamespace(num_classes=5, feature_channels=c) for c in channels]
    outs = [
        SimpleNamespace(score=torch.randn(2, 5, *s), feature=torch.randn(2, c, *s))
        for c, s in zip(channels, (size, (4, 4)), strict=True)
    ]
    return both, outs


def values(recipe, **about):
    torch.manual_seed(0)
    both, (student, teacher) = networks(**about)
    built = Distiller(recipe, *both)
    return built, built(student, teacher, torch.zeros(2, 32, 32).long()), student, teacher


def test_a_function():
    @loss("MINE", weight=2.5)
    def mine(student_map, teacher_map, target):
        return (student_map - teacher_map).square().mean()

    (term,) = parse_recipe("MINE_s")
    assert (term.name, term.weight, term.spelled) == ("MINE_s", 2.5, "MINE_s")
    built, found, student, teacher = values("PI + MINE_s + MINE_f(weight=3)")
    torch.testing.assert_close(found["MINE_s"], 2.5 * F.mse_loss(student.score, teacher.score))
    aligned = built.alignments["MINE_f"](student.feature)
    torch.testing.assert_close(found["MINE_f"], 3 * F.mse_loss(aligned, teacher.feature))


def test_maps_come_at_one_size_in_float32_and_the_teachers_detached():
    @loss("MINE")
    def mine(student_map, teacher_map, target):
        assert student_map.shape == teacher_map.shape
        assert student_map.dtype == teacher_map.dtype == torch.float32
        assert not teacher_map.requires_grad
        return (student_map - teacher_map).abs().mean()

    _, found, student, teacher = values("MINE_s", size=(8, 6))
    small = F.interpolate(student.score, (4, 4), mode="bilinear")
    torch.testing.assert_close(found["MINE_s"], F.l1_loss(small, teacher.score))


def test_a_class_with_options_and_what_it_learns():
    @loss("MINE", taps="f", aligned=False)
    class Mine(nn.Module):
        def __init__(self, student_channels, teacher_channels, power=2.0):
            super().__init__()
            self.power = power
            self.match = nn.Conv2d(student_channels, teacher_channels, 1)

        def forward(self, student_map, teacher_map, target):
            return (self.match(student_map) - teacher_map).abs().pow(self.power).mean()

    (term,) = parse_recipe("MINE_f(power=3)")
    assert term.spelled == "MINE_f(power=3)"
    built, found, student, teacher = values("MINE_f(power=3)")
    own = built.losses["MINE_f"].loss
    expected = (own.match(student.feature) - teacher.feature).abs().pow(3).mean()
    torch.testing.assert_close(found["MINE_f"], expected)
    assert not built.alignments
    # 3 x 8 weights and 8 biases
    assert sum(p.numel() for p in built.trained.parameters()) == 32
    with pytest.raises(CwdError, match="MINE_s names no map that MINE has; write MINE_f"):
        parse_recipe("MINE_s")


def no_target(student_map, teacher_map):
    return student_map.mean()


class NoDefault(nn.Module):
    def __init__(self, power):
        super().__init__()

    def forward(self, student_map, teacher_map, target):
        return student_map.mean()


def fine(student_map, teacher_map, target):
    return (student_map - teacher_map).mean()


@pytest.mark.parametrize(
    ("symbol", "about", "made", "words"),
    [
        ("CW", {}, fine, "'CW' is a loss of this package"),
        ("IFVD", {}, fine, "'IFVD' is a loss of this package"),
        ("Zhang", {}, fine, "a loss of this package"),
        ("MINE2", {}, fine, "no word of letters"),
        ("MINE", {"weight": 0}, fine, "weight is 0"),
        ("MINE", {"weight": "1"}, fine, "weight is '1'"),
        ("MINE", {"taps": ("score",)}, fine, r"give some of s, f"),
        ("MINE", {"taps": ()}, fine, r"give some of s, f"),
        ("MINE", {}, no_target, "can't be called with"),
        ("MINE", {}, NoDefault, "argument power: give it a default"),
    ],
)
def test_what_is_refused(symbol, about, made, words):
    before = dict(SYMBOLS)
    with pytest.raises(CwdError, match=words):
        loss(symbol, **about)(made)
    assert before == SYMBOLS


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda s, t, y: (s - t.zero_()).mean(), "MINE changes its maps or the target in place"),
        (lambda s, t, y: (s - t).mean() + y.add_(1).sum(), "MINE changes its maps or the target"),
        (lambda s, t, y: torch.fft.fft(s - t).mean(), r"complex64 \[\]: give a scalar"),
        (lambda s, t, y: (s - t).mean(dim=1), r"loss MINE gives \[2, 4, 4\]: give a scalar"),
        (lambda s, t, y: s @ t[..., :3].missing, "loss MINE fails when it is run .AttributeError"),
    ],
)
def test_a_loss_that_goes_wrong(made, words):
    loss("MINE")(made)
    with pytest.raises(CwdError, match=words):
        values("MINE_s")


FILE = """
from cwd.recipes import loss

@loss("MINE", weight={weight})
def mine(student_map, teacher_map, target):
    return (student_map - teacher_map).square().mean()
"""


def test_a_file(tmp_path):
    path = tmp_path / "my_loss.py"
    path.write_text(FILE.format(weight=2.0))
    load_losses(path)
    first = source("MINE")
    assert parse_recipe("MINE_f")[0].weight == 2
    assert files_of(["MINE"]) == (str(path),)
    load_losses(path)
    assert source("MINE") == first
    path.write_text(FILE.format(weight=4.0))
    linecache.checkcache()  # as a traceback does; what was run is still the first
    assert source("MINE") == first
    load_losses(path)
    assert parse_recipe("MINE_f")[0].weight == 4
    assert source("MINE") != first
    other = path.with_name("other.py")
    other.write_text(FILE.format(weight=2.0))
    with pytest.raises(CwdError, match=r"my_loss.py has a loss of that symbol"):
        load_losses(path, other)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "registers no loss"),
        ("import nothing_like_it", "fails when it is run.*nothing_like_it"),
        ("def", "fails when it is run.*SyntaxError"),
        (FILE.format(weight=-1), "weight is -1"),
    ],
)
def test_a_file_that_is_refused(tmp_path, text, words):
    path = tmp_path / "my_loss.py"
    path.write_text(text)
    with pytest.raises(CwdError, match=words):
        load_losses(path)
    with pytest.raises(CwdError, match="can't be read"):
        load_losses(tmp_path / "other.py")


@pytest.fixture
def shell():
    interactive = pytest.importorskip("IPython.core.interactiveshell")
    shell = interactive.InteractiveShell()
    yield lambda cell: shell.run_cell(cell, silent=True).raise_error()
    shell.reset()


CELL = """
from cwd.recipes import loss

@loss("MINE", weight=1.0)
def mine(student_map, teacher_map, target):
    return SCALE * helper(student_map - teacher_map).mean()
"""
CLASS = """class Mine(torch.nn.Module):
    def forward(self, student_map, teacher_map, target):
        return STEP * (student_map - teacher_map).square().mean()
"""
HELPER = "def helper(x):\n    return x.square()"


def test_a_cell(shell):
    def after(*cells):
        for cell in cells:
            shell(cell)
        return source("MINE")

    first = after("SCALE = 2", HELPER, CELL)
    assert parse_recipe("MINE_f")[0].weight == 1
    assert after(CELL) == first  # the same again
    assert after("x = 3", "other = helper") == first  # what it doesn't use
    edited = [
        after("SCALE = 3"),
        after(HELPER.replace("square", "abs")),
        after(CELL.replace("mean", "sum")),
        after(CELL.replace("1.0", "2.0")),
    ]
    assert len({first, *edited}) == 5
    assert after("SCALE = 2", HELPER, CELL) == first
    with pytest.raises(CwdError, match="written in a cell"):
        files_of(["MINE"])
    first = after("import torch\nSTEP = 1", CELL.partition("def")[0] + CLASS)
    assert after("STEP = 2") != first


def test_a_loss_whose_source_is_nowhere():
    with pytest.raises(CwdError, match="source of loss MINE can't be read"):
        exec(FILE.format(weight=1), {"__name__": "nowhere"})
    assert "MINE" not in SYMBOLS
