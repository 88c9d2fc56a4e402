"""The sections of a profile's YAML file: networks and seeds as they are written, runs as read."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainValidator, TypeAdapter, ValidationInfo

from cwd.config.run import Data, Run
from cwd.config.settings import Mapping, Name, Text, read, settings
from cwd.models.weights import is_public
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.own_code import load_function, named
from cwd.training.tasks import task_of

# the papers' networks and what our names for them begin with
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


@cache
def _built(network: str) -> None:
    task_of(network).build(network, 2, device="meta")


@settings
class _Network:
    network: Name
    init: Name = "random"
    schedule: Mapping = field(default_factory=dict)  # what differs from the section's

    def alone(self, data: Data, schedule: dict[str, Any]) -> Run:
        network = self.network
        try:
            task = task_of(network)
            if parts := named(network):
                network = f"{paths.for_people(paths.below_root(parts[0]))}:{parts[1]}"
                load_function(network)
            else:
                _built(network)  # an unknown name is an error here
            own = read(task.schedule, schedule | self.schedule, "schedule")
            own_file = self.init != "random" and not is_public(self.init)
            init = paths.for_people(paths.below_root(self.init)) if own_file else self.init
        except CwdError as error:
            raise ValueError(str(error)) from error
        if not own.steps and self.init == "random":
            raise ValueError(
                f"has {self.network} with 0 steps and random weights: give it steps, or init the "
                "weights that shall be measured as they come"
            )
        if (warmup := getattr(own, "warmup", 0)) > own.steps:
            raise ValueError(f"has warmup {warmup} and steps {own.steps}, make steps the larger")
        return Run(data, network, own, init)


@settings
class _Student(_Network):
    stands_for: Text = ""  # the paper's network that it is a miniature of; itself if empty

    def as_student(self, data: Data, schedule: dict[str, Any]) -> Student:
        return Student(self.stands_for or self.network, self.alone(data, schedule))


@settings
class _Roles:
    teacher: _Network
    student: _Network

    def pair(self, data: Data, schedule: dict[str, Any], kinds: dict[str, str]) -> Pair:
        both = self.teacher, self.student
        begin = {part.network.partition("-")[0] for part in both}
        for name, kind in kinds.items():
            if begin == {kind}:
                return Pair(name, *(part.alone(data, schedule) for part in both))
        raise ValueError(
            f"has {' and '.join(part.network for part in both)}, no pair of one kind: use two of "
            f"{' or of '.join(kinds.values())}"
        )


@settings
class _Task(_Roles):
    data: Data
    schedule: Mapping


def _read(made: type, kind: type, make: Callable[..., Any]) -> BeforeValidator:
    """What a section holds, made of its `kind` of settings, data and schedule."""
    adapter = TypeAdapter(kind)

    def validate(value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, made):
            return value
        part = adapter.validate_python(value)
        shared = info.data if "schedule" in info.data else vars(part)
        if shared.get("data") is None or shared.get("schedule") is None:
            raise ValueError("needs data and schedule beside it")
        return make(part, shared["data"], shared["schedule"])

    return BeforeValidator(validate)


def _pair(kinds: dict[str, str], kind: type = _Roles) -> BeforeValidator:
    return _read(Pair, kind, partial(_Roles.pair, kinds=kinds))


def read_seeds(value: Any) -> tuple[int, ...]:
    """Seeds from a list, a number, or a text such as "0,1,2"; a ValueError says what is wrong."""
    if value == ():
        return ()  # of networks that a profile has none of
    items = value.split(",") if isinstance(value, str) else value
    items = items if isinstance(items, list | tuple) else [items]
    try:
        # int() alone takes "1_0", "-0" and digits of other scripts
        seeds = tuple(int(re.fullmatch(" *([0-9]{1,19}) *", str(item))[1]) for item in items)
    except TypeError:  # no match
        seeds = ()
    sane = all(seed < 2**63 for seed in seeds)
    if not seeds or not sane or len(set(seeds)) < len(seeds):
        raise ValueError(f"is {value!r}, expected different whole numbers from 0 on, such as 0,1,2")
    return seeds


Alone = Annotated[Run, _read(Run, _Network, _Network.alone)]
AsStudent = Annotated[Student, _read(Student, _Student, _Student.as_student)]
Seeds = Annotated[tuple[int, ...], PlainValidator(read_seeds)]


@settings
class Detection:
    """What Table 9 uses: a pair for each detector, in the table's order; the students' seeds."""

    data: Data
    schedule: Mapping = field(compare=False, repr=False)
    pairs: tuple[Annotated[Pair, _pair(PAPER_DETECTORS)], ...]
    seeds: Seeds

    def __post_init__(self) -> None:
        names = [pair.name for pair in self.pairs]
        if not names or len(set(names)) < len(names):
            shown = ", ".join(names) or "nothing"
            raise ValueError(f"has pairs of {shown}: write one or more, of different kinds")


@settings
class Transformation:
    """What the second paper's comparison has of its own; `seeds` are of all its tasks' students."""

    seeds: Seeds
    instance: Annotated[Pair, _pair(MASK_DETECTORS, _Task)] | None = None
    classification: Annotated[Pair, _pair(CLASSIFIERS, _Task)] | None = None

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Those that there are."""
        return tuple(pair for pair in (self.instance, self.classification) if pair)
