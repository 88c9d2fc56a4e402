"""A recipe at work on two detectors: CWD on every level of the pyramid, and the rivals."""

from typing import Any

from torch import Tensor, nn

from cwd.losses import ChannelAlignment
from cwd.models.detection.base import Detector
from cwd.models.detection.outputs import DetectionOutput as Output
from cwd.models.detection.outputs import Objects
from cwd.recipes.distiller import Distiller
from cwd.recipes.notation import RIVALS, SYMBOLS
from cwd.recipes.parse import Term, check_terms
from cwd.system.errors import CwdError


class OverLevels(nn.Module):
    """A loss of two maps, summed over the levels of two pyramids.

    The paper's supplement S5 says no more than that CWD takes the place of another method's feature
    term; the published detection code sums the levels, each with the same weight. The default is
    all five; the published code's list has four: P3 to P6 of RetinaNet.

    Attributes:
        losses: by level; they differ only where they learn.
        alignments: the student's channel alignments by level, where pyramids differ in width.

    Shape:
        Two `DetectionOutput`s to a scalar; maps of one level may differ in size.
    """

    def __init__(self, term: Term, student: Detector, teacher: Detector) -> None:
        super().__init__()
        self.term, widths = term, (student.channels, teacher.channels)
        levels, differ = range(term.levels), SYMBOLS[term.symbol].aligned and len(set(widths)) > 1
        self.losses = nn.ModuleList(
            term.build(teacher.channels, student_channels=student.channels) for _ in levels
        )
        self.alignments = nn.ModuleList(
            ChannelAlignment(*widths, term.align) if differ else nn.Identity() for _ in levels
        )

    def forward(self, student: Output, teacher: Output, targets: list[Objects]) -> Tensor:
        levels = self.term.levels_of(student), self.term.levels_of(teacher)
        parts = zip(self.losses, self.alignments, *levels, strict=True)
        return sum(loss(align(s), t) for loss, align, s, t in parts)


class DetectionDistiller(Distiller):
    """The terms that a recipe adds to a detector's own losses, as `Distiller`.

    All that its losses hold is trained with the student.

    Raises:
        CwdError: the two are different kinds of detector, or for different classes; a term isn't
            for this kind.
    """

    def __init__(self, recipe: tuple[Term, ...], student: Detector, teacher: Detector) -> None:
        check_terms(" + ".join(term.name for term in recipe), recipe, student.name)
        super().__init__(recipe, student, teacher)

    def _check(self, student: Detector, teacher: Detector) -> None:
        if type(student) is not type(teacher) or student.num_classes != teacher.num_classes:
            raise CwdError(
                f"{student.name} for {student.num_classes} classes can't learn from {teacher.name} "
                f"for {teacher.num_classes}: take a teacher of the same kind, trained on the same "
                "dataset."
            )

    def _add(self, term: Term, student: Detector, teacher: Detector, *_: Any) -> None:
        if term.symbol in RIVALS:
            loss = RIVALS[term.symbol].loss(student, teacher, **dict(term.options))
        else:
            loss = OverLevels(term, student, teacher)
        self.losses[term.name] = loss

    @property
    def trained(self) -> nn.ModuleDict:
        return self.losses

    def _value(self, term: Term, student_out: Any, teacher_out: Any, *given: Any) -> Tensor:
        return self.losses[term.name](student_out, teacher_out, given[0])

    def compared(self, name: str, student_out: Output) -> Tensor:
        """The finest level of the student's pyramid as a term compares it with the teacher's."""
        over = self.losses[name]
        student_map = over.alignments[0](over.term.map_of(student_out))
        return over.losses[0].transformed(student_map) if over.term.learns else student_map
