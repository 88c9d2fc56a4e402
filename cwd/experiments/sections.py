"""A profile's YAML file, section by section, and the networks that the sections are about."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import pydantic

from cwd.config.run import Data, Run
from cwd.config.settings import Mapping, Switch, Text, read, settings
from cwd.models.segmentation import is_public
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.training.tasks.choice import task_of

# The papers' networks and what our names for them begin with: Table 9's detectors, and those of the
# second paper's other tasks.
PAPER_DETECTORS = {"Faster R-CNN": "FasterRCNN", "RetinaNet": "RetinaNet", "RepPoints": "RepPoints"}
MASK_DETECTORS = {"Mask R-CNN": "MaskRCNN"}
CLASSIFIERS = {"classifier": "Classifier"}


@dataclass(frozen=True)
class Student:
    """One of the networks of Tables 6 to 8: the paper's name, and our run of it alone, seed 0."""

    name: str
    run: Run


@dataclass(frozen=True)
class Pair:
    """A teacher and its student, alone, from seed 0; the name is the paper's, "Faster R-CNN"."""

    name: str
    teacher: Run
    student: Run


@dataclass(frozen=True)
class Detection:
    """What Table 9 uses: a pair for each detector, in the table's order; the students' seeds."""

    pairs: tuple[Pair, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Transformation:
    """What the second paper's comparison uses: the seeds of the students of all its tasks.

    And Mask R-CNNs and classifiers; its other networks are the profile's anyway.
    """

    seeds: tuple[int, ...]
    instance: Pair | None = None
    classification: Pair | None = None

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Those that there are."""
        return tuple(pair for pair in (self.instance, self.classification) if pair)


def read_seeds(value: Any) -> tuple[int, ...]:
    """Seeds from a list or from a text such as "0,1,2"; a ValueError says what is wrong."""
    items = value.split(",") if isinstance(value, str) else value
    try:
        seeds = tuple(int(str(item)) for item in items)
    except (TypeError, ValueError):
        seeds = ()
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ValueError(f"is {value!r}, expected different whole numbers from 0 on, such as 0,1,2")
    return seeds


@contextlib.contextmanager
def within(place: str) -> Iterator[None]:
    """Errors of the block say where in the file they are."""
    try:
        yield
    except CwdError as error:
        raise CwdError(f"{place}: {error}") from error


Seeds = Annotated[tuple[int, ...], pydantic.PlainValidator(read_seeds)]


@settings
class Network:
    """A network's place in a profile: the teacher's or a student's."""

    network: Text
    init: Text = "random"
    schedule: Mapping = field(default_factory=dict)  # what differs from the section's
    stands_for: Text = ""  # the paper's network that it is a miniature of; itself if empty

    def alone(self, data: Data, schedule: dict[str, Any]) -> Run:
        """Its run without a teacher, from seed 0."""
        with within(self.network):
            task = task_of(self.network)
            task.build(self.network, 2, device="meta")  # an unknown name is an error here
            init = self.init
            if init != "random" and not is_public(init):
                init = paths.for_people(paths.below_root(init))
            read_schedule = read(task.schedule, schedule | self.schedule, "schedule")
            if not read_schedule.steps and init == "random":
                raise CwdError(
                    "it has 0 steps and random weights: give it steps, or init the weights that "
                    "shall be measured as they come."
                )
            return Run(data, self.network, read_schedule, init)


@settings
class Roles:
    """A teacher and its student."""

    teacher: Network
    student: Network

    def pair(self, kinds: dict[str, str], data: Data, schedule: dict[str, Any]) -> Pair:
        """Their runs; `kinds` has the papers' names and ours of what they may be."""
        both = self.teacher, self.student
        begin = {part.network.partition("-")[0] for part in both}
        name = next((name for name, kind in kinds.items() if begin == {kind}), "")
        if not name:
            raise CwdError(
                f"{' and '.join(part.network for part in both)} are no pair of one kind: use two "
                f"of {' or of '.join(kinds.values())}."
            )
        return Pair(name, *(part.alone(data, schedule) for part in both))


@settings
class _Detection:
    data: Data
    schedule: Mapping
    pairs: Annotated[list[Roles], pydantic.Field(min_length=1)]
    seeds: Seeds

    def networks(self) -> Detection:
        pairs = [roles.pair(PAPER_DETECTORS, self.data, self.schedule) for roles in self.pairs]
        names = [pair.name for pair in pairs]
        for name in names:
            if names.count(name) > 1:
                raise CwdError(f"there are two pairs of {name}s: leave one of them out.")
        return Detection(tuple(pairs), self.seeds)


@settings
class _Task(Roles):
    data: Data
    schedule: Mapping


@settings
class _Transformation:
    seeds: Seeds
    instance: _Task | None = None
    classification: _Task | None = None

    def networks(self) -> Transformation:
        tasks = (self.instance, MASK_DETECTORS), (self.classification, CLASSIFIERS)
        return Transformation(
            self.seeds, *(t and t.pair(kinds, t.data, t.schedule) for t, kinds in tasks)
        )


@settings
class ProfileFile:
    """A profile as it is written; what a key is for, the profiles' comments say."""

    about: Text
    data: Data | None = None
    teacher: Network | None = None
    student: Network | None = None
    schedule: Mapping | None = None
    seeds: Seeds | None = None
    students: list[Network] = field(default_factory=list)
    student_seeds: Seeds | None = None
    detection: _Detection | None = None
    transformation: _Transformation | None = None
    allow_weak_teacher: Switch = False

    def __post_init__(self) -> None:
        own = {name: getattr(self, name) for name in ("data", "teacher", "student", "schedule")}
        own["seeds"] = self.seeds
        missing = [name for name, value in own.items() if value is None]
        some = len(missing) < len(own) or self.students or self.student_seeds
        if missing and (some or not (self.detection or self.transformation)):
            raise ValueError(
                f"has no {' and no '.join(missing)}: segmentation networks need all of "
                f"{', '.join(own)}; a profile without them needs detection or transformation"
            )

    def segmentation(self) -> dict[str, Any]:
        """The segmentation networks, as arguments of `cwd.experiments.profile.Profile`."""
        if not self.student:
            return {}
        shared = self.data, self.schedule
        return {
            "data": self.data,
            "teacher": self.teacher.alone(*shared),
            "student": self.student.alone(*shared),
            "seeds": self.seeds,
            "students": tuple(
                Student(part.stands_for or part.network, part.alone(*shared))
                for part in self.students
            ),
            "student_seeds": self.student_seeds or self.seeds,
        }
