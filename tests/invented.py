"""Results that nobody measured: tables and verdicts are checked against known numbers."""

from dataclasses import asdict, dataclass, field

from cwd.config.run import Run
from cwd.experiments.profile import Profile, load_profile
from cwd.experiments.records import Records
from cwd.experiments.rows_pairs import MEASURES, pairs_of
from cwd.system import paths
from cwd.system.files import write_json, write_text
from cwd.training.run_folder import CONFIG, FILES, METRICS, RunFolder
from cwd.training.run_folder import PROVENANCE as PROVENANCE_FILE
from cwd.training.tasks import task_of

# a profile that trains in a second or two
QUICK = {
    "about": "a test",
    "data": {"name": "scenes", "size": [32, 64], "train": 12, "val": 4},
    "schedule": {"steps": 2, "batch": 4, "crop": [32, 64]},
    "teacher": {"network": "PSPNet-R18(0.25)", "schedule": {"steps": 3}},
    "student": {"network": "PSPNet-R18(0.125)"},
    "seeds": [0, 1],
    "allow_weak_teacher": True,
}


PROVENANCE = {
    "dataset": {"train": "a1", "val": "b2"},
    "precision": "32-true",
    "seconds": 1.0,
    "sessions": [
        {"hardware": {"name": "a CPU", "device": "cpu", "threads": 2}, "dirty": False,
         "versions": {"torch": "2", "python": "3"}, "commit": "0123456789abcdef"},
    ],
}  # fmt: skip


class Source:
    """What tables ask of a source of results, by its `metrics`."""

    def train_all(self, runs) -> None:
        pass

    def columns(self, rows) -> dict:
        return {}

    def find(self, run: Run) -> dict | None:
        metrics = self.metrics(run)
        return metrics and {"metrics": metrics, "provenance": PROVENANCE}


@dataclass
class Invented(Source):
    """A source of results: mIoU by recipe and seed; what isn't there wasn't measured.

    `others` has those of students that aren't the profile's main one, by network.
    """

    miou: dict[str, tuple[float, ...]]
    teacher: float = 90.0
    profile: Profile = field(default_factory=lambda: load_profile("quick"))
    classes: dict[str, dict[str, float]] = field(default_factory=dict)
    others: dict[str, dict[str, tuple[float, ...]]] = field(default_factory=dict)

    def metrics(self, run: Run) -> dict | None:
        main = run.network == self.profile.student.network
        known = self.miou if main else self.others.get(run.network, {})
        if run == self.profile.teacher:
            miou = self.teacher
        elif run.seed < len(known.get(run.recipe, ())):
            miou = known[run.recipe][run.seed]
        else:
            return None
        known = self.classes.get(run.recipe, {"road": miou, "sky": miou})
        return {"miou": miou, "macc": miou, "class_iou": known}


class TwoStarts(Invented):
    """The same mIoU for every method and seed: 70 from ImageNet, 50 from scratch."""

    def metrics(self, run):
        miou = 50.0 if run.init == "random" else 70.0
        return {"miou": miou, "macc": miou, "class_iou": {}}


class InventedTasks(Source):
    """A task's measure by the network's kind and the recipe, one value a seed."""

    def __init__(self, known, profile="quick"):
        self.profile, self.known, self.records = load_profile(profile), known, self

    def metrics(self, run):
        values = self.known.get((run.network.partition("-")[0], run.recipe), ())
        if run in [pair.teacher for pair in pairs_of(self.profile).values()]:
            values = (90.0,)
        return {task_of(run.network).measure: values[run.seed]} if run.seed < len(values) else None


SCORES = {"parameters": 1, "miou": 1.0, "macc": 1.0, "class_iou": {"road": 1.0}, "top1": 1.0,
          "mask_ap": 1.0, **dict.fromkeys(MEASURES, 1.0)}  # fmt: skip


def record_of(run, metrics=SCORES, **provenance):
    """What is kept of a run that nobody trained."""
    known = {"metrics": {"parameters": 1} | metrics, "provenance": PROVENANCE | provenance}
    return {"run": asdict(run)} | known


def write_record(folder, run, metrics=SCORES, **provenance):
    """A run's record, as `cwd record` would write it."""
    path = folder / f"{run.name}.json"
    write_json(path, record_of(run, metrics, **provenance))
    return path


def finish(runs, run, metrics=SCORES, **provenance):
    """A finished run's folder below `runs`."""
    folder, known = RunFolder(runs, run), record_of(run, metrics, **provenance)
    for name in FILES:
        write_text(folder.done / name, "")
    for name, part in zip((CONFIG, METRICS, PROVENANCE_FILE), known.values(), strict=True):
        write_json(folder.done / name, part)
    return folder


def elsewhere(patch, folder):
    """Make a folder the place of all that is built and recorded."""
    for name in ("BUILD", "RUNS", "CACHE", "RESULTS", "WEIGHTS"):
        patch.setattr(paths, name, folder / name)
    return folder


def recorded(tmp_path, source):
    """The invented results as files."""
    folder = tmp_path / "results" / source.profile.name
    runs = [source.profile.run(recipe, seed) for recipe in source.miou for seed in range(3)]
    for run in [source.profile.teacher, *runs]:
        if metrics := source.metrics(run):
            write_record(folder, run, metrics)
    return Records(source.profile, results=tmp_path / "results")


def find(table, word):
    (line,) = [row for row in table.itertuples() if word in row.claim]
    return line
