"""The workspace in which a profile's runs are trained and its results are kept."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from cwd.config.run import Run
from cwd.data.decoded import DecodedDataset
from cwd.experiments.profile import Profile, load_profile
from cwd.experiments.records import Records
from cwd.experiments.sections import Detection, Transformation, read_seeds
from cwd.experiments.table import Row, show_figure, show_tables
from cwd.system import paths
from cwd.system.device import pick_device
from cwd.system.errors import CwdError
from cwd.system.files import copy_file, save_figure, write_atomic, write_json, write_text
from cwd.system.progress import report
from cwd.training.loop import train_together
from cwd.training.order import groups, needed
from cwd.training.provenance import recorded_at, session
from cwd.training.run_folder import FILES, PARTS, RunFolder
from cwd.training.tasks import task_of

# What becomes of runs that aren't on disk: those of `Workspace.core` are trained and the rest is
# taken from the record; all are trained and compared with it; or there is no record.
MODES = ("core", "all", "fresh")
COPIED = "copied.txt"  # in the folder of a run that wasn't trained here
# The paper's claim in one table, from one seed; AT is what its pictures compare CW with.
CORE = ("", "PI", "CW_s", "CW_f", "AT_f")


@dataclass(frozen=True)
class Workspace:
    """A profile on this machine: where its data lies, what computes, where results go."""

    profile: Profile
    data_root: Path
    device: str = "auto"
    mode: str = "core"  # of `MODES`
    log: str = ""  # see `cwd.training.loop.train`

    @property
    def output(self) -> Path:
        """Folder of this profile's notebooks, tables and figures."""
        return paths.BUILD / self.profile.name

    @cached_property
    def data(self) -> tuple[DecodedDataset, DecodedDataset]:
        """Training images and those that mIoU is measured on; raises CwdError if there are none."""
        return self.images(self._present("student", "segmentation networks", "quick"))

    @property
    def detection(self) -> Detection:
        """The profile's detectors; raises CwdError if it has none."""
        return self._present("detection", "detectors", "quick or coco")

    @property
    def transformation(self) -> Transformation:
        """The networks of the second paper; raises CwdError if the profile doesn't compare them."""
        return self._present("transformation", "transformation section", "quick, coco or imagenet")

    def _present(self, part: str, words: str, others: str) -> Any:
        if found := getattr(self.profile, part):
            return found
        raise CwdError(
            f"profile {self.profile.name} has no {words}: use one that has, such as {others}."
        )

    def images(self, run: Run) -> tuple[Any, Any]:
        """The images that a run is trained and measured on."""
        return task_of(run.network).open_data(run.data, self.data_root)

    @cached_property
    def core(self) -> tuple[Run, ...]:
        """The runs that are always trained: a teacher, the student alone, and `CORE`'s recipes."""
        if not self.profile.student:
            return ()
        seed = self.profile.seeds[0]
        return self.profile.teacher, *(self.profile.run(recipe, seed) for recipe in CORE)

    @property
    def place(self) -> dict[str, Any]:
        """The arguments of `cwd.training.loop.train` besides the run."""
        return {
            "runs": paths.RUNS,
            "data_root": self.data_root,
            "device": self.device,
            "allow_weak_teacher": self.profile.allow_weak_teacher,
            "log": self.log,
        }

    @property
    def records(self) -> Records:
        """What was measured of the profile, on disk and recorded; it never trains."""
        return Records(self.profile, paths.RUNS)

    @property
    def trains_optional(self) -> bool:
        """Whether tables that are `optional` are trained: where nothing is taken from a record."""
        return self.mode != "core" or not (paths.RESULTS / self.profile.name).is_dir()

    def recorded(self, run: Run) -> bool:
        """Whether a run is taken from the record: it isn't trained here, and won't be."""
        if self.mode != "core" or run in self.core or RunFolder(paths.RUNS, run).finished:
            return False
        return os.path.lexists(self.records.path(run))

    def taken(self, run: Run) -> bool:
        """Whether a run on disk is a copy of one that comes with the code."""
        return (RunFolder(paths.RUNS, run).done / COPIED).is_file()

    def outdated(self, run: Run) -> bool:
        """Whether a finished run has to be trained again.

        It is a copy and the mode says to train all; or its teacher was such a copy, or has been
        trained again since and has other weights than it learnt from.
        """
        if not run.teacher:
            return self.mode != MODES[0] and self.taken(run)
        teacher, learnt = RunFolder(paths.RUNS, run.teacher), RunFolder(paths.RUNS, run).provenance
        if not teacher.finished:
            return False
        known, now = (learnt.get("teacher") or {}).get("sha256"), teacher.provenance.get("sha256")
        return self.outdated(run.teacher) or (None not in (known, now) and known != now)

    def beside(self, name: str, runs: Iterable[Run]) -> dict[str, Any] | None:
        """What was recorded beside the runs, if one of these is only recorded; else None."""
        return Records(self.profile).beside(name) if any(map(self.recorded, runs)) else None

    def here(self, runs: Mapping[str, Run]) -> dict[str, Run]:
        """Those of some runs whose networks are to be had without long training, by their names.

        Which ones aren't, because they are only recorded, is printed.
        """
        found = {name: run for name, run in runs.items() if not self.recorded(run)}
        if left := [name for name in runs if name not in found]:
            print(
                f"Not shown: {', '.join(left)}, only recorded; `make reproduce ALL=1` trains all."
            )
        return found

    def sources(self, runs: Iterable[Run]) -> str:
        """How many of some runs were measured here and how many are recorded, in a sentence."""
        runs = list(dict.fromkeys(runs))
        found = [self.find(run)["provenance"] for run in runs if self._elsewhere(run)]
        places = Counter(map(recorded_at, found))
        done = [run for run in runs if RunFolder(paths.RUNS, run).finished]
        here = sum(not self._elsewhere(run) for run in done)  # optional runs may be nowhere
        said = f"{here} of {len(runs)} runs were measured here"
        said += "".join(f"; {count} are recorded, {place}" for place, count in places.items())
        return f"{said}."

    def columns(self, rows: Iterable[Row]) -> dict[str, list[str]]:
        """What a table says of its rows' origin: how many runs of each were measured here."""
        cells = []
        for row in rows:
            where = Counter("recorded" if self._elsewhere(run) else "here" for run in row.runs)
            several = ", ".join(f"{where[place]} {place}" for place in sorted(where))
            cells.append(several if len(where) > 1 else "".join(where))
        return {"measured": cells}

    def _elsewhere(self, run: Run) -> bool:
        return self.recorded(run) or self.taken(run)

    def train(self, run: Run) -> RunFolder:
        """The finished run, trained now if it isn't on disk; its teacher before it."""
        self.train_now([run])
        return RunFolder(paths.RUNS, run)

    def train_all(self, runs: Iterable[Run]) -> None:
        """Train those runs that are neither finished nor recorded, in groups.

        Raises the CwdError of the first that can't be trained, when the others of its group are.
        """
        self.train_now(run for run in runs if not self.recorded(run))

    def train_now(self, runs: Iterable[Run]) -> None:
        """As `train_all`, but those that are recorded are trained too."""
        if not (left := self.left(runs)):
            return
        self.profile.check_weights()
        self.train_now(each for run in left for each in needed(run))
        for group in groups(left):
            for error in train_together(group, **self.place).values():
                raise error

    def left(self, runs: Iterable[Run]) -> list[Run]:
        """Those that have to be trained; what comes with the code is copied first."""
        folders = [RunFolder(paths.RUNS, run) for run in runs]
        for folder in [each for each in folders if each.finished and self.outdated(each.run)]:
            kept = folder.set_aside()
            report(f"{folder.run.title}: trained again; the earlier one is in {kept}")
        missing = [folder.run for folder in folders if not folder.finished]
        return [run for run in missing if not self.take_published(run)]

    def take_published(self, run: Run) -> bool:
        """Copy a run that comes with the code to those that were trained here; whether it's there.

        In "core" mode only, and not if it was trained on other images than are here. A CwdError if
        it is damaged.
        """
        published, folder = RunFolder(paths.WEIGHTS, run), RunFolder(paths.RUNS, run)
        if self.mode != MODES[0] or not published.finished:
            return False
        images = {name: part.checksum for name, part in zip(PARTS, self.images(run), strict=True)}
        if published.provenance["dataset"] != images:
            return False
        _ = published.metrics
        published.check_weights()
        with folder.held():
            if not folder.finished:
                for name in FILES:
                    copy_file(published.done / name, folder.partial / name)
                write_text(folder.partial / COPIED, f"from {published.done}\n")
                folder.complete()
        report(f"{run.title}: taken from {paths.for_people(published.done)}")
        return True

    def find(self, run: Run) -> dict[str, Any]:
        """A run's `run`, `metrics` and `provenance`: recorded, on disk, or else trained now."""
        return self.records.recorded(run) if self.recorded(run) else self.train(run).record

    def network(self, run: Run) -> nn.Module:
        """The trained network of a run, on the CPU, in eval mode."""
        folder = self.train(run)
        network = task_of(run.network).build(run.network, self.images(run)[0].num_classes)
        folder.load_into(network)
        return network.eval()

    def save_table(self, table: pd.DataFrame, name: str) -> pd.DataFrame:
        """Write a table to `tables/NAME.csv` and return it, to be shown."""
        write_atomic(self.output / "tables" / f"{name}.csv", table.to_csv)
        return table

    def keep(self, name: str, runs: Iterable[Run] = (), **measured: Any) -> Path | None:
        """Write what a notebook measured beside the runs, where claims and the report find it.

        With it go profile, hardware and versions. What it took from the record isn't written again:
        that is all if one of `runs` is only recorded.
        """
        if self.beside(name, runs):
            return None
        where = session(torch.device(pick_device(self.device)))
        about = {"profile": self.profile.name, "provenance": where}
        write_json(self.output / name, about | measured)
        return self.output / name

    def save_figure(self, figure: Any, name: str) -> None:
        """Write a figure to `figures/NAME.png`, and show that file in a notebook."""
        path = self.output / "figures" / f"{name}.png"
        save_figure(figure, path)
        show_figure(figure, path)


def open_profile(
    profile: str = "", data_root: str = "", seeds: Any = "", device: str = "auto", mode: str = ""
) -> Workspace:
    """What a notebook begins with; a relative `data_root` is below the checkout's root.

    An empty profile means that of CWD_PROFILE in the environment, or quick; an empty `data_root`
    CWD_DATA_ROOT's, or data: nbval can't hand parameters to a notebook. Seeds are comma-separated,
    or as papermill hands them over: a number, or a list; an empty text means the profile's own. The
    mode is of `MODES`, the first if empty. Empty is a text without letters, or None: 0 is a value.
    Raises CwdError as `load_profile`; or the seeds aren't whole numbers; or the device isn't there;
    or there is no such mode.
    """
    chosen = load_profile(_given(profile, "CWD_PROFILE", "quick"))
    pick_device(device)  # an unknown or missing one is an error now, not after the data is read
    if seeds not in ("", None, ()):
        try:
            chosen = chosen.seeded(read_seeds(seeds))
        except ValueError as error:
            raise CwdError(f"SEEDS {error}.") from error
    if (mode := _given(mode, "", MODES[0])) not in MODES:
        raise CwdError(f"mode {mode!r} is unknown: use one of {', '.join(MODES)}.")
    root = paths.below_root(_given(data_root, "CWD_DATA_ROOT", "data"))
    torch.set_float32_matmul_precision("high")
    show_tables()
    return Workspace(chosen, root, device, mode)


def _given(value: Any, variable: str, default: str) -> Any:
    return (os.environ.get(variable) or default) if value in ("", None) else value
