"""What would show a claim: the kinds of comparison that there are."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Greater:
    """Each of `better` has a higher mIoU than each of `worse` (recipes)."""

    better: tuple[str, ...]
    worse: tuple[str, ...]


@dataclass(frozen=True)
class Within:
    """A recipe's mIoU is within `margin` percent of every other's."""

    recipe: str
    others: tuple[str, ...]
    margin: float


@dataclass(frozen=True)
class Classes:
    """A recipe has a higher mean IoU over some classes than each of the others."""

    recipe: str
    others: tuple[str, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Cheaper:
    """A loss takes less time than each of the others, or the same within exp(margin)."""

    loss: str
    others: tuple[str, ...]
    margin: float | None = None


@dataclass(frozen=True)
class Channels:
    """A network's score-map channels mark their classes better than each of the others' do.

    Recipes, or "teacher"; the measure is `cwd.experiments.channels.class_auc`.
    """

    better: str
    worse: tuple[str, ...]


@dataclass(frozen=True)
class Salience:
    """A recipe brings the channels nearer to the teacher's where those are salient, and more so
    than elsewhere; see `cwd.experiments.channels.salience_gaps`.
    """

    recipe: str


@dataclass(frozen=True)
class OtherData:
    """A recipe beats the student alone on every dataset."""

    recipe: str


@dataclass(frozen=True)
class Detectors:
    """For every detector of Table 9, CWD has a higher AP than each of some of its methods."""

    others: tuple[str, ...]


@dataclass(frozen=True)
class Students:
    """For every student of Table 6, the first of each pair of methods beats the second."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Kinds:
    """CWD's mean gain is larger for students whose name begins with the prefix than for others."""

    prefix: str


@dataclass(frozen=True)
class Slopes:
    """Over the students of Table 6, the result with CWD rises with that alone, the gain falls."""


@dataclass(frozen=True)
class Pretrained:
    """With CWD, a student that starts from ImageNet beats the same from random weights."""


@dataclass(frozen=True)
class Tasks:
    """In each of some tasks, one method of the second paper has a higher measure than another."""

    better: str
    worse: str
    tasks: tuple[str, ...]
