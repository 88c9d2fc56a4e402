"""A run: everything that determines a result, and the folder on disk that its hash names."""

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd

from cwd.errors import CwdError
from cwd.files import exclusive, read_json
from cwd.recipes import check_terms, parse_recipe
from cwd.schedule import BaseSchedule


@dataclass(frozen=True)
class Data:
    """Which images a run sees.

    Attributes:
        name: dataset, see `cwd.datasets.build_dataset`.
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


@dataclass(frozen=True)
class RunFolder:
    """A run's place on disk.

    While the run is in training, its files lie in a folder that ends in `.partial`; it gets its
    name when all of them are complete. A folder with that name is therefore a finished run.
    """

    root: Path
    run: Run
    files: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def done(self) -> Path:
        """The folder of the finished run."""
        return self.root / self.run.name

    @property
    def partial(self) -> Path:
        """The folder of the run while it is trained."""
        return self.root / f"{self.run.name}.partial"

    @property
    def finished(self) -> bool:
        """Whether the run is complete on disk."""
        return self.done.is_dir()

    @contextlib.contextmanager
    def training(self) -> Iterator[Path]:
        """Hold the run for this process; yields the folder to write into.

        When the block ends well, the folder becomes the finished run. When it doesn't, what was
        written stays for the next attempt.

        Raises:
            CwdError: another process is training this run.
        """
        with exclusive(self.root / ".locks" / self.run.name, f"run {self.run.name}"):
            self.partial.mkdir(parents=True, exist_ok=True)
            yield self.partial
            if self.finished:  # another process was quicker between our look and our lock
                shutil.rmtree(self.partial)
            else:
                self.partial.rename(self.done)

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON file of the finished run.

        Raises:
            CwdError: the file is missing or damaged.
        """
        remedy = f"delete the folder {self.done} to train the run again"
        return read_json(self.done / name, remedy)

    def history(self) -> pd.DataFrame:
        """The losses by step, each the mean over the steps since the line before."""
        return pd.read_csv(self.done / "history.csv")

    @property
    def metrics(self) -> dict[str, Any]:
        """What was measured: see `cwd.evaluation.evaluate`."""
        return self.read_json("metrics.json")


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
