"""Profiles: which data, networks, schedules and seeds a study uses."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from cwd import paths
from cwd.detection.names import is_detector
from cwd.detection.profile import PAPERS, Detection, Pair
from cwd.errors import CwdError
from cwd.models import is_public
from cwd.runs import Data, Run, from_mapping
from cwd.tasks import task_of


@dataclass(frozen=True)
class Part:
    """A network's place in a profile: the teacher's or a student's."""

    network: str
    init: str = "random"
    schedule: dict[str, Any] = field(default_factory=dict)  # what differs from the profile's
    stands_for: str = ""  # the paper's network that it is a miniature of; itself if empty


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
class Profile:
    """What a study uses: read from `cwd/profiles/NAME.yaml`, whose comments explain the choices.

    Attributes:
        name: the file's.
        about: one line for people.
        data: which images.
        teacher: the teacher and its schedule.
        student: the student of Tables 2 to 5 and its schedule.
        seeds: of that student; there is one teacher, from seed 0.
        students: the networks of Tables 6 to 8, that student among them or not.
        student_seeds: of the others among them.
        detection: the detectors of Table 9, if the profile has any. One that has nothing else has
            no `data`, `teacher`, `student` and `seeds`.
        allow_weak_teacher: see `cwd.trainer.train`.
    """

    name: str
    about: str
    data: Data | None = None
    teacher: Run | None = None
    student: Run | None = None
    seeds: tuple[int, ...] = ()
    students: tuple[Student, ...] = ()
    student_seeds: tuple[int, ...] = ()
    detection: Detection | None = None
    allow_weak_teacher: bool = False

    @property
    def alone(self) -> tuple[Run, ...]:
        """Every network, trained without a teacher and from seed 0."""
        runs = [self.teacher, self.student, *(student.run for student in self.students)]
        runs += self.detection.runs if self.detection else ()
        return tuple(dict.fromkeys(run for run in runs if run))

    def seeded(self, seeds: tuple[int, ...]) -> "Profile":
        """The profile with these seeds for every student."""
        detection = self.detection and replace(self.detection, seeds=seeds)
        own = {"seeds": seeds, "student_seeds": seeds} if self.student else {}
        return replace(self, detection=detection, **own)

    def run(self, recipe: str, seed: int, student: Run | None = None) -> Run:
        """A student trained with a recipe; the empty recipe is the student alone.

        Args:
            recipe: in the paper's notation.
            seed: of its first weights and its batches.
            student: which, alone; that of Tables 2 to 5 if None.
        """
        student = student or self.student
        teacher = self.teacher_of(student) if recipe else None
        return replace(student, recipe=recipe, teacher=teacher, seed=seed)

    def teacher_of(self, student: Run) -> Run:
        """The teacher that a student learns from.

        Raises:
            CwdError: it is a detector that the profile has no teacher for.
        """
        if not is_detector(student.network):
            return self.teacher
        alone = replace(student, recipe="", teacher=None, seed=0)
        for pair in self.detection.pairs if self.detection else ():
            if pair.student == alone:
                return pair.teacher
        raise CwdError(f"profile {self.name} has no teacher for {student.network}: add a pair.")

    def find(self, network: str) -> Run:
        """A student by its network's name, the main one if that is empty.

        Args:
            network: "PSPNet-R18"; where there are two, "PSPNet-R18, scratch" or "..., ImageNet".

        Raises:
            CwdError: the profile has no such student, or several.
        """
        teachers = [self.teacher]
        teachers += [pair.teacher for pair in self.detection.pairs] if self.detection else []
        runs = [run for run in self.alone if run not in teachers]
        main = self.student or runs[0]
        wanted = network or f"{main.network}, {main.start}"
        found = [r for r in runs if wanted in (r.network, f"{r.network}, {r.start}")]
        if len(found) != 1:
            known = "; ".join(f"{run.network}, {run.start}" for run in runs)
            count = "several students" if found else "no student"
            raise CwdError(f"profile {self.name} has {count} {network!r}: use one of {known}.")
        return found[0]

    def check_weights(self) -> None:
        """Look for the files with first weights, before a network is trained that needs none.

        Raises:
            CwdError: one isn't there.
        """
        for run in self.alone:
            path = paths.below_root(run.init)
            if run.init != "random" and not is_public(run.init) and not path.is_file():
                raise CwdError(
                    f"{path} does not exist, the first weights of {run.network} in profile "
                    f"{self.name}: data/README.md says where it comes from."
                )

    def seeds_of(self, student: Run) -> tuple[int, ...]:
        """From which seeds a student is trained."""
        return self.seeds if student == self.student else self.student_seeds


SEGMENTATION = ("data", "teacher", "student", "schedule", "seeds")
OPTIONAL = ("students", "student_seeds")
EVERY = ("about", "detection", "allow_weak_teacher")


def profile_names() -> list[str]:
    """The profiles there are."""
    return sorted(path.stem for path in paths.PROFILES.glob("*.yaml"))


def load_profile(name: str) -> Profile:
    """Read a profile by its name, or from a YAML file by its path.

    Raises:
        CwdError: there is no such profile, or it has an unknown key or a value of the wrong kind.
    """
    path = Path(name) if name.endswith(".yaml") else paths.PROFILES / f"{name}.yaml"
    if not path.is_file():
        raise CwdError(
            f"there is no profile {name!r}: use one of {', '.join(profile_names())}, or the path "
            "of a YAML file."
        )
    shown = paths.for_people(path.resolve())
    try:
        text = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise CwdError(f"{shown} is no valid YAML ({' '.join(str(error).split())}).") from error
    found = set(text) if isinstance(text, dict) else {repr(text)}
    segments = bool(found & {*SEGMENTATION, *OPTIONAL})
    required = {"about", *(SEGMENTATION if segments else ("detection",))}
    if not required <= found <= {*EVERY, *SEGMENTATION, *OPTIONAL}:
        raise CwdError(
            f"{shown}: found {', '.join(sorted(map(str, found)))}; a profile has about and "
            f"{', '.join(SEGMENTATION)}, may have {', '.join((*OPTIONAL, *EVERY[1:]))}, and "
            "nothing else; one with detectors only has about and detection."
        )
    parts = read_segmentation(text, shown) if segments else {}
    if "detection" in text:
        parts["detection"] = read_detection(text["detection"], f"{shown}: detection")
    weak = bool(text.get("allow_weak_teacher", False))
    return Profile(path.stem, str(text["about"]), **parts, allow_weak_teacher=weak)


def read_segmentation(text: dict[str, Any], shown: str) -> dict[str, Any]:
    """The segmentation networks of a profile, as arguments of `Profile`."""
    data = from_mapping(Data, text["data"], f"{shown}: data")
    runs = {
        role: read_part(text[role], text["schedule"], data, f"{shown}: {role}")
        for role in ("teacher", "student")
    }
    students = text.get("students", [])
    if not isinstance(students, list):
        raise CwdError(f"{shown}: students is {students!r}, expected a list of networks.")
    others = [read_part(part, text["schedule"], data, f"{shown}: students") for part in students]
    seeds = check_seeds(text["seeds"], shown)
    return {
        "data": data,
        "teacher": runs["teacher"].run,
        "student": runs["student"].run,
        "seeds": seeds,
        "students": tuple(others),
        "student_seeds": check_seeds(text.get("student_seeds", seeds), shown),
    }


def read_detection(text: Any, where: str) -> Detection:
    """The detectors of a profile; raises as `load_profile`."""
    keys = {"data", "schedule", "pairs", "seeds"}
    pairs = mapping(text, where).get("pairs")
    if set(text) != keys or not isinstance(pairs, list) or not pairs:
        raise CwdError(
            f"{where}: found {', '.join(map(str, text))}; write {', '.join(sorted(keys))}, and "
            "under pairs a list of teachers and students."
        )
    data = from_mapping(Data, text["data"], f"{where}: data")
    read = []
    for pair in pairs:
        if set(mapping(pair, f"{where}: pairs")) != {"teacher", "student"}:
            raise CwdError(f"{where}: pairs has {pair!r}, expected a teacher and a student.")
        runs = {
            role: read_part(part, text["schedule"], data, f"{where}: {role}").run
            for role, part in pair.items()
        }
        kinds = {run.network.partition("-")[0] for run in runs.values()}
        names = [name for name, kind in PAPERS.items() if {kind} == kinds]
        if len(names) != 1 or names[0] in [known.detector for known in read]:
            raise CwdError(
                f"{where}: {' and '.join(run.network for run in runs.values())} are no pair of "
                "detectors of one kind that stands there only once: write a pair for each of "
                f"{', '.join(PAPERS.values())}."
            )
        read.append(Pair(names[0], runs["teacher"], runs["student"]))
    return Detection(tuple(read), check_seeds(text["seeds"], where))


def read_part(value: Any, schedule: Any, data: Data, where: str) -> Student:
    """A network of a profile; raises as `load_profile`."""
    part = from_mapping(Part, value, where)
    settings = {**mapping(schedule, f"{where}: schedule"), **part.schedule}
    task = task_of(part.network)
    task.build(part.network, 2, device="meta")  # an unknown name is an error here
    init = part.init
    if init != "random" and not is_public(init):
        init = paths.for_people(paths.below_root(init))
    run = Run(data, part.network, from_mapping(task.schedule, settings, f"{where}: schedule"), init)
    return Student(part.stands_for or part.network, run)


def mapping(value: Any, where: str) -> dict[str, Any]:
    """`value`, if it is a mapping; raises CwdError otherwise."""
    if not isinstance(value, dict):
        raise CwdError(f"{where}: found {value!r}, expected a mapping of settings.")
    return value


def check_seeds(value: Any, where: str) -> tuple[int, ...]:
    """Seeds from a list, or from a text such as "0,1,2".

    Raises:
        CwdError: there is none, one stands twice, or one is no whole number from 0 on.
    """
    items = value.split(",") if isinstance(value, str) else value
    try:
        seeds = tuple(int(str(item)) for item in items)
        if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
            raise ValueError
    except (TypeError, ValueError):
        raise CwdError(
            f"{where}: seeds {value!r} must be different whole numbers from 0 on, such as 0,1,2."
        ) from None
    return seeds
