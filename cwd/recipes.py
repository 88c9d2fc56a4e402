"""The paper's own notation as the interface: "PI + CW_f" is a list of loss terms.

A term is a loss, the map it is applied to, and options in parentheses:

    CW_f                                CW on the feature map, the paper's weight
    CW_s(T=4, weight=3)                 CW on the score map
    CW_f(align=conv-bn-relu)            with the published code's channel alignment
"""

import inspect
import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from cwd.errors import CwdError
from cwd.losses import ChannelAlignment, ChannelWise, PixelWise

TAPS = {"s": "score", "f": "feature"}  # Table 5's subscripts, and the networks' names for them
SHORT = {"T": "temperature"}  # the paper's letter for it


@dataclass(frozen=True)
class Default:
    """What a term means when a recipe says no more: its weight and its loss's options."""

    weight: float
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Notation:
    """A symbol of Table 1.

    Attributes:
        loss: the class.
        defaults: a default for each map that the loss may be applied to.
        bare: the map that the symbol means without a subscript; where the paper always writes
            one, a recipe has to as well.
    """

    loss: type[nn.Module]
    defaults: dict[str, Default]
    bare: str | None = None


NOTATION = {
    # Feature map: section 2.3 and figure 3. Score map: the authors' script, which the paper's
    # sentence "35 in all experiments" passes over; "CW_s(T=1, weight=35)" is that sentence.
    "CW": Notation(
        ChannelWise,
        {"f": Default(35.0, (("temperature", 1.0),)), "s": Default(3.0, (("temperature", 4.0),))},
    ),
    # Supplement S4: alpha_pi = 10.
    "PI": Notation(PixelWise, {"s": Default(10.0), "f": Default(10.0)}, bare="s"),
}


@dataclass(frozen=True)
class Term:
    """One loss term of a recipe, with nothing left to default.

    Attributes:
        symbol: the loss, a key of `NOTATION`.
        tap: "s" for the score map, "f" for the feature map.
        weight: the factor in front of the loss (alpha in eq. 5 and 8).
        align: style of the channel alignment, see `cwd.losses.ChannelAlignment`.
        options: keyword arguments of the loss.
    """

    symbol: str
    tap: str
    weight: float
    align: str = "conv"
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """The term in the paper's notation, without options: "CW_f"."""
        return (
            self.symbol if self.tap == NOTATION[self.symbol].bare else f"{self.symbol}_{self.tap}"
        )

    def build(self) -> nn.Module:
        """The loss module."""
        return NOTATION[self.symbol].loss(**dict(self.options))


def parse_recipe(text: str) -> tuple[Term, ...]:
    """Read a recipe such as `"PI + CW_f(T=2)"`; an empty text is the empty recipe (no teacher).

    Raises:
        CwdError: a loss, map or option is unknown, a value is of the wrong kind, or a term stands
            twice; the sentence names it and lists what there is.
    """
    if not text.strip():
        return ()
    terms = tuple(parse_term(part.strip(), text) for part in re.split(r"\+(?![^(]*\))", text))
    names = [term.name for term in terms]
    for name in names:
        if names.count(name) > 1:
            raise CwdError(f'recipe "{text}" has {name} twice: add the weights up in one term.')
    return terms


def parse_term(part: str, recipe: str) -> Term:
    """Read one term of a recipe; raises as `parse_recipe` does."""
    match = re.fullmatch(r"([A-Za-z]+)(?:_(\w+))?\s*(?:\((.*)\))?", part)
    symbol, tap, inside = match.groups() if match else (part, None, None)
    if not match or symbol not in NOTATION:
        known = ", ".join(f"{s}_{t}" for s, n in NOTATION.items() for t in n.defaults)
        raise CwdError(f'recipe "{recipe}": "{part}" is no known term; there are {known}.')
    notation = NOTATION[symbol]
    tap = tap or notation.bare
    if tap not in notation.defaults:
        maps = " or ".join(f"{symbol}_{t}" for t in notation.defaults)
        raise CwdError(f'recipe "{recipe}": {part} names no map that {symbol} has; write {maps}.')
    given = parse_options(inside or "", part, recipe, notation.loss)
    default = notation.defaults[tap]
    weight = given.pop("weight", default.weight)
    if isinstance(weight, str) or not 0 < weight < float("inf"):
        raise CwdError(
            f'recipe "{recipe}": weight={weight} in {part} must be a positive number; leave the '
            "term out to train without it."
        )
    align = given.pop("align", "conv")
    options = dict(default.options) | given
    term = Term(symbol, tap, float(weight), str(align), tuple(sorted(options.items())))
    term.build()  # a bad value is an error here, not after the teacher was trained
    ChannelAlignment(1, 1, term.align)
    return term


def parse_options(inside: str, part: str, recipe: str, loss: type[nn.Module]) -> dict[str, Any]:
    """Read `T=4, weight=3` into keyword arguments; raises as `parse_recipe` does."""
    known = ["weight", "align", *SHORT, *list(inspect.signature(loss).parameters)]
    options: dict[str, Any] = {}
    for item in filter(None, (piece.strip() for piece in inside.split(","))):
        key, equals, value = (piece.strip() for piece in item.partition("="))
        if not equals or not value or key not in known:
            raise CwdError(
                f'recipe "{recipe}": {part} has no option "{item}"; write option=value with one '
                f"of {', '.join(known)}."
            )
        key = SHORT.get(key, key)
        if key in options:
            raise CwdError(f'recipe "{recipe}": {part} gives {key} twice; keep one of them.')
        try:
            options[key] = float(value)
        except ValueError:
            options[key] = value
    return options


class Distiller(nn.Module):
    """A recipe at work on one student and one teacher: the sum over phi in eq. 5 and 8.

    Args:
        recipe: the terms.
        student: network with `feature_channels` and `num_classes`.
        teacher: the same, frozen.

    Raises:
        CwdError: the two networks are for different classes.
    """

    def __init__(self, recipe: tuple[Term, ...], student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        if student.num_classes != teacher.num_classes:
            raise CwdError(
                f"the student has {student.num_classes} classes and the teacher "
                f"{teacher.num_classes}: distil from a teacher trained on the same dataset."
            )
        self.terms = recipe
        self.losses = nn.ModuleDict({term.name: term.build() for term in recipe})
        self.alignments = nn.ModuleDict()
        for term in recipe:
            channels = student.feature_channels, teacher.feature_channels
            if term.tap == "f" and channels[0] != channels[1]:
                self.alignments[term.name] = ChannelAlignment(*channels, term.align)

    def forward(self, student: Any, teacher: Any, target: Tensor) -> dict[str, Tensor]:
        """Every term's value times its weight.

        Args:
            student: the student's `SegmentationOutput`.
            teacher: the teacher's.
            target: int64 [B, H, W], 255 ignored.

        Returns:
            A scalar for each term, by the term's name.
        """
        values = {}
        for term in self.terms:
            student_map, teacher_map = (
                getattr(student, TAPS[term.tap]),
                getattr(teacher, TAPS[term.tap]),
            )
            if term.name in self.alignments:
                student_map = self.alignments[term.name](student_map)
            values[term.name] = term.weight * self.losses[term.name](
                student_map, teacher_map, target
            )
        return values
