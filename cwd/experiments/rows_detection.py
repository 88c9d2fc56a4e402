"""Table 9: three kinds of detector, alone and distilled, ours beside the paper's."""

from functools import cache

import pandas as pd

from cwd.config.pairs import Pair
from cwd.experiments.profile import Profile
from cwd.experiments.rows_losses import Row, paired_gain
from cwd.experiments.rows_networks import difference
from cwd.system import paths

# the table's methods as recipes
METHODS = {
    "student": "",
    "Chen et al.": "Chen",
    "Wang et al.": "Wang",
    "Heo et al.": "Heo",
    "Zhang et al.": "Zhang",
    "CWD": "CW_fpn",
}
# COCO's measures: our keys, which are the columns of the paper's table too, and how people write
MEASURES = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_s": "AP_S",
    "ap_m": "AP_M",
    "ap_l": "AP_L",
}


@cache
def printed() -> pd.DataFrame:
    """The paper's lines."""
    return pd.read_csv(paths.PAPER / "table9_detection.csv")


def label_of(detector: str, method: str) -> str:
    """A row's label, "RetinaNet: CWD"."""
    return f"{detector}: {method}"


def table9(profile: Profile) -> tuple[Row, ...]:
    """The rows of Table 9, each detector's teacher before its students.

    The paper prints nothing of its teachers. Where the profile lacks a detector, rows have no runs.
    """
    pairs = {pair.name: pair for pair in profile.detection.pairs} if profile.detection else {}
    rows = []
    for detector, lines in printed().groupby("detector", sort=False):
        pair = pairs.get(detector)
        rows.append(teacher_row(detector, pair))
        for line in lines.to_dict("records"):
            method = line["method"]
            runs = ()
            if pair:
                recipe, seeds = METHODS[method], profile.detection.seeds
                runs = tuple(profile.run(recipe, seed, pair.student) for seed in seeds)
            rows.append(
                Row(
                    label_of(detector, method),
                    line["ap"],
                    runs,
                    student=None if method == "student" else label_of(detector, "student"),
                    printed=line | {"network": pair.student.network if pair else ""},
                )
            )
    return tuple(rows)


def teacher_row(detector: str, pair: Pair | None) -> Row:
    """The row of a teacher."""
    line = {"detector": detector, "method": "teacher"}
    return Row(
        label_of(detector, "teacher"),
        None,
        (pair.teacher,) if pair else (),
        printed=line | {"network": pair.teacher.network if pair else ""},
    )


def detection_table(rows: tuple[Row, ...], results: pd.DataFrame, data: str) -> pd.DataFrame:
    """Table 9, ours beside the paper's, in percent.

    Args:
        rows: see `table9`.
        results: one line a run, see `cwd.experiments.study.Study.results`.
        data: the dataset that was measured on, empty if none was.

    Returns:
        One line a row. Ours are means over seeds, sd the sample standard deviation of AP (empty
        for one seed). Gains are over the same detector's student alone, ours seed by seed; `gain
        sd` is theirs. `status` says whether a
        row was measured, is only cited, or waits for its runs.
    """
    by_row = results.groupby("row", sort=False)
    by_seed = results.pivot(index="seed", columns="row", values="ap")
    ours = by_row[list(MEASURES)].mean().join(by_row["ap"].agg(sd="std", seeds="count"))
    paper = {row.label: row.paper for row in rows}
    lines = []
    for row in rows:
        known = ours.loc[row.label] if row.label in ours.index else None
        mine = {} if known is None else known.to_dict()
        mean = mine.get("ap")
        line = {
            "detector": row.printed["detector"],
            "method": row.printed["method"],
            "our network": row.printed["network"],
            "paper AP": row.paper,
            "paper gain": difference(row.paper, paper.get(row.student)),
            f"our AP ({data or 'none'})": mean,
            "sd": mine.get("sd"),
            "seeds": int(mine.get("seeds", 0)),
            **paired_gain(by_seed, row),
        }
        for key, word in list(MEASURES.items())[1:]:
            line |= {f"paper {word}": row.printed.get(key), f"our {word}": mine.get(key)}
        line["status"] = "cited" if not row.runs else "not run" if known is None else "measured"
        lines.append(line)
    table = pd.DataFrame(lines).set_index(["detector", "method"])
    words = ("our network", "status", "seeds")
    numbers = [column for column in table if column not in words]
    return table.astype(dict.fromkeys(numbers, float)).round(2)
