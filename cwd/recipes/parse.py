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

import inspect
import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from cwd.losses import ChannelAlignment, Holistic
from cwd.models.names import CLASSIFIER, DETECTOR, SEGMENTATION, kind_of
from cwd.recipes.notation import LEVELS, PYRAMIDS, RIVALS, SYMBOLS, TAPS, Notation
from cwd.system.errors import CwdError

PAPERS_MAP = (64, 64)  # a crop of 512x512 at output stride 8
SHORT = {"T": "temperature"}  # the paper's letter for it
# what a loss is told about the maps or the networks, never by a recipe
SIZES = (
    "channels",
    "map_size",
    "student",
    "teacher",
    "student_channels",
    "teacher_channels",
    "ignore_index",
)
# a term for each kind of network, where a recipe has one for another kind
EXAMPLES = {SEGMENTATION: "CW_f", DETECTOR: "CW_fpn", CLASSIFIER: "CT_f"}
ALIASES = {"IFVD": "IFV"}  # Table 2's word and Table 5's


@dataclass(frozen=True)
class Term:
    """One loss term of a recipe, with nothing left to default.

    Attributes:
        symbol: the loss, a key of `cwd.recipes.notation.SYMBOLS`.
        tap: "s" for the score map, "f" for the feature map, "fpn" or "neck" for a pyramid, empty
            for one of `RIVALS`.
        weight: the factor in front of the loss (alpha in eq. 5 and 8).
        align: style of the channel alignment, see `cwd.losses.ChannelAlignment`.
        options: keyword arguments of the loss.
        levels: how many levels of a pyramid, from the finest on.
    """

    symbol: str
    tap: str
    weight: float
    align: str = "conv"
    options: tuple[tuple[str, Any], ...] = ()
    levels: int = LEVELS

    @property
    def audience(self) -> tuple[str, ...]:
        """The kinds of network that the term is for, see `cwd.models.names`."""
        notation = SYMBOLS[self.symbol]
        if self.tap in notation.detection:
            return (DETECTOR,)
        # a classifier has scores of whole images, and no classes of positions
        classifies = self.tap == "f" and not notation.labelled
        return (SEGMENTATION, CLASSIFIER) if classifies else (SEGMENTATION,)

    @property
    def name(self) -> str:
        """The term in the paper's notation, without options: "CW_f"."""
        bare = self.tap == SYMBOLS[self.symbol].bare
        return self.symbol if bare else f"{self.symbol}_{self.tap}"

    def build(
        self,
        channels: int = 19,
        map_size: tuple[int, int] = PAPERS_MAP,
        student_channels: int | None = None,
    ) -> nn.Module:
        """The loss module of a term that looks at one map at a time.

        Args:
            channels: of the teacher's map; only a loss that learns has to know it.
            map_size: height and width of the maps, likewise.
            student_channels: of the student's map, likewise; the teacher's if None.
        """
        loss = SYMBOLS[self.symbol].loss
        known = {
            "channels": channels,
            "map_size": map_size,
            "student_channels": student_channels or channels,
            "teacher_channels": channels,
        }
        told = inspect.signature(loss).parameters.keys() & known.keys()
        return loss(**{name: known[name] for name in told}, **dict(self.options))

    def map_of(self, output: Any) -> Tensor:
        """The map of a network's output that the term looks at; of a pyramid its finest level."""
        return getattr(output, TAPS[self.tap]) if self.tap in TAPS else self.levels_of(output)[0]

    def levels_of(self, output: Any) -> list[Tensor]:
        """The levels of a detector's pyramid that the term looks at."""
        return getattr(output, PYRAMIDS[self.tap])[: self.levels]

    @property
    def learns(self) -> bool:
        """Whether the loss is trained together with the student."""
        return "student_channels" in inspect.signature(SYMBOLS[self.symbol].loss).parameters


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


def check_terms(recipe: str, terms: tuple[Term, ...], network: str) -> None:
    """Refuse a recipe that is for another kind of network.

    Raises:
        CwdError: a term of it is.
    """
    kind = kind_of(network)
    for term in terms:
        if kind not in term.audience:
            raise CwdError(
                f'recipe "{recipe}": {term.name} is for {" or ".join(term.audience)} and {network} '
                f"is {kind}: write a term for it, such as {EXAMPLES[kind]}."
            )
        kinds = SYMBOLS[term.symbol].kinds
        if kinds and network.partition("-")[0] not in kinds:
            raise CwdError(
                f'recipe "{recipe}": {term.name} is for {" and ".join(kinds)}, not for {network}: '
                "take another term, such as CW_fpn."
            )


def parse_term(part: str, recipe: str) -> Term:
    """Read one term of a recipe; raises as `parse_recipe` does."""
    match = re.fullmatch(r"([A-Za-z]+)(?:_(\w+))?\s*(?:\((.*)\))?", part)
    symbol, tap, inside = match.groups() if match else (part, None, None)
    symbol = ALIASES.get(symbol, symbol)
    if not match or symbol not in SYMBOLS:
        taps = [(s, tap) for s, notation in SYMBOLS.items() for tap in notation.taps]
        known = ", ".join("_".join(filter(None, pair)) for pair in taps)
        raise CwdError(f'recipe "{recipe}": "{part}" is no known term; there are {known}.')
    notation = SYMBOLS[symbol]
    tap = tap or notation.bare
    if tap not in notation.taps:
        maps = " or ".join("_".join(filter(None, (symbol, t))) for t in notation.taps)
        raise CwdError(f'recipe "{recipe}": {part} names no map that {symbol} has; write {maps}.')
    given = parse_options(inside or "", part, recipe, notation, tap)
    default = notation.taps[tap]
    weight = given.pop("weight", default.weight)
    if isinstance(weight, str) or not 0 < weight < float("inf"):
        raise CwdError(
            f'recipe "{recipe}": weight={weight} in {part} must be a positive number; leave the '
            "term out to train without it."
        )
    align, levels = given.pop("align", "conv"), given.pop("levels", LEVELS)
    if levels not in range(1, LEVELS + 1):
        raise CwdError(f'recipe "{recipe}": levels={levels} in {part} must be 1 to {LEVELS}.')
    options = dict(default.options) | given
    options = tuple(sorted(options.items()))
    term = Term(symbol, tap, float(weight), str(align), options, int(levels))
    # a bad value is an error here, not after the teacher was trained
    if symbol in RIVALS:
        notation.loss.check(**dict(options))
    elif notation.loss is not Holistic:  # it has no options to be wrong, and its critic is large
        term.build()
    ChannelAlignment(1, 1, term.align)
    return term


def parse_options(
    inside: str, part: str, recipe: str, notation: Notation, tap: str
) -> dict[str, Any]:
    """Read `T=4, weight=3` into keyword arguments; raises as `parse_recipe` does."""
    own = [name for name in inspect.signature(notation.loss).parameters if name not in SIZES]
    known = ["weight", *["align"] * (notation.aligned and tap in ("f", *PYRAMIDS))]
    known += ["levels"] * (tap in PYRAMIDS)
    known += [letter for letter, name in SHORT.items() if name in own] + own
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
        map_size: height and width of their maps.

    Attributes:
        losses: the losses by their terms' names; that of "HO" holds a critic.
        alignments: the channel alignments by term.

    Raises:
        CwdError: the two networks are for different classes.
    """

    def __init__(
        self,
        recipe: tuple[Term, ...],
        student: nn.Module,
        teacher: nn.Module,
        map_size: tuple[int, int] = PAPERS_MAP,
    ) -> None:
        super().__init__()
        if student.num_classes != teacher.num_classes:
            raise CwdError(
                f"the student has {student.num_classes} classes and the teacher "
                f"{teacher.num_classes}: distil from a teacher trained on the same dataset."
            )
        self.terms = recipe
        self.losses, self.alignments = nn.ModuleDict(), nn.ModuleDict()
        for term in recipe:
            width, channels = student.feature_channels, teacher.feature_channels
            if term.tap == "s":
                width = channels = teacher.num_classes
            self.losses[term.name] = term.build(channels, map_size, width)
            if SYMBOLS[term.symbol].aligned and width != channels:
                self.alignments[term.name] = ChannelAlignment(width, channels, term.align)

    @property
    def trained(self) -> nn.ModuleList:
        """What is trained with the student: the alignments, and losses that learn."""
        learning = [self.losses[term.name] for term in self.terms if term.learns]
        return nn.ModuleList([*self.alignments.values(), *learning])

    @property
    def critic(self) -> Holistic | None:
        """The loss that has something to learn itself, if the recipe has it."""
        return self.losses["HO"] if "HO" in self.losses else None  # noqa: SIM401 (no `get`)

    def forward(
        self, student: Any, teacher: Any, target: Tensor, images: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Every term's value times its weight.

        Args:
            student: the student's output, with a map for each term.
            teacher: the teacher's.
            target: the task's; of segmentation int64 [B, H, W], 255 ignored.
            images: float32 [B, 3, H, W], normalised: what both networks saw; only HO needs it.

        Returns:
            A scalar for each term, by the term's name.
        """
        values = {}
        for term in self.terms:
            loss = self.losses[term.name]
            maps = self.aligned(term, student), term.map_of(teacher)
            given = {"images": images} if loss is self.critic else {}
            values[term.name] = term.weight * loss(*maps, target, **given)
        return values

    def aligned(self, term: Term, student: Any) -> Tensor:
        """The student's map with the teacher's channels, where the term needs that."""
        student_map = term.map_of(student)
        if term.name in self.alignments:
            student_map = self.alignments[term.name](student_map)
        return student_map

    def compared(self, name: str, student: Any) -> Tensor:
        """The student's map as a term compares it with the teacher's: aligned, or transformed.

        Args:
            name: the term's.
            student: the student's output.
        """
        (term,) = (term for term in self.terms if term.name == name)
        student_map = self.aligned(term, student)
        return self.losses[name].transformed(student_map) if term.learns else student_map
