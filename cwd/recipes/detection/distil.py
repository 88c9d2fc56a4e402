"""A recipe at work on two detectors: CWD on every level of the pyramid, and the rivals."""

from torch import Tensor, nn

from cwd.losses import ChannelAlignment
from cwd.models.detection.base import Detector
from cwd.models.detection.outputs import DetectionOutput, Objects
from cwd.recipes.notation import RIVALS, SYMBOLS
from cwd.recipes.parse import Term
from cwd.system.errors import CwdError


class OverLevels(nn.Module):
    """A loss of two maps, summed over the levels of two pyramids.

    The paper's supplement S5 says no more than that CWD takes the place of another method's feature
    term; the published detection code sums the levels, each with the same weight.

    Args:
        term: the loss, its tap and how many levels it takes. The default is all five; the
            published code's list has four: P3 to P6 of RetinaNet.
        student: the detector that learns.
        teacher: the detector that teaches.

    Attributes:
        losses: by level; they differ only where they learn.
        alignments: the student's channel alignments by level, where pyramids differ in width.

    Shape:
        Two `DetectionOutput`s to a scalar; maps of one level may differ in size.
    """

    def __init__(self, term: Term, student: Detector, teacher: Detector) -> None:
        super().__init__()
        self.term, widths = term, (student.channels, teacher.channels)
        self.losses = nn.ModuleList(
            term.build(teacher.channels, student_channels=student.channels)
            for _ in range(term.levels)
        )
        differ = SYMBOLS[term.symbol].aligned and widths[0] != widths[1]
        self.alignments = nn.ModuleList(
            ChannelAlignment(*widths, term.align) if differ else nn.Identity()
            for _ in range(term.levels)
        )

    def forward(
        self, student: DetectionOutput, teacher: DetectionOutput, targets: list[Objects]
    ) -> Tensor:
        """See the class."""
        levels = self.term.levels_of(student), self.term.levels_of(teacher)
        return sum(
            loss(align(mine), taught)
            for loss, align, mine, taught in zip(self.losses, self.alignments, *levels, strict=True)
        )

    def compared(self, student: DetectionOutput) -> Tensor:
        """The finest level as it is compared with the teacher's, see `Distiller.compared`."""
        level = self.alignments[0](self.term.map_of(student))
        return self.losses[0].transformed(level) if self.term.learns else level


class DetectionDistiller(nn.Module):
    """The terms that a recipe adds to a detector's own losses.

    Args:
        recipe: the terms, all of them for detectors.
        student: the detector that learns.
        teacher: the same kind of detector, frozen.

    Attributes:
        losses: by their terms' names.
        critic: None; no loss here learns against the student.

    Raises:
        CwdError: the two are different kinds of detector, or for different classes.
    """

    critic = None

    def __init__(self, recipe: tuple[Term, ...], student: Detector, teacher: Detector) -> None:
        super().__init__()
        if type(student) is not type(teacher) or student.num_classes != teacher.num_classes:
            raise CwdError(
                f"{student.name} for {student.num_classes} classes can't learn from {teacher.name} "
                f"for {teacher.num_classes}: take a teacher of the same kind, trained on the same "
                "dataset."
            )
        self.terms = recipe
        self.losses = nn.ModuleDict()
        for term in recipe:
            if term.symbol in RIVALS:
                loss = RIVALS[term.symbol].loss(student, teacher, **dict(term.options))
            else:
                loss = OverLevels(term, student, teacher)
            self.losses[term.name] = loss

    @property
    def trained(self) -> nn.ModuleDict:
        """What is trained with the student: all that the losses hold."""
        return self.losses

    def forward(
        self,
        student: DetectionOutput,
        teacher: DetectionOutput,
        targets: list[Objects],
        images: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Every term's value times its weight, by the term's name."""
        return {
            term.name: term.weight * self.losses[term.name](student, teacher, targets)
            for term in self.terms
        }

    def compared(self, name: str, student: DetectionOutput) -> Tensor:
        """The finest level of the student's pyramid as a term compares it with the teacher's."""
        return self.losses[name].compared(student)
