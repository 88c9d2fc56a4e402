"""Profiles: which data, networks, schedules and seeds a study uses."""

from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from cwd.config.run import Data, Run
from cwd.config.settings import read
from cwd.experiments.sections import Detection, Pair, ProfileFile, Student, Transformation, within
from cwd.models.names import SEGMENTATION, kind_of
from cwd.models.segmentation import is_public
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

    def seeded(self, seeds: tuple[int, ...]) -> "Profile":
        """The profile with these seeds for every student."""
        detection = self.detection and replace(self.detection, seeds=seeds)
        transformation = self.transformation and replace(self.transformation, seeds=seeds)
        own = {"seeds": seeds, "student_seeds": seeds} if self.student else {}
        return replace(self, detection=detection, transformation=transformation, **own)

    def run(self, recipe: str, seed: int, student: Run | None = None) -> Run:
        """A student trained with a recipe in the paper's notation; alone if that is empty.

        The student is that of Tables 2 to 5, or another network's run alone.
        """
        student = student or self.student
        teacher = self.teacher_of(student) if recipe else None
        return replace(student, recipe=recipe, teacher=teacher, seed=seed)

    def teacher_of(self, student: Run) -> Run:
        """The teacher that a student learns from; raises CwdError if there is none."""
        if kind_of(student.network) == SEGMENTATION:
            return self.teacher
        alone = replace(student, recipe="", teacher=None, seed=0)
        for pair in self.pairs:
            if pair.student == alone:
                return pair.teacher
        raise CwdError(f"profile {self.name} has no teacher for {student.network}: add a pair.")

    def find(self, network: str) -> Run:
        """A student by its network's name, the main one if that is empty.

        Where there are two of a name, it is "PSPNet-R18, scratch" or "PSPNet-R18, ImageNet".

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
        """Raise CwdError if a file with first weights is missing, before anything is trained."""
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
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CwdError(f"{shown} is no valid YAML ({' '.join(str(error).split())}).") from error
    file = read(ProfileFile, text, shown)
    with within(shown):
        parts = file.segmentation()
        for part in ("detection", "transformation"):
            if section := getattr(file, part):
                with within(part):
                    parts[part] = section.networks()
    weak = file.allow_weak_teacher
    profile = Profile(path.stem, file.about, **parts, allow_weak_teacher=weak)
    if not profile.alone:
        raise CwdError(f"{shown}: has no networks: write a teacher and a student somewhere.")
    return profile
