"""The paper's tables as lists of runs: what is trained for each row, and what the paper has there.

Labels are recipes in the paper's notation, `_f` for the feature map and `_s` for the score map.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pandas as pd

from cwd.config.run import Run
from cwd.experiments.profile import Profile
from cwd.recipes.notation import NOTATION
from cwd.system import paths

# Table 2's names that a recipe spells otherwise
SYMBOLS = {"IFVD": "IFV"}
# recipes of rows with the paper's default map, as they were first written (a run's key has them)
BARE = {"PI_s": "PI", "HO_s": "HO"}
TEMPERATURES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)  # figure 3: [0.01, 1000]
WEIGHTS = (10.0, 20.0, 35.0, 50.0)  # figure 3: [0, 50]; 0 is the student alone


@dataclass(frozen=True)
class Row:
    """A line of a table: its label, what the paper has there, and our runs, one a seed.

    Attributes:
        label: unlike every other row's.
        paper: mIoU on Cityscapes val in percent; None where the paper prints none.
        runs: the same training from different seeds.
        complexity: the paper's, as printed.
        value: the abscissa, for a figure.
        student: label of the row that the gain is over; None for the second of the table.
        printed: what else the paper prints of a network (Tables 6 to 8).
    """

    label: str
    paper: float | None
    runs: tuple[Run, ...]
    complexity: str = ""
    value: float | None = None
    student: str | None = None
    printed: Mapping[str, Any] = field(default_factory=dict)


@cache
def paper(name: str) -> pd.DataFrame:
    """A CSV of `data/paper`, indexed by its first column."""
    return pd.read_csv(paths.PAPER / f"{name}.csv", index_col=0)


def distilled(profile: Profile, recipe: str, printed: float | None = None, **about: object) -> Row:
    """A row for a recipe, one run for each seed."""
    runs = tuple(profile.run(BARE.get(recipe, recipe), seed) for seed in profile.seeds)
    return Row(**{"label": recipe, "paper": printed, "runs": runs} | about)


def references(profile: Profile, column: pd.Series) -> tuple[Row, Row]:
    """The first two rows of every table: the teacher, and the student alone."""
    alone = tuple(profile.run("", seed) for seed in profile.seeds)
    values = [float(column.get(name, float("nan"))) for name in ("teacher", "student")]
    printed = [None if pd.isna(value) else value for value in values]
    return (
        Row(f"teacher {profile.teacher.network}", printed[0], (profile.teacher,)),
        Row(f"student {profile.student.network}", printed[1], alone),
    )


def renamed(column: pd.Series) -> pd.Series:
    """A column of the paper with its first lines called "teacher" and "student"."""
    return column.rename(lambda name: name.split()[0].lower() if "PSPNet" in name else name)


def paired_gain(by_seed: pd.DataFrame, row: Row) -> dict[str, float | None]:
    """Mean and standard deviation over seeds of a row's gain.

    Args:
        by_seed: what was measured, by seed and row.
        row: which.
    """
    both = row.student in by_seed and row.label in by_seed
    gains = (by_seed[row.label] - by_seed[row.student]).dropna() if both else pd.Series(dtype=float)
    return {"our gain": gains.mean(), "gain sd": gains.std()}


def table1() -> pd.DataFrame:
    """Table 1: the paper's distance, transform and dimensionality of each loss, and our class.

    Below its seven rows: CW, as equations 3 and 4 have it, and the controls.
    """
    printed = paper("table1_losses").rename(index=SYMBOLS).drop(columns="alignment")
    printed.loc["CW"] = "KL", "softmax over positions of x_c / T", "C x W x H"
    ours = {
        symbol: {
            "class": notation.loss.__name__,
            **{f"weight, {tap}": f"{d.weight:g}" for tap, d in notation.defaults.items()},
            "aligned": "yes" if notation.aligned else "no",
        }
        for symbol, notation in NOTATION.items()
    }
    index = [*printed.index, *(symbol for symbol in NOTATION if symbol not in printed.index)]
    table = printed.join(pd.DataFrame(ours).T, how="outer").reindex(index)
    columns = {"phi_distance": "distance", "phi_transform": "transform"}
    return table.rename(columns=columns).rename_axis("loss").fillna("")


def table2(profile: Profile) -> tuple[Row, ...]:
    """Table 2: each loss alone, on the feature map and on the score map."""
    table = paper("table2_individual")
    rows = []
    for method, line in table.iloc[2:].iterrows():
        for tap, column in (("f", "val_miou_feature_map"), ("s", "val_miou_score_map")):
            if not pd.isna(line[column]):  # HO has the score map only
                label = f"{SYMBOLS.get(method, method)}_{tap}"
                rows.append(distilled(profile, label, line[column], complexity=line["complexity"]))
    return *references(profile, renamed(table["val_miou_score_map"])), *rows


def table3(profile: Profile) -> tuple[Row, ...]:
    """Table 3: the metric between two channels; and section 3.2's exchanged arguments."""
    printed = paper("table3_metric")["val_miou"]
    recipes = {
        "CW_f": printed["KL"],
        "CW_f(metric=bhattacharyya)": printed["Bhattacharyya"],
        "CW_f(metric=l2)": printed["L2"],
        "CW_f(metric=swapped)": None,
    }
    first = references(profile, printed.rename({"Baseline": "student"}))
    return *first, *(distilled(profile, recipe, value) for recipe, value in recipes.items())


def table4(profile: Profile) -> tuple[Row, ...]:
    """Table 4: PA, IFVD and CW class by class, here on the feature map."""
    printed = paper("table4_class_iou").loc["mIoU"]
    names = {"PA": "PA_f", "IFVD": "IFV_f", "CW": "CW_f"}
    first = references(profile, renamed(paper("table2_individual")["val_miou_feature_map"]))
    return *first, *(distilled(profile, recipe, printed[name]) for name, recipe in names.items())


def class_comparison(ours: pd.DataFrame) -> pd.DataFrame:
    """Table 4's class IoU beside ours, in percent.

    Args:
        ours: class (line) by row (column), see `cwd.experiments.study.Study.class_iou`.

    Returns:
        One line a class of the paper or of our dataset; the paper's columns first.
    """
    printed = paper("table4_class_iou").drop("mIoU").add_prefix("paper ")
    mine = ours.add_prefix("our ")
    return printed.join(mine, how="outer").reindex(printed.index.union(mine.index, sort=False))


def table5(profile: Profile) -> tuple[Row, ...]:
    """Table 5: combinations."""
    printed = renamed(paper("table5_combinations")["val_miou"])
    recipes = {name.replace("+", " + "): value for name, value in printed.iloc[2:].items()}
    recipes = {name.replace("IFVD", "IFV"): value for name, value in recipes.items()}
    return (
        *references(profile, printed),
        *(distilled(profile, recipe, value) for recipe, value in recipes.items()),
    )


def temperature(profile: Profile) -> tuple[Row, ...]:
    """Figure 3, first half: CW_f at temperatures from 0.01 to 1000, the paper's weight."""
    return sweep(profile, "T", {t: "CW_f" if t == 1 else f"CW_f(T={t:g})" for t in TEMPERATURES})


def weight(profile: Profile) -> tuple[Row, ...]:
    """Figure 3, second half: CW_f with weights from 0 to 50, at T = 1."""
    recipes = {w: "CW_f" if w == 35 else f"CW_f(weight={w:g})" for w in WEIGHTS}
    return sweep(profile, "weight", recipes)


def sweep(profile: Profile, letter: str, recipes: dict[float, str]) -> tuple[Row, ...]:
    """Rows over one quantity; the paper prints no values, only a curve."""
    return (
        *references(profile, pd.Series(dtype=float)),
        *(
            distilled(profile, recipe, label=f"{letter} = {value:g}", value=value)
            for value, recipe in recipes.items()
        ),
    )


def normalisations(profile: Profile) -> tuple[Row, ...]:
    """Controls, not in the paper: the published code's normalisations, each with kl and mse."""
    recipes = (
        "CW_f",
        "CW_f(metric=l2)",
        "PI_f",
        "PI_f(metric=l2)",
        "CD_f(metric=kl)",
        "CD_f",
        "RAW_f(metric=kl)",
        "RAW_f",
    )
    first = references(profile, pd.Series(dtype=float))
    return *first, *(distilled(profile, recipe) for recipe in recipes)
