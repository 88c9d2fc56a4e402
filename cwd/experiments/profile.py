"""Profiles: which data, networks, schedules and seeds a study uses."""

import os
from dataclasses import field, replace
from pathlib import Path
from typing import Any

import yaml

from cwd.config.run import Data, Run
from cwd.config.settings import Mapping, Switch, Text, read, settings
from cwd.experiments.sections import (
    Alone,
    AsStudent,
    Detection,
    Pair,
    Seeds,
    Student,
    Transformation,
)
from cwd.models.names import SEGMENTATION, kind_of
from cwd.models.weights import is_public
from cwd.recipes import load_losses, parse_recipe
from cwd.system import paths
from cwd.system.errors import CwdError

__all__ = ["Profile", "Student", "load_profile", "profile_names"]


@settings
class Profile:
    """What a study uses: read from `cwd/profiles/NAME.yaml`, whose comments explain the choices."""

    name: Text  # the file's
    about: Text  # one line for people
    data: Data | None = None
    schedule: Mapping | None = field(default=None, compare=False, repr=False)
    teacher: Alone | None = None  # from seed 0
    student: Alone | None = None  # of Tables 2 to 5
    seeds: Seeds = ()  # of that student
    students: tuple[AsStudent, ...] = ()  # the networks of Tables 6 to 8, that student among them
    student_seeds: Seeds = ()  # of the others among them
    detection: Detection | None = None  # the detectors of Table 9
    transformation: Transformation | None = None  # the networks of the second paper
    investigations: Switch = False  # whether notebook 08's runs belong to it
    deciding: Seeds = ()  # of it in the tables that most claims rest on; none: the same
    beyond: Seeds = ()  # of it in notebook 07's tables; none: it has none of them
    losses: tuple[Text, ...] = ()  # files with losses of one's own, see `cwd.recipes.registered`
    recipes: tuple[Text, ...] = ()  # of the study "own"
    allow_weak_teacher: Switch = False  # see `cwd.training.loop.train`

    def __post_init__(self) -> None:
        load_losses(*self.losses)
        for recipe in self.recipes:
            if not parse_recipe(recipe):
                raise ValueError(
                    "has an empty recipe: leave it out, its table has the student alone"
                )
        own = ("data", "schedule", "teacher", "student", "seeds")
        missing = [name for name in own if getattr(self, name) in (None, ())]
        some = len(missing) < len(own) or self.students
        if self.student_seeds and not self.students:
            raise ValueError("has student_seeds and no students: write both, or none of them")
        if (some and missing) or not self.alone:
            raise ValueError(
                f"has no {' and no '.join(missing)}: segmentation needs all of {', '.join(own)}; a "
                "profile without it needs pairs of other networks in detection or transformation"
            )
        pairs = [(self.teacher, run) for run in (self.student, *(s.run for s in self.students))]
        pairs += [(pair.teacher, pair.student) for pair in self.pairs]
        if same := [run for teacher, run in pairs if run and run == teacher]:
            raise ValueError(
                f"has {same[0].network} as teacher and as student, trained alike: give the student "
                "another network, start or schedule"
            )

    @property
    def parts(self) -> tuple[Detection | Transformation, ...]:
        """The sections with seeds of their own."""
        return tuple(part for part in (self.detection, self.transformation) if part)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Teachers and students that aren't segmentation networks."""
        return tuple(pair for part in self.parts for pair in part.pairs)

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
        own = {"seeds": seeds} if self.student else {}
        own |= {"student_seeds": seeds} if self.students else {}
        own |= {name: seeds for name in ("deciding", "beyond") if getattr(self, name)}
        return replace(self, detection=detection, transformation=transformation, **own)

    def run(self, recipe: str, seed: int, student: Run | None = None) -> Run:
        """A student (that of Tables 2 to 5, or another's run alone) with a recipe, or none: ""."""
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
        Raises CwdError if the profile has no such student, or several.
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
            if run.init != "random" and not is_public(run.init) and not os.path.isfile(path):
                raise CwdError(
                    f"{path} does not exist, the first weights of {run.network} in profile "
                    f"{self.name}: data/README.md says where it comes from."
                )

    def seeds_of(self, student: Run) -> tuple[int, ...]:
        """From which seeds a student is trained, in its own table."""
        for part in self.parts:
            if student in [pair.student for pair in part.pairs]:
                return part.seeds
        return self.seeds if student == self.student else self.student_seeds


class _Loader(yaml.SafeLoader):
    """YAML's, but a key that stands twice in a mapping is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping, whose keys are compared as they are written."""
        written = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := next((key for key in written if written.count(key) > 1), None):
            raise yaml.constructor.ConstructorError(
                problem=f"the key {twice!r} stands twice: keep one of them",
                problem_mark=node.start_mark,
            )
        return super().construct_mapping(node, deep)


def profile_names() -> list[str]:
    """The profiles there are."""
    return sorted(path.stem for path in paths.PROFILES.glob("*.yaml"))


def is_own(name: str) -> bool:
    """Whether a profile is named by the path of a file."""
    return Path(name).suffix.lower() in (".yaml", ".yml")


def load_profile(name: str) -> Profile:
    """Read a profile by its name, or from a YAML file by its path.

    Raises CwdError if there is none, or it has an unknown key or a value of the wrong kind.
    """
    name = str(name)  # papermill makes a number of one
    path = Path(name) if is_own(name) else paths.PROFILES / f"{name}.yaml"
    if not os.path.isfile(path):  # of a name that is no file's, too
        raise CwdError(
            f"there is no profile {name!r:.100}: use one of {', '.join(profile_names())}, or the "
            "path of a YAML file."
        )
    taken = (*profile_names(), *paths.TAKEN)
    if path.resolve().parent != paths.PROFILES and (path.stem in taken or path.stem[0] in ".-"):
        raise CwdError(
            f"{path} has a name that its results can't have, whose folder would be "
            f"{paths.for_people(paths.BUILD)}/{path.stem}: give the file another name."
        )
    shown = paths.for_people(path.resolve())
    try:
        text = yaml.load(path.read_text(), _Loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise CwdError(f"{shown} is no valid YAML ({' '.join(str(error).split())}).") from error
    if isinstance(text, dict):
        if "name" in text:
            raise CwdError(f"{shown} has the unknown key 'name': a profile's name is its file's.")
        text = text | {"name": path.stem}
        if "seeds" in text and text.get("students"):
            text = {"student_seeds": text["seeds"]} | text
    return read(Profile, text, shown)
