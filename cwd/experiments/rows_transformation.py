"""The second paper: four tasks, each alone and distilled, ours beside the abstract's gains."""

import pandas as pd

from cwd.experiments.profile import Profile
from cwd.experiments.sections import Pair
from cwd.experiments.table import Row, pair_rows, paper

# methods as recipes: on maps of one size, and on a pyramid
METHODS = {
    "student": ("", ""),
    "MIMIC": ("MIMIC_f", "MIMIC_fpn"),
    "CWD": ("CW_f", "CW_fpn"),
    "CT": ("CT_f", "CT_fpn"),
}
TASKS = (
    "image classification",
    "object detection",
    "instance segmentation",
    "semantic segmentation",
)
PYRAMID_TASKS = TASKS[1:3]
WEIGHTS = (10, 100)  # of MIMIC_f and CT_f, beside their own


def pairs_of(profile: Profile) -> dict[str, Pair]:
    """Teacher and student of each task that a profile has."""
    second = profile.transformation
    detectors = {pair.name: pair for pair in profile.detection.pairs} if profile.detection else {}
    found = {
        TASKS[0]: second and second.classification,
        TASKS[1]: detectors.get("Faster R-CNN"),
        TASKS[2]: second and second.instance,
        TASKS[3]: profile.student and Pair("PSPNet", profile.teacher, profile.student),
    }
    return {task: pair for task, pair in found.items() if pair}


def overview(profile: Profile) -> pd.DataFrame:
    """What a profile compares in each task, beside the abstract's student and dataset."""
    lines, pairs = {}, pairs_of(profile)
    for task, line in paper("channel_transformation", 0).iterrows():
        lines[task] = {"the abstract's student": line["student"], "its dataset": line["dataset"]}
        lines[task] |= {"measure": line["measure"]}
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
