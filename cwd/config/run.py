"""A run: everything that determines a result, and the folder on disk that its hash names."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from cwd.config.schedule import BaseSchedule
from cwd.recipes.parse import check_terms, parse_recipe
from cwd.system.errors import CwdError


@dataclass(frozen=True)
class Data:
    """Which images a run sees.

    Attributes:
        name: dataset, see `cwd.data.datasets.build_dataset`.
        size: height and width that images are resized to; None keeps them. Scenes are drawn at it.
        train: number of training images; None takes all. Scenes: how many are drawn.
        val: the same for the images that mIoU is measured on.
        split: the split that mIoU is measured on.
        seed: seed of the scenes; nothing for other datasets.
    """

    name: str
    size: tuple[int, int] | None = None
    train: int | None = None
    val: int | None = None
    split: str = "val"
    seed: int = 0


# Settings that came later, and how it was before: so the runs of that time keep their keys.
NEWER = {"scale_step": 0.1, "photometric": False, "clip": 0.0}


@dataclass(frozen=True)
class Run:
    """One training: a network, alone or with a teacher, on a dataset, from a seed.

    Equal runs have equal results, so the hash of a run is the name of its folder. Where the data
    lies and which device computes are not part of it.
    """

    data: Data
    network: str
    schedule: BaseSchedule
    init: str = "random"
    recipe: str = ""
    teacher: "Run | None" = None
    seed: int = 0

    def __post_init__(self) -> None:
        terms = parse_recipe(self.recipe)
        check_terms(self.recipe, terms, self.network)
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

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that change with anything that changes the result."""
        config = asdict(self)
        for part in (config, config["teacher"] or {}):
            schedule = part.get("schedule", {})
            # how often progress is saved doesn't change what is learnt
            schedule.pop("checkpoint_every", None)
            for name, default in NEWER.items():
                if schedule.get(name) == default:
                    del schedule[name]
        return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def title(self) -> str:
        """The run in a few words, for people."""
        return f"{self.network} {self.recipe or 'alone'}, seed {self.seed}"

    @property
    def name(self) -> str:
        """The folder's name: legible first, then the key."""
        words = [self.network, self.recipe or "alone", f"s{self.seed}"]
        return "-".join(re.sub(r"[^\w.]+", "-", w).strip("-") for w in words) + f"-{self.key}"

    @property
    def start(self) -> str:
        """How its weights begin: "scratch", or "ImageNet" for any that were trained before."""
        return "scratch" if self.init == "random" else "ImageNet"

    def baseline(self) -> "Run":
        """The same student without a teacher."""
        return replace(self, recipe="", teacher=None)


def from_mapping(cls: type, values: Any, where: str) -> Any:
    """Build one of the frozen classes above from a mapping read from YAML.

    Raises:
        CwdError: `values` is no mapping, has an unknown key, or a value of the wrong type; the
            sentence begins with `where`.
    """
    if not isinstance(values, dict):
        raise CwdError(f"{where}: found {values!r}, expected a mapping of settings.")
    known = {f.name: f for f in fields(cls)}
    for key, value in values.items():
        if key not in known:
            raise CwdError(f"{where}: unknown key {key!r}; write one of {', '.join(known)}.")
        check_value(value, known[key].type, f"{where}: {key}")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def check_value(value: Any, kind: Any, where: str) -> None:
    """Compare a YAML value with a field's annotation; raises as `from_mapping` does."""
    kind = kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
    if value is None and "None" in kind:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    good = {
        "int": number and value == int(value) and value >= 0,
        "float": number and value >= 0,
        "bool": isinstance(value, bool),
        "str": isinstance(value, str),
        "dict": isinstance(value, dict),
        "tuple": isinstance(value, list | tuple)
        and len(value) == 2
        and all(isinstance(v, int | float) and not isinstance(v, bool) and v > 0 for v in value),
    }
    words = {
        "int": "a whole number",
        "float": "a number (write 1.0e-3, not 1e-3)",
        "tuple": "two positive numbers in brackets",
        "bool": "true or false",
        "str": "a text",
        "dict": "a mapping of settings",
    }
    name = re.match(r"\w+", kind).group()
    if not good[name]:
        raise CwdError(f"{where} is {value!r}, expected {words[name]}.")
