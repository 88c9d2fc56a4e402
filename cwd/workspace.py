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
from cwd.models import build_network, load_network_weights
from cwd.runs import Data, Run, RunFolder, Schedule, from_mapping
from cwd.trainer import train


@dataclass(frozen=True)
class Part:
    """A network's place in a profile: the teacher's or the student's."""

    network: str
    init: str = "random"
    schedule: dict[str, Any] = field(default_factory=dict)  # what differs from the profile's


@dataclass(frozen=True)
class Profile:
    """What a study uses: read from `cwd/profiles/NAME.yaml`, whose comments explain the choices.

    Attributes:
        name: the file's.
        about: one line for people.
        data: which images.
        teacher: the teacher and its schedule.
        student: the student and its schedule.
        seeds: of the students; there is one teacher, from seed 0.
        allow_weak_teacher: see `cwd.trainer.train`.
    """

    name: str
    about: str
    data: Data
    teacher: Run
    student: Run
    seeds: tuple[int, ...]
    allow_weak_teacher: bool = False

    def run(self, recipe: str, seed: int) -> Run:
        """The student trained with a recipe; the empty recipe is the student alone."""
        return replace(
            self.student, recipe=recipe, teacher=self.teacher if recipe else None, seed=seed
        )


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
    known = ("about", "data", "teacher", "student", "schedule", "seeds", "allow_weak_teacher")
    required = known[:-1]
    if not isinstance(text, dict) or set(text) - set(known) or set(required) - set(text):
        found = sorted(map(str, text)) if isinstance(text, dict) else [repr(text)]
        raise CwdError(
            f"{shown}: found {', '.join(found)}; a profile has {', '.join(required)}, may have "
            "allow_weak_teacher, and nothing else."
        )
    data = from_mapping(Data, text["data"], f"{shown}: data")
    runs = {}
    for role in ("teacher", "student"):
        part = from_mapping(Part, text[role], f"{shown}: {role}")
        settings = {**mapping(text["schedule"], f"{shown}: schedule"), **part.schedule}
        schedule = from_mapping(Schedule, settings, f"{shown}: schedule of the {role}")
        build_network(part.network, 2, device="meta")  # an unknown name is an error here
        runs[role] = Run(data, part.network, schedule, part.init)
    return Profile(
        name=path.stem,
        about=str(text["about"]),
        data=data,
        seeds=check_seeds(text["seeds"], shown),
        allow_weak_teacher=bool(text.get("allow_weak_teacher", False)),
        **runs,
    )


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
        chosen = replace(chosen, seeds=check_seeds(seeds, "SEEDS"))
    root = paths.below_root(os.environ.get("CWD_DATA_ROOT") or data_root)
    torch.set_float32_matmul_precision("high")
    return Workspace(chosen, root, device)
