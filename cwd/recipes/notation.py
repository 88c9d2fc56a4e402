"""The symbols of recipes: each loss, the maps that it may be applied to, and its weights."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from cwd import losses
from cwd.recipes.detection.chen import WeightedHints
from cwd.recipes.detection.heo import FeatureOverhaul
from cwd.recipes.detection.wang import FineGrainedImitation
from cwd.recipes.detection.zhang import AttentionGuidedNonLocal

# Table 5's subscripts and the networks' names for them; of later papers, the backbone's last stage
TAPS = {"s": "score", "f": "feature", "b": "backbone"}
# Our subscripts for a detector's pyramid: what its convolutions give, which is the published code's
# tap, and what its heads see. They differ where a norm lies between (RepPoints).
PYRAMIDS = {"fpn": "convs", "neck": "levels"}
LEVELS = 5  # of a pyramid


@dataclass(frozen=True)
class Default:
    """What a term means when a recipe says no more: its weight and its loss's options."""

    weight: float
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Notation:
    """A symbol of Table 1, or of the papers that it is compared with."""

    loss: Callable[..., nn.Module]  # its class; or what builds it, see `cwd.recipes.registered`
    taps: dict[str, Default]  # what it means by itself, by the map that it may be applied to
    options: tuple[str, ...] = ()  # the loss's arguments that a recipe may give
    told: tuple[str, ...] = ()  # those about the maps, which `Term.build` gives
    # the map that the symbol means without a subscript; where the paper always writes one, a
    # recipe has to as well
    bare: str | None = None
    # whether the student's feature map gets the teacher's channels first (the circled crosses of
    # Table 2)
    aligned: bool = True
    kinds: tuple[str, ...] = ()  # of detector that it is for; all of them if empty
    labelled: bool = False  # whether it needs the class of every position
    learns: bool = False  # whether it is trained together with the student

    @property
    def defaults(self) -> dict[str, Default]:
        """`taps` without those that the paper doesn't have for segmentation."""
        return {tap: default for tap, default in self.taps.items() if tap in ("f", "s")}


def _both(weight: float, **options: Any) -> dict[str, Default]:
    return _on("fsb", weight, **options)


def _on(taps: Iterable[str], weight: float, **options: Any) -> dict[str, Default]:
    return {tap: Default(weight, tuple(options.items())) for tap in taps}


def _rival(loss: type[nn.Module], weight: float, *kinds: str) -> Notation:
    return Notation(loss, {"": Default(weight)}, tuple(loss.options), bare="", kinds=kinds)


SOFTENED = ("temperature", "metric")
NOTATION = {
    # Feature map: section 2.3 and figure 3. Score map: the authors' script, which the paper's
    # sentence "35 in all experiments" passes over; "CW_s(T=1, weight=35)" is that sentence.
    # Pyramid: the published detection code's weight, on each level.
    "CW": Notation(
        losses.ChannelWise,
        _both(35.0, temperature=1.0)
        | {"s": Default(3.0, (("temperature", 4.0),))}
        | _on(PYRAMIDS, 5.0, temperature=1.0),
        SOFTENED,
    ),
    # Supplement S4: alpha_pi = 10 and alpha_ho = 0.1. The released code's mean makes of 10 10 / K.
    "PI": Notation(losses.PixelWise, _both(10.0), (*SOFTENED, "norm"), bare="s"),
    "HO": Notation(losses.Holistic, {"s": Default(0.1)}, told=("channels", "map_size"), bare="s"),
    # The paper prints no other weights. These are the methods' own: 1000 is AT's beta (its paper
    # halves it); SKDS's script has 0.5 for PA; IFVD's code 200; MIMIC has none (CIRKD's
    # script takes 10). No source gives one for LOCAL and RAW, and the authors' logs try several for
    # CD (the last two are controls, not in the paper's tables): theirs make the term about as large
    # as the cross-entropy at first.
    "MIMIC": Notation(losses.Mimic, _both(1.0) | _on(PYRAMIDS, 1.0)),
    "AT": Notation(losses.AttentionTransfer, _both(1000.0), ("p",)),
    "LOCAL": Notation(losses.LocalAffinity, _both(0.001), aligned=False),
    "PA": Notation(losses.PairwiseAffinity, _both(0.5), ("pool_scale",), aligned=False),
    "IFV": Notation(losses.IntraClassVariation, _both(200.0), aligned=False, labelled=True),
    "CD": Notation(losses.ChannelMean, _both(1.0), ("metric",)),
    "RAW": Notation(losses.Unnormalised, _both(0.01), ("metric",)),
}
# Table 9's other methods, which are for detectors only. They look at more than one map, so they
# have no subscript; the weights inside of them are their own papers'.
RIVALS = {
    "Chen": _rival(WeightedHints, 1.0, "FasterRCNN"),
    "Wang": _rival(FineGrainedImitation, 0.01, "FasterRCNN", "RetinaNet"),
    "Heo": _rival(FeatureOverhaul, 1e-5),
    "Zhang": _rival(AttentionGuidedNonLocal, 1.0),
}
# The second paper's loss, which brings its own alignment. Its abstract prints no weight; ours is
# MIMIC's, so that the two differ in the transformation alone.
SECOND = {
    "CT": Notation(
        losses.ChannelTransformation,
        _on("fb", 1.0) | _on(PYRAMIDS, 1.0),
        ("hidden", "kernel", "activation"),
        told=("student_channels", "teacher_channels"),
        aligned=False,
        learns=True,
    ),
}
# What came after the paper, each on its own tap with its own weights. Those of three are inside the
# loss, and these are of the whole; LSKD's is a guess, from classification.
_MADE = {"told": ("student_channels", "teacher_channels"), "aligned": False, "learns": True}
BEYOND = {
    "MGD": Notation(losses.MaskedGeneration, _on("bf", 2e-5), ("masked", "positions"), **_MADE),
    "DIST": Notation(losses.ClassRelations, _on("s", 1.0), ("images",)),
    "CIRKD": Notation(
        losses.CrossImageRelations,
        _on("fb", 1.0),
        ("batch", "pixel", "region", "images", "pixels", "regions"),
        labelled=True,
        **_MADE | {"told": (*_MADE["told"], "classes")},
    ),
    "AFDCD": Notation(
        losses.DenseContrast,
        _on("bf", 1.0),
        ("fd", "ctr", "temperature", "pool", "patch", "groups", "masked", "positions"),
        **_MADE,
    ),
    "BPKD": Notation(
        losses.BoundaryPrivileged,
        _on("s", 1.0),
        ("temperature", "edge", "body", "window"),
        labelled=True,
    ),
    "LSKD": Notation(losses.Standardised, _on("s", 9.0), ("temperature",)),
}
SYMBOLS = NOTATION | RIVALS | SECOND | BEYOND
