"""The detectors of a profile: pairs of teacher and student, and how they are trained."""

from dataclasses import dataclass

from cwd.runs import Run

# Table 9's detectors and what our names for them begin with
PAPERS = {"Faster R-CNN": "FasterRCNN", "RetinaNet": "RetinaNet", "RepPoints": "RepPoints"}


@dataclass(frozen=True)
class Pair:
    """A student of Table 9 and the teacher that it learns from.

    Attributes:
        detector: the paper's name, "Faster R-CNN".
        teacher: the teacher's run.
        student: the student alone, from seed 0.
    """

    detector: str
    teacher: Run
    student: Run


@dataclass(frozen=True)
class Detection:
    """What Table 9 uses in a profile.

    Attributes:
        pairs: one for each detector, in the order of the table.
        seeds: of the students.
    """

    pairs: tuple[Pair, ...]
    seeds: tuple[int, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        """All teachers and students."""
        return tuple(run for pair in self.pairs for run in (pair.teacher, pair.student))
