"""The networks of a profile beside its main teacher and student."""

from dataclasses import dataclass

from cwd.config.run import Run

# The papers' networks and what our names for them begin with: Table 9's detectors, and those of the
# second paper's other tasks.
PAPER_DETECTORS = {"Faster R-CNN": "FasterRCNN", "RetinaNet": "RetinaNet", "RepPoints": "RepPoints"}
MASK_DETECTORS = {"Mask R-CNN": "MaskRCNN"}
CLASSIFIERS = {"classifier": "Classifier"}


@dataclass(frozen=True)
class Student:
    """One of the networks of Tables 6 to 8 in a profile.

    Attributes:
        name: the paper's name of the network that it stands for.
        run: it alone, from seed 0.
    """

    name: str
    run: Run


@dataclass(frozen=True)
class Pair:
    """A student and the teacher that it learns from.

    Attributes:
        name: the paper's, "Faster R-CNN".
        teacher: the teacher's run.
        student: the student alone, from seed 0.
    """

    name: str
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


@dataclass(frozen=True)
class Transformation:
    """What the second paper's comparison uses in a profile, beside what the profile has anyway.

    Those are its segmentation networks and its Faster R-CNN.

    Attributes:
        seeds: of the students of all tasks.
        instance: Mask R-CNNs.
        classification: classifiers.
    """

    seeds: tuple[int, ...]
    instance: Pair | None = None
    classification: Pair | None = None

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Those that there are."""
        return tuple(pair for pair in (self.instance, self.classification) if pair)
