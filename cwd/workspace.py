"""A profile, and the workspace in which its runs are trained and its results are kept."""

import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from torch import nn

from cwd import paths
from cwd.data import open_data
from cwd.errors import CwdError
from cwd.files import save_figure, write_atomic
from cwd.hardware import pick_device
from cwd.loading import Dataset
from cwd.models import build_network, is_public, load_network_weights
from cwd.runs import Data, Run, RunFolder, Schedule, from_mapping
from cwd.trainer import train


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
        allow_weak_teacher: see `cwd.trainer.train`.
    """

    name: str
    about: str
    data: Data
    teacher: Run
    student: Run
    seeds: tuple[int, ...]
    students: tuple[Student, ...] = ()
    student_seeds: tuple[int, ...] = ()
    allow_weak_teacher: bool = False

    def run(self, recipe: str, seed: int, student: Run | None = None) -> Run:
        """A student trained with a recipe; the empty recipe is the student alone.

        Args:
            recipe: in the paper's notation.
            seed: of its first weights and its batches.
            student: which, alone; that of Tables 2 to 5 if None.
        """
        return replace(
            student or self.student,
            recipe=recipe,
            teacher=self.teacher if recipe else None,
            seed=seed,
        )

    def find(self, network: str) -> Run:
        """A student by its network's name, the main one if that is empty.

        Args:
            network: "PSPNet-R18"; where there are two, "PSPNet-R18, scratch" or "..., ImageNet".

        Raises:
            CwdError: the profile has no such student, or several.
        """
        runs = dict.fromkeys([self.student, *(student.run for student in self.students)])
        wanted = network or f"{self.student.network}, {self.student.start}"
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
        for run in (self.teacher, self.student, *(student.run for student in self.students)):
            path = paths.below_root(run.init)
            if run.init != "random" and not is_public(run.init) and not path.is_file():
                raise CwdError(
                    f"{path} does not exist, the first weights of {run.network} in profile "
                    f"{self.name}: data/README.md says where it comes from."
                )

    def seeds_of(self, student: Run) -> tuple[int, ...]:
        """From which seeds a student is trained."""
        return self.seeds if student == self.student else self.student_seeds


REQUIRED = ("about", "data", "teacher", "student", "schedule", "seeds")
OPTIONAL = ("students", "student_seeds", "allow_weak_teacher")


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
    complete = isinstance(text, dict) and set(REQUIRED) <= set(text) <= {*REQUIRED, *OPTIONAL}
    if not complete:
        found = sorted(map(str, text)) if isinstance(text, dict) else [repr(text)]
        raise CwdError(
            f"{shown}: found {', '.join(found)}; a profile has {', '.join(REQUIRED)}, may have "
            f"{', '.join(OPTIONAL)}, and nothing else."
        )
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
    return Profile(
        name=path.stem,
        about=str(text["about"]),
        data=data,
        teacher=runs["teacher"].run,
        student=runs["student"].run,
        seeds=seeds,
        students=tuple(others),
        student_seeds=check_seeds(text.get("student_seeds", seeds), shown),
        allow_weak_teacher=bool(text.get("allow_weak_teacher", False)),
    )


def read_part(value: Any, schedule: Any, data: Data, where: str) -> Student:
    """A network of a profile; raises as `load_profile`."""
    part = from_mapping(Part, value, where)
    settings = {**mapping(schedule, f"{where}: schedule"), **part.schedule}
    build_network(part.network, 2, device="meta")  # an unknown name is an error here
    init = part.init
    if init != "random" and not is_public(init):
        init = paths.for_people(paths.below_root(init))
    run = Run(data, part.network, from_mapping(Schedule, settings, f"{where}: schedule"), init)
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


@dataclass(frozen=True)
class Workspace:
    """A profile on this machine: where its data lies, what computes, where results go."""

    profile: Profile
    data_root: Path
    device: str = "auto"

    @property
    def output(self) -> Path:
        """Folder of this profile's notebooks, tables and figures."""
        return paths.BUILD / self.profile.name

    @cached_property
    def data(self) -> tuple[Dataset, Dataset]:
        """Training images and the images that mIoU is measured on."""
        return open_data(self.profile.data, self.data_root)

    def train(self, run: Run) -> RunFolder:
        """The finished run, trained now if it isn't on disk; its teacher before it."""
        if not RunFolder(paths.RUNS, run).finished:
            self.profile.check_weights()
        if run.teacher:
            self.train(run.teacher)
            self.train(run.baseline())  # the teacher has to be better than this
        return train(
            run,
            runs=paths.RUNS,
            data_root=self.data_root,
            device=self.device,
            allow_weak_teacher=self.profile.allow_weak_teacher,
        )

    def metrics(self, run: Run) -> dict[str, Any]:
        """What was measured of a run, trained now if it isn't on disk."""
        return self.train(run).metrics

    def network(self, run: Run) -> nn.Module:
        """The trained network of a run, on the CPU, in eval mode."""
        folder = self.train(run)
        network = build_network(run.network, self.data[0].num_classes)
        load_network_weights(network, folder.done / "student.safetensors")
        return network.eval()

    def save_table(self, table: pd.DataFrame, name: str) -> pd.DataFrame:
        """Write a table to `tables/NAME.csv` and return it, to be shown."""
        write_atomic(self.output / "tables" / f"{name}.csv", table.to_csv)
        return table

    def save_figure(self, figure: Any, name: str) -> None:
        """Write a figure to `figures/NAME.png`."""
        save_figure(figure, self.output / "figures" / f"{name}.png")


def open_profile(
    profile: str, data_root: str = "data", seeds: str = "", device: str = "auto"
) -> Workspace:
    """What a notebook begins with.

    nbval can't hand parameters to a notebook, so CWD_PROFILE and CWD_DATA_ROOT in the environment
    go before the arguments.

    Args:
        profile: name of a profile.
        data_root: folder of the datasets, from the checkout's root if relative.
        seeds: comma-separated, empty for the profile's own.
        device: "auto", "cpu" or "cuda".

    Raises:
        CwdError: as `load_profile`; the seeds aren't whole numbers; the device isn't there.
    """
    chosen = load_profile(os.environ.get("CWD_PROFILE") or profile)
    pick_device(device)  # an unknown or missing one is an error now, not after the data is read
    if seeds:
        given = check_seeds(seeds, "SEEDS")
        chosen = replace(chosen, seeds=given, student_seeds=given)
    root = paths.below_root(os.environ.get("CWD_DATA_ROOT") or data_root)
    torch.set_float32_matmul_precision("high")
    return Workspace(chosen, root, device)
