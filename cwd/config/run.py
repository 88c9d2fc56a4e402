"""A run: everything that determines a result, and the name of its folder on disk."""

import copy
import hashlib
import json
import re
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cwd.config.schedule import BaseSchedule
from cwd.config.settings import Name, Seed, Size, Text, Whole, settings
from cwd.recipes.parse import check_terms, known_terms
from cwd.recipes.registered import sources
from cwd.system import paths
from cwd.system.errors import CwdError
from cwd.system.own_code import load_file, named


@settings
class Data:
    """Which images a run sees; None takes them as they are, or all."""

    name: Name  # dataset, see `cwd.data.datasets.build_dataset`
    size: Size | None = None  # height, width that images are resized to; scenes are drawn at it
    train: Whole | None = None  # number of training images; of scenes, how many are drawn
    val: Whole | None = None  # of those that are measured on
    split: Name = "val"  # of those
    seed: Seed = 0  # of the scenes; nothing for other datasets
    root: Text = ""  # where the dataset lies, if not in the data root; relative to the checkout

    def __post_init__(self) -> None:
        if self.name == OWN and not self.root:
            raise ValueError(f"has no root: the dataset {OWN} is yours, so say where it lies")

    def place(self, data_root: Path) -> Path:
        """Where the dataset is looked for."""
        return paths.below_root(self.root) if self.root else data_root


# Settings that came later, and how it was before: so the runs of that time keep their keys.
NEWER = {"scale_step": 0.1, "photometric": False, "class_weights": None, "clip": 0.0, "root": ""}
OWN = "folder"  # the dataset that is the user's own, see `cwd.data.own`


LEGIBLE = 200  # characters of a name at most: a file's has 255, with what is put around it


def key_of(config: dict[str, Any]) -> str:
    """The key of a run from its settings as mappings, as `asdict` gives them or a file has them."""
    config = copy.deepcopy(config)
    part = config
    while part:
        if not part.get("code"):
            part.pop("code", None)
        data, schedule = part.get("data", {}), part.get("schedule", {})
        # how often progress is saved doesn't change what is learnt
        schedule.pop("checkpoint_every", None)
        for about in (data, schedule):
            for name, default in NEWER.items():
                if about.get(name, default) == default:
                    about.pop(name, None)
        part = part.get("teacher")
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]


@settings
class Run:
    """One training: a network, alone or with a teacher, on a dataset, from a seed.

    Equal runs have equal results, so the hash of a run is the name of its folder. The data root and
    which device computes are not part of it.
    """

    data: Data
    network: Name
    schedule: BaseSchedule
    init: Name = "random"
    recipe: Text = ""
    teacher: "Run | None" = None
    seed: Seed = 0
    # what it depends on that isn't ours, a network's "my_net.py:build" or a loss's symbol, with the
    # digest of its source
    code: tuple[tuple[Text, Text], ...] = ()

    def __post_init__(self) -> None:
        terms = known_terms(self.recipe)
        # "PI+CW_f(T=1)" is the same run as "PI + CW_f"
        object.__setattr__(self, "recipe", " + ".join(term.spelled for term in terms))
        check_terms(self.recipe, terms, self.network)
        known = self._network_code() + sources(terms)
        self._same(known)
        object.__setattr__(self, "code", known)
        if terms and not self.schedule.steps:
            raise CwdError(
                f'recipe "{self.recipe}": {self.network} has a schedule of 0 steps, in which '
                "nothing is learnt: give it some."
            )
        if bool(terms) != bool(self.teacher):
            raise CwdError(
                f'recipe "{self.recipe}" and teacher {self.teacher and self.teacher.network} do '
                "not fit: a recipe needs a teacher, and a teacher a recipe."
            )

    def _network_code(self) -> tuple[tuple[str, str], ...]:
        own = named(self.network)
        return ((self.network, load_file(own[0])[1]),) if own else ()

    def _same(self, now: tuple[tuple[str, str], ...]) -> None:
        """Refuse code that isn't what the run was made with."""
        for name, digest in now:
            if dict(self.code).get(name, digest) != digest:
                raise CwdError(
                    f"{name} was edited after a run was made with it: its results stay under the "
                    "name of that run; make the run, or open the profile, again to train with what "
                    "it is now."
                )

    def check_network(self) -> None:
        """Raise CwdError if its network's own code isn't what the run was made with."""
        self._same(self._network_code())

    def check_code(self) -> None:
        """As `check_network`, of its losses and its teacher too."""
        self._same(self._network_code() + sources(known_terms(self.recipe)))
        if self.teacher:
            self.teacher.check_network()

    @cached_property
    def key(self) -> str:
        """Twelve hexadecimal digits that change with anything that changes the result."""
        return key_of(asdict(self))

    @property
    def title(self) -> str:
        """The run in a few words, for people."""
        return f"{self.network} {self.recipe or 'alone'}, seed {self.seed}"

    @property
    def name(self) -> str:
        """The folder's name: legible first, then the key."""
        words = [self.network, self.recipe or "alone", f"s{self.seed}"]
        legible = "-".join(re.sub(r"[^\w.]+", "-", word).strip("-") for word in words)
        return f"{legible[:LEGIBLE]}-{self.key}"

    @property
    def start(self) -> str:
        """How its weights begin: "scratch", or "ImageNet" for any that were trained before."""
        return "scratch" if self.init == "random" else "ImageNet"

    def baseline(self) -> "Run":
        """The same student without a teacher."""
        return replace(self, recipe="", teacher=None)
