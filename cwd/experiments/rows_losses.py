"""Tables 1 to 5, Figure 3 and controls: losses on one student.

Labels are recipes in the paper's notation, `_f` for the feature map and `_s` for the score map.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

import pandas as pd

from cwd.experiments.profile import Profile
from cwd.experiments.table import Row, Table, paper
from cwd.recipes.notation import NOTATION

# Table 2's names that a recipe spells otherwise
SYMBOLS = {"IFVD": "IFV"}
# recipes of rows with the paper's default map, as they were first written (a run's key has them)
BARE = {"PI_s": "PI", "HO_s": "HO"}
TEMPERATURES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)  # figure 3: [0.01, 1000]
WEIGHTS = (10.0, 20.0, 35.0, 50.0)  # figure 3: [0, 50]; 0 is the student alone
# not in the paper: the published code's normalisations, each with kl and mse
NORMALISATIONS = (
    "CW_f",
    "CW_f(metric=l2)",
    "PI_f",
    "PI_f(metric=l2)",
    "CD_f(metric=kl)",
    "CD_f",
    "RAW_f(metric=kl)",
    "RAW_f",
)


NOTHING: Mapping[str, float] = {}  # the paper prints none


def compared(
    profile: Profile, recipes: Iterable[str], printed: Mapping[str, float] | pd.Series = NOTHING
) -> tuple[Row, ...]:
    """The teacher, the student alone, and the student with each recipe, from every seed.

    `printed` has the paper's numbers of "teacher", "student" and recipes.
    """
    alone = f"student {profile.student.network}"
    teacher = Row(
        f"teacher {profile.teacher.network}", _number(printed, "teacher"), (profile.teacher,)
    )
    return teacher, *(
        Row(
            recipe or alone,
            _number(printed, recipe or "student"),
            tuple(profile.run(BARE.get(recipe, recipe), seed) for seed in profile.seeds),
            student=alone if recipe else None,
        )
        for recipe in ("", *recipes)
    )


def _number(printed: Mapping[str, float] | pd.Series, name: str) -> float | None:
    return None if pd.isna(value := printed.get(name)) else float(value)


def _spelled(name: str) -> str:
    if "PSPNet" in name:  # "Teacher PSPNet-R101"
        return name.split(maxsplit=1)[0].lower()
    return " + ".join(SYMBOLS.get(part, part.replace("IFVD", "IFV")) for part in name.split("+"))


def table1() -> pd.DataFrame:
    """Table 1: the paper's distance, transform and dimensionality of each loss, and our class.

    Below its seven rows: CW, as equations 3 and 4 have it, and the controls.
    """
    printed = paper("table1_losses", 0).rename(index=SYMBOLS).drop(columns="alignment")
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
    table = paper("table2_individual", 0).rename(_spelled)
    maps = table[["val_miou_feature_map", "val_miou_score_map"]].set_axis(["f", "s"], axis=1)
    printed = maps.iloc[2:].stack().dropna()  # HO has the score map only
    printed.index = ["_".join(pair) for pair in printed.index]
    rows = compared(profile, printed.index, pd.concat([maps["s"].iloc[:2], printed]))
    complexity = table["complexity"].fillna("")
    return tuple(
        replace(row, printed={"complexity": complexity.get(row.label.partition("_")[0], "")})
        for row in rows
    )


def table3(profile: Profile) -> tuple[Row, ...]:
    """Table 3: the metric between two channels; and section 3.2's exchanged arguments."""
    names = {
        "Baseline": "student",
        "KL": "CW_f",
        "Bhattacharyya": "CW_f(metric=bhattacharyya)",
        "L2": "CW_f(metric=l2)",
    }
    printed = paper("table3_metric", 0)["val_miou"].rename(names)
    return compared(profile, (*list(names.values())[1:], "CW_f(metric=swapped)"), printed)


def table4(profile: Profile) -> tuple[Row, ...]:
    """Table 4: PA, IFVD and CW class by class, here on the feature map."""
    printed = paper("table4_class_iou", 0).loc["mIoU"].rename(lambda name: f"{_spelled(name)}_f")
    alone = paper("table2_individual", 0)["val_miou_feature_map"].rename(_spelled).iloc[:2]
    return compared(profile, printed.index, pd.concat([alone, printed]))


def class_comparison(ours: pd.DataFrame) -> pd.DataFrame:
    """Table 4's class IoU beside ours, in percent.

    Args:
        ours: class (line) by row (column), see `cwd.experiments.study.Study.class_iou`.

    Returns:
        One line a class of the paper or of our dataset; the paper's columns first.
    """
    printed = paper("table4_class_iou", 0).drop("mIoU").add_prefix("paper ")
    mine = ours.add_prefix("our ")
    return printed.join(mine, how="outer").reindex(printed.index.union(mine.index, sort=False))


def table5(profile: Profile) -> tuple[Row, ...]:
    """Table 5: combinations."""
    printed = paper("table5_combinations", 0)["val_miou"].rename(_spelled)
    return compared(profile, printed.index[2:], printed)


def _sweep(letter: str, recipes: Mapping[float, str], profile: Profile) -> tuple[Row, ...]:
    first, rows = compared(profile, recipes.values())[:2], compared(profile, recipes.values())[2:]
    return *first, *(
        replace(row, label=f"{letter} = {value:g}", value=value)
        for value, row in zip(recipes, rows, strict=True)
    )


def segments(profile: Profile) -> bool:
    """Whether a profile has segmentation networks."""
    return profile.student is not None


COLUMNS = {
    "paper mIoU (Cityscapes)": "paper",
    "paper gain": "paper gain",
    "our mIoU ({data})": "our miou",
    "sd": "sd",
    "seeds": "seeds",
    "our gain": "our gain",
}
# The curves of Figure 3, of which the paper prints no values: CW_f at other temperatures with the
# paper's weight, and with other weights at T = 1.
_T = {t: "CW_f" if t == 1 else f"CW_f(T={t:g})" for t in TEMPERATURES}
_WEIGHT = {w: "CW_f" if w == 35 else f"CW_f(weight={w:g})" for w in WEIGHTS}
LOSS_TABLES = {
    "table2": Table(table2, segments, {"complexity": "complexity"} | COLUMNS),
    "table3": Table(table3, segments, COLUMNS),
    "table4": Table(table4, segments, COLUMNS),
    "table5": Table(table5, segments, COLUMNS),
    "temperature": Table(partial(_sweep, "T", _T), segments, COLUMNS),
    "weight": Table(partial(_sweep, "weight", _WEIGHT), segments, COLUMNS),
    "normalisations": Table(partial(compared, recipes=NORMALISATIONS), segments, COLUMNS),
}
