"""Tables 6, 7 and 8: every network of the paper, alone and distilled, on three datasets."""

from functools import partial
from typing import Any

import pandas as pd

from cwd.data.datasets import LAYOUTS
from cwd.experiments.network_costs import costs_of
from cwd.experiments.profile import Profile, Student
from cwd.experiments.rows_losses import Row
from cwd.system import paths

# Methods as recipes. On VOC and ADE20K the paper leaves PI and HO out of all of them (supplement
# S2). SKDD has the terms of SKDS in another setting, of which no code was published: it is cited.
STUDENT, SKDD, REFERENCE = "student", "SKDD", "reference"
WITH_PI_HO = {"SKDS": "PI + HO + PA_f", "IFVD": "PI + HO + IFV_f", "CWD": "PI + HO + CW_f"}
ALONE = {"SKDS": "PA_f", "IFVD": "IFV_f", "CWD": "CW_f"}
# the paper's table, its dataset, its recipes
SOURCES = {
    "table6": ("table6_cityscapes", "cityscapes", WITH_PI_HO),
    "table7": ("table7_voc", "voc", ALONE),
    "table8": ("table8_ade20k", "ade20k", ALONE),
}
WORDS = ("our network", "status", "seeds")  # columns that aren't measurements
INIT = {"yes": "ImageNet", "no": "scratch"}  # a column of the paper's table, see `Run.start`


def printed_rows(name: str) -> pd.DataFrame:
    """The paper's lines of one of the three tables, with a column `init`.

    Tables 7 and 8 don't say how the students started: `init` is empty there.
    """
    table = pd.read_csv(paths.PAPER / f"{SOURCES[name][0]}.csv")
    known = table.get("imagenet_init", pd.Series("", index=table.index))
    return table.assign(init=known.map(INIT).fillna(""))


def label_of(network: str, init: str, method: str) -> str:
    """A row's label, "PSPNet-R18, scratch: CWD"."""
    return f"{network}{', ' if init else ''}{init}: {method}"


def networks(name: str, profile: Profile) -> tuple[Row, ...]:
    """The rows of Table 6, 7 or 8: teacher, students, then the paper's reference networks.

    A student from scratch and one from ImageNet are different rows. Rows of students that the
    profile has in another way than the paper come after the paper's, with no printed numbers.

    Args:
        name: "table6", "table7" or "table8".
        profile: whose students to take. On another dataset than the table's own, Tables 7 and 8
            have only what Table 2 has trained anyway.
    """
    table, rows, used = printed_rows(name), [], set()
    for line in table.to_dict("records"):
        network, init, method = line["network"], line["init"], line["method"]
        if method == "teacher":
            rows.insert(0, row_of(line, (profile.teacher,)))
            continue
        student = find_student(profile, network, init)
        if student:
            used.add(student)
        rows.append(row_of(line, runs_of(name, profile, student, method)))
    for student in profile.students:
        if student not in used and "-" in student.name:  # others stand for reference networks
            for method in (STUDENT, *SOURCES[name][2]):
                # two of one network differ in this, also where the paper doesn't say it
                line = {"network": student.name, "init": student.run.start, "method": method}
                if runs := runs_of(name, profile, student, method):
                    rows.append(row_of(line, runs))
    order = list(dict.fromkeys(row.printed["network"] for row in rows))
    return tuple(
        sorted(
            rows,
            key=lambda row: (
                row.printed["method"] == REFERENCE,
                order.index(row.printed["network"]),
            ),
        )
    )


def find_student(profile: Profile, network: str, init: str) -> Student | None:
    """The profile's network for a printed row: the same start where the row says one."""
    fitting = [student for student in profile.students if student.name == network]
    if init:
        fitting = [s for s in fitting if s.run.start == init]
    pretrained = [student for student in fitting if student.run.init != "random"]
    return next(iter(pretrained or fitting), None)


def runs_of(name: str, profile: Profile, student: Student | None, method: str) -> tuple:
    """The runs of a row, one a seed; none where the profile can't or shan't measure it."""
    _, dataset, recipes = SOURCES[name]
    elsewhere = name != "table6" and profile.data.name != dataset
    if student is None or (elsewhere and student.run != profile.student):
        return ()
    if method not in (STUDENT, REFERENCE, *recipes):
        return ()
    recipe, seeds = recipes.get(method, ""), profile.seeds_of(student.run)
    return tuple(profile.run(recipe, seed, student.run) for seed in seeds)


def row_of(line: dict, runs: tuple) -> Row:
    """A row from a printed line (or one of our own in its form) and its runs."""
    ours = f"{runs[0].network}, {runs[0].start}" if runs else ""
    network, init, method = line["network"], line["init"], line["method"]
    paper = line.get("val_miou")
    alone = method in (STUDENT, REFERENCE, "teacher")
    return Row(
        label_of(network, init, method),
        None if paper is None or pd.isna(paper) else paper,
        runs,
        student=None if alone else label_of(network, init, STUDENT),
        printed=line | {"ours": ours},
    )


TABLES_6_TO_8 = {name: partial(networks, name) for name in SOURCES}


def network_table(
    name: str, rows: tuple[Row, ...], results: pd.DataFrame, data: str
) -> pd.DataFrame:
    """Table 6, 7 or 8, ours beside the paper's, in percent.

    Args:
        name: which.
        rows: see `networks`.
        results: one line a run, see `cwd.experiments.study.Study.results`.
        data: the dataset that was measured on.

    Returns:
        One line a row. Parameters and multiply-adds (at 512x1024) are those of the paper's
        network, as printed and as counted here for the table's 19, 21 or 150 classes, and those of
        the network that was measured; `status` says whether a row was measured, is only cited, or
        waits for its runs.
    """
    by_row = results.groupby("row", sort=False)
    ours = by_row[["miou", "macc"]].mean().join(by_row["miou"].agg(sd="std", seeds="count"))
    printed = {row.label: row.paper for row in rows}
    lines = []
    for row in rows:
        known = ours.loc[row.label] if row.label in ours.index else None
        student = ours["miou"].get(row.student)
        lines.append(
            paper_columns(name, row, printed)
            | {"our network": row.printed["ours"], f"our mIoU ({data})": None, "seeds": 0}
            | ({} if known is None else our_columns(row, known, student, data))
            | {"status": "cited" if not row.runs else "not run" if known is None else "measured"}
        )
    table = pd.DataFrame(lines).set_index(["network", "init", "method"])
    kinds = {column: float for column in table if column not in WORDS}
    digits = {column: 4 if column.endswith("(M)") else 2 for column in kinds}
    table = table.astype({**kinds, "seeds": int}).round(digits).dropna(axis=1, how="all")
    return table[[*table.columns.drop("status"), "status"]]


def paper_columns(name: str, row: Row, printed: dict[str, float | None]) -> dict[str, Any]:
    """What the paper has in a row, and its network's cost as counted here."""
    line, classes = row.printed, len(LAYOUTS[SOURCES[name][1]].classes)
    built = "-" in line["network"]  # reference networks are not
    parameters, multiply_adds = costs_of(line["network"], classes) if built else (None, None)
    return {
        "network": line["network"],
        "init": line["init"],
        "method": line["method"],
        "paper params (M)": line.get("params_m"),
        "counted (M)": parameters,
        "paper MAC (G)": line.get("flops_g"),
        "counted (G)": multiply_adds,
        "paper val mIoU": row.paper,
        "paper gain": difference(row.paper, printed.get(row.student)),
        "paper test mIoU": line.get("test_miou"),
        "paper mAcc": line.get("val_macc"),
    }


def our_columns(row: Row, known: pd.Series, student: float | None, data: str) -> dict[str, Any]:
    """What was measured for a row, and of which network."""
    parameters, multiply_adds = costs_of(row.runs[0].network, len(LAYOUTS[data].classes))
    return {
        f"our mIoU ({data})": known["miou"],
        "sd": known["sd"],
        "seeds": int(known["seeds"]),
        "our gain": difference(known["miou"], student),
        "our mAcc": known["macc"],
        "ours (M)": parameters,
        "ours (G)": multiply_adds,
    }


def difference(value: float | None, other: float | None) -> float | None:
    """`value - other`; None if either is missing."""
    missing = value is None or other is None or pd.isna(value) or pd.isna(other)
    return None if missing else value - other
