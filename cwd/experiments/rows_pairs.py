"""Table 9 and the second paper: pairs of networks, alone and distilled, beside printed numbers."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cwd.experiments.profile import Profile
from cwd.experiments.sections import Pair
from cwd.experiments.table import Row, method_row, paper
from cwd.training.tasks import task_of

# the second paper's methods as recipes: on maps of one size, and on a pyramid
METHODS = {
    "student": ("", ""),
    "MIMIC": ("MIMIC_f", "MIMIC_fpn"),
    "CWD": ("CW_f", "CW_fpn"),
    "CT": ("CT_f", "CT_fpn"),
}
TASKS = ("image classification", "object detection", "instance segmentation",
         "semantic segmentation")  # fmt: skip
PYRAMID_TASKS = TASKS[1:3]
# Table 9's methods as recipes
DETECTION_METHODS = {
    "student": "",
    "Chen et al.": "Chen",
    "Wang et al.": "Wang",
    "Heo et al.": "Heo",
    "Zhang et al.": "Zhang",
    "CWD": "CW_fpn",
}
# COCO's measures: our keys, which are the columns of the paper's table too, and how people write
MEASURES = {m.lower(): m for m in ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")}


def pairs_of(profile: Profile) -> dict[str, Pair]:
    """Teacher and student of each task that a profile has."""
    pairs = {pair.name: pair for pair in profile.pairs}
    if profile.student:
        pairs["PSPNet"] = Pair("PSPNet", profile.teacher, profile.student)
    names = ("classifier", "Faster R-CNN", "Mask R-CNN", "PSPNet")
    return {task: pairs[name] for task, name in zip(TASKS, names, strict=True) if name in pairs}


def overview(profile: Profile) -> pd.DataFrame:
    """What a profile compares in each task, beside the abstract's student and dataset."""
    lines, pairs = {}, pairs_of(profile)
    for task, line in paper("channel_transformation", 0).iterrows():
        lines[task] = {"the abstract's student": line["student"], "its dataset": line["dataset"]}
        lines[task]["measure"] = line["measure"]
        if pair := pairs.get(task):
            lines[task] |= {
                "our student": pair.student.network,
                "our teacher": pair.teacher.network,
                "our images": pair.student.data.name,
                "steps": pair.student.schedule.steps,
                "recipe of CT": METHODS["CT"][task in PYRAMID_TASKS],
            }
    return pd.DataFrame.from_dict(lines, orient="index").fillna("").rename_axis("task")


def transformation(profile: Profile) -> tuple[Row, ...]:
    """The abstract's four results: in each task teacher, student alone, MIMIC, CWD and CT.

    Where the profile lacks a task, its rows have no runs. The abstract prints gains only, of CT.
    """
    pairs, rows = pairs_of(profile), []
    for task, line in paper("channel_transformation", 0).iterrows():
        recipes = {name: both[task in PYRAMID_TASKS] for name, both in METHODS.items()}
        seeds, gain = profile.transformation.seeds, {"CT": {"gain": line["gain"]}}
        rows += pair_rows(profile, {"task": task}, pairs.get(task), recipes, seeds, gain)
    return tuple(rows)


def table9(profile: Profile) -> tuple[Row, ...]:
    """The rows of Table 9, each detector's teacher before its students.

    The paper prints nothing of its teachers. Where the profile lacks a detector, rows have no runs.
    """
    rows, pairs = [], {pair.name: pair for pair in profile.pairs}
    seeds = profile.detection.seeds if profile.detection else ()
    for detector, lines in paper("table9_detection").groupby("detector", sort=False):
        numbers = lines.set_index("method").drop(columns="detector")
        known = numbers.assign(number=numbers["ap"]).to_dict("index")
        recipes = {method: DETECTION_METHODS[method] for method in known}
        pair = pairs.get(detector)
        rows += pair_rows(profile, {"detector": detector}, pair, recipes, seeds, known)
    return tuple(rows)


def pair_rows(
    profile: Profile,
    group: dict[str, str],
    pair: Pair | None,
    recipes: Mapping[str, str],
    seeds: tuple[int, ...],
    printed: Mapping[str, Mapping[str, Any]],
) -> list[Row]:
    """The rows of a teacher and of each method on its student; without runs if there is no pair.

    `group` is what they have in common, {"detector": "RetinaNet"}, `recipes` are by method, and
    `printed` is what the paper has, by method; its `number` is the row's `paper`.
    """
    (name,), rows = group.values(), []
    for method in ("teacher", *recipes):
        known = {"number": None, **printed.get(method, {}), **group}
        if not pair:
            rows.append(method_row(name, method, (), network="", images="", measure="", **known))
            continue
        runs = (pair.teacher,)
        if method != "teacher":
            runs = tuple(profile.run(recipes[method], seed, pair.student) for seed in seeds)
        network = runs[0].network
        known |= {"network": network, "images": runs[0].data.name}
        rows.append(method_row(name, method, runs, measure=task_of(network).unit, **known))
    return rows
