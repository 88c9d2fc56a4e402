"""Tables 6, 7 and 8: every network of the paper, alone and distilled, on three datasets."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cwd.data.datasets import LAYOUTS
from cwd.experiments.network_costs import costs_of
from cwd.experiments.profile import Profile
from cwd.experiments.sections import Student
from cwd.experiments.table import Row, difference, method_row, paper
from cwd.experiments.table import label_of as label_in

__all__ = ["WITH_PI_HO", "costs", "difference", "label_of", "networks"]

# Methods as recipes. On VOC and ADE20K the paper leaves PI and HO out of all of them (supplement
# S2). SKDD has the terms of SKDS in another setting, of which no code was published: it is cited.
STUDENT, REFERENCE, TEACHER = "student", "reference", "teacher"
WITH_PI_HO = {"SKDS": "PI + HO + PA_f", "IFVD": "PI + HO + IFV_f", "CWD": "PI + HO + CW_f"}
ALONE = {"SKDS": "PA_f", "IFVD": "IFV_f", "CWD": "CW_f"}
# the paper's table, its dataset, its recipes
SOURCES = {
    "table6": ("table6_cityscapes", "cityscapes", WITH_PI_HO),
    "table7": ("table7_voc", "voc", ALONE),
    "table8": ("table8_ade20k", "ade20k", ALONE),
}
INIT = {"yes": "ImageNet", "no": "scratch"}  # a column of Table 6, see `Run.start`


def group_of(network: str, init: str) -> str:
    """A student, "PSPNet-R18, scratch"; Tables 7 and 8 don't say how theirs started."""
    return ", ".join(filter(None, (network, init)))


def label_of(network: str, init: str, method: str) -> str:
    """A row's label, "PSPNet-R18, scratch: CWD"."""
    return label_in(group_of(network, init), method)


def networks(name: str, profile: Profile) -> tuple[Row, ...]:
    """The rows of Table 6, 7 or 8: teacher, students, then the paper's reference networks.

    A student from scratch and one from ImageNet are different rows. Rows of students that the
    profile has in another way than the paper come after the paper's, with no printed numbers. On
    another dataset than the table's own, Tables 7 and 8 have only what Table 2 has trained anyway.
    """
    table, rows, used = paper(SOURCES[name][0]), [], []
    started = table.get("imagenet_init", pd.Series("", index=table.index)).map(INIT).fillna("")
    for line in table.assign(init=started).to_dict("records"):
        if line["method"] == TEACHER:
            rows.insert(0, _row(line, (profile.teacher,)))
        else:
            student = _find(profile, line["network"], line["init"])
            used.append(student)
            rows.append(_row(line, _runs(name, profile, student, line["method"])))
    for student in profile.students:
        if student not in used and "-" in student.name:  # others stand for reference networks
            for method in (STUDENT, *SOURCES[name][2]):
                # two of one network differ in this, also where the paper doesn't say it
                line = {"network": student.name, "init": student.run.start, "method": method}
                if runs := _runs(name, profile, student, method):
                    rows.append(_row(line, runs))
    order = list(dict.fromkeys(row.printed["network"] for row in rows))
    rows.sort(key=lambda row: order.index(row.printed["network"]))
    return tuple(sorted(rows, key=lambda row: row.printed["method"] == REFERENCE))


def _find(profile: Profile, network: str, init: str) -> Student | None:
    """The profile's network for a printed row: the same start where the row says one."""
    fitting = [s for s in profile.students if s.name == network and init in ("", s.run.start)]
    pretrained = [student for student in fitting if student.run.init != "random"]
    return next(iter(pretrained or fitting), None)


def _runs(name: str, profile: Profile, student: Student | None, method: str) -> tuple:
    """The runs of a row, one a seed; none where the profile can't or shan't measure it."""
    _, dataset, recipes = SOURCES[name]
    elsewhere = name != "table6" and profile.data.name != dataset
    if student is None or (elsewhere and student.run != profile.student):
        return ()
    if method not in (STUDENT, REFERENCE, *recipes):
        return ()
    seeds = profile.seeds_of(student.run)
    return tuple(profile.run(recipes.get(method, ""), seed, student.run) for seed in seeds)


def _row(line: Mapping[str, Any], runs: tuple) -> Row:
    """A row from a printed line (or one of our own in its form) and its runs."""
    group, ours = group_of(line["network"], line["init"]), ""
    if runs:
        ours = group_of(runs[0].network, runs[0].start)
    return method_row(group, runs=runs, number=line.get("val_miou"), ours=ours, **line)


def costs(dataset: str, row: Row, measured: bool) -> dict[str, float]:
    """Parameters and multiply-adds (at 512x1024) as counted here.

    Of the paper's network, for the classes of the table's dataset, and of the one measured.
    """
    costs, network = {}, row.printed["network"]
    if "-" in network:  # reference networks are not built
        counted = costs_of(network, len(LAYOUTS[dataset].classes))
        costs |= zip(("counted (M)", "counted (G)"), counted, strict=True)
    if measured:
        run = row.runs[0]
        counted = costs_of(run.network, len(LAYOUTS[run.data.name].classes))
        costs |= zip(("ours (M)", "ours (G)"), counted, strict=True)
    return costs
