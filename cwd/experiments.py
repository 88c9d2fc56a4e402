"""From a profile to a table beside the paper's: profile -> study -> run -> table."""

from dataclasses import dataclass

import pandas as pd

from cwd import paths
from cwd.errors import CwdError
from cwd.runs import Run
from cwd.workspace import Profile, Workspace, load_profile, open_profile

__all__ = ["Profile", "Run", "Study", "Workspace", "load_profile", "open_profile", "study"]


@dataclass(frozen=True)
class Row:
    """A line of a table: its label, what the paper has there, and our runs, one a seed."""

    label: str
    paper: float | None
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Study:
    """A table of the paper: rows of runs, to be laid out beside the paper's numbers.

    Attributes:
        name: the paper's, "table2".
        rows: the first two are the teacher and the student alone.
    """

    name: str
    workspace: Workspace
    rows: tuple[Row, ...]

    def train(self) -> "Study":
        """Train what is missing; returns the study."""
        for row in self.rows:
            for run in row.runs:
                self.workspace.train(run)
        return self

    def results(self) -> pd.DataFrame:
        """One line a run: row, seed, miou, macc, run."""
        return pd.DataFrame(
            {
                "row": row.label,
                "seed": run.seed,
                **{k: folder.metrics[k] for k in ("miou", "macc")},
                "run": run.name,
            }
            for row in self.rows
            for run in row.runs
            for folder in [self.workspace.train(run)]
        )

    def table(self) -> pd.DataFrame:
        """The paper's mIoU and ours, each with its gain over its own student, in percent.

        Ours is the mean over seeds, sd the sample standard deviation (empty for one seed).
        """
        results = self.results().groupby("row", sort=False)["miou"]
        ours, sd, count = results.mean(), results.std(), results.count()
        distilled = self.paper_gains()
        student = self.rows[1].label
        data = self.workspace.profile.data.name
        table = pd.DataFrame(
            {
                "paper mIoU (Cityscapes)": {row.label: row.paper for row in self.rows},
                "paper gain": distilled,
                f"our mIoU ({data})": ours,
                "sd": sd,
                "seeds": count,
                "our gain": {row: ours[row] - ours[student] for row in distilled},
            },
            index=[row.label for row in self.rows],
        )
        return table.rename_axis("method").round(2)

    def paper_gains(self) -> dict[str, float]:
        """The paper's gain over its own student, in percent, for every distilled row."""
        student = self.rows[1].paper
        return {row.label: row.paper - student for row in self.rows[2:]}

    def class_iou(self) -> pd.DataFrame:
        """IoU in percent of every class (line) and row of the table (column), mean over seeds."""
        columns = {}
        for row in self.rows:
            folders = [self.workspace.train(run) for run in row.runs]
            per_seed = pd.DataFrame([f.metrics["class_iou"] for f in folders], dtype=float)
            columns[row.label] = per_seed.mean()
        return pd.DataFrame(columns).rename_axis("class").round(1)


def study(name: str, profile: str | Workspace) -> Study:
    """A table of the paper under a profile.

    Raises:
        CwdError: the table is unknown, or as `open_profile`.
    """
    workspace = open_profile(profile) if isinstance(profile, str) else profile
    if name not in STUDIES:
        raise CwdError(f"there is no study {name!r}: use one of {', '.join(STUDIES)}.")
    return Study(name, workspace, STUDIES[name](workspace.profile))


def table2(profile: Profile) -> tuple[Row, ...]:
    """Table 2, each loss alone: the rows whose losses are here."""
    paper = pd.read_csv(paths.PAPER / "table2_individual.csv", index_col="method")
    score, feature = paper["val_miou_score_map"], paper["val_miou_feature_map"]
    teacher, student = score.index[:2]

    def distilled(label: str, recipe: str, value: float) -> Row:
        return Row(label, value, seeded(profile, recipe))

    return (
        Row(f"teacher {profile.teacher.network}", score[teacher], (profile.teacher,)),
        Row(f"student {profile.student.network}", score[student], seeded(profile, "")),
        distilled("PI, score map", "PI", score["PI"]),
        distilled("CW_s, score map", "CW_s", score["CW"]),
        distilled("CW_f, feature map", "CW_f", feature["CW"]),
    )


def seeded(profile: Profile, recipe: str) -> tuple[Run, ...]:
    """A recipe's runs, one for each seed."""
    return tuple(profile.run(recipe, seed) for seed in profile.seeds)


STUDIES = {"table2": table2}
