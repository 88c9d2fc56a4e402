"""The paper's own notation as the interface: "PI + CW_f" is a list of loss terms.

A term is a loss, the map it is applied to, and options in parentheses:

    CW_f                                CW on the feature map, the paper's weight
    CW_s(T=4, weight=3)                 CW on the score map
    CW_f(align=conv-bn-relu)            with the published code's channel alignment
    CW_f(metric=bhattacharyya)          another metric of Table 3
    PI + HO + IFV_f                     Table 5
    CW_fpn                              CW on the levels of a detector's pyramid (Table 9)
    CT_f(hidden=2)                      the second paper's transformation of channels
"""

import functools
import re
from dataclasses import dataclass
from inspect import signature
from typing import Any

from torch import Tensor, nn

from cwd.losses import ChannelAlignment, Holistic
from cwd.models.names import CLASSIFIER, DETECTOR, SEGMENTATION, kind_of
from cwd.recipes.notation import LEVELS, PYRAMIDS, RIVALS, SYMBOLS, TAPS
from cwd.system.errors import CwdError

PAPERS_MAP = (64, 64)  # a crop of 512x512 at output stride 8
# as float() reads them, but for "1_0", digits of other scripts, and what isn't finite
NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
SHORT = {"T": "temperature"}  # the paper's letter for it
ALIASES = {"IFVD": "IFV"}  # Table 2's word and Table 5's
# a term for each kind of network, where a recipe has one for another kind
EXAMPLES = {SEGMENTATION: "CW_f", DETECTOR: "CW_fpn", CLASSIFIER: "CT_f"}


@dataclass(frozen=True)
class Term:
    """One loss term of a recipe, with nothing left to default."""

    symbol: str  # a key of `cwd.recipes.notation.SYMBOLS`
    tap: str  # a key of `cwd.recipes.notation.TAPS` or `PYRAMIDS`; empty for `RIVALS`
    weight: float  # the factor in front of the loss (alpha in eq. 5 and 8)
    align: str = "conv"  # style of the channel alignment, see `cwd.losses.ChannelAlignment`
    options: tuple[tuple[str, Any], ...] = ()  # keyword arguments of the loss
    levels: int = LEVELS  # of a pyramid, from the finest on

    @property
    def name(self) -> str:
        """The term in the paper's notation, without options: "CW_f"."""
        return _spelled(self.symbol, "" if self.tap == SYMBOLS[self.symbol].bare else self.tap)

    @property
    def spelled(self) -> str:
        """The term with its options, those that differ from their defaults: "CW_f(T=2)"."""
        notation = SYMBOLS[self.symbol]
        default = notation.taps[self.tap]
        usual = {name: p.default for name, p in signature(notation.loss).parameters.items()}
        usual |= dict(default.options)
        given = {name: value for name, value in self.options if value != usual[name]}
        others = {"weight": default.weight, "align": "conv", "levels": LEVELS}
        given |= {name: own for name in others if (own := getattr(self, name)) != others[name]}
        letters = {name: letter for letter, name in SHORT.items()}
        inside = ", ".join(f"{letters.get(name, name)}={_text(v)}" for name, v in given.items())
        return f"{self.name}({inside})" if inside else self.name

    @property
    def learns(self) -> bool:
        """Whether the loss is trained together with the student."""
        return SYMBOLS[self.symbol].learns

    def build(
        self,
        channels: int = 19,
        map_size: tuple[int, int] = PAPERS_MAP,
        student_channels: int | None = None,
        classes: int = 2,
    ) -> nn.Module:
        """The loss module of a term that looks at one map at a time.

        A loss that learns, or has a critic, is told the teacher's `channels`, the student's (equal
        if None), the maps' height and width, and the number of classes.
        """
        notation, about = SYMBOLS[self.symbol], {"channels": channels, "map_size": map_size}
        about |= {"classes": classes}
        about |= {"student_channels": student_channels or channels, "teacher_channels": channels}
        return notation.loss(**{name: about[name] for name in notation.told}, **dict(self.options))

    def map_of(self, output: Any) -> Tensor:
        """The map of a network's output that the term looks at; of a pyramid its finest level."""
        return getattr(output, TAPS[self.tap]) if self.tap in TAPS else self.levels_of(output)[0]

    def levels_of(self, output: Any) -> list[Tensor]:
        """The levels of a detector's pyramid that the term looks at."""
        return getattr(output, PYRAMIDS[self.tap])[: self.levels]


def parse_recipe(text: str) -> tuple[Term, ...]:
    """Read a recipe such as `"PI + CW_f(T=2)"`; an empty text is the empty recipe (no teacher).

    Raises:
        CwdError: a loss, map or option is unknown, a value is of the wrong kind, or a term stands
            twice; the sentence names it and lists what there is.
    """
    if not isinstance(text, str):
        raise CwdError(f'recipe {text!r:.60} is no text: write one such as "PI + CW_f".')
    if not text.strip():
        return ()
    terms = tuple(_parse_term(part.strip(), text) for part in re.split(r"\+(?![^(]*\))", text))
    names = [term.name for term in terms]
    for name in names:
        if names.count(name) > 1:
            raise CwdError(f'recipe "{text}" has {name} twice: add the weights up in one term.')
    return terms


@functools.cache
def known_terms(text: str) -> tuple[Term, ...]:
    """As `parse_recipe`, read once: thousands of runs have the same recipes.

    What is read again draws no random numbers, so that it isn't for what is trained.
    """
    return parse_recipe(text)


def check_terms(recipe: str, terms: tuple[Term, ...], network: str) -> None:
    """Refuse a recipe with a term for another kind of network by a `CwdError`."""
    kind = kind_of(network)
    for term in terms:
        notation = SYMBOLS[term.symbol]
        fitting = [SEGMENTATION if term.tap in TAPS else DETECTOR]
        if term.tap == "f" and not notation.labelled:
            fitting.append(CLASSIFIER)  # which has scores and classes of whole images
        if kind not in fitting:
            raise CwdError(
                f'recipe "{recipe}": {term.name} is for {" or ".join(fitting)} and {network} '
                f"is {kind}: write a term for it, such as {EXAMPLES[kind]}."
            )
        if notation.kinds and network.partition("-")[0] not in notation.kinds:
            raise CwdError(
                f'recipe "{recipe}": {term.name} is for {" and ".join(notation.kinds)}, not for '
                f"{network}: take another term, such as CW_fpn."
            )


def _text(value: Any) -> str:
    return str(value).removesuffix(".0")  # T=2, as one writes it


def _spelled(symbol: str, tap: str) -> str:
    return f"{symbol}_{tap}" if tap else symbol


def _parse_term(part: str, recipe: str) -> Term:
    match = re.fullmatch(r"([A-Za-z]+)(?:_(\w+))?\s*(?:\((.*)\))?", part)
    symbol, tap, inside = match.groups() if match else (part, None, None)
    symbol = ALIASES.get(symbol, symbol)
    if not match or symbol not in SYMBOLS:
        known = ", ".join(_spelled(s, tap) for s, about in SYMBOLS.items() for tap in about.taps)
        raise CwdError(
            f'recipe "{recipe}": "{part}" is no known term; there are {known}; '
            "one of your own is registered by a file that --losses names, or by @loss in a cell."
        )
    notation = SYMBOLS[symbol]
    tap = tap or notation.bare
    if tap not in notation.taps:
        maps = " or ".join(_spelled(symbol, tap) for tap in notation.taps)
        raise CwdError(f'recipe "{recipe}": {part} names no map that {symbol} has; write {maps}.')
    known = ["weight", *["align"] * (notation.aligned and tap in ("f", "b", *PYRAMIDS))]
    known += ["levels"] * (tap in PYRAMIDS)
    known += [letter for letter, name in SHORT.items() if name in notation.options]
    given = _parse_options(inside or "", [*known, *notation.options], part, recipe)
    weight = given.pop("weight", notation.taps[tap].weight)
    if isinstance(weight, str) or not 0 < weight < float("inf"):
        raise CwdError(
            f'recipe "{recipe}": weight={weight} in {part} must be a positive number; leave the '
            "term out to train without it."
        )
    align, levels = given.pop("align", "conv"), given.pop("levels", LEVELS)
    if levels not in range(1, LEVELS + 1):
        raise CwdError(f'recipe "{recipe}": levels={levels} in {part} must be 1 to {LEVELS}.')
    options = tuple(sorted((dict(notation.taps[tap].options) | given).items()))
    term = Term(symbol, tap, float(weight), str(align), options, int(levels))
    # A bad value is an error here, not after the teacher was trained. What is built draws random
    # numbers: recorded runs began from those that came after.
    if symbol in RIVALS:
        notation.loss.check(**dict(options))
    elif notation.loss is not Holistic:  # it has no options to be wrong, and its critic is large
        term.build()
    ChannelAlignment(1, 1, term.align)
    return term


def _parse_options(inside: str, known: list[str], part: str, recipe: str) -> dict[str, Any]:
    """Read `T=4, weight=3` into keyword arguments."""
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
        options[key] = float(value) if re.fullmatch(NUMBER, value) else value
    return options
