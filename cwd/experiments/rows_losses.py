"""Tables 1 to 5, Figure 3 and controls: losses on one student.

Labels are recipes in the paper's notation, `_f` for the feature map and `_s` for the score map.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from cwd.experiments.profile import Profile
from cwd.experiments.table import Row, paper
from cwd.recipes.notation import NOTATION

# recipes of rows with the paper's default map, as they were first written (a run's key has them)
BARE = {"PI_s": "PI", "HO_s": "HO"}


def compared(profile: Profile, rows: Mapping[str, Any], seeds: str = "seeds") -> tuple[Row, ...]:
    """The teacher, the student alone, and the student with each recipe, from every seed.

    `rows` and `seeds` are those of a table of `tables.yaml`.
    """
    alone, made = f"student {profile.student.network}", []
    starts = getattr(profile, seeds) or profile.seeds
    own = {"teacher": f"teacher {profile.teacher.network}", "student": alone}
    for name, entry in ({"teacher": None, "student": None} | rows).items():
        known = entry if isinstance(entry, dict) else {"paper": entry}
        number, printed, runs = None, {}, (profile.teacher,)
        if known.get("paper"):
            file, line, column = known["paper"]
            printed = paper(file, 0).loc[line].to_dict()
            number = float(printed[column])
        if name != "teacher":
            recipe = "" if name == "student" else known.get("recipe", name)
            runs = tuple(profile.run(BARE.get(recipe, recipe), seed) for seed in starts)
        student = None if name in own else alone
        made.append(Row(own.get(name, name), number, runs, known.get("value"), student, printed))
    return tuple(made)


def own(profile: Profile) -> tuple[Row, ...]:
    """The teacher, the student alone, and a profile's own recipes."""
    return compared(profile, dict.fromkeys(profile.recipes))


def table1() -> pd.DataFrame:
    """Table 1: the paper's distance, transform and dimensionality of each loss, and our class.

    Below its seven rows: CW, as equations 3 and 4 have it, and the controls.
    """
    printed = paper("table1_losses", 0).rename(index={"IFVD": "IFV"}).drop(columns="alignment")
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


def class_comparison(ours: pd.DataFrame) -> pd.DataFrame:
    """Table 4's class IoU beside ours (see `Study.class_iou`), in percent, a line a class.

    Between them the authors' own log of CW_f at the paper's weight and T.
    """
    printed = paper("table4_class_iou", 0).drop("mIoU").add_prefix("paper ")
    (logged,) = _logged(weight=35, T=1).index
    line = paper("authors_logs").loc[logged].rename(lambda name: name.replace("_", " "))
    printed["authors' log CW"] = pd.to_numeric(line.reindex(printed.index))
    mine = ours.add_prefix("our ")
    return printed.join(mine, how="outer").reindex(printed.index.union(mine.index, sort=False))


def _logged(**settings: float) -> pd.DataFrame:
    """The authors' logs of CW_f with some settings: single runs on Cityscapes, from their code."""
    logs = paper("authors_logs")
    wanted = {"map": "feature", "normalisation": "channel"} | settings
    return logs[(logs[list(wanted)] == pd.Series(wanted)).all(axis=1)]


def authors_curves(names: Iterable[str]) -> dict[str, pd.Series]:
    """What the authors' logs have for figure 3, mIoU by temperature and by weight.

    `names` are those of the two panels.
    """
    curves = _logged(weight=35).set_index("T")["miou"], _logged(T=1).set_index("weight")["miou"]
    return dict(zip(names, curves, strict=True))
