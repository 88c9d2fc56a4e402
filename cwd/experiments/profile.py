"""Profiles: which data, networks, schedules and seeds a study uses."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from cwd.config.pairs import Detection, Pair, Student, Transformation
from cwd.config.run import Data, Run, from_mapping
from cwd.experiments.sections import check_seeds, read_detection, read_part, read_transformation
from cwd.models.names import SEGMENTATION, kind_of
from cwd.models.weights import is_public
from cwd.system import paths
from cwd.system.errors import CwdError


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
        detection: the detectors of Table 9, if the profile has any.
        transformation: the networks of the second paper, if the profile compares them. A profile
            without segmentation networks has no `data`, `teacher`, `student` and `seeds`.
        allow_weak_teacher: see `cwd.training.loop.train`.
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
    transformation: Transformation | None = None
    allow_weak_teacher: bool = False

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Teachers and students that aren't segmentation networks."""
        parts = self.detection, self.transformation
        return tuple(pair for part in parts if part for pair in part.pairs)

    @property
    def alone(self) -> tuple[Run, ...]:
        """Every network, trained without a teacher and from seed 0."""
        runs = [self.teacher, self.student, *(student.run for student in self.students)]
        runs += [run for pair in self.pairs for run in (pair.teacher, pair.student)]
        return tuple(dict.fromkeys(run for run in runs if run))

    @property
    def every_seed(self) -> tuple[int, ...]:
        """Those of any of its students."""
        parts = self.detection, self.transformation
        more = [seed for part in parts if part for seed in part.seeds]
        return tuple(dict.fromkeys((*self.seeds, *self.student_seeds, *more)))

    def seeded(self, seeds: tuple[int, ...]) -> "Profile":
        """The profile with these seeds for every student."""
        detection = self.detection and replace(self.detection, seeds=seeds)
        transformation = self.transformation and replace(self.transformation, seeds=seeds)
        own = {"seeds": seeds, "student_seeds": seeds} if self.student else {}
        return replace(self, detection=detection, transformation=transformation, **own)

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
            CwdError: the profile has no teacher for it.
        """
        if kind_of(student.network) == SEGMENTATION:
            return self.teacher
        alone = replace(student, recipe="", teacher=None, seed=0)
        for pair in self.pairs:
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
        teachers = [self.teacher, *(pair.teacher for pair in self.pairs)]
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
        """From which seeds a student is trained, in its own table."""
        for part in (self.detection, self.transformation):
            if part and student in [pair.student for pair in part.pairs]:
                return part.seeds
        return self.seeds if student == self.student else self.student_seeds


OWN = ("data", "teacher", "student", "schedule", "seeds")  # of the segmentation networks
OPTIONAL = ("students", "student_seeds")
SECTIONS = ("detection", "transformation")


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
    segments = bool(found & {*OWN, *OPTIONAL})
    known = {"about", *OWN, *OPTIONAL, *SECTIONS, "allow_weak_teacher"}
    complete = {*OWN} <= found if segments else found & {*SECTIONS}
    if not complete or not {"about"} <= found <= known:
        raise CwdError(
            f"{shown}: found {', '.join(sorted(map(str, found)))}; a profile has about and "
            f"{', '.join(OWN)}, may have {', '.join((*OPTIONAL, *SECTIONS))}, allow_weak_teacher, "
            f"and nothing else; without segmentation networks it has about and one of "
            f"{', '.join(SECTIONS)}."
        )
    parts = read_segmentation(text, shown) if segments else {}
    if "detection" in text:
        parts["detection"] = read_detection(text["detection"], f"{shown}: detection")
    if "transformation" in text:
        section = text["transformation"]
        parts["transformation"] = read_transformation(section, f"{shown}: transformation")
    weak = bool(text.get("allow_weak_teacher", False))
    profile = Profile(path.stem, str(text["about"]), **parts, allow_weak_teacher=weak)
    if not profile.alone:
        raise CwdError(f"{shown}: has no networks: write a teacher and a student somewhere.")
    return profile


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
